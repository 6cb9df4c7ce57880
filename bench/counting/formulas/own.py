"""Formulas of the operators of `adaptive_models`."""

from __future__ import annotations

from math import prod

from torch import Tensor

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
