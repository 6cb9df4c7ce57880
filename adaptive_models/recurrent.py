"""The GRU of samplers and classifiers, which take one frame after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_models import native
from adaptive_models.folding import foldable
from adaptive_models.native import inference
from adaptive_models.native.inference import Layer
from adaptive_models.native.pages import into_large_pages

_IN_LARGE_PAGES: WeakKeyDictionary[nn.Module, list[int]] = WeakKeyDictionary()
"""The addresses of weights that were moved."""

GROUP = 32
"""Weights of int8 in a row that have a scale of their own, as in recurrent.cpp."""

FEW_SEQUENCES = 16
"""Of up to so many at once (1, 2, 4, 8, 16 were timed) the operator is faster than torch."""


class GRU(nn.GRU):
    """torch's GRU, of which single steps of few sequences read their weights as fast as memory gives them.

    That is in inference on a CPU, in float32, with the compiled operators; everything else is torch's own.
    """

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """As `torch.nn.GRU.forward`."""
        if not self._suits(input, hx):
            return super().forward(input, hx)
        return _step(self, input, hx, self.layers())

    def layers(self) -> list[Layer]:
        """The weights of each layer."""
        return [Layer(each[:2], each[2:]) for each in self.all_weights]

    def _suits(self, x: Any, hx: Tensor | None) -> bool:
        """Whether this is a step for `inference.gru_step`."""
        return (
            native.suits_inference(x, *self._flat_weights, *(() if hx is None else (hx,)))
            and not (self.training or self.bidirectional or self.proj_size)
            and all(each.is_contiguous() for layer in self.all_weights for each in layer)
            and _is_single_step(self, x, hx)
        )


class Int8GRU(nn.Module):
    """A GRU for inference with weights of 8 bits, which are little more than a quarter of the bytes.

    It computes in float32, and rounds nothing but weights: w is kept as round(w / s) s, where s is the largest of 32
    neighbours in its row over 127. So it is what is known as weight-only quantisation, symmetric and by groups; rows
    are too long to have a scale each, for one input, as the similarity of a temporal sampler, may outweigh all others.

    Args:
        gru: a layer or several, of one direction, whose float32 weights are taken over.

    Raises:
        ValueError: a GRU of two directions.
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        if gru.bidirectional:
            raise ValueError(f"{gru}: weights of int8 are for GRUs of one direction")
        self.input_size, self.hidden_size, self.num_layers = gru.input_size, gru.hidden_size, gru.num_layers
        self.bias, self.batch_first = gru.bias, gru.batch_first
        for name, weight in gru.named_parameters():
            kept = weight.detach()
            if name.startswith("weight"):
                kept, scales = _rounded(kept)
                self.register_buffer(f"{name}_scales", scales)
            self.register_buffer(name, kept)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `torch.nn.GRU.forward`, of tensors with a dimension for sequences."""
        layers = self.layers()
        floats = [each for layer in layers for each in (*layer.biases, *layer.scales)]
        if native.suits_inference(input, *floats, *(() if hx is None else (hx,))) and _is_single_step(self, input, hx):
            return _step(self, input, hx, layers)
        if hx is None:
            hx = input.new_zeros(self.num_layers, input.shape[0 if self.batch_first else 1], self.hidden_size)
        parameters = [each for layer in layers for each in (*layer.weights, *layer.biases)]
        scales = [each for layer in layers for each in layer.scales]
        return int8_gru(input, hx, parameters, self.bias, self.num_layers, self.batch_first, scales)

    def layers(self) -> list[Layer]:
        """The weights of each layer."""
        return [self._layer(number) for number in range(self.num_layers)]

    def _layer(self, number: int) -> Layer:
        def each(kind: str, ending: str = "") -> list[Tensor]:
            return [getattr(self, f"{kind}_{of}_l{number}{ending}") for of in ("ih", "hh")]

        return Layer(each("weight"), each("bias") if self.bias else (), each("weight", "_scales"))


def suits_head(
    owner: nn.Module, gru: nn.Module, linears: Sequence[nn.Module], inputs: Tensor, memory: Tensor | None
) -> bool:
    """Whether a GRU and the linear layers of what it gives can run as one operator, that of `head_of`.

    Args:
        owner: of which these are all parts that have weights.
        gru: a `GRU` or `Int8GRU`.
        linears: linear layers.
        inputs: (N, C) of one step.
        memory: as the GRU takes it.
    """
    return (
        native.suits_inference(inputs, *(() if memory is None else (memory,)))
        and type(gru) in (GRU, Int8GRU)
        and all(type(each) is nn.Linear and each.bias is not None for each in linears)
        and all(each.in_features == gru.hidden_size for each in linears)
        and inputs.ndim == 2
        and 0 < len(inputs) <= FEW_SEQUENCES
        and inputs.shape[1] == gru.input_size
        and (memory is None or memory.shape == (gru.num_layers, len(inputs), gru.hidden_size))
        and not getattr(gru, "bidirectional", False)
        and not getattr(gru, "proj_size", 0)
        and not any("forward" in vars(layer) for layer in (gru, *linears))  # put before a layer by someone
        and foldable(owner, (), [owner], inputs)
    )


def head_of(gru: GRU | Int8GRU, linears: Sequence[nn.Linear], rectified: bool) -> inference.Head:
    """One operator for a GRU and linear layers of what it gives, cut off at 0 before if `rectified`."""
    layers = [Layer(*([each.contiguous() for each in kind] for kind in layer)) for layer in gru.layers()]
    into_large_pages(*(weight for layer in layers for weight in layer.weights))
    weights, biases = ([getattr(each, name) for each in linears] for name in ("weight", "bias"))
    return inference.Head(layers, rectified, torch.cat(weights), torch.cat(biases))


@torch.library.custom_op("foveabench::int8_gru", mutates_args=())
def int8_gru(
    x: Tensor, hx: Tensor, parameters: Sequence[Tensor], biases: bool, layers: int, batch_first: bool,
    scales: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """torch's GRU with weights that are widened for it: slow, and one operator for whoever follows operators."""
    remaining = iter(scales)
    wide = [_widened(each, next(remaining)) if each.dtype is torch.int8 else each for each in parameters]
    output, memory = torch.gru(x, hx, wide, biases, layers, 0.0, False, False, batch_first)
    return output, memory


