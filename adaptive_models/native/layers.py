"""Layers of SAN for inference on a CPU, of which any number that follow each other are one compiled call.

A step is a layer, or several (see `adaptive_models.fused.steps`), for maps of one size.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from adaptive_models import native
from adaptive_models.folding import Block, Dense, Pairwise, Patchwise
from adaptive_models.native.structures import fields, numbers, operators, pointer, pointers
from adaptive_models.reflection import reflected

Size: TypeAlias = tuple[int, int]
"""Height and width of maps."""


def fits(groups: int) -> bool:
    """Whether a number of groups fills vectors."""
    lanes = native.lanes()
    return groups % lanes == 0 or (lanes % groups == 0 and 8 * groups >= lanes)


_STEM, _LINEAR, _NORM, _BOTTLENECK = range(4)
"""`Kind` of layers.cpp."""


class Step(NamedTuple):
    """A call without what it takes and gives.

    Attributes:
        kind: one of the above.
        call: the structure of that kind.
        channels: of what it makes.
        size: of what it makes.
        kept: what has to stay in memory.
    """

    kind: int
    call: ctypes.Structure
    channels: int
    size: Size
    kept: tuple[Any, ...]


def stem(size: Size, weights: Tensor, bias: Tensor, outputs: int) -> Step:
    """The first convolution, with its norm folded in, ReLU, and the largest of every 2 x 2 positions.

    Args:
        size: of (N, C, H, W), which it takes contiguous.
        weights: (C, D, filled up).
        bias: (D, filled up).
        outputs: D.
    """
    call = _Stem(len(weights), *size, pointer(weights), pointer(bias), outputs)
    return Step(_STEM, call, outputs, _halved(size), (weights, bias))


def convolve(size: Size, weights: Dense) -> Step:
    """A 1x1 convolution of (N, C, H, W) with weights (C, D)."""
    call = _Linear(*size, None, None, _dense(weights))
    return Step(_LINEAR, call, weights.plain.shape[1], size, (weights,))


def next_stage(size: Size, scale: Tensor, shift: Tensor, weights: Dense) -> Step:
    """A norm of (N, C, H, W), ReLU, the largest of every 2 x 2 positions, and a convolution with weights (C, D)."""
    call = _Linear(*size, pointer(scale), pointer(shift), _dense(weights))
    return Step(_LINEAR, call, weights.plain.shape[1], _halved(size), (scale, shift, weights))


def rectify(size: Size, scale: Tensor, shift: Tensor) -> Step:
    """Scale and shift the channels of (N, C, H, W), and cut off at 0."""
    call = _Norm(*size, len(scale), pointer(scale), pointer(shift))
    return Step(_NORM, call, len(scale), size, (scale, shift))


def bottleneck(size: Size, block: Block) -> Step:
    """A bottleneck."""
    channels, weigh = len(block.scale), block.weigh
    padded = reflected(*size, block.side)
    kept: tuple[Tensor, ...]
    if isinstance(weigh, Pairwise):
        neighbours = _neighbours(*size, block.side)
        kept = (*weigh.places_of(*size), weigh.first, weigh.bias, weigh.second, *neighbours, *padded)
        kind: ctypes.Structure = _Pairwise(*map(pointer, kept), block.side)
    else:
        norm_and_weights = weigh.scale, weigh.shift, weigh.first, weigh.bias, weigh.second, weigh.second_bias
        kept = (*norm_and_weights, weigh.value_shift, *padded)
        kind = _Patchwise(*map(pointer, kept), block.side)
    call = _Bottleneck(
        *(*size, channels // 16, channels // 4, channels // 32),
        *(pointer(block.scale), pointer(block.shift)),
        *(_dense(block.maps, block.maps_bias), _dense(block.out)),
        *(ctypes.addressof(kind) if isinstance(weigh, wanted) else None for wanted in (Pairwise, Patchwise)),
    )
    return Step(_BOTTLENECK, call, channels, size, (block, kind, kept))


class Chain:
    """Steps that run one after another, each on what the one before it makes.

    Args:
        steps: at least one.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._kept, self._last, self._takes_maps = steps, steps[-1], steps[0].kind != _STEM
        floats = [step.channels * step.size[0] * step.size[1] for step in steps]
        self._steps = (_Step * len(steps))(
            *(_Step(step.kind, ctypes.addressof(step.call), each) for step, each in zip(steps, floats, strict=True))
        )

    def __call__(self, x: Tensor, attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """Run them.

        Args:
            x: float32 (N, C, H, W) of the size that the first step was made for.
            attention: whether to sum up the attention of the last step, a bottleneck.

        Returns:
            (N, D, H', W'), with channels last in memory, and the cumulative global attention (N, D/32, H', W'), or
            None.
        """
        x = (x.permute(0, 2, 3, 1) if self._takes_maps else x).contiguous()
        channels, size = self._last.channels, self._last.size
        out = x.new_empty(len(x), *size, channels)
        looked_at = x.new_zeros(len(x), *size, channels // 32) if attention else None
        operators().foveabench_layers(
            self._steps,
            ctypes.c_int64(len(self._steps)),
            ctypes.c_void_p(x.data_ptr()),
            ctypes.c_int64(len(x)),
            ctypes.c_void_p(out.data_ptr()),
            None if looked_at is None else ctypes.c_void_p(looked_at.data_ptr()),
        )
        return out.permute(0, 3, 1, 2), None if looked_at is None else looked_at.permute(0, 3, 1, 2)


def _halved(size: Size) -> Size:
    return size[0] // 2, size[1] // 2


class _Step(ctypes.Structure):
    """`Step` of layers.cpp."""

    _fields_ = (*numbers("kind"), *pointers("call"), *numbers("floats"))


class _Dense(ctypes.Structure):
    """`Dense` of products.h."""

    _fields_ = (*pointers("weights", "bias"), *numbers("depth", "width"))


def _dense(weights: Dense, bias: Tensor | None = None) -> _Dense:
    return _Dense(pointer(weights.panels), None if bias is None else pointer(bias), *weights.plain.shape)


class _Stem(ctypes.Structure):
    """`Stem` of layers.cpp."""

    _fields_ = (
        *numbers("channels", "height", "width"),
        *pointers("weights", "bias"),
        *numbers("outputs"),
    )


class _Linear(ctypes.Structure):
    """`Linear` of layers.cpp."""

    _fields_ = (
        *numbers("height", "width"),
        *pointers("scale", "shift"),
        *fields(_Dense, "dense"),
    )


class _Norm(ctypes.Structure):
    """`Norm` of layers.cpp."""

    _fields_ = (*numbers("height", "width", "channels"), *pointers("scale", "shift"))


class _Bottleneck(ctypes.Structure):
    """`Bottleneck` of layers.cpp."""

    _fields_ = (
        *numbers("height", "width", "relation", "values", "groups"),
        *pointers("scale", "shift"),
        *fields(_Dense, "maps", "last"),
        *pointers("pairwise", "patchwise"),
    )


class _Pairwise(ctypes.Structure):
    """`Pairwise` of attention.h."""

    _fields_ = (
        *pointers("query_places", "key_places", "first", "bias", "second"),
        *pointers("row_starts", "rows", "row_counts", "row_direct"),
        *pointers("column_starts", "columns", "column_counts", "column_direct"),
        *pointers("padded_rows", "padded_columns"),
        *numbers("side"),
    )


class _Patchwise(ctypes.Structure):
    """`Patchwise` of attention.h."""

    _fields_ = (
        *pointers("scale", "shift", "first", "bias", "second", "second_bias", "value_shift", "rows", "columns"),
        *numbers("side"),
    )


@lru_cache(maxsize=64)
def _neighbours(height: int, width: int, side: int) -> tuple[Tensor, ...]:
    """Of each row, then of each column of a map: starts, neighbours without repeats, their counts, and if in reach."""
    return tuple(tensor for padded in reflected(height, width, side) for tensor in _without_repeats(padded, side))


def _without_repeats(padded: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    starts, found, counts, direct = [0], [], [], []
    for here in range(len(padded) - side + 1):
        neighbours, times = padded[here : here + side].unique(return_counts=True)
        found.append(neighbours)
        counts.append(times)
        direct.append(((neighbours - here).abs() <= side // 2).long())
        starts.append(starts[-1] + len(neighbours))
    return torch.tensor(starts), torch.cat(found), torch.cat(counts), torch.cat(direct)
