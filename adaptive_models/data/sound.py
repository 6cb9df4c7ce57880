"""The sound of a clip, of which only the part round its frames is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from torch import Tensor

from adaptive_models.data import log_mel
from adaptive_models.data.media import add_note, decoded, open_media, origin, packets, packets_from
from adaptive_models.data.spectrogram import SAMPLE_RATE, WINDOW, log_spectrogram, silence

SETTLING = 0.5
"""Seconds that decoders may take to settle."""


class Sound:
    """Spectrograms of a file's audio track round some moments; the track is decoded at the first.

    Args:
        path: the file, video or audio.
        times: the moments, in seconds from the start of the file, never decreasing.
        notes: where to say what was put in place of missing sound.
    """

    def __init__(self, path: Path, times: Sequence[float], notes: list[str]) -> None:
        self._path, self._times, self._notes = path, times, notes
        self._tracks: dict[int, tuple[np.ndarray, float]] = {}

    def spectrogram(self, t: int) -> Tensor:
        """The sound round moment t: (1, 256, 256) float32 (see `log_spectrogram`).

        Raises:
            ClipError: if the file cannot be opened.
        """
        samples, start = self._track(WINDOW)
        return log_spectrogram(samples, self._times[t] - start) if len(samples) else silence()

    def log_mel(self, t: int) -> Tensor:
        """The sound round moment t on the mel scale: (1, 80, 128) float32 (see `log_mel.log_mel`).

        Raises:
            ClipError: if the file cannot be opened.
        """
        samples, start = self._track(log_mel.WINDOW)
        return log_mel.log_mel(samples, self._times[t] - start)

    def _track(self, window: int) -> tuple[np.ndarray, float]:
        """Mono samples at `SAMPLE_RATE` for windows of a length round the moments, and the time of the first."""
        if window not in self._tracks:
            self._tracks[window] = self._read(window)
        return self._tracks[window]

    def _read(self, window: int) -> tuple[np.ndarray, float]:
        with open_media(self._path) as container:
            if not container.streams.audio:
                add_note(self._notes, "the file has no audio track: silence stands for it")
                return np.zeros(0, np.float32), 0.0
            samples, start = self._decode(container, container.streams.audio[0], window / SAMPLE_RATE + SETTLING)
        seconds = len(samples) / SAMPLE_RATE
        if not len(samples):
            add_note(self._notes, "the audio track cannot be decoded: silence stands for it")
        elif len(samples) < window:
            add_note(
                self._notes,
                f"the audio track lasts {seconds:.2f} s, a spectrogram {window / SAMPLE_RATE:.2f} s: "
                "silence follows the track",
            )
        elif start + seconds < self._times[-1]:
            add_note(
                self._notes,
                f"the audio track ends at {start + seconds:.2f} s, the last frame is at "
                f"{self._times[-1]:.2f} s: frames beyond the track get its end",
            )
        return samples, start

    def _decode(self, container: InputContainer, stream: AudioStream, margin: float) -> tuple[np.ndarray, float]:
        # Windows shift by up to their length at the track's ends, so that there is a margin round the frames.
        # 16-bit integers, since FFmpeg sums channels to floats without scaling them back into [-1, 1].
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        pieces = [np.zeros(0, np.int16)]
        first, last = self._times[0] - margin, self._times[-1] + margin
        following = (
            packets_from(container, stream, first, self._notes)
            if first > 0
            else packets(container, stream, self._notes)
        )
        start = None
        try:
            for frame in decoded(following, "audio", self._notes):
                time = (frame.time or 0.0) - origin(container)
                if time > last:
                    break
                if start is None:
                    start = time
                pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        except ValueError as error:  # PyAV's answer to a track that changes its format on the way
            add_note(self._notes, f"the audio track is used up to a change of its format only ({error})")
        pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
        return np.concatenate(pieces).astype(np.float32) / 32768, start or 0.0
