from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from adaptive_models.data.log_mel import log_mel
from adaptive_models.data.spectrogram import SAMPLE_RATE

STEP = 384
"""Samples in 16 ms at 24 kHz; a frame of 32 ms has twice as many."""


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)


def unnormalised(picture: torch.Tensor) -> np.ndarray:
    return np.exp(picture[0].double().numpy() * 4.66 - 7.03)


def test_steps_are_fourier_sums_under_triangles_on_the_mel_scale() -> None:
    samples = noise(4 * SAMPLE_RATE)
    picture = log_mel(samples, centre=2.0)
    assert picture.shape == (1, 80, 128)
    start = 48000 - (127 * STEP + 768) // 2
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(768) / 768)
    mel = np.linspace(0, 2595 * math.log10(1 + 8000 / 700), 82)
    corners = 700 * (10 ** (mel / 2595) - 1)
    bins = np.arange(385) * SAMPLE_RATE / 768
    for step in (0, 60, 127):
        piece = samples[start + STEP * step : start + STEP * step + 768] * hann
        power = np.abs(np.exp(-2j * np.pi * np.outer(np.arange(385), np.arange(768)) / 768) @ piece) ** 2
        expected = [np.interp(bins, corners[band : band + 3], [0, 1, 0]) @ power for band in range(80)]
        # the lowest bands are narrower than a bin, and may hold none
        assert np.allclose(unnormalised(picture)[:, step], np.maximum(expected, 1e-10), rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize("frequency", [500.0, 3000.0, 7500.0])
def test_a_sine_lands_in_the_band_of_its_pitch(frequency: float) -> None:
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    picture = log_mel(0.5 * np.sin(2 * np.pi * frequency * time), centre=1.5)
    place = 81 * math.log(1 + frequency / 700) / math.log(1 + 8000 / 700) - 1
    assert (abs(picture[0].argmax(0) - place) <= 1).all()


def test_sound_above_8_khz_is_not_heard() -> None:
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    assert unnormalised(log_mel(0.5 * np.sin(2 * np.pi * 11_000 * time), centre=1.5)).max() < 1e-3


def test_a_click_lands_in_the_step_of_its_time() -> None:
    samples = np.zeros(4 * SAMPLE_RATE, np.float32)
    samples[48_000] = 1
    for centre, step in ((2.0, 63.5), (1.84, 73.5), (2.16, 53.5)):  # 10 steps of 16 ms earlier and later
        assert abs(log_mel(samples, centre)[0].sum(0).argmax().item() - step) <= 1


def test_silence_and_the_ends_of_a_track() -> None:
    nothing = log_mel(np.zeros(0), 1.0)
    assert nothing.unique().tolist() == pytest.approx([(math.log(1e-10) + 7.03) / 4.66])
    samples = noise(3 * SAMPLE_RATE)
    half = (127 * STEP + 768) / 2 / SAMPLE_RATE
    assert torch.equal(log_mel(samples, 0.0), log_mel(samples, half))
    assert torch.equal(log_mel(samples, 99.0), log_mel(samples, 3 - half))
    short = log_mel(samples[:SAMPLE_RATE], 0.5)
    assert torch.equal(short[..., 63:], nothing[..., 63:])
    assert not torch.equal(short[..., :62], nothing[..., :62])


def test_only_a_mono_track_will_do() -> None:
    with pytest.raises(ValueError, match="mono track has one dimension"):
        log_mel(np.zeros((2, 100)), 0.0)
