from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_models.data.spectrogram import SAMPLE_RATE, log_spectrogram, silence


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)


def test_columns_are_a_direct_fourier_sum() -> None:
    samples = noise(5 * SAMPLE_RATE)
    result = log_spectrogram(samples, centre=2.0).numpy()
    window = samples[48000 - 15336 : 48000 + 15336].astype(np.float64)
    position = np.arange(240)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * position / 240)
    for column in (0, 1, 128, 254, 255):
        # The Hann window is centred in the 511 points of the transform, which centre on sample 120 * column.
        covered = 120 * column - 255 + 135 + position
        inside = (covered >= 0) & (covered < len(window))
        piece = np.where(inside, window[covered.clip(0, len(window) - 1)], 0) * hann
        angles = -2j * np.pi * np.outer(np.arange(256), position) / 511
        expected = np.log(np.abs(np.exp(angles) @ piece) ** 2 + 1e-6)
        assert np.allclose(result[0, :, column], expected, atol=1e-3)


@pytest.mark.parametrize("row", [5, 64, 250])
def test_a_sine_lands_in_its_row(row: int) -> None:
    frequency = row * SAMPLE_RATE / 511
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    result = log_spectrogram(0.5 * np.sin(2 * np.pi * frequency * time), centre=1.5)
    assert (result[0].argmax(0) == row).all()
    # Amplitude 0.5 times half the sum of the window, which is 120.
    assert result[0, row, 128].item() == pytest.approx(math.log(30.0**2), abs=0.01)


def test_a_click_lands_in_the_column_of_its_time() -> None:
    samples = np.zeros(3 * SAMPLE_RATE, np.float32)
    samples[36000] = 1
    for centre, column in ((1.5, 15336 / 120), (1.2, 15336 / 120 + 60), (1.9, 15336 / 120 - 80)):
        loudest = log_spectrogram(samples, centre)[0].sum(0).argmax().item()
        assert abs(loudest - column) <= 1


def test_near_the_ends_the_window_shifts_inside_the_track() -> None:
    samples = noise(2 * SAMPLE_RATE)
    assert torch.equal(log_spectrogram(samples, 0.0), log_spectrogram(samples, 0.639))
    assert torch.equal(log_spectrogram(samples, 99.0), log_spectrogram(samples, 2 - 0.639))
    assert not torch.equal(log_spectrogram(samples, 0.639), log_spectrogram(samples, 2 - 0.639))


def test_a_short_track_is_followed_by_silence() -> None:
    result = log_spectrogram(noise(12000), centre=0.25)
    assert torch.equal(result[..., 103:], silence()[..., 103:])  # the last window ends at sample 12240
    assert (result[..., :100].mean(1) > 0).all()


def test_silence_is_what_a_silent_track_gives() -> None:
    assert torch.equal(silence(), log_spectrogram(np.zeros(40000, np.float32), 1.0))
    assert silence().unique().tolist() == [pytest.approx(math.log(1e-6))]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 70_000), st.floats(-10, 10))
def test_always_256_by_256_and_finite(samples: int, centre: float) -> None:
    result = log_spectrogram(np.ones(samples, np.float32), centre)
    assert result.shape == (1, 256, 256)
    assert result.dtype == torch.float32
    assert result.isfinite().all()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(2, 100\)"):
        log_spectrogram(np.zeros((2, 100), np.float32), 0.0)
    with pytest.raises(ValueError, match="centre is nan"):
        log_spectrogram(np.zeros(100, np.float32), math.nan)
