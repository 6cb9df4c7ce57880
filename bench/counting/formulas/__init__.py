"""Formulas of the `exact` convention for the operators of torch, and of our own; importing this registers them."""

from bench.counting.formulas import (
    attention,
    backward,
    convolutions,
    normalisation,
    own,
    pooling,
    products,
    recurrent,
    reductions,
)

__all__ = [
    "attention",
    "backward",
    "convolutions",
    "normalisation",
    "own",
    "pooling",
    "products",
    "recurrent",
    "reductions",
]
