"""Clips, what a system looks at: sampled frames, each with its image and spectrogram, made when asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from adaptive_models.data.media import ClipError, add_note
from adaptive_models.data.sampling import segment_centres
from adaptive_models.data.sound import Sound
from adaptive_models.data.transforms import prepare_frame
from adaptive_models.data.video import VideoFrames

__all__ = ["Clip", "ClipError", "TensorClip", "VideoClip", "checked"]


class Clip(Protocol):
    """T sampled frames of one video.

    Attributes:
        frames: T.
        notes: what was put in place of missing material, a sentence each; grows while the clip is read.
    """

    frames: int
    notes: list[str]

    def image(self, t: int) -> Tensor:
        """Frame t as the networks see it: (3, 224, 224) float32 (see `prepare_frame`)."""
        ...

    def spectrogram(self, t: int) -> Tensor:
        """The sound round frame t: (1, 256, 256) float32 (see `log_spectrogram`)."""
        ...

    def log_mel(self, t: int) -> Tensor:
        """The sound round frame t on the mel scale: (1, 80, 128) float32 (see `log_mel.log_mel`)."""
        ...


class TensorClip:
    """A clip whose frames are in memory.

    Args:
        images: (T, 3, 224, 224).
        spectrograms: (T, 1, 256, 256), or None for a video without sound.
        log_mels: (T, 1, 80, 128), or None.

    Raises:
        ValueError: if the shapes are not these.
    """

    def __init__(self, images: Tensor, spectrograms: Tensor | None = None, log_mels: Tensor | None = None) -> None:
        if images.ndim != 4 or len(images) < 1 or images.shape[1] != 3:
            raise ValueError(f"images has shape {tuple(images.shape)}; (T, 3, 224, 224) is needed")
        if spectrograms is not None and spectrograms.shape[:2] != (len(images), 1):
            raise ValueError(
                f"spectrograms has shape {tuple(spectrograms.shape)}; ({len(images)}, 1, 256, 256) is needed"
            )
        self.frames = len(images)
        self.notes: list[str] = []
        self._images = images
        self._spectrograms = spectrograms
        self._log_mels = log_mels

    def image(self, t: int) -> Tensor:
        """Frame t, (3, 224, 224)."""
        return self._images[checked(t, self.frames)]

    def spectrogram(self, t: int) -> Tensor:
        """The sound round frame t, (1, 256, 256); ValueError if the clip was made without sound."""
        if self._spectrograms is None:
            raise ValueError("this clip was made without spectrograms")
        return self._spectrograms[checked(t, self.frames)]

    def log_mel(self, t: int) -> Tensor:
        """The sound round frame t, (1, 80, 128); ValueError if the clip was made without."""
        if self._log_mels is None:
            raise ValueError("this clip was made without log-mel pictures")
        return self._log_mels[checked(t, self.frames)]

    def first(self, frames: int) -> TensorClip:
        """Its first frames as a clip of their own; of a shorter clip, the whole."""
        parts = (self._images, self._spectrograms, self._log_mels)
        return TensorClip(*(part if part is None else part[:frames] for part in parts))  # type: ignore[arg-type]


class VideoClip:
    """Sampled frames of a video file, or of a segment of it, decoded as they are asked for.

    Of a long video only the part that is needed is read, from the last keyframe before it, and of the sound only what
    the spectrograms look at. Usable as a context manager.

    Args:
        path: the file.
        frames: T.
        audio: whether spectrograms will be asked for.
        segment: start and stop of the part that is the clip, in seconds from the start of the file; the whole file if
            None. See `VideoFrames` for the frames at its ends.
        sound: a file with the sound, if that is not in the video.
        sample: chooses T of n frames: the centres of equal segments, or `random_in_segments` with a seed, or given
            indices.

    Attributes:
        frames: T.
        notes: what was put in place of missing material, a sentence each; grows while the clip is read.
        indices: source frame of each sampled frame, zero-based from the first of the segment.
        times: presentation time of each, in seconds from the start of the file.
        source_frames: number of frames that the file, or the segment, holds.
        fps: average frames per second.
        size: width and height of the source in pixels.

    Raises:
        ClipError: if `frames` is below one, or there is no such file, no video in it, or no frame in the segment.
    """

    def __init__(
        self,
        path: str | Path,
        frames: int,
        audio: bool,
        segment: tuple[float, float] | None = None,
        sound: Path | None = None,
        sample: Callable[[int, int], list[int]] = segment_centres,
    ) -> None:
        self.path = Path(path)
        self.frames = frames
        self.notes: list[str] = []
        self._audio = audio
        if frames < 1:
            raise ClipError(f"{path}: {frames} frames asked for; at least 1 is needed")
        self._video = VideoFrames(self.path, segment, self.notes)
        self.source_frames = len(self._video)
        if self.source_frames < frames:
            what = "file" if segment is None else "segment"
            add_note(self.notes, f"{frames} frames were asked for, the {what} has {self.source_frames}: frames repeat")
        self.indices = sample(self.source_frames, frames)
        self.times = [self._video.times[index] for index in self.indices]
        self.fps, self.size = self._video.fps, self._video.size
        self._sound = Sound(sound or self.path, self.times, self.notes)

    def image(self, t: int) -> Tensor:
        """Frame t as the networks see it: (3, 224, 224) float32 (see `prepare_frame`).

        Raises:
            ClipError: if no frame of the video can be decoded.
        """
        return prepare_frame(self.rgb(t))

    def rgb(self, t: int) -> np.ndarray:
        """Frame t as decoded: (H, W, 3) uint8."""
        return self._video[self.indices[checked(t, self.frames)]].to_ndarray(format="rgb24")

    def spectrogram(self, t: int) -> Tensor:
        """The sound round frame t: (1, 256, 256) float32; ValueError if the clip was opened without audio."""
        if not self._audio:
            raise ValueError(f"{self.path}: the clip was opened without audio")
        return self._sound.spectrogram(checked(t, self.frames))

    def log_mel(self, t: int) -> Tensor:
        """The sound round frame t on the mel scale: (1, 80, 128) float32 (see `log_mel.log_mel`)."""
        return self._sound.log_mel(checked(t, self.frames))

    def close(self) -> None:
        """Close the file."""
        self._video.close()

    def __enter__(self) -> VideoClip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def checked(t: int, frames: int) -> int:
    """The index of a frame; IndexError if the clip has no such frame."""
    if not 0 <= t < frames:
        raise IndexError(f"frame {t} of a clip of {frames} frames; they count from 0")
    return t
