"""The compiled operators of inference, as functions of tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from adaptive_models import native
from adaptive_models.folding import Dense, Foresight, Located, Pairwise, Patchwise
from adaptive_models.maps import Maps, reflected


def fits(groups: int) -> bool:
    """Whether a number of groups fills vectors."""
    lanes = native.lanes()
    return groups % lanes == 0 or (lanes % groups == 0 and 8 * groups >= lanes)


def attend(weigh: Pairwise | Patchwise, maps: Maps, attention: bool) -> tuple[Tensor, Tensor | None]:
    """Local attention, with ReLU behind it.

    Args:
        weigh: folded weights of its kind.
        maps: of the folded convolutions.
        attention: whether to sum up the attention, too.

    Returns:
        The sums (N * H * W, V + 1), the last of which are 1, and the cumulative global attention (N, H * W, G), or
        None.
    """
    sums = maps.rows.new_empty(len(maps.rows), maps.values + 1)
    looked_at = maps.rows.new_zeros(maps.images, maps.height * maps.width, maps.groups) if attention else None
    sizes = (maps.images, maps.height, maps.width, maps.rows.shape[1], maps.relation, maps.values, maps.groups)
    results = (_pointer(sums), sums.shape[1], None if looked_at is None else _pointer(looked_at))
    if isinstance(weigh, Pairwise):
        footprint = maps.height, maps.width, maps.side
        if footprint not in weigh.located:
            weigh.located[footprint] = _located(weigh, *footprint)
        addresses, _ = weigh.located[footprint]
        call: ctypes.Structure = _Pairwise(_pointer(maps.rows), *sizes, *addresses, *results)
        _operators().foveabench_pairwise(ctypes.byref(call))
    else:
        tensors = (
            *(weigh.scale, weigh.shift, weigh.first, weigh.bias),
            *(weigh.second, weigh.second_bias, weigh.value_shift),
            *reflected(maps.height, maps.width, maps.side),
        )
        call = _Patchwise(_pointer(maps.rows), *sizes, maps.side, *map(_pointer, tensors), *results)
        _operators().foveabench_patchwise(ctypes.byref(call))
    return sums, looked_at


def _located(weigh: Pairwise, height: int, width: int, side: int) -> Located:
    """All that is the same for every map of these sizes."""
    tensors = (
        *weigh.places_of(height, width),
        *(weigh.first, weigh.bias, weigh.second),
        *_neighbours(height, width, side),
    )
    return tuple(map(_pointer, tensors)), tensors


def rectify(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Scale and shift the channels of contiguous rows (N, C), and cut off at 0."""
    out = torch.empty_like(rows)
    function = _operators().foveabench_rectify
    function.argtypes = _RECTIFY
    function(*map(_pointer, (rows, scale, shift, out)), *rows.shape)
    return out


_RECTIFY = (ctypes.c_void_p,) * 4 + (ctypes.c_int64,) * 2
"""Rows, scale, shift and results; number of rows and of channels."""

FEW_ROWS, MANY_WEIGHTS = 64, 2**17
"""Products of at most so many rows and at least so many weights take longer to arrange for torch than to compute."""


def reads_panels(rows: Tensor, weights: Dense) -> bool:
    """Whether `linear` is the faster way to a product."""
    return len(rows) <= FEW_ROWS and weights.plain.numel() >= MANY_WEIGHTS


def linear(rows: Tensor, weights: Dense, bias: Tensor | None = None, onto: Tensor | None = None) -> Tensor:
    """Contiguous rows (N, C) times weights (C, D), plus a bias (D,), plus what there is, contiguous (N, D)."""
    out = rows.new_empty(len(rows), weights.plain.shape[1])
    added = (None if each is None else _pointer(each) for each in (bias, onto))
    call = _Linear(_pointer(rows), *rows.shape, out.shape[1], _pointer(weights.panels), *added, _pointer(out))
    _operators().foveabench_linear(ctypes.byref(call))
    return out


def gru_step(
    inputs: Tensor,
    memory: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    scales: Sequence[Tensor],
    out: Tensor,
) -> None:
    """Write the next memory of a layer of a GRU.

    Args:
        inputs: contiguous (N, C).
        memory: contiguous (N, H).
        weights: contiguous (3H, C) for inputs and (3H, H) for the memory, as torch keeps them; float32 or int8.
        biases: (3H,) of both, or none.
        scales: (3H, groups) of both, where they are int8, else none.
        out: contiguous (N, H), of which nothing is in the memory.
    """
    sizes = (*inputs.shape, memory.shape[1])
    of_rows = (pointer for pair in (biases, scales) for pointer in (map(_pointer, pair) if pair else (None, None)))
    call = _GRU(_pointer(inputs), _pointer(memory), *sizes, *map(_pointer, weights), *of_rows, _pointer(out))
    _operators().foveabench_gru(ctypes.byref(call))


