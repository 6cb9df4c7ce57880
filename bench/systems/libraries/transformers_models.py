"""Video networks of Hugging Face's transformers, with their classifiers, by the names of their published settings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bench.systems.libraries.loading import load
from bench.systems.registry import System

if TYPE_CHECKING:
    from torch import nn


def _vit(width: int, layers: int, heads: int) -> dict[str, Any]:
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {**shape, "intermediate_size": 4 * width}


_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "mlp_ratio": 4.0}
_GIANT = {"hidden_size": 1408, "num_hidden_layers": 40, "num_attention_heads": 22, "mlp_ratio": 48 / 11}

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "videomae-small": ("VideoMAE", _vit(384, 12, 6)),
    "videomae-base": ("VideoMAE", _vit(768, 12, 12)),
    "videomae-large": ("VideoMAE", _vit(1024, 24, 16)),
    "videomae-huge": ("VideoMAE", _vit(1280, 32, 16)),
    "timesformer-base": ("Timesformer", _vit(768, 12, 12)),
    "vivit-b-16x2": ("Vivit", _vit(768, 12, 12)),
    "vjepa2-vitl-fpc16-256": ("VJEPA2", {**_LARGE, "frames_per_clip": 16}),
    "vjepa2-vitl-fpc64-256": ("VJEPA2", {**_LARGE, "frames_per_clip": 64}),
    "vjepa2-vitg-fpc64-256": ("VJEPA2", {**_GIANT, "frames_per_clip": 64}),
}
"""The family's classes, as in VideoMAEConfig and VideoMAEForVideoClassification, and what its configuration has.

Sources: the papers (VideoMAE, Tong et al. 2022; TimeSformer, Bertasius et al. 2021; ViViT, Arnab et al. 2021; V-JEPA 2,
Assran et al. 2025) and the published configurations under these names.
"""


def names() -> list[str]:
    """Those whose settings we know; another one is an adapter of a few lines."""
    return [*SETTINGS]


def system(name: str) -> System:
    """A network on a clip of the frames and the size of its configuration, built from that alone.

    Args:
        name: e.g. "videomae-base".

    Raises:
        KeyError: none of `SETTINGS`.
        UsageError, RunError: as `load`.
    """
    config = _config(name)
    frames = config.frames_per_clip if name.startswith("vjepa2") else config.num_frames
    side = config.crop_size if name.startswith("vjepa2") else config.image_size
    inputs = {"rgb": (frames, 3, side, side)}
    return System(f"transformers:{name}", partial(_build, name), inputs, frames=frames, title=name, backbone=name)


def _config(name: str) -> Any:
    family, settings = SETTINGS[name]
    return getattr(load("transformers", "transformers"), f"{family}Config")(**settings)


def _build(name: str) -> nn.Module:
    kind = getattr(load("transformers", "transformers"), f"{SETTINGS[name][0]}ForVideoClassification")
    model: nn.Module = kind(_config(name))
    return model
