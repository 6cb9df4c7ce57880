"""Backbones by name."""

from __future__ import annotations

from adaptive_models import san, vit
from adaptive_models.backbone import AttentionBackbone


def build_backbone(name: str, channels: int = 3, split: str | None = None) -> AttentionBackbone:
    """Build a backbone by name.

    Args:
        name: san10, san15, san19 or san-mini, pairwise unless the name ends in "-patchwise"; vit-tiny, vit-small or
            vit-base.
        channels: 3 for RGB, 1 for a spectrogram.
        split: the block after which `prescan` stops; the backbone's own if not given.

    Raises:
        ValueError: an unknown name, or a split that the backbone does not have.
    """
    if name in vit.SIZES:
        return vit.VisionTransformer(*vit.SIZES[name], channels, split=vit.SPLIT if split is None else split)
    if name in san.NAMES:
        return san.build_san(name, channels, split)
    raise ValueError(f"unknown backbone {name!r}: use one of {', '.join([*san.NAMES, *vit.SIZES])}")
