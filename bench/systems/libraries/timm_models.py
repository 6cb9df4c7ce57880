"""Image networks of timm, frame by frame, with their classifiers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bench.systems.libraries.loading import load
from bench.systems.registry import System

if TYPE_CHECKING:
    from torch import nn


def names() -> list[str]:
    """All that timm has."""
    return list(_timm().list_models())


def system(name: str) -> System:
    """A network on one image of the size for which its weights, or the first of them, were trained.

    Args:
        name: as timm has it, such as "resnet50" or "vit_base_patch16_224.augreg_in21k".

    Raises:
        KeyError: timm has none of that name.
        UsageError, RunError: as `load`.
    """
    timm = _timm()
    if not timm.is_model(name):
        raise KeyError(name)
    shape = tuple(timm.get_pretrained_cfg(name).input_size)
    return System(f"timm:{name}", partial(_build, name), {"rgb": shape}, title=name, backbone=name)


def _timm() -> Any:
    return load("timm", "timm")


def _build(name: str) -> nn.Module:
    model: nn.Module = _timm().create_model(name, pretrained=False)
    return model
