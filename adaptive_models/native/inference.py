"""The compiled operators of inference, as functions of tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adaptive_models import native
from adaptive_models.folding import Block, Dense, Foresight, Pairwise, Patchwise
from adaptive_models.reflection import reflected


def fits(groups: int) -> bool:
    """Whether a number of groups fills vectors."""
    lanes = native.lanes()
    return groups % lanes == 0 or (lanes % groups == 0 and 8 * groups >= lanes)


class Layer(NamedTuple):
    """Weights of a layer of a GRU, for inputs (3H, C) and for the memory (3H, H), as torch keeps them.

    Biases of both are (3H,), or there are none. Scales (3H, groups of columns) are of weights of int8.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    scales: Sequence[Tensor] = ()


def stem(x: Tensor, weights: Tensor, bias: Tensor, outputs: int) -> Tensor:
    """The first convolution, with its norm folded in, ReLU, and the largest of every 2 x 2 positions.

    Args:
        x: (N, C, H, W).
        weights: (C, D, filled up).
        bias: (D, filled up).
        outputs: D.

    Returns:
        (N, D, H / 2, W / 2), with channels last in memory, as of all maps here.
    """
    x = x.contiguous()
    out = x.new_empty(len(x), x.shape[2] // 2, x.shape[3] // 2, outputs)
    call = _Stem(_pointer(x), *x.shape, _pointer(weights), _pointer(bias), outputs, _pointer(out))
    _operators().foveabench_stem(ctypes.byref(call))
    return out.permute(0, 3, 1, 2)


def convolve(x: Tensor, weights: Dense) -> Tensor:
    """A 1x1 convolution of x (N, C, H, W) with weights (C, D)."""
    cells = _cells(x)
    out = x.new_empty(*cells.shape[:3], weights.plain.shape[1])
    call = _Linear(_pointer(cells), *cells.shape[:3], None, None, _dense(weights), _pointer(out))
    _operators().foveabench_linear(ctypes.byref(call))
    return out.permute(0, 3, 1, 2)


def next_stage(x: Tensor, scale: Tensor, shift: Tensor, weights: Dense) -> Tensor:
    """A norm of x (N, C, H, W), ReLU, the largest of every 2 x 2 positions, and a convolution with weights (C, D)."""
    cells = _cells(x)
    images, height, width, _ = cells.shape
    out = x.new_empty(images, height // 2, width // 2, weights.plain.shape[1])
    norm = _pointer(scale), _pointer(shift)
    call = _Linear(_pointer(cells), images, height, width, *norm, _dense(weights), _pointer(out))
    _operators().foveabench_linear(ctypes.byref(call))
    return out.permute(0, 3, 1, 2)


def rectify(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Scale and shift the channels of x (N, C, H, W), and cut off at 0."""
    cells = _cells(x)
    out = torch.empty_like(cells)
    function = _operators().foveabench_rectify
    function.argtypes = _RECTIFY
    function(*map(_pointer, (cells, scale, shift, out)), cells.shape[:3].numel(), cells.shape[3])
    return out.permute(0, 3, 1, 2)


def bottleneck(block: Block, x: Tensor, attention: bool) -> tuple[Tensor, Tensor | None]:
    """A bottleneck; see `adaptive_models.fused.bottleneck`."""
    cells = _cells(x)
    images, height, width, channels = cells.shape
    size = height, width
    if size not in block.prepared:
        block.prepared[size] = _prepared(block, height, width)
    prepared, _ = block.prepared[size]
    out = torch.empty_like(cells)
    looked_at = x.new_zeros(images, height, width, channels // 32) if attention else None
    call = _Bottleneck.from_buffer_copy(prepared)
    call.input, call.images, call.out = _pointer(cells), images, _pointer(out)
    if looked_at is not None:
        call.attention = _pointer(looked_at)
    _operators().foveabench_bottleneck(ctypes.byref(call))
    return out.permute(0, 3, 1, 2), None if looked_at is None else looked_at.permute(0, 3, 1, 2)


def _prepared(block: Block, height: int, width: int) -> tuple[_Bottleneck, tuple[Any, ...]]:
    """All that is the same for every map of this size, and what has to be kept as long."""
    channels, weigh = len(block.scale), block.weigh
    kept: tuple[Tensor, ...]
    if isinstance(weigh, Pairwise):
        neighbours = _neighbours(height, width, block.side)
        padded = reflected(height, width, block.side)
        kept = (*weigh.places_of(height, width), weigh.first, weigh.bias, weigh.second, *neighbours, *padded)
        kind: ctypes.Structure = _Pairwise(*map(_pointer, kept), block.side)
    else:
        norm_and_weights = weigh.scale, weigh.shift, weigh.first, weigh.bias, weigh.second, weigh.second_bias
        kept = (*norm_and_weights, weigh.value_shift, *reflected(height, width, block.side))
        kind = _Patchwise(*map(_pointer, kept), block.side)
    prepared = _Bottleneck(
        None, 0, height, width,
        *(channels // 16, channels // 4, channels // 32),
        *(_pointer(block.scale), _pointer(block.shift)),
        *(_dense(block.maps, block.maps_bias), _dense(block.out)),
        *(ctypes.addressof(kind) if isinstance(weigh, wanted) else None for wanted in (Pairwise, Patchwise)),
    )  # fmt: skip
    return prepared, (kind, kept)


def _cells(x: Tensor) -> Tensor:
    """(N, C, H, W) to contiguous (N, H, W, C); no copy where channels lie last."""
    return x.permute(0, 2, 3, 1).contiguous()


_RECTIFY = (ctypes.c_void_p,) * 4 + (ctypes.c_int64,) * 2
"""Rows, scale, shift and results; number of rows and of channels."""


def gru_step(inputs: Tensor, memory: Tensor, layer: Layer, out: Tensor) -> None:
    """Write the next memory of a layer of a GRU.

    Args:
        inputs: contiguous (N, C).
        memory: contiguous (N, H).
        layer: contiguous weights.
        out: contiguous (N, H), of which nothing is in the memory.
    """
    call = _gru(layer)
    call.input, call.memory, call.sequences, call.out = _pointer(inputs), _pointer(memory), len(inputs), _pointer(out)
    _operators().foveabench_gru(ctypes.byref(call))


def _gru(layer: Layer) -> _GRU:
    """A layer without what it takes and gives."""
    hidden, inputs = layer.weights[1].shape[1], layer.weights[0].shape[1]
    rows = [[_pointer(each) for each in pair] if pair else (None, None) for pair in (layer.biases, layer.scales)]
    return _GRU(None, None, 0, inputs, hidden, *map(_pointer, layer.weights), *rows[0], *rows[1], None)


class Scorer:
    """A temporal sampler whose weights are where they are as long as this is.

    Args:
        layers: of its GRU; contiguous weights.
        weights: contiguous (outputs, H), of its linear layer.
        bias: (outputs,).
    """

    def __init__(self, layers: Sequence[Layer], weights: Tensor, bias: Tensor) -> None:
        self._kept = layers, weights, bias
        self._layers = (_GRU * len(layers))(*map(_gru, layers))
        self._call = _Scoring(
            *(None, None, None, 0, 0, ctypes.addressof(self._layers), len(layers), None),
            *(_pointer(weights), _pointer(bias), len(weights), None, None),
        )
        self._memory, self._outputs = (len(layers), weights.shape[1]), len(weights)

    def __call__(
        self, attention: Tensor, hallucination: Tensor, similarity: Tensor, memory: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `adaptive_models.temporal_sampler.TemporalSampler.forward`; all tensors are contiguous."""
        sequences, (layers, hidden) = len(attention), self._memory
        out, following = (
            attention.new_empty(*size) for size in ((sequences, self._outputs), (layers, sequences, hidden))
        )
        call = _Scoring.from_buffer_copy(self._call)
        call.attention, call.hallucination = _pointer(attention), _pointer(hallucination)
        call.similarity, call.memory = _pointer(similarity), None if memory is None else _pointer(memory)
        call.sequences, call.positions = sequences, attention[0].numel()
        call.next, call.out = _pointer(following), _pointer(out)
        _operators().foveabench_score(ctypes.byref(call))
        return out, following


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


def _fields(kind: Any, *names: str) -> tuple[tuple[str, Any], ...]:
    return tuple((name, kind) for name in names)


def _pointers(*names: str) -> tuple[tuple[str, Any], ...]:
    return _fields(ctypes.c_void_p, *names)


def _numbers(*names: str) -> tuple[tuple[str, Any], ...]:
    return _fields(ctypes.c_int64, *names)


class _Dense(ctypes.Structure):
    """`Dense` of products.h."""

    _fields_ = (*_pointers("weights", "bias"), *_numbers("depth", "width"))


def _dense(weights: Dense, bias: Tensor | None = None) -> _Dense:
    return _Dense(_pointer(weights.panels), None if bias is None else _pointer(bias), *weights.plain.shape)


class _Stem(ctypes.Structure):
    """`Stem` of layers.cpp."""

    _fields_ = (
        *_pointers("input"),
        *_numbers("images", "channels", "height", "width"),
        *_pointers("weights", "bias"),
        *_numbers("outputs"),
        *_pointers("out"),
    )


class _Linear(ctypes.Structure):
    """`Linear` of layers.cpp."""

    _fields_ = (
        *_pointers("input"),
        *_numbers("images", "height", "width"),
        *_pointers("scale", "shift"),
        ("dense", _Dense),
        *_pointers("out"),
    )


class _Bottleneck(ctypes.Structure):
    """`Bottleneck` of layers.cpp."""

    _fields_ = (
        *_pointers("input"),
        *_numbers("images", "height", "width", "relation", "values", "groups"),
        *_pointers("scale", "shift"),
        *_fields(_Dense, "maps", "last"),
        *_pointers("pairwise", "patchwise", "out", "attention"),
    )


class _Pairwise(ctypes.Structure):
    """`Pairwise` of attention.h."""

    _fields_ = (
        *_pointers("query_places", "key_places", "first", "bias", "second"),
        *_pointers("row_starts", "rows", "row_counts", "row_direct"),
        *_pointers("column_starts", "columns", "column_counts", "column_direct"),
        *_pointers("padded_rows", "padded_columns"),
        *_numbers("side"),
    )


class _Patchwise(ctypes.Structure):
    """`Patchwise` of attention.h."""

    _fields_ = (
        *_pointers("scale", "shift", "first", "bias", "second", "second_bias", "value_shift", "rows", "columns"),
        *_numbers("side"),
    )


class _GRU(ctypes.Structure):
    """`GRU` of recurrent.cpp."""

    _fields_ = (
        *_pointers("input", "memory"),
        *_numbers("sequences", "inputs", "hidden"),
        *_pointers("input_weights", "memory_weights", "input_bias", "memory_bias", "input_scales", "memory_scales"),
        *_pointers("out"),
    )


class _Scoring(ctypes.Structure):
    """`Scoring` of recurrent.cpp."""

    _fields_ = (
        *_pointers("attention", "hallucination", "similarity"),
        *_numbers("sequences", "positions"),
        *_pointers("layers"),
        *_numbers("count"),
        *_pointers("memory", "weights", "bias"),
        *_numbers("outputs"),
        *_pointers("next", "out"),
    )


class _Hallucinator(ctypes.Structure):
    """`Hallucinator` of hallucinator.cpp."""

    _fields_ = (
        *_pointers("attention", "state", "cell"),
        *_numbers("images", "channels", "hidden", "height", "width"),
        *_pointers("encoder", "encoder_bias", "gates", "gates_bias", "decoder", "decoder_bias"),
        *_pointers("out", "next_state", "next_cell"),
    )


class _Similarity(ctypes.Structure):
    """`Similarity` of similarity.cpp."""

    _fields_ = (
        *_pointers("x", "y"),
        *_numbers("images", "channels", "height", "width"),
        *_pointers("window"),
        *_numbers("side"),
        *_fields(ctypes.c_float, "c1", "c2"),
        *_pointers("out"),
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
