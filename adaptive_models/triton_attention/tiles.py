"""What the kernels of both kinds of attention share: tiles of positions, the footprint around them, and ReLU."""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from adaptive_models.reflection import reflected

TILE = 16
"""Positions of a program, and the least width of a product in Triton."""


def grid(images: int, positions: int) -> tuple[int, int]:
    """Programs: tiles of positions, and images."""
    return triton.cdiv(positions, TILE), images


def width(channels: int) -> int:
    """Channels of a tile, filled up as Triton wants them."""
    return max(TILE, triton.next_power_of_2(channels))


def warps(groups: int) -> int:
    """Warps of a program: more for wide tiles, which would not fit in the registers of fewer."""
    return max(4, width(groups) // 8)


def channels_last(*maps: Tensor) -> tuple[Tensor, ...]:
    """Maps (N, C, H, W) as contiguous (N, H, W, C)."""
    return tuple(each.permute(0, 2, 3, 1).contiguous() for each in maps)


@lru_cache(maxsize=64)
def sources(height: int, width: int, side: int, device: torch.device) -> tuple[Tensor, ...]:
    """`reflected` on a device, where it is copied once: a copy would wait for the device, and ends up in no graph."""
    return tuple(each.to(device) for each in reflected(height, width, side))


@triton.jit
def rectified(x):
    """ReLU, which leaves NaN."""
    return tl.where(x < 0, 0.0, x)


@triton.jit
def tile_of(height, width, tile: tl.constexpr):
    """Of a program: its image, its positions (tile,), the last for those behind it, and which are no such."""
    position = tl.program_id(0) * tile + tl.arange(0, tile)
    return tl.program_id(1).to(tl.int64), tl.minimum(position, height * width - 1), position < height * width


@triton.jit
def seen(here, place, rows, columns, width, side):
    """The positions that those (tile,) see at a place of their footprint, by reflection if need be."""
    return tl.load(rows + here // width + place // side) * width + tl.load(columns + here % width + place % side)


@triton.jit
def seeing(there, place, height, width, side):
    """The positions that see those (tile,) at a place of their footprint without reflection, and if there are such."""
    y, x = there // width - place // side + side // 2, there % width - place % side + side // 2
    sees = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return tl.where(sees, y * width + x, 0), sees
