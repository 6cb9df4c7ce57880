"""The picture of two seconds of sound on the mel scale, which AVSlowFast takes."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from adaptive_models.data.spectrogram import SAMPLE_RATE, excerpt

BANDS, STEPS = 80, 128
HIGHEST = 8000.0
"""Hz; half of 16 kHz, the rate that AVSlowFast's tracks have."""
FRAME, HOP = SAMPLE_RATE * 32 // 1000, SAMPLE_RATE * 16 // 1000
"""Samples in 32 and 16 ms, of our track, whose rate is higher; the bins below `HIGHEST` are the same."""
WINDOW = (STEPS - 1) * HOP + FRAME
"""Samples that one picture looks at, 2.064 s."""
FLOOR = 1e-10
"""The least power."""
MEAN, DEVIATION = -7.03, 4.66
"""Of the logarithm in Kinetics, by which AVSlowFast normalises."""


def log_mel(samples: np.ndarray, centre: float) -> Tensor:
    """Logarithm of the power in mel bands, over time, of the sound round one moment, normalised.

    Args:
        samples: (S,) float, the mono track at `SAMPLE_RATE`, in [-1, 1]; see `log_spectrogram` for its ends.
        centre: the moment, in seconds from the first sample.

    Returns:
        (1, 80, 128) float32: mel bands up to 8 kHz, then time, in steps of 16 ms.

    Raises:
        ValueError: if `samples` is not one-dimensional or `centre` is not finite.

    Source: AVSlowFast (Xiao et al., 2020). It does not tell its mel scale; this is that of HTK.
    """
    spectrum = torch.stft(
        excerpt(samples, centre, WINDOW),
        n_fft=FRAME,
        hop_length=HOP,
        window=torch.hann_window(FRAME, periodic=True),
        center=False,
        return_complex=True,
    )
    power = _mel_filters() @ spectrum.abs().square()
    return (power.clamp(min=FLOOR).log()[None] - MEAN) / DEVIATION


@cache
def _mel_filters() -> Tensor:
    """Triangles over the bins of the spectrum, (80, bins), each from the peak of the one before to that of the next."""
    highest = 2595 * np.log10(1 + HIGHEST / 700)
    corners = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    below, peaks, above = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    frequencies = np.linspace(0, SAMPLE_RATE / 2, FRAME // 2 + 1)
    rising, falling = (frequencies - below) / (peaks - below), (above - frequencies) / (above - peaks)
    return torch.from_numpy(np.clip(np.minimum(rising, falling), 0, None).astype(np.float32))
