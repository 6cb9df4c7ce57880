"""The compiled operators of inference other than layers of SAN, as functions of tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adaptive_models.folding import Foresight
from adaptive_models.native.structures import fields, numbers, operators, pointer, pointers


class Layer(NamedTuple):
    """Weights of a layer of a GRU, for inputs (3H, C) and for the memory (3H, H), as torch keeps them.

    Biases of both are (3H,), or there are none. Scales (3H, groups of columns) are of weights of int8.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    scales: Sequence[Tensor] = ()


def gru_step(inputs: Tensor, memory: Tensor, layer: Layer, out: Tensor) -> None:
    """Write the next memory of a layer of a GRU.

    Args:
        inputs: contiguous (N, C).
        memory: contiguous (N, H).
        layer: contiguous weights.
        out: contiguous (N, H), of which nothing is in the memory.
    """
    call = _gru(layer)
    call.input, call.memory, call.sequences, call.out = pointer(inputs), pointer(memory), len(inputs), pointer(out)
    operators().foveabench_gru(ctypes.byref(call))


def _gru(layer: Layer) -> _GRU:
    """A layer without what it takes and gives."""
    hidden, inputs = layer.weights[1].shape[1], layer.weights[0].shape[1]
    rows = [[pointer(each) for each in pair] if pair else (None, None) for pair in (layer.biases, layer.scales)]
    return _GRU(None, None, 0, inputs, hidden, *map(pointer, layer.weights), *rows[0], *rows[1], None)


class Head:
    """A GRU, and a linear layer of what it gives, whose weights are where they are as long as this is.

    Args:
        layers: of the GRU; contiguous weights.
        rectified: whether the linear layer takes what the GRU gives cut off at 0.
        weights: contiguous (outputs, H), of the linear layer.
        bias: (outputs,).
    """

    def __init__(self, layers: Sequence[Layer], rectified: bool, weights: Tensor, bias: Tensor) -> None:
        self._kept = layers, weights, bias
        self._layers = (_GRU * len(layers))(*map(_gru, layers))
        self._call = _Head(
            *(None, 0, ctypes.addressof(self._layers), len(layers), None),
            *(rectified, pointer(weights), pointer(bias), len(weights), None, None),
        )
        self._memory, self._outputs = (len(layers), weights.shape[1]), len(weights)

    def __call__(self, inputs: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            inputs: contiguous (N, C).
            memory: contiguous (layers, N, H), or None for zeros.

        Returns:
            (N, outputs), and the next memory.
        """
        sequences, (layers, hidden) = len(inputs), self._memory
        out, following = inputs.new_empty(sequences, self._outputs), inputs.new_empty(layers, sequences, hidden)
        call = _Head.from_buffer_copy(self._call)
        call.input, call.sequences = pointer(inputs), sequences
        call.memory = None if memory is None else pointer(memory)
        call.next, call.out = pointer(following), pointer(out)
        operators().foveabench_head(ctypes.byref(call))
        return out, following


class Hallucination:
    """A hallucinator of H channels.

    Args:
        weights: its folded ones.
    """

    def __init__(self, weights: Foresight) -> None:
        self._kept, self._hidden = weights, weights.decoder.shape[2]
        layers = (weights.encoder, weights.encoder_bias, weights.gates, weights.gates_bias)
        tensors = (*layers, weights.decoder, weights.decoder_bias)
        self._call = _Hallucinator(None, None, None, 0, 0, 0, 0, 0, *map(pointer, tensors), None, None, None)

    def __call__(self, attention: Tensor, memory: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The hallucination, and the next hidden state and cell.

        Args:
            attention: contiguous (N, C, h, w).
            memory: hidden state and cell, each contiguous (N, H, h, w); None for zeros.
        """
        images, channels, height, width = attention.shape
        out = torch.empty_like(attention)
        state, cell = (attention.new_empty(images, self._hidden, height, width) for _ in range(2))
        call = _Hallucinator.from_buffer_copy(self._call)
        call.attention, call.out = pointer(attention), pointer(out)
        if memory is not None:
            call.state, call.cell = map(pointer, memory)
        call.images, call.channels, call.hidden, call.height, call.width = images, channels, self._hidden, height, width
        call.next_state, call.next_cell = pointer(state), pointer(cell)
        operators().foveabench_hallucinate(ctypes.byref(call))
        return out, (state, cell)


def similarity(x: Tensor, y: Tensor, window: Tensor, constants: tuple[float, float]) -> Tensor:
    """SSIM (N,) of contiguous maps (N, C, h, w) under a window (side, side), an odd number, whose weights sum to 1."""
    out = x.new_empty(len(x))
    call = _Similarity(pointer(x), pointer(y), *x.shape, pointer(window), len(window), *constants, pointer(out))
    operators().foveabench_similarity(ctypes.byref(call))
    return out


class _GRU(ctypes.Structure):
    """`GRU` of recurrent.cpp."""

    _fields_ = (
        *pointers("input", "memory"),
        *numbers("sequences", "inputs", "hidden"),
        *pointers("input_weights", "memory_weights", "input_bias", "memory_bias", "input_scales", "memory_scales"),
        *pointers("out"),
    )


class _Head(ctypes.Structure):
    """`Head` of recurrent.cpp."""

    _fields_ = (
        *pointers("input"),
        *numbers("sequences"),
        *pointers("layers"),
        *numbers("count"),
        *pointers("memory"),
        *numbers("rectified"),
        *pointers("weights", "bias"),
        *numbers("outputs"),
        *pointers("next", "out"),
    )


class _Hallucinator(ctypes.Structure):
    """`Hallucinator` of hallucinator.cpp."""

    _fields_ = (
        *pointers("attention", "state", "cell"),
        *numbers("images", "channels", "hidden", "height", "width"),
        *pointers("encoder", "encoder_bias", "gates", "gates_bias", "decoder", "decoder_bias"),
        *pointers("out", "next_state", "next_cell"),
    )


class _Similarity(ctypes.Structure):
    """`Similarity` of similarity.cpp."""

    _fields_ = (
        *pointers("x", "y"),
        *numbers("images", "channels", "height", "width"),
        *pointers("window"),
        *numbers("side"),
        *fields(ctypes.c_float, "c1", "c2"),
        *pointers("out"),
    )
