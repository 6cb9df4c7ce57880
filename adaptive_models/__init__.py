"""The adaptive spatiotemporal sampling system of Mac, Do and Vo (IEEE TIP 2023), whole."""

from adaptive_models.backbones import build_backbone

__all__ = ["build_backbone"]
