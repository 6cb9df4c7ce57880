"""Clips, what a system looks at: sampled frames, each with its image and spectrogram, made when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from adaptive_models.data.sampling import segment_centres
from adaptive_models.data.spectrogram import SAMPLE_RATE, WINDOW, log_spectrogram, silence
from adaptive_models.data.transforms import prepare_frame


class ClipError(ValueError):
    """A file that cannot serve as a clip; the message is one line that names the file."""


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


class TensorClip:
    """A clip whose frames are in memory.

    Args:
        images: (T, 3, 224, 224).
        spectrograms: (T, 1, 256, 256), or None for a video without sound.

    Raises:
        ValueError: if the shapes are not these.
    """

    def __init__(self, images: Tensor, spectrograms: Tensor | None = None) -> None:
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

    def image(self, t: int) -> Tensor:
        """Frame t, (3, 224, 224)."""
        return self._images[_checked(t, self.frames)]

    def spectrogram(self, t: int) -> Tensor:
        """The sound round frame t, (1, 256, 256); ValueError if the clip was made without sound."""
        if self._spectrograms is None:
            raise ValueError("this clip was made without spectrograms")
        return self._spectrograms[_checked(t, self.frames)]


class VideoClip:
    """Frames of a video file at the centres of T equal segments, decoded as they are asked for.

    Decoding runs forward, and only the frames that are asked for are converted; an earlier frame is reached
    by starting again. The sound is decoded at its first use, as a whole. Usable as a context manager.

    Args:
        path: the file.
        frames: T.
        audio: whether spectrograms will be asked for.

    Attributes:
        frames: T.
        notes: what was put in place of missing material, a sentence each; grows while the clip is read.
        indices: source frame of each sampled frame, zero-based.
        times: presentation time of each, in seconds from the start of the file.
        source_frames: number of frames that the file holds.
        fps: average frames per second.
        size: width and height of the source in pixels.

    Raises:
        ClipError: if `frames` is below one, or there is no such file, no video in it, or no frame that can be
            decoded.
    """

    def __init__(self, path: str | Path, frames: int, audio: bool) -> None:
        self.path = Path(path)
        self.frames = frames
        self.notes: list[str] = []
        self._audio = audio
        if frames < 1:
            raise ClipError(f"{path}: {frames} frames asked for; at least 1 is needed")
        stamps = self._inspect()
        self.source_frames = len(stamps)
        if self.source_frames < frames:
            self._note(f"{frames} frames were asked for, the file has {self.source_frames}: frames repeat")
        self.indices = segment_centres(self.source_frames, frames)
        self.times = [stamps[index] for index in self.indices]
        self._restart()
        self.size = (self._frame.width, self._frame.height)

    def image(self, t: int) -> Tensor:
        """Frame t as the networks see it: (3, 224, 224) float32 (see `prepare_frame`)."""
        return prepare_frame(self.rgb(t))

    def rgb(self, t: int) -> np.ndarray:
        """Frame t as decoded: (H, W, 3) uint8."""
        self._seek(self.indices[_checked(t, self.frames)])
        return self._frame.to_ndarray(format="rgb24")

    def spectrogram(self, t: int) -> Tensor:
        """The sound round frame t: (1, 256, 256) float32; ValueError if the clip was opened without audio."""
        if not self._audio:
            raise ValueError(f"{self.path}: the clip was opened without audio")
        time = self.times[_checked(t, self.frames)]
        samples, start = self._track
        return log_spectrogram(samples, time - start) if len(samples) else silence()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> VideoClip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _open(self) -> tuple[InputContainer, VideoStream]:
        if not self.path.is_file():
            raise ClipError(f"{self.path}: no such file")
        try:
            container = av.open(str(self.path), metadata_errors="ignore")
        except av.FFmpegError as error:
            raise ClipError(f"{self.path}: cannot be read as a video ({error.strerror})") from None
        if not container.streams.video:
            container.close()
            raise ClipError(f"{self.path}: has no video stream")
        return container, container.streams.video[0]

    def _inspect(self) -> list[float]:
        """Read what the file holds: the presentation time of every frame, in order, in seconds.

        The packets are counted, since the count in the header may be missing, may promise frames that a
        truncated file does not hold, and includes frames that an edit list hides.
        """
        container, stream = self._open()
        with container:
            if self._audio and not container.streams.audio:
                self._note("the file has no audio track: silence stands for it")
            # 25 is what FFmpeg assumes of a stream that does not tell its rate.
            self.fps = float(stream.average_rate or stream.guessed_rate or 25)
            shown = [packet.pts for packet in self._packets(container, stream) if packet.size and not packet.is_discard]
            if not shown:
                raise ClipError(f"{self.path}: its video stream holds no frames")
            if len(shown) < stream.frames:
                self._note(
                    f"the header promises {stream.frames} frames, the file shows {len(shown)} "
                    "(cut short, or trimmed without encoding anew): the clip is sampled from those"
                )
            stamps = sorted(pts for pts in shown if pts is not None)
            if len(stamps) < len(shown) or stream.time_base is None:
                return [index / self.fps for index in range(len(shown))]
            return [float(pts * stream.time_base) - _origin(container) for pts in stamps]

    def _packets(self, container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Packet]:
        try:
            # PyAV slips after the last packet if more streams appeared on the way.
            with suppress(IndexError):
                yield from container.demux(stream)
        except av.FFmpegError as error:
            self._note(f"the {stream.type} stream cannot be read to its end ({error.strerror})")

    def _decoded(self, container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Any]:
        for packet in self._packets(container, stream):
            try:
                yield from packet.decode()
            except av.FFmpegError as error:
                self._note(f"parts of the {stream.type} stream cannot be decoded: left out ({error.strerror})")

    def _restart(self) -> None:
        """Go to source frame 0, by opening the file anew: not every format can seek."""
        self._container, stream = self._open()
        self._decoder = self._decoded(self._container, stream)
        first = next(self._decoder, None)
        if first is None:
            raise ClipError(f"{self.path}: no frame of its video can be decoded")
        self._frame: VideoFrame = first
        self._position = 0

    def _seek(self, index: int) -> None:
        """Make source frame `index` the current one, or the last before it that can be decoded."""
        if index < self._position:
            self.close()
            self._restart()
        while self._position < index:
            frame = next(self._decoder, None)
            if frame is None:
                self._note(
                    f"only {self._position + 1} of {self.source_frames} frames can be decoded: "
                    f"frame {self._position} stands for those from {self._position + 1} on"
                )
                return
            self._frame = frame
            self._position += 1

    @cached_property
    def _track(self) -> tuple[np.ndarray, float]:
        """The sound as mono samples at `SAMPLE_RATE`, and the time of the first, in seconds."""
        container, _ = self._open()
        with container:
            if not container.streams.audio:
                return np.zeros(0, np.float32), 0.0
            samples, start = self._mono(container, container.streams.audio[0])
        seconds = len(samples) / SAMPLE_RATE
        if not len(samples):
            self._note("the audio track cannot be decoded: silence stands for it")
        elif len(samples) < WINDOW:
            self._note(
                f"the audio track lasts {seconds:.2f} s, a spectrogram {WINDOW / SAMPLE_RATE:.2f} s: "
                "silence follows the track"
            )
        elif start + seconds < self.times[-1]:
            self._note(
                f"the audio track ends at {start + seconds:.2f} s, the last frame is at "
                f"{self.times[-1]:.2f} s: frames beyond the track get its end"
            )
        return samples, start

    def _mono(self, container: InputContainer, stream: AudioStream) -> tuple[np.ndarray, float]:
        # 16-bit integers, since FFmpeg sums channels to floats without scaling them back into [-1, 1].
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        pieces = [np.zeros(0, np.int16)]
        start = None
        try:
            for frame in self._decoded(container, stream):
                if start is None:
                    start = (frame.time or 0.0) - _origin(container)
                pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        except ValueError as error:  # PyAV's answer to a track that changes its format on the way
            self._note(f"the audio track is used up to a change of its format only ({error})")
        pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
        return np.concatenate(pieces).astype(np.float32) / 32768, start or 0.0


def _origin(container: InputContainer) -> float:
    """The time at which the file starts; broadcasts do not start at zero."""
    return (container.start_time or 0) / av.time_base


def _checked(t: int, frames: int) -> int:
    if not 0 <= t < frames:
        raise IndexError(f"frame {t} of a clip of {frames} frames; they count from 0")
    return t
