"""Newer adaptive systems, on other data than the paper's: what their described networks cost a video, counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bench.counting.count import count_flops


@dataclass(frozen=True)
class Bounds:
    """Multiply-accumulates of a video: the least and the most that a policy can make of it."""

    least: int
    most: int


def arnet() -> Bounds:
    """Least: the first frame at 84 pixels, then skips of four; most: every frame at 224 pixels."""
    from baselines.arnet import FRAMES, SIDES, SKIPS, ARNet

    with torch.device("meta"):
        model, small = ARNet().eval(), torch.empty(1, 3, SIDES[-1], SIDES[-1])
        features, _ = model.scan(small)
        scan = _macs(model.scan, small)
        most = _macs(model.look, torch.empty(1, 3, SIDES[0], SIDES[0]), features)
        least = _macs(model.look, small, features)
    scans = 1 + -(-(FRAMES - 1) // SKIPS[-1])
    return Bounds(scans * scan + least, FRAMES * (scan + most))


def adafocus() -> Bounds:
    """One number: a patch of every frame is looked at, wherever it is."""
    from baselines.adafocus import FRAMES, PATCH, AdaFocus

    with torch.device("meta"):
        frames, patches = (torch.empty(1, FRAMES, 3, side, side) for side in (224, PATCH))
        macs = _macs(AdaFocus().eval(), frames, patches)
    return Bounds(macs, macs)


def frameexit() -> Bounds:
    """Least: it stops after the first frame; most: after the tenth."""
    from baselines.frameexit import FRAMES, FrameExit

    with torch.device("meta"):
        model = FrameExit().eval()
        least, most = (_macs(model, torch.empty(1, frames, 3, 224, 224)) for frames in (1, FRAMES))
    return Bounds(least, most)


OTHERS = {"arnet": arnet, "adafocus": adafocus, "frameexit": frameexit}
"""By the names in `bench/published/others.csv`."""


def _macs(call: Callable[..., Any], *args: torch.Tensor) -> int:
    return count_flops(call, *args).macs