def _rounded(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (rows, columns) as int8, and the scales (rows, groups)."""
    filled = F.pad(weights, (0, -weights.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    largest = filled.abs().amax(dim=2)
    scales = torch.where(largest > 0, largest / 127, 1.0)
    rounded = (filled / scales[:, :, None]).round().to(torch.int8)
    return rounded.flatten(1)[:, : weights.shape[1]].contiguous(), scales


def _widened(weights: Tensor, scales: Tensor) -> Tensor:
    """The weights that were rounded."""
    return weights * scales.repeat_interleave(GROUP, dim=1)[:, : weights.shape[1]]


def _is_single_step(gru: GRU | Int8GRU, x: Tensor, hx: Tensor | None) -> bool:
    """Whether the shapes are of a step of few sequences."""
    time, batch = (1, 0) if gru.batch_first else (0, 1)
    return (
        x.ndim == 3
        and x.shape[time] == 1
        and 0 < x.shape[batch] <= FEW_SEQUENCES
        and x.shape[2] == gru.input_size
        and (hx is None or hx.shape == (gru.num_layers, x.shape[batch], gru.hidden_size))
    )


def _step(gru: GRU | Int8GRU, x: Tensor, hx: Tensor | None, layers: Sequence[Layer]) -> tuple[Tensor, Tensor]:
    """A step by the compiled operator."""
    _into_large_pages(gru, [weight for layer in layers for weight in layer.weights])
    time = 1 if gru.batch_first else 0
    layer_input = x.select(time, 0).contiguous()
    memory = x.new_empty(gru.num_layers, len(layer_input), gru.hidden_size)
    if hx is None:
        hx = torch.zeros_like(memory)
    for before, after, layer in zip(hx.contiguous(), memory, layers, strict=True):
        inference.gru_step(layer_input, before, layer, out=after)
        layer_input = after
    return layer_input.unsqueeze(time).clone(), memory  # as torch's, of which neither lies in the other


def _into_large_pages(gru: nn.Module, weights: Sequence[Tensor]) -> None:
    """Once for the weights that there are: it takes as long as many steps."""
    addresses = [weight.data_ptr() for weight in weights]
    if _IN_LARGE_PAGES.get(gru) != addresses:
        into_large_pages(*weights)
        _IN_LARGE_PAGES[gru] = addresses
