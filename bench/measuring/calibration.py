"""A small workload of known size, whose time tells how fast the machine is at the moment."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

EVERY_SECONDS = 1.0
"""Between two runs of it while something else is measured, of which it takes less than 1 % then."""


def calibration_workload() -> Callable[[], object]:
    """A few milliseconds of what networks do most: a 3x3 convolution, a batch norm, a ReLU, and a matrix product."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, weights = torch.rand(1, 64, 56, 56), torch.rand(784, 784)
        layer = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()).eval()

    @torch.inference_mode()
    def run() -> object:
        return layer(x).view(256, 784) @ weights

    return run


class Calibration:
    """Runs the calibration workload on the CPU now and then.

    Attributes:
        seconds: of each run.
    """

    def __init__(self) -> None:
        self._workload = calibration_workload()
        self._workload()
        self._next = 0.0
        self.seconds: list[float] = []

    def look(self) -> None:
        """Run it, unless that was done a moment ago; to be called often, between samples."""
        start = time.perf_counter()
        if start >= self._next:
            self._workload()
            self.seconds.append(time.perf_counter() - start)
            self._next = start + EVERY_SECONDS
