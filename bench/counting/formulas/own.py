"""Formulas of the operators of `adaptive_models`."""

from __future__ import annotations

from math import prod

from torch import Tensor

from bench.counting.formulas.recurrent import OPERATIONS_PER_UNIT, layers_of
from bench.counting.registry import Cost, register_formula


@register_formula("foveabench::salient_boxes")
def salient_boxes(attention: Tensor, *_: object, out: Tensor) -> Cost:
    """Mean over channels, mean and deviation of the map, 7 thresholds, and at most one sum of the map per threshold."""
    samples, channels, *sides = attention.shape
    cells = prod(sides)
    return Cost(other=samples * cells * (channels + 1 + 4 + 7 + 7))


@register_formula("foveabench::follow_boxes")
def follow_boxes(previous: Tensor, boxes: Tensor, *, out: Tensor) -> Cost:
    """Nothing: boxes are integers."""
    return Cost()


@register_formula("foveabench::int8_gru", family="gru")
def int8_gru(
    x: Tensor, memory: Tensor, parameters: list[Tensor], biases: bool, layers: int, batch_first: bool,
    scales: list[Tensor], *, out: tuple[Tensor, Tensor],
) -> Cost | int:  # fmt: skip
    """As a GRU with weights of float32: widening them is no part of it."""
    of_gru = layers_of("gru", OPERATIONS_PER_UNIT["gru"])
    return of_gru(x, memory, parameters, biases, layers, 0.0, False, False, batch_first, out=out)
