"""Patchwise attention on CUDA: weights of a footprint from the query and all its keys together.

The k*k*G weights of a position all come from its G activations, so that these are what is kept for the attention that
positions receive; the weights themselves are never in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from adaptive_models.folding import Patchwise, fold_patchwise, folded
from adaptive_models.triton_attention.tiles import (
    TILE,
    channels_last,
    grid,
    rectified,
    seeing,
    seen,
    sources,
    tile_of,
    warps,
    width,
)

if TYPE_CHECKING:
    from adaptive_models.san import SelfAttention


def attend(
    layer: SelfAttention, query: Tensor, key: Tensor, value: Tensor, attention: bool
) -> tuple[Tensor, Tensor | None]:
    """Patchwise self-attention.

    Args:
        layer: whose branch of the weights is taken, in evaluation mode.
        query: (N, D, H, W).
        key: (N, D, H, W).
        value: (N, 8 G, H, W).
        attention: whether to sum up the attention, too.

    Returns:
        The aggregated values (N, 8 G, H, W), and the cumulative global attention (N, G, H, W), or None.
    """
    images, values, *size = value.shape
    relation, groups, positions = query.shape[1], values // 8, size[0] * size[1]
    query, key, value = channels_last(query, key, value)
    weigh = folded(layer, _fold)
    out = torch.empty_like(value)
    activations = value.new_empty((images, positions, groups) if attention else 0, dtype=torch.float32)
    last = weigh.second, weigh.second_bias
    tile = {"shared": width(groups), "tile": TILE, "num_warps": warps(groups)}
    sizes = (*size, groups, weigh.second.shape[2], layer.kernel_size)
    _attend[grid(images, positions)](
        *(query, key, value, weigh.scale, weigh.shift, weigh.first, weigh.bias, *last),
        *sources(*size, layer.kernel_size, value.device),
        *(out, activations, *sizes, relation, weigh.first.shape[1]),
        **{"kept": attention, "channels": width(relation), **tile},
    )
    if not attention:
        return out.permute(0, 3, 1, 2), None
    looked_at = value.new_empty(images, *size, groups)
    _look_at[grid(images, positions)](activations, *last, looked_at, *sizes, **tile)
    return out.permute(0, 3, 1, 2), looked_at.permute(0, 3, 1, 2)


def _fold(layer: SelfAttention) -> Patchwise:
    """With no norm after the aggregation, which is torch's own."""
    return fold_patchwise(layer, layer.value.weight.new_zeros(layer.value.out_channels))


@triton.jit
def _taken(
    maps, there, item, scale, shift, first, relation, groups, first_width,
    channels: tl.constexpr, shared: tl.constexpr,
):  # fmt: skip
    """What an item, 0 for the query and then place after place, adds to activations: (tile, shared)."""
    channel, group = tl.arange(0, channels), tl.arange(0, shared)
    known, served = channel < relation, group < groups
    row = item * relation + channel
    x = tl.load(maps + there[:, None] * relation + channel[None, :], mask=known[None, :], other=0.0).to(tl.float32)
    x = x * tl.load(scale + row, mask=known, other=0.0)[None, :]
    x = rectified(x + tl.load(shift + row, mask=known, other=0.0)[None, :])
    weights = first + row[:, None] * first_width + group[None, :]
    weights = tl.load(weights, mask=known[:, None] & served[None, :], other=0.0)
    return tl.dot(x, weights, input_precision="ieee")


@triton.jit
def _weights(activations, place, second, bias, groups, second_width, shared: tl.constexpr):
    """Weights of a place of the footprint: (tile, shared)."""
    group = tl.arange(0, shared)
    served = group < groups
    weights = second + place * groups * second_width + group[:, None] * second_width + group[None, :]
    weights = tl.load(weights, mask=served[:, None] & served[None, :], other=0.0)
    bias = tl.load(bias + place * second_width + group, mask=served, other=0.0)
    return tl.dot(activations, weights, input_precision="ieee") + bias[None, :]


@triton.jit
def _attend(
    query, key, value, scale, shift, first, bias, second, second_bias, rows, columns,
    out, activations, height, width, groups, second_width, side, relation, first_width,
    kept: tl.constexpr, channels: tl.constexpr, shared: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    image, here, inside = tile_of(height, width, tile)
    positions, places = height * width, side * side
    group, share = tl.arange(0, shared), tl.arange(0, 8)
    served = group < groups
    query += image * positions * relation
    key += image * positions * relation
    value += image * positions * groups * 8
    hidden = _taken(query, here, 0, scale, shift, first, relation, groups, first_width, channels, shared)
    hidden += tl.load(bias + group, mask=served, other=0.0)[None, :]
    for place in range(places):
        there = seen(here, place, rows, columns, width, side)
        hidden += _taken(key, there, place + 1, scale, shift, first, relation, groups, first_width, channels, shared)
    hidden = rectified(hidden)
    if kept:
        at = activations + (image * positions + here[:, None]) * groups + group[None, :]
        tl.store(at, hidden, mask=inside[:, None] & served[None, :])
    of_value = share[None, :, None] * groups + group[None, None, :]
    aggregated = tl.zeros((tile, 8, shared), tl.float32)
    for place in range(places):
        there = seen(here, place, rows, columns, width, side)
        weights = _weights(hidden, place, second, second_bias, groups, second_width, shared)
        v = tl.load(value + there[:, None, None] * groups * 8 + of_value, mask=served[None, None, :], other=0.0)
        aggregated += weights[:, None, :] * v.to(tl.float32)
    at = out + (image * positions + here[:, None, None]) * groups * 8 + of_value
    tl.store(at, aggregated, mask=inside[:, None, None] & served[None, None, :])


@triton.jit
def _look_at(
    activations, second, second_bias, out, height, width, groups, second_width, side,
    shared: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    image, there, inside = tile_of(height, width, tile)
    positions = height * width
    group = tl.arange(0, shared)
    served = (group < groups)[None, :]
    activations += image * positions * groups
    received = tl.zeros((tile, shared), tl.float32)
    for place in range(side * side):
        here, sees = seeing(there, place, height, width, side)
        hidden = tl.load(activations + here[:, None] * groups + group[None, :], mask=served, other=0.0)
        weights = _weights(hidden, place, second, second_bias, groups, second_width, shared)
        received += tl.where(sees[:, None], weights, 0.0)
    at = out + (image * positions + there[:, None]) * groups + group[None, :]
    tl.store(at, received, mask=inside[:, None] & served)
