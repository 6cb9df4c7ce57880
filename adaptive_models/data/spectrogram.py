"""The picture of the sound round a frame."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 24_000
"""Samples per second of the mono track."""
HALF_WINDOW = round(0.639 * SAMPLE_RATE)
WINDOW = 2 * HALF_WINDOW
"""Samples that one spectrogram looks at: 0.639 s before its centre and as much after."""
FFT_SIZE = 511
HANN_SIZE = 240
HOP = 120
FLOOR = 1e-6
"""Power that is added before the logarithm."""
BINS = FFT_SIZE // 2 + 1
COLUMNS = WINDOW // HOP + 1


def log_spectrogram(samples: np.ndarray, centre: float) -> Tensor:
    """Logarithm of the power, over frequency and time, of the sound round one moment.

    Near the ends of the track the window is shifted to lie inside; a track shorter than the window is
    followed by silence.

    Args:
        samples: (S,) float, the mono track at `SAMPLE_RATE`, in [-1, 1].
        centre: the moment, in seconds from the first sample.

    Returns:
        (1, 256, 256) float32: frequency from 0 to 12 kHz, then time; natural logarithm of |STFT|^2 + 1e-6.

    Raises:
        ValueError: as `excerpt`.

    Source: the audio input of TBN (Kazakos et al., 2019), which the paper keeps.
    """
    spectrum = torch.stft(
        excerpt(samples, centre, WINDOW),
        n_fft=FFT_SIZE,
        hop_length=HOP,
        win_length=HANN_SIZE,
        window=torch.hann_window(HANN_SIZE, periodic=True),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return torch.log(spectrum.abs().square() + FLOOR)[None]


def excerpt(samples: np.ndarray, centre: float, length: int) -> Tensor:
    """The part of a track round one moment, in seconds: (`length`,) float32; see `log_spectrogram` for its ends.

    Raises:
        ValueError: if `samples` is not one-dimensional or `centre` is not finite.
    """
    if samples.ndim != 1:
        raise ValueError(f"samples has shape {samples.shape}; a mono track has one dimension")
    if not math.isfinite(centre):
        raise ValueError(f"centre is {centre}; a finite time in seconds is needed")
    last_start = max(0, len(samples) - length)
    start = min(max(0, round(centre * SAMPLE_RATE) - length // 2), last_start)
    window = torch.from_numpy(samples[start : start + length].astype(np.float32))
    return F.pad(window, (0, length - len(window)))


def silence() -> Tensor:
    """What `log_spectrogram` makes of a silent track: (1, 256, 256) float32, log(1e-6) everywhere."""
    return torch.full((1, BINS, COLUMNS), math.log(FLOOR))
