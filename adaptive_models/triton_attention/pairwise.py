"""Pairwise attention on CUDA: the keys are subtracted from the queries, and values added up under a running softmax.

The softmax's maxima and sums, G of each a position, are what is kept for the attention that positions receive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from adaptive_models.folding import Pairwise, fold_pairwise, folded
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
    """Pairwise self-attention.

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
    weigh, scale, shift = folded(layer, _fold)
    out = torch.empty_like(value)
    largest, total = (
        value.new_empty((images, positions, groups) if attention else 0, dtype=torch.float32) for _ in range(2)
    )
    branch = (*weigh.places_of(*size), scale, shift, weigh.first, weigh.bias, weigh.second)
    sizes = (*size, relation, groups, weigh.first.shape[1], weigh.second.shape[1], layer.kernel_size)
    tile = {"channels": width(relation), "shared": width(groups), "tile": TILE, "num_warps": warps(groups)}
    _attend[grid(images, positions)](
        *(query, key, value, *branch, *sources(*size, layer.kernel_size, value.device)),
        *(out, largest, total, *sizes),
        **{"kept": attention, **tile},
    )
    if not attention:
        return out.permute(0, 3, 1, 2), None
    looked_at = value.new_empty(images, *size, groups)
    _look_at[grid(images, positions)](query, key, *branch, largest, total, looked_at, *sizes, **tile)
    return out.permute(0, 3, 1, 2), looked_at.permute(0, 3, 1, 2)


def _fold(layer: SelfAttention) -> tuple[Pairwise, Tensor, Tensor]:
    weigh, scale, shift = fold_pairwise(layer)
    return weigh, scale.float(), shift.float()


@triton.jit
def _scores(query, key, shift_across, shift_down, scale, shift, first, across, down, bias, second):
    """Scores of queries and keys (tile, channels) with differences of position features (tile,): (tile, shared)."""
    difference = query.to(tl.float32) - key.to(tl.float32)
    hidden = tl.dot(rectified(difference * scale + shift), first, input_precision="ieee") + bias
    hidden += rectified(shift_across)[:, None] * across + rectified(shift_down)[:, None] * down
    return tl.dot(rectified(hidden), second, input_precision="ieee")


@triton.jit
def _weights(
    scale, shift, first, bias, second, relation, groups, first_width, second_width,
    channels: tl.constexpr, shared: tl.constexpr,
):  # fmt: skip
    """What `_scores` takes of the branch, filled up with zeros."""
    channel, group = tl.arange(0, channels), tl.arange(0, shared)
    known, served = channel < relation, group < groups
    row = channel[None, :]
    return (
        tl.load(scale + row, mask=known[None, :], other=0.0),
        tl.load(shift + row, mask=known[None, :], other=0.0),
        tl.load(first + channel[:, None] * first_width + row, mask=known[:, None] & known[None, :], other=0.0),
        tl.load(first + relation * first_width + row, mask=known[None, :], other=0.0),
        tl.load(first + (relation + 1) * first_width + row, mask=known[None, :], other=0.0),
        tl.load(bias + row, mask=known[None, :], other=0.0),
        tl.load(
            second + channel[:, None] * second_width + group[None, :],
            mask=known[:, None] & served[None, :],
            other=0.0,
        ),
    )


@triton.jit
def _attend(
    query, key, value, query_places, key_places, scale, shift, first, bias, second, rows, columns,
    out, largest, total, height, width, relation, groups, first_width, second_width, side,
    kept: tl.constexpr, channels: tl.constexpr, shared: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    image, here, inside = tile_of(height, width, tile)
    positions = height * width
    channel, group, share = tl.arange(0, channels), tl.arange(0, shared), tl.arange(0, 8)
    known, served = (channel < relation)[None, :], group < groups
    scale, shift, first, across, down, bias, second = _weights(
        scale, shift, first, bias, second, relation, groups, first_width, second_width, channels, shared
    )
    query += image * positions * relation
    key += image * positions * relation
    value += image * positions * groups * 8
    of_value = share[None, :, None] * groups + group[None, None, :]
    q = tl.load(query + here[:, None] * relation + channel[None, :], mask=known, other=0.0)
    q_across, q_down = tl.load(query_places + 2 * here), tl.load(query_places + 2 * here + 1)
    most = tl.full((tile, shared), float("-inf"), tl.float32)
    denominator = tl.zeros((tile, shared), tl.float32)
    aggregated = tl.zeros((tile, 8, shared), tl.float32)
    for place in range(side * side):
        there = seen(here, place, rows, columns, width, side)
        k = tl.load(key + there[:, None] * relation + channel[None, :], mask=known, other=0.0)
        k_across, k_down = tl.load(key_places + 2 * there), tl.load(key_places + 2 * there + 1)
        scores = _scores(q, k, q_across - k_across, q_down - k_down, scale, shift, first, across, down, bias, second)
        more = tl.maximum(most, scores)
        rest, weight = tl.exp(most - more), tl.exp(scores - more)
        most = more
        denominator = denominator * rest + weight
        v = tl.load(value + there[:, None, None] * groups * 8 + of_value, mask=served[None, None, :], other=0.0)
        aggregated = aggregated * rest[:, None, :] + weight[:, None, :] * v.to(tl.float32)
    stored = inside[:, None] & served[None, :]
    if kept:
        softmax = (image * positions + here[:, None]) * groups + group[None, :]
        tl.store(largest + softmax, most, mask=stored)
        tl.store(total + softmax, denominator, mask=stored)
    tl.store(
        out + (image * positions + here[:, None, None]) * groups * 8 + of_value,
        aggregated / denominator[:, None, :],
        mask=stored[:, None, :],
    )


@triton.jit
def _look_at(
    query, key, query_places, key_places, scale, shift, first, bias, second, largest, total,
    out, height, width, relation, groups, first_width, second_width, side,
    channels: tl.constexpr, shared: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    image, there, inside = tile_of(height, width, tile)
    positions = height * width
    channel, group = tl.arange(0, channels), tl.arange(0, shared)
    known, served = (channel < relation)[None, :], (group < groups)[None, :]
    scale, shift, first, across, down, bias, second = _weights(
        scale, shift, first, bias, second, relation, groups, first_width, second_width, channels, shared
    )
    query += image * positions * relation
    key += image * positions * relation
    k = tl.load(key + there[:, None] * relation + channel[None, :], mask=known, other=0.0)
    k_across, k_down = tl.load(key_places + 2 * there), tl.load(key_places + 2 * there + 1)
    received = tl.zeros((tile, shared), tl.float32)
    for place in range(side * side):
        here, sees = seeing(there, place, height, width, side)
        q = tl.load(query + here[:, None] * relation + channel[None, :], mask=known, other=0.0)
        q_across, q_down = tl.load(query_places + 2 * here), tl.load(query_places + 2 * here + 1)
        scores = _scores(q, k, q_across - k_across, q_down - k_down, scale, shift, first, across, down, bias, second)
        softmax = (image * positions + here[:, None]) * groups + group[None, :]
        most = tl.load(largest + softmax, mask=served, other=0.0)
        denominator = tl.load(total + softmax, mask=served, other=1.0)
        received += tl.where(sees[:, None], tl.exp(scores - most) / denominator, 0.0)
    tl.store(
        out + (image * positions + there[:, None]) * groups + group[None, :], received, mask=inside[:, None] & served
    )
