"""Local attention of inference in plain torch, for where no compiled operators are.

It takes what the compiled operators take: matrix products over the footprints of a few lines of positions at a time,
whose keys and values are views into padded maps. No tensor is as large as all footprints.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from adaptive_models.folding import Pairwise, Patchwise
from adaptive_models.maps import Maps, reflected

INPUTS = 2**19
"""Inputs of the branch of the weights that are in memory together: few, for the caches; many, for few calls."""


def attend(weigh: Pairwise | Patchwise, maps: Maps, attention: bool) -> tuple[Tensor, Tensor | None]:
    """The same as `adaptive_models.native.inference.attend`, with weights that are not filled up."""
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


def rectify(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Scale and shift the channels of rows (N, C), and cut off at 0."""
    return torch.addcmul(shift, rows, scale).relu_()


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
