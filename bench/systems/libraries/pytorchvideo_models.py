"""The networks of pytorchvideo's hub, with their classifiers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench.systems.libraries.loading import load
from bench.systems.registry import System

if TYPE_CHECKING:
    from torch import nn

CLIPS = {
    "c2d_r50": (8, 224),
    "csn_r101": (32, 224),
    "efficient_x3d_s": (13, 160),
    "efficient_x3d_xs": (4, 160),
    "i3d_r50": (8, 224),
    "mvit_base_16x4": (16, 224),
    "mvit_base_32x3": (32, 224),
    "r2plus1d_r50": (16, 224),
    "slow_r50": (8, 224),
    "slowfast_16x8_r101_50_50": (64, 224),
    "slowfast_r101": (32, 224),
    "slowfast_r50": (32, 224),
    "x3d_l": (16, 312),
    "x3d_m": (16, 224),
    "x3d_s": (13, 160),
    "x3d_xs": (4, 160),
}
"""Frames, and side in pixels, of the clips for which the networks that classify are built; of SlowFast, the frames of
its Fast pathway. Sources: the hub's builders, and the papers that they name."""


def names() -> list[str]:
    """Those of the hub that classify clips."""
    return [*CLIPS]


def system(name: str) -> System:
    """A network on a clip of the frames and the size for which it is built.

    Args:
        name: as the hub has it, such as "x3d_s".

    Raises:
        KeyError: none of `CLIPS`.
        UsageError, RunError: as `load`.
    """
    frames, side = CLIPS[name]
    load("pytorchvideo", "pytorchvideo")
    inputs = {"rgb": (frames, 3, side, side)}
    return System(f"pytorchvideo:{name}", partial(_build, name), inputs, frames=frames, title=name, backbone=name)


def _build(name: str) -> nn.Module:
    from bench.systems.libraries.clips import ChannelsFirst, TwoPathways

    model = getattr(load("pytorchvideo", "pytorchvideo.models.hub"), name)(pretrained=False)
    return TwoPathways(model) if name.startswith("slowfast") else ChannelsFirst(model)
