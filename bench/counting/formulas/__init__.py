"""Formulas of the `exact` convention for the operators of torch, and of our own; importing this registers them."""

from bench.counting.formulas import attention, convolutions, elementwise, own, products, recurrent

__all__ = ["attention", "convolutions", "elementwise", "own", "products", "recurrent"]
