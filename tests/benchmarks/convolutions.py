"""Work of a known size: small convolutions, as many as asked for, so that a slow-down is true by construction.

Run by pytest, it is what pytest-benchmark times in `false_alarms.py`, which hands over the number by the environment.
"""

from __future__ import annotations

import os

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

REPETITIONS = "REPETITIONS"
WARM_UP_CALLS = 20

# One layer for baseline and candidate: two would lie in different places of memory, which is a difference of its own.
CONVOLUTION, IMAGE = nn.Conv2d(8, 8, 3, padding=1), torch.ones(1, 8, 8, 8)


def convolve(repetitions: int) -> None:
    with torch.inference_mode():
        for _ in range(repetitions):
            CONVOLUTION(IMAGE)


def warm_up(repetitions: int) -> None:
    torch.set_num_threads(1)
    for _ in range(WARM_UP_CALLS):
        convolve(repetitions)


def test_convolutions(benchmark: BenchmarkFixture) -> None:
    repetitions = int(os.environ[REPETITIONS])
    warm_up(repetitions)
    benchmark(convolve, repetitions)
