"""UCF-101 from its official split files and its videos or extracted frames."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from adaptive_models.data.clips import VideoClip
from adaptive_models.data.datasets import DatasetError, LabelledClip, spread
from adaptive_models.data.frames import FrameClip
from adaptive_models.data.sampling import sampling
from adaptive_models.data.search import search

SPLIT_FILES = {"train": "trainlist01.txt", "val": "testlist01.txt"}


class Ucf101:
    """The clips of UCF-101, first split; a clip's id is the name of its video without the suffix.

    Under the root, in any folders, lie `classInd.txt`, `trainlist01.txt` and `testlist01.txt`, and for each video one
    of these, of which the first that is there is used:

    - a folder with its frames, of the name of the video without suffix; numbered images, in the order of their numbers;
    - a tar archive of such frames;
    - the video itself, `v_<class>_g<group>_c<clip>.avi`, or encoded anew with another suffix.

    Opening looks only for the files, and for empty ones. The videos' sound is not used.

    Args:
        root: the folder.
        split: "train" or "val".
        limit: how many clips to take, evenly spread; all if None.

    Attributes:
        name, split, classes, audio, clips, left_out: see `Dataset`.

    Raises:
        DatasetError: label files that are missing or wrong, or no clip whose files are there.
    """

    name = "ucf101"
    audio = False

    def __init__(self, root: Path, split: str, limit: int | None = None) -> None:
        self.split = split
        self._found = search(root)
        self.classes = (read_classes(self._found.file(root, "classInd.txt")),)
        labels = self._found.file(root, SPLIT_FILES[split])
        clips = read_split(labels, self.classes[0])
        self.left_out = {clip.id: why for clip in clips if (why := self._missing(clip.id))}
        there = [clip for clip in clips if clip.id not in self.left_out]
        if not there:
            raise DatasetError(
                f"{root}: no clip of {labels.name} has its files there; the first: {next(iter(self.left_out.values()))}"
            )
        self.clips = spread(there, limit)

    def open(self, clip: LabelledClip, frames: int, seed: int | None = None) -> FrameClip | VideoClip:
        """Open one of `clips` (see `Dataset.open`)."""
        images = self._found.images(clip.id)
        if images is not None:
            return FrameClip(images, frames, audio=False, sample=sampling(seed))
        return VideoClip(self._found.videos[clip.id], frames, audio=False, sample=sampling(seed))

    def _missing(self, id: str) -> str | None:
        path = self._found.images(id) or self._found.videos.get(id)
        if path is None:
            return f"{id}: no video, and no folder or .tar archive of frames, has this name"
        return f"{path}: is empty" if path.is_file() and not path.stat().st_size else None


def read_classes(path: Path) -> tuple[str, ...]:
    """Names of the classes, from `classInd.txt`.

    Raises:
        DatasetError: a line that is not the next number, from 1, and a name.
    """
    names: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        parts = line.split()
        if len(parts) != 2 or parts[0] != str(number):
            raise DatasetError(f"{path}: line {number} is {line!r}; '{number} <name of the class>' is needed")
        names.append(parts[1])
    return tuple(names)


def read_split(path: Path, classes: tuple[str, ...]) -> list[LabelledClip]:
    """The clips of a split file, with lines such as "Archery/v_Archery_g08_c01.avi 3", or without the number.

    Raises:
        DatasetError: another line, a folder that is no class, a number that is not that of the class in `classInd.txt`,
            or a video that was there before.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    clips: dict[str, LabelledClip] = {}
    for line_number, line in enumerate(_lines(path), start=1):
        where = f"{path}: line {line_number}"
        file, *number = line.split()[:3] or [""]
        name, id = PurePosixPath(file).parent.name, PurePosixPath(file).stem
        if not name or len(number) > 1:
            raise DatasetError(f"{where} is {line!r}; '<class>/<video>.avi', or this and a number, is needed")
        if name not in numbers:
            raise DatasetError(f"{where}: {name} is no class; it must be one of the {len(classes)} of classInd.txt")
        if number and number[0] != str(numbers[name] + 1):
            raise DatasetError(f"{where}: the number is {number[0]}; {name} is {numbers[name] + 1} in classInd.txt")
        if id in clips:
            raise DatasetError(f"{where}: {file} was there before, and each line has its own")
        clips[id] = LabelledClip(id, (numbers[name],))
    return list(clips.values())


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as text ({error})") from None
    if not lines:
        raise DatasetError(f"{path}: is empty")
    return lines
