"""Pointwise operators: arithmetic, comparisons and activation functions, 1 operation per output element.

There are too many to register them one by one; torch tags them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.counting.registry import Cost, Formula

# Operators of more than one elementary operation, and those of one that torch does not tag as pointwise.
OPERATIONS = {
    "addcdiv": 2,
    "addcmul": 2,
    "lerp": 3,
    "glu": 2,
    "polar": 4,
    "linalg_cross": 3,
    "_add_relu": 2,
    "complex": 0,
    "prelu": 1,
    "_prelu_kernel": 1,
    "rsub": 1,
    "floor_divide": 1,
    "hardswish": 1,
    "log_sigmoid_forward": 1,
    "rrelu_with_noise": 1,
}


def is_pointwise(operator: torch._ops.OpOverload, plain: str) -> bool:
    """Whether torch tags an operator as pointwise; its in-place variants do not all carry the tag."""
    packet = getattr(torch.ops.aten, plain, operator.overloadpacket)
    overloads = [operator, *(getattr(packet, name) for name in packet.overloads())]
    return plain in OPERATIONS or any(torch.Tag.pointwise in overload.tags for overload in overloads)


def pointwise(plain: str) -> Formula:
    """Formula of a pointwise operator; a factor (`alpha`, `value`) is one more operation."""
    operations = OPERATIONS.get(plain, 1)

    def formula(*_: Any, out: Any, alpha: float = 1, value: float = 1, **__: Any) -> Cost:
        result: Tensor = out if isinstance(out, Tensor) else out[0]
        return Cost(other=result.numel() * (operations + (alpha != 1) + (value != 1)))

    return formula
