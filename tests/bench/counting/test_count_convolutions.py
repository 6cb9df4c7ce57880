"""Convolutions by hand: outputs x (input channels / groups) x kernel, or for transposed ones inputs x ... ."""

from __future__ import annotations

import pytest
from every_way import assert_counts
from torch import nn, randn

PLAIN = [
    # 4 * 5 outputs, each 3 channels * 3 taps; 20 biases
    (nn.Conv1d(3, 4, 3), (1, 3, 7), 20 * 9, 20),
    (nn.Conv1d(3, 4, 3), (3, 7), 20 * 9, 20),  # without a batch
    # 2 images, 4 * (6-3+1) * (5-3+1) = 48 outputs each
    (nn.Conv2d(3, 4, 3), (2, 3, 6, 5), 96 * 27, 96),
    (nn.Conv2d(3, 4, 3, bias=False), (2, 3, 6, 5), 96 * 27, 0),
    (nn.Conv3d(2, 3, 2), (1, 2, 3, 4, 5), 3 * 2 * 3 * 4 * 2 * 8, 72),
    # stride 2 and padding 1: ceil(7/2) = 4, so 4*4 places; padding counts as data
    (nn.Conv2d(3, 4, 3, stride=2, padding=1), (1, 3, 7, 7), 4 * 16 * 27, 64),
    # dilation 2: a window of 3 spans 5, so 3*3 places
    (nn.Conv2d(3, 4, 3, dilation=2), (1, 3, 7, 7), 4 * 9 * 27, 36),
    # 2 groups: each output meets half of the input channels
    (nn.Conv2d(4, 6, 3, groups=2), (1, 4, 5, 5), 6 * 9 * 2 * 9, 54),
    # depthwise: each output meets one channel
    (nn.Conv2d(4, 8, 3, groups=4), (1, 4, 5, 5), 8 * 9 * 9, 72),
    # 'same' keeps 5*5 places, 'valid' leaves 3*3
    (nn.Conv2d(3, 4, 3, padding="same"), (1, 3, 5, 5), 4 * 25 * 27, 100),
    (nn.Conv2d(3, 4, (4, 2), padding="same"), (1, 3, 5, 5), 4 * 25 * 24, 100),
    (nn.Conv2d(3, 4, 3, padding="valid"), (1, 3, 5, 5), 4 * 9 * 27, 36),
    # circular padding only moves data
    (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (1, 3, 5, 5), 4 * 25 * 27, 100),
]
TRANSPOSED = [
    # each of 3*7 inputs meets 4 outputs * 3 taps; 4 * 9 biases
    (nn.ConvTranspose1d(3, 4, 3), (1, 3, 7), 21 * 12, 36),
    # 3*4*4 inputs, 4 outputs * 9 taps; stride 2 gives (4-1)*2+3 = 9 a side
    (nn.ConvTranspose2d(3, 4, 3, stride=2), (1, 3, 4, 4), 48 * 36, 4 * 81),
    # output padding adds a column of biases and no products
    (nn.ConvTranspose2d(3, 4, 3, stride=2, output_padding=1), (1, 3, 4, 4), 48 * 36, 4 * 100),
    (nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), (1, 4, 5, 5), 100 * 3 * 9, 0),
    (nn.ConvTranspose3d(2, 3, 2), (1, 2, 2, 2, 2), 16 * 24, 3 * 27),
]


@pytest.mark.parametrize(("module", "shape", "macs", "biases"), PLAIN + TRANSPOSED)
def test_convolution(module: nn.Module, shape: tuple[int, ...], macs: int, biases: int) -> None:
    assert_counts(module, randn(shape), macs=macs, flops=2 * macs + biases)
