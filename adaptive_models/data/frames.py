"""A clip of still images: the frames of a video that were extracted to a folder or a tar archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from adaptive_models.data.clips import VideoClip, checked
from adaptive_models.data.images import SUFFIXES, Images, decode_image, open_images
from adaptive_models.data.log_mel import log_mel
from adaptive_models.data.media import ClipError, add_note
from adaptive_models.data.sampling import segment_centres
from adaptive_models.data.sound import Sound
from adaptive_models.data.spectrogram import silence
from adaptive_models.data.transforms import prepare_frame

EPIC_NAMES = (("frame_{:010d}.jpg", 1), ("img_{:010d}.jpg", 0))
"""Names of the frames of EPIC-KITCHENS, and the number of the first: official, and as the published code links them."""

NO_SOUND = "there is no sound to these images: silence stands for it"


class FrameClip:
    """Sampled images of a folder or tar archive, read as they are asked for. Usable as a context manager.

    An image that is missing or cannot be decoded is replaced by the nearest before it, or else after it.

    Args:
        path: the folder, or a tar archive that is not compressed.
        frames: T.
        audio: whether spectrograms will be asked for.
        numbers: which frames of the video are the clip, counted from zero, in files that are named as those of
            EPIC-KITCHENS (`EPIC_NAMES`); if None, all images, in the order of the numbers in their names.
        start: time of the clip's first frame, in seconds from the start of the sound.
        fps: frames per second.
        sound: a file with the sound; silence if None.
        sample: as of `VideoClip`.

    Attributes:
        frames: T.
        notes: what was put in place of missing material, a sentence each; grows while the clip is read.
        indices: number of each sampled frame within the clip, zero-based.
        times: time of each, in seconds from the start of the sound.
        source_frames: number of frames that the clip has.
        fps: frames per second.

    Raises:
        ClipError: if `frames` is below one, there is no such folder or archive, it holds no image, or it lacks the
            first or the last of the frames.
    """

    def __init__(
        self,
        path: str | Path,
        frames: int,
        audio: bool,
        numbers: range | None = None,
        start: float = 0.0,
        fps: float = 25.0,
        sound: Path | None = None,
        sample: Callable[[int, int], list[int]] = segment_centres,
    ) -> None:
        self.path, self.frames, self.fps = Path(path), frames, fps
        self.notes: list[str] = []
        if frames < 1:
            raise ClipError(f"{path}: {frames} frames asked for; at least 1 is needed")
        self._images = open_images(self.path)
        try:
            self._names = _names(self._images, numbers)
        except ClipError:
            self.close()
            raise
        self.source_frames = len(self._names)
        if self.source_frames < frames:
            add_note(self.notes, f"{frames} frames were asked for, there are {self.source_frames}: frames repeat")
        self.indices = sample(self.source_frames, frames)
        self.times = [start + index / fps for index in self.indices]
        self._audio = audio
        self._sound = None if sound is None else Sound(sound, self.times, self.notes)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the first sampled frame in pixels."""
        height, width, _ = self.rgb(0).shape
        return width, height

    def image(self, t: int) -> Tensor:
        """Frame t as the networks see it: (3, 224, 224) float32 (see `prepare_frame`).

        Raises:
            ClipError: if none of the images can be decoded.
        """
        return prepare_frame(self.rgb(t))

    def rgb(self, t: int) -> np.ndarray:
        """Frame t as decoded: (H, W, 3) uint8."""
        index = self.indices[checked(t, self.frames)]
        for number in (*range(index, -1, -1), *range(index + 1, self.source_frames)):
            try:
                pixels = decode_image(self._images.read(self._names[number]))
            except (OSError, ValueError):
                continue
            if number != index:
                add_note(
                    self.notes,
                    f"{self._names[index]} is missing or cannot be decoded: {self._names[number]} stands for it",
                )
            return pixels
        raise ClipError(f"{self.path}: none of its images can be decoded")

    def spectrogram(self, t: int) -> Tensor:
        """The sound round frame t: (1, 256, 256) float32; ValueError if the clip was opened without audio."""
        if not self._audio:
            raise ValueError(f"{self.path}: the clip was opened without audio")
        if self._sound is None:
            add_note(self.notes, NO_SOUND)
            return silence()
        return self._sound.spectrogram(checked(t, self.frames))

    def log_mel(self, t: int) -> Tensor:
        """The sound round frame t on the mel scale: (1, 80, 128) float32 (see `log_mel.log_mel`)."""
        if self._sound is None:
            add_note(self.notes, NO_SOUND)
            return log_mel(np.zeros(0), 0.0)
        return self._sound.log_mel(checked(t, self.frames))

    def close(self) -> None:
        """Close the archive."""
        self._images.close()

    def __enter__(self) -> FrameClip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _names(images: Images, numbers: range | None) -> list[str]:
    if numbers is not None:
        pattern, first = epic_pattern(images, numbers)
        return [pattern.format(number + first) for number in numbers]
    names = images.names()
    if not names:
        raise ClipError(f"{images.path}: holds no images ({', '.join(SUFFIXES)})")
    return names


def epic_pattern(images: Images, numbers: range) -> tuple[str, int]:
    """How the frames of EPIC-KITCHENS are named here: one of `EPIC_NAMES`.

    Raises:
        ClipError: if the first or the last of these frames, which count from zero, is missing or empty; those between
            are not looked for.
    """
    for pattern, first in EPIC_NAMES:
        if images.size(pattern.format(numbers[0] + first)):
            last = pattern.format(numbers[-1] + first)
            if not images.size(last):
                raise ClipError(f"{images.path}: {last}, the last of the segment, is missing or empty")
            return pattern, first
    names = " nor ".join(pattern.format(numbers[0] + first) for pattern, first in EPIC_NAMES)
    raise ClipError(f"{images.path}: has neither {names}, the first of the segment")


def open_any_clip(path: str | Path, frames: int, audio: bool) -> VideoClip | FrameClip:
    """A clip of a video file, a folder of images, or a tar archive of them.

    Raises:
        ClipError: as `VideoClip` and `FrameClip`.
    """
    still = Path(path).is_dir() or Path(path).suffix == ".tar"
    return FrameClip(path, frames, audio) if still else VideoClip(path, frames, audio)
