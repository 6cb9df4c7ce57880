"""The video networks of torchvision, with their classifiers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bench.systems.libraries.loading import load
from bench.systems.registry import System

if TYPE_CHECKING:
    from torch import nn

FRAMES = 16
"""Of a clip: those for which torchvision publishes its GFLOPs."""


def names() -> list[str]:
    """Those of `torchvision.models.video`."""
    return list(_models().list_models(module=_models().video))


def system(name: str) -> System:
    """A network on a clip of 16 frames, of the size for which its weights were trained.

    Args:
        name: as torchvision has it, such as "r3d_18".

    Raises:
        KeyError: torchvision has no video network of that name.
        UsageError, RunError: as `load`.
    """
    if name not in names():
        raise KeyError(name)
    (side, _) = _models().get_model_weights(name).DEFAULT.transforms().crop_size
    inputs = {"rgb": (FRAMES, 3, side, side)}
    return System(f"torchvision:{name}", partial(_build, name), inputs, frames=FRAMES, title=name, backbone=name)


def _models() -> Any:
    return load("torchvision", "torchvision.models")


def _build(name: str) -> nn.Module:
    from bench.systems.libraries.clips import ChannelsFirst

    return ChannelsFirst(_models().get_model(name, weights=None))
