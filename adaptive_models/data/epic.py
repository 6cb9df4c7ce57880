"""EPIC-KITCHENS-55 from its official label files and its videos or extracted frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from adaptive_models.data.clips import VideoClip
from adaptive_models.data.datasets import DatasetError, LabelledClip, spread
from adaptive_models.data.frames import FrameClip, epic_pattern
from adaptive_models.data.images import ImageFolder
from adaptive_models.data.media import ClipError
from adaptive_models.data.sampling import sampling
from adaptive_models.data.search import search

GROUPS = ("verb", "noun")
TIMES = ("start_timestamp", "stop_timestamp")
FRAMES, TIMES = ("start_frame", "stop_frame"), ("start_timestamp", "stop_timestamp")
CLASSES = ("verb_class", "noun_class")
COLUMNS = ("uid", "video_id", *TIMES, *FRAMES, *CLASSES)
"""Those of the label files that are used; there may be more."""


@dataclass(frozen=True)
class Segment:
    """An action in a video.

    Attributes:
        video: id of the video, such as "P01_01".
        labels: its verb and its noun.
        start: in seconds.
        stop: in seconds.
        numbers: its frames among the extracted ones, counted from zero.
    """

    video: str
    labels: tuple[int, int]
    start: float
    stop: float
    numbers: range


class Epic:
    """The clips of EPIC-KITCHENS-55, or of a data set in its form: one for each line of a label file.

    Under the root, in any folders, lie `EPIC_{train,val}_action_labels.csv` and `EPIC_{verb,noun}_classes.csv`, and for
    each video, by its id, one of these, of which the first that is there is used:

    - a folder with its frames, `frame_0000000001.jpg` and on, or linked anew as `img_0000000000.jpg` and on;
    - a tar archive of such frames;
    - the video itself.

    The frame numbers of the label files are those of the official names: `start_frame` is the first frame of the
    segment and `stop_frame` the first after it, as `rgb_frame_count` of the paper's files counts. The official frames
    were extracted at 60 per second, whatever the video's own rate (59.94, or 29.97 for some). Of a video, the segment
    is therefore found by the timestamps, and its own frames are used: those of 29.97 per second are half as many, and
    elsewhere an index may differ by a frame or two from that of the extracted frames.

    The sound is that of `<video id>.wav` if there is one, else the video's track. Of frames without either, the clip is
    left out; if no clip has sound, `audio` is false.

    Opening looks only for the files, for the first and the last frame of each segment, and for empty files; archives
    are not searched.

    Args:
        root: the folder.
        split: "train" or "val".
        limit: how many clips to take, evenly spread; all if None.
        name: that of the data set.

    Attributes:
        name, split, classes, audio, clips, left_out: see `Dataset`.

    Raises:
        DatasetError: label files that are missing or wrong, or no clip whose files are there.
    """

    def __init__(self, root: Path, split: str, limit: int | None = None, name: str = "epic") -> None:
        self.name, self.split = name, split
        self._found = search(root)
        verbs, nouns = (read_classes(self._found.file(root, f"EPIC_{kind}_classes.csv"), kind) for kind in GROUPS)
        self.classes = (verbs, nouns)
        labels = self._found.file(root, f"EPIC_{split}_action_labels.csv")
        self._segments = read_segments(labels, len(verbs), len(nouns))
        self.audio = any(self._sound(segment.video) for segment in self._segments.values())
        self.left_out = {id: why for id, segment in self._segments.items() if (why := self._missing(segment))}
        there = [id for id in self._segments if id not in self.left_out]
        if not there:
            raise DatasetError(
                f"{root}: no clip of {labels.name} has its files there; the first: {next(iter(self.left_out.values()))}"
            )
        self.clips = [LabelledClip(id, self._segments[id].labels) for id in spread(there, limit)]

    def open(self, clip: LabelledClip, frames: int, seed: int | None = None) -> FrameClip | VideoClip:
        """Open one of `clips` (see `Dataset.open`)."""
        segment = self._segments[clip.id]
        images, video = self._found.images(segment.video), self._found.videos.get(segment.video)
        sound, sample = self._sound(segment.video), sampling(seed)
        if images is None:
            assert video is not None
            return VideoClip(video, frames, self.audio, (segment.start, segment.stop), sound, sample)
        rate = len(segment.numbers) / (segment.stop - segment.start)
        return FrameClip(images, frames, self.audio, segment.numbers, segment.start, rate, sound, sample)

    def _sound(self, video: str) -> Path | None:
        return self._found.sounds.get(video) or self._found.videos.get(video)

    def _missing(self, segment: Segment) -> str | None:
        """Why a segment cannot be opened, as far as names and sizes tell."""
        images, sound = self._found.images(segment.video), self._sound(segment.video)
        source = images or self._found.videos.get(segment.video)
        if source is None:
            return f"{segment.video}: no folder or .tar archive of frames, and no video, has this name"
        if self.audio and sound is None:
            return f"{segment.video}.wav: missing, and so is a video with the sound"
        for path in (source, sound):
            if path is not None and path.is_file() and not path.stat().st_size:
                return f"{path}: is empty"
        if source.is_dir():
            try:
                epic_pattern(ImageFolder(source), segment.numbers)
            except ClipError as error:
                return str(error)
        return None


def read_classes(path: Path, kind: str) -> tuple[str, ...]:
    """Names of the verbs or nouns, from `EPIC_verb_classes.csv` or `EPIC_noun_classes.csv`.

    Raises:
        DatasetError: if a column is missing, or the ids are not 0, 1, 2 and so on.
    """
    table = _read(path, (f"{kind}_id", "class_key"))
    expected = pd.Series(range(len(table)), dtype=str)
    _refuse(path, table, f"{kind}_id", table[f"{kind}_id"] != expected, "ids count from 0, one a line")
    return tuple(table["class_key"])


def read_segments(path: Path, verbs: int, nouns: int) -> dict[str, Segment]:
    """The actions of an official label file, by their uid.

    Args:
        path: the file.
        verbs: number of verb classes.
        nouns: number of noun classes.

    Raises:
        DatasetError: the first thing that is wrong in the file: a missing column, what is no number or time, a class
            that there is not, a stop that is not after its start, or a uid that was there before.
    """
    table = _read(path, COLUMNS)
    _refuse(path, table, "uid", table["uid"].duplicated(), "it was there before, and each line has its own")
    values = pd.DataFrame(index=table.index)
    for column in FRAMES + CLASSES:
        digits = table[column].str.fullmatch(r"\d{1,9}")
        values[column] = table[column].where(digits, "-1").astype(int)
    for column in FRAMES:
        _refuse(path, table, column, values[column] < 0, "a whole number is needed")
    for column, classes in zip(CLASSES, (verbs, nouns), strict=True):
        _refuse(path, table, column, ~values[column].between(0, classes - 1), f"classes are 0 to {classes - 1}")
    for column in TIMES:
        well_formed = table[column].str.fullmatch(r"\d+:[0-5]\d:[0-5]\d(\.\d+)?")
        _refuse(path, table, column, ~well_formed, "a time such as 00:01:02.34 is needed")
        values[column] = pd.to_timedelta(table[column]).dt.total_seconds()
    for start, stop in (FRAMES, TIMES):
        _refuse(path, table, stop, values[stop] <= values[start], f"it must be after {start}")
    return {
        uid: Segment(
            video,
            (row.verb_class, row.noun_class),
            row.start_timestamp,
            row.stop_timestamp,
            range(max(row.start_frame - 1, 0), max(row.stop_frame - 1, 1)),
        )
        for uid, video, row in zip(table["uid"], table["video_id"], values.itertuples(), strict=True)
    }


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (OSError, ValueError) as error:  # also pandas' own errors, and wrong encodings
        raise DatasetError(
            f"{path}: cannot be read as a table of comma-separated values ({' '.join(str(error).split())})"
        ) from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise DatasetError(f"{path}: has no column {missing[0]}; it needs {', '.join(columns)}")
    if table.empty:
        raise DatasetError(f"{path}: has no lines below its header")
    return table


def _refuse(path: Path, table: pd.DataFrame, column: str, wrong: pd.Series, right: str) -> None:
    """Name the first line that is wrong, if one is; the header is line 1."""
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise DatasetError(f"{path}: line {row + 2}: {column} is {table[column].iloc[row]!r}; {right}")