def hallucinate(
    weights: Foresight, attention: Tensor, memory: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The hallucination, and the next hidden state and cell.

    Args:
        weights: folded ones of a hallucinator of H channels.
        attention: contiguous (N, C, h, w).
        memory: hidden state and cell, each contiguous (N, H, h, w); None for zeros.
    """
    images, channels, height, width = attention.shape
    hidden = weights.decoder.shape[2]
    out = torch.empty_like(attention)
    state, cell = (attention.new_empty(images, hidden, height, width) for _ in range(2))
    remembered = (None, None) if memory is None else map(_pointer, memory)
    layers = (weights.encoder, weights.encoder_bias, weights.gates, weights.gates_bias)
    tensors = (*layers, weights.decoder, weights.decoder_bias, out, state, cell)
    sizes = (images, channels, hidden, height, width)
    call = _Hallucinator(_pointer(attention), *remembered, *sizes, *map(_pointer, tensors))
    _operators().foveabench_hallucinate(ctypes.byref(call))
    return out, (state, cell)


def similarity(x: Tensor, y: Tensor, window: Tensor, constants: tuple[float, float]) -> Tensor:
    """SSIM (N,) of contiguous maps (N, C, h, w) under a window (side, side), an odd number, whose weights sum to 1."""
    out = x.new_empty(len(x))
    call = _Similarity(_pointer(x), _pointer(y), *x.shape, _pointer(window), len(window), *constants, _pointer(out))
    _operators().foveabench_similarity(ctypes.byref(call))
    return out


_SIZES = ("images", "height", "width", "stride", "relation", "values", "groups")
_RESULTS = (("out", ctypes.c_void_p), ("out_stride", ctypes.c_int64), ("attention", ctypes.c_void_p))


class _Pairwise(ctypes.Structure):
    """`Pairwise` of pairwise.cpp."""

    _fields_ = (
        ("maps", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_void_p) for name in ("query_places", "key_places", "first", "bias", "second")),
        *(
            (axis + name, ctypes.c_void_p)
            for axis, first in (("row_", "rows"), ("column_", "columns"))
            for name in ("starts", first, "counts", "direct")
        ),
        *_RESULTS,
    )


class _Patchwise(ctypes.Structure):
    """`Patchwise` of patchwise.cpp."""

    _fields_ = (
        ("maps", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in (*_SIZES, "side")),
        *((name, ctypes.c_void_p) for name in ("scale", "shift", "first", "bias", "second", "second_bias")),
        *((name, ctypes.c_void_p) for name in ("value_shift", "rows", "columns")),
        *_RESULTS,
    )


class _Linear(ctypes.Structure):
    """`Linear` of linear.cpp."""

    _fields_ = (
        ("in", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("rows", "depth", "width")),
        *((name, ctypes.c_void_p) for name in ("weights", "bias", "onto", "out")),
    )


class _GRU(ctypes.Structure):
    """`GRU` of recurrent.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("in", "memory")),
        *((name, ctypes.c_int64) for name in ("sequences", "inputs", "hidden")),
        *((name, ctypes.c_void_p) for name in ("input_weights", "memory_weights", "input_bias", "memory_bias")),
        *((name, ctypes.c_void_p) for name in ("input_scales", "memory_scales", "out")),
    )


class _Hallucinator(ctypes.Structure):
    """`Hallucinator` of hallucinator.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("attention", "state", "cell")),
        *((name, ctypes.c_int64) for name in ("images", "channels", "hidden", "height", "width")),
        *((name + part, ctypes.c_void_p) for name in ("encoder", "gates", "decoder") for part in ("", "_bias")),
        *((name, ctypes.c_void_p) for name in ("out", "next_state", "next_cell")),
    )


class _Similarity(ctypes.Structure):
    """`Similarity` of similarity.cpp."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("images", "channels", "height", "width")),
        ("window", ctypes.c_void_p),
        ("side", ctypes.c_int64),
        *((name, ctypes.c_float) for name in ("c1", "c2")),
        ("out", ctypes.c_void_p),
    )


def _pointer(tensor: Tensor) -> int:
    return tensor.data_ptr()


def _operators() -> ctypes.CDLL:
    found = native.operators()
    assert found is not None
    return found


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
