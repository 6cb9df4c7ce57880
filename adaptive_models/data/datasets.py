"""Data sets of labelled clips, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from adaptive_models.data.clips import Clip
from adaptive_models.data.media import ClipError

NAMES = ("epic", "ucf101", "mini")
SPLITS = ("train", "val")
T = TypeVar("T")


class DatasetError(ValueError):
    """A data set that cannot be used: wrong label files, or no files; one line that names the file and the place."""


@dataclass(frozen=True)
class LabelledClip:
    """A clip and its class in each group: (verb, noun) for `epic` and `mini`, (class,) for `ucf101`; from 0."""

    id: str
    labels: tuple[int, ...]


class OpenClip(Clip, AbstractContextManager[Any], Protocol):
    """A clip that is closed at the end of a `with` block."""


class Dataset(Protocol):
    """Labelled clips of one split.

    Attributes:
        name: "epic", "ucf101" or "mini".
        split: "train" or "val".
        classes: names of the classes of each group.
        audio: whether the clips have sound.
        clips: those that can be opened, as far as can be told without decoding (see `check`).
        left_out: id of each other clip, and why it is left out, with the name of the file.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  (see above, as for the others)
    @property
    def split(self) -> str: ...  # noqa: D102
    @property
    def classes(self) -> tuple[tuple[str, ...], ...]: ...  # noqa: D102
    @property
    def audio(self) -> bool: ...  # noqa: D102
    @property
    def clips(self) -> Sequence[LabelledClip]: ...  # noqa: D102
    @property
    def left_out(self) -> Mapping[str, str]: ...  # noqa: D102

    def open(self, clip: LabelledClip, frames: int, seed: int | None = None) -> OpenClip:
        """Open one of `clips`; its frames are decoded as they are asked for.

        Args:
            clip: which.
            frames: T.
            seed: None for the frames at the centres of T equal segments, as in evaluation; else of a random frame in
                each, as in training.

        Raises:
            ClipError: a file that cannot serve as a clip after all.
        """
        ...


def open_dataset(name: str, root: Path | None, split: str, limit: int | None = None) -> Dataset:
    """Open a data set from the files under a folder.

    Args:
        name: "epic", "ucf101" or "mini".
        root: the folder with the media and the label files, in any folders below (see `Epic`, `Ucf101`); for `mini`
            a folder in the form of EPIC-KITCHENS, or None: then it is rendered in memory.
        split: "train" or "val".
        limit: how many clips to take, evenly spread over the data set; for `mini` in memory the first; all if None.

    Raises:
        DatasetError: an unknown name or split, a limit below 1, no such folder, label files that are missing or wrong,
            or no clip whose files are there.
    """
    if name not in NAMES:
        raise DatasetError(f"no data set {name!r}: use {', '.join(NAMES)}")
    if split not in SPLITS:
        raise DatasetError(f"no split {split!r}: use {' or '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise DatasetError(f"a limit of {limit} clips: at least 1 is needed")
    if root is None:
        if name == "mini":
            from adaptive_models.data.mini import Mini

            return Mini(split, limit=limit)
        raise DatasetError(f"{name} is read from files: the folder that holds them is needed")
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    if name == "ucf101":
        from adaptive_models.data.ucf101 import Ucf101

        return Ucf101(root, split, limit)
    from adaptive_models.data.epic import Epic

    return Epic(root, split, limit, name)


def check(dataset: Dataset, frames: int = 3) -> dict[str, str]:
    """Decode some frames, and the sound, of every clip, which finds truncated and damaged files.

    Args:
        dataset: which.
        frames: T, how many frames of each clip.

    Returns:
        Id of each clip with something wrong, and what: why it cannot be opened, or what stands for missing parts.
    """
    wrong = {}
    for labelled in dataset.clips:
        try:
            with dataset.open(labelled, frames) as clip:
                for t in range(frames):
                    clip.image(t)
                if dataset.audio:
                    clip.spectrogram(0)
                if clip.notes:
                    wrong[labelled.id] = "; ".join(clip.notes)
        except ClipError as error:
            wrong[labelled.id] = str(error)
    return wrong


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """At most so many items, evenly spaced; all if there is no limit."""
    count = len(items) if limit is None else min(limit, len(items))
    return [items[position * len(items) // count] for position in range(count)]
