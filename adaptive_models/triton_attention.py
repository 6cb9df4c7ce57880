"""Pairwise attention on CUDA as Triton kernels, for inference: no tensor of a footprint's size is in memory.

One program runs a tile of positions of one image: for each place of the footprint it subtracts the keys from the
queries, runs the two 1x1 convolutions with their norms folded in, and adds the values up under a running softmax.
The attention that a position receives is summed up by a second kernel, position by position, from the softmax's
maxima and sums: the same in every run, which atomic additions would not be.

The kernels have run in Triton's interpreter on a CPU only; on a GPU they are untried, and their speed is unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from adaptive_models.folding import Pairwise, fold_pairwise, folded
from adaptive_models.maps import reflected

if TYPE_CHECKING:
    from adaptive_models.san import Bottleneck, SelfAttention

TILE = 16
"""Positions of a program, and the least width of a product in Triton."""


def bottleneck(block: Bottleneck, x: Tensor, attention: bool = False) -> tuple[Tensor, Tensor | None]:
    """Run a bottleneck with pairwise attention; all but the attention is torch's own, with its settings of precision.

    Args:
        block: in evaluation mode.
        x: (N, C, H, W).
        attention: whether to sum up the attention, too.

    Returns:
        The same shape, and the cumulative global attention (N, C/32, H, W), or None.
    """
    attend = block.sam
    inputs = block.relu(block.bn1(x))
    query, key, value = attend.query(inputs), attend.key(inputs), attend.value(inputs)
    weigh, scale, shift = folded(attend, _fold)
    values, looked_at = pairwise(query, key, value, weigh, scale, shift, attend.kernel_size, attention)
    return block.conv(block.relu(block.bn2(values))) + x, looked_at


def _fold(attention: SelfAttention) -> tuple[Pairwise, Tensor, Tensor]:
    weigh, scale, shift = fold_pairwise(attention)
    return weigh, scale.float(), shift.float()


def pairwise(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weigh: Pairwise,
    scale: Tensor,
    shift: Tensor,
    side: int,
    attention: bool,
) -> tuple[Tensor, Tensor | None]:
    """Pairwise self-attention.

    Args:
        query: (N, D, H, W) in float32.
        key: (N, D, H, W).
        value: (N, 8 G, H, W).
        weigh: the branch of the weights.
        scale: (D,) of the norm of differences.
        shift: (D,).
        side: of the footprint.
        attention: whether to sum up the attention, too.

    Returns:
        The aggregated values (N, 8 G, H, W), and the cumulative global attention (N, G, H, W), or None.
    """
    images, values, height, width = value.shape
    relation, groups, positions = query.shape[1], values // 8, height * width
    query, key, value = (each.permute(0, 2, 3, 1).contiguous() for each in (query, key, value))
    largest, total = (value.new_empty(images, positions, groups) for _ in range(2))
    out = torch.empty_like(value)
    branch = (*weigh.places_of(height, width), scale, shift, weigh.first, weigh.bias, weigh.second)
    sizes = (height, width, relation, groups, weigh.first.shape[1], weigh.second.shape[1], side)
    tile = {"channels": _width(relation), "shared": _width(groups), "tile": TILE}
    grid = triton.cdiv(positions, TILE), images
    rows, columns = (each.to(value.device) for each in reflected(height, width, side))
    _attend[grid](query, key, value, *branch, rows, columns, out, largest, total, *sizes, **tile)
    if not attention:
        return out.permute(0, 3, 1, 2), None
    looked_at = torch.empty_like(total)
    _look_at[grid](query, key, *branch, largest, total, looked_at, *sizes, **tile)
    return out.permute(0, 3, 1, 2), looked_at.transpose(1, 2).unflatten(2, (height, width))


def _width(channels: int) -> int:
    return max(TILE, triton.next_power_of_2(channels))


@triton.jit
def _rectified(x):
    return tl.where(x < 0, 0.0, x)  # NaN stays


@triton.jit
def _scores(query, key, shift_across, shift_down, scale, shift, first, across, down, bias, second):
    """Scores of queries and keys (tile, channels) with differences of position features (tile,): (tile, shared)."""
    hidden = tl.dot(_rectified((query - key) * scale + shift), first, input_precision="ieee") + bias
    hidden += _rectified(shift_across)[:, None] * across + _rectified(shift_down)[:, None] * down
    return tl.dot(_rectified(hidden), second, input_precision="ieee")


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
    channels: tl.constexpr, shared: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    image, positions = tl.program_id(1).to(tl.int64), height * width
    position = tl.program_id(0) * tile + tl.arange(0, tile)
    inside = position < positions
    here = tl.minimum(position, positions - 1)
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
        there = tl.load(rows + here // width + place // side) * width + tl.load(columns + here % width + place % side)
        k = tl.load(key + there[:, None] * relation + channel[None, :], mask=known, other=0.0)
        k_across, k_down = tl.load(key_places + 2 * there), tl.load(key_places + 2 * there + 1)
        scores = _scores(q, k, q_across - k_across, q_down - k_down, scale, shift, first, across, down, bias, second)
        more = tl.maximum(most, scores)
        kept, weight = tl.exp(most - more), tl.exp(scores - more)
        most = more
        denominator = denominator * kept + weight
        v = tl.load(value + there[:, None, None] * groups * 8 + of_value, mask=served[None, None, :], other=0.0)
        aggregated = aggregated * kept[:, None, :] + weight[:, None, :] * v
    stored = inside[:, None] & served[None, :]
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
    image, positions = tl.program_id(1).to(tl.int64), height * width
    position = tl.program_id(0) * tile + tl.arange(0, tile)
    inside = position < positions
    there = tl.minimum(position, positions - 1)
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
        y, x = there // width - place // side + side // 2, there % width - place % side + side // 2
        looks = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        here = tl.where(looks, y * width + x, 0)
        q = tl.load(query + here[:, None] * relation + channel[None, :], mask=known, other=0.0)
        q_across, q_down = tl.load(query_places + 2 * here), tl.load(query_places + 2 * here + 1)
        scores = _scores(q, k, q_across - k_across, q_down - k_down, scale, shift, first, across, down, bias, second)
        softmax = (image * positions + here[:, None]) * groups + group[None, :]
        most = tl.load(largest + softmax, mask=served, other=0.0)
        denominator = tl.load(total + softmax, mask=served, other=1.0)
        received += tl.where(looks[:, None], tl.exp(scores - most) / denominator, 0.0)
    tl.store(
        out + (image * positions + there[:, None]) * groups + group[None, :], received, mask=inside[:, None] & served
    )
