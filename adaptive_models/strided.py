"""Layers of SAN for inference in plain torch, for where no compiled operators are.

Local attention is matrix products over the footprints of a few lines of positions at a time, whose keys and values are
views into padded maps. No tensor is as large as all footprints. Functions take maps, in place of their size, and the
weights that those of `adaptive_models.native.layers` do, not filled up, and return maps with channels last in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptive_models.folding import Block, Dense, Pairwise, Patchwise
from adaptive_models.reflection import reflected

INPUTS = 2**19
"""Inputs of the branch of the weights that are in memory together: few, for the caches; many, for few calls."""


@dataclass(frozen=True)
class Maps:
    """Maps of a number of images, each of D = `relation` queries and as many keys, and V = `values` values.

    Attributes:
        rows: (images * height * width, D + D + V), contiguous.
        groups: channels of the weights, which divides V.
        side: of the footprint.
    """

    rows: Tensor
    images: int
    height: int
    width: int
    relation: int
    values: int
    groups: int
    side: int


def stem(x: Tensor, weights: Tensor, bias: Tensor, outputs: int) -> Tensor:
    """The first convolution, ReLU and max-pool."""
    return F.max_pool2d(convolve(x, Dense(weights), bias), 2).relu_()


def convolve(x: Tensor, weights: Dense, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution."""
    rows = _as_rows(x)
    return _as_map(rows @ weights.plain if bias is None else torch.addmm(bias, rows, weights.plain), x)


def next_stage(x: Tensor, scale: Tensor, shift: Tensor, weights: Dense) -> Tensor:
    """A norm, ReLU, max-pool, and a 1x1 convolution."""
    return convolve(F.max_pool2d(rectify(x, scale, shift), 2), weights)


def rectify(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """A norm, and ReLU."""
    return _as_map(_rectified(_as_rows(x), scale, shift), x)


def bottleneck(x: Tensor, block: Block) -> Tensor:
    """A bottleneck."""
    return _bottleneck(x, block, attention=False)[0]


def attend(x: Tensor, block: Block) -> tuple[Tensor, Tensor]:
    """A bottleneck, and its attention; see `adaptive_models.fused.attend`."""
    made, looked_at = _bottleneck(x, block, attention=True)
    assert looked_at is not None
    return made, looked_at.transpose(1, 2).unflatten(2, (x.shape[2], x.shape[3]))


def _bottleneck(x: Tensor, block: Block, attention: bool) -> tuple[Tensor, Tensor | None]:
    images, channels, height, width = x.shape
    rows = _as_rows(x)
    maps = Maps(
        torch.addmm(block.maps_bias, _rectified(rows, block.scale, block.shift), block.maps.plain),
        *(images, height, width),
        relation=channels // 16,
        values=channels // 4,
        groups=channels // 32,
        side=block.side,
    )
    sums, looked_at = _attend(block.weigh, maps, attention)
    return _as_map(torch.addmm(rows, sums, block.out.plain), x), looked_at


def _rectified(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift, rows, scale).relu_()


def _as_rows(x: Tensor) -> Tensor:
    """(N, C, H, W) to contiguous (N * H * W, C); no copy where channels lie last."""
    return x.permute(0, 2, 3, 1).contiguous().view(-1, x.shape[1])


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    images, _, height, width = like.shape
    return rows.view(images, height, width, rows.shape[1]).permute(0, 3, 1, 2)


def _attend(weigh: Pairwise | Patchwise, maps: Maps, attention: bool) -> tuple[Tensor, Tensor | None]:
    """Local attention, with ReLU behind it.

    Returns:
        The sums (N * H * W, V + 1), the last of which are 1, and the cumulative global attention (N, H * W, G), or
        None.
    """
    images, height, width, side = maps.images, maps.height, maps.width, maps.side
    cells = maps.rows.unflatten(0, (images, height, width))
    query, key, value = cells.split((maps.relation, maps.relation, maps.values), dim=3)
    rows, columns = reflected(height, width, side)
    if isinstance(weigh, Pairwise):
        places = (each.view(1, height, width, 2).expand(images, -1, -1, -1) for each in weigh.places_of(height, width))
        query, key = (torch.cat(each, dim=3) for each in zip((query, key), places, strict=True))
    keys = key[:, rows[:, None], columns].unfold(1, side, 1).unfold(2, side, 1).permute(0, 1, 2, 4, 5, 3)
    values = value[:, rows[:, None], columns].unflatten(3, (-1, maps.groups))  # (N, H + k - 1, W + k - 1, V / G, G)
    sums = maps.rows.new_zeros(len(maps.rows), maps.values + 1)
    sums[:, -1] = 1
    if isinstance(weigh, Patchwise):
        sums[:, :-1] = weigh.value_shift
    aggregated = sums[:, :-1].unflatten(1, (-1, maps.groups)).unflatten(0, (images, height, width))
    looked_at = maps.rows.new_zeros(images, len(rows), len(columns), maps.groups) if attention else None
    for several, lines in _tiles(maps):
        here = query[several, lines], keys[several, lines]
        weights = _pairwise(weigh, *here) if isinstance(weigh, Pairwise) else _patchwise(weigh, *here)
        for place, weight in enumerate(weights.unflatten(1, here[0].shape[:3])):
            down, right = divmod(place, side)
            there = (several, slice(lines.start + down, lines.stop + down), slice(right, right + width))
            aggregated[several, lines].addcmul_(weight.unsqueeze(3), values[there])
            if looked_at is not None:
                looked_at[there].add_(weight)
    if looked_at is not None:
        padding = side // 2
        looked_at = looked_at[:, padding : padding + height, padding : padding + width].flatten(1, 2)
    return sums.relu_(), looked_at


def _tiles(maps: Maps) -> Iterator[tuple[slice, slice]]:
    """Slices of images, and of lines of them: some lines of one image, or some whole images."""
    lines = max(1, INPUTS // (maps.width * maps.side**2 * (maps.relation + 2)))
    several = max(1, lines // maps.height)
    for image in range(0, maps.images, several):
        for line in range(0, maps.height, lines):
            yield slice(image, min(image + several, maps.images)), slice(line, min(line + lines, maps.height))


def _pairwise(weigh: Pairwise, query: Tensor, keys: Tensor) -> Tensor:
    """Weights (k*k, positions, G) of queries (n, h, W, D + 2) and keys (n, h, W, k, k, D + 2)."""
    differences = query.new_empty(keys.shape)
    torch.sub(query[:, :, :, None, None], keys, out=differences).relu_()
    hidden = torch.addmm(weigh.bias, differences.view(-1, keys.shape[-1]), weigh.first).relu_()
    scores = (hidden @ weigh.second).view(-1, keys.shape[3] * keys.shape[4], weigh.second.shape[1])
    return scores.softmax(dim=1).transpose(0, 1)


def _patchwise(weigh: Patchwise, query: Tensor, keys: Tensor) -> Tensor:
    """Weights (k*k, positions, G) of queries (n, h, W, D) and keys (n, h, W, k, k, D)."""
    inputs = query.new_empty(*query.shape[:3], 1 + len(weigh.second), query.shape[3])
    inputs[:, :, :, 0] = query
    inputs[:, :, :, 1:].unflatten(3, keys.shape[3:5]).copy_(keys)
    inputs = inputs.view(-1, len(weigh.scale)).mul_(weigh.scale).add_(weigh.shift).relu_()
    hidden = torch.addmm(weigh.bias, inputs, weigh.first).relu_()
    return torch.baddbmm(weigh.second_bias.unsqueeze(1), hidden.expand(len(weigh.second), -1, -1), weigh.second)
