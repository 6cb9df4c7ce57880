"""Padding by reflection as coordinates."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from adaptive_models.attention import pad_by_reflection


@lru_cache(maxsize=64)
def reflected(height: int, width: int, side: int) -> tuple[Tensor, Tensor]:
    """Rows (H + k - 1,) and columns (W + k - 1,) of a map that one padded by reflection for a footprint consists of."""
    padding = side // 2
    with torch.inference_mode(False):
        cells = pad_by_reflection(torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width), padding)
        indices = cells[0, 0].long()
        return indices[:, padding] // width, indices[padding] % width
