"""The table of formulas: what one call of an operator costs.

A formula is a pure function of an operator's arguments and its result: `formula(*args, out=result, **kwargs)`. It
looks at shapes only, so it serves real and meta tensors alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

import torch

Formula = Callable[..., "Cost | int"]
AnyFormula = TypeVar("AnyFormula", bound=Formula)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call computes: multiply-accumulates, and elementary operations that are not part of one."""

    macs: int = 0
    other: int = 0

    @property
    def flops(self) -> int:
        """Operations in the `exact` convention: two per multiply-accumulate, one per other operation."""
        return 2 * self.macs + self.other


@dataclass(frozen=True, slots=True)
class Entry:
    """A formula and the family under which its operators are reported, the same on every device and in every mode."""

    family: str
    formula: Formula


FORMULAS: dict[str, Entry] = {}


def operator_name(operator: Any) -> str:
    """The qualified name, "namespace::name", of an operator of `torch.ops` or one that `torch.library.custom_op` made.

    Raises:
        TypeError: anything else.
    """
    if isinstance(operator, str) and "::" in operator:
        return operator
    if isinstance(operator, torch._ops.OpOverload):
        return operator._schema.name
    if isinstance(operator, torch._ops.OpOverloadPacket):
        return operator._qualified_op_name
    if isinstance(operator, torch.library.CustomOpDef):
        return operator._qualname
    raise TypeError(
        f"cannot register a formula for {operator!r}: give an operator such as torch.ops.mylib.my_op"
        ' or its name, "mylib::my_op"'
    )


def register_formula(*operators: Any, family: str | None = None) -> Callable[[AnyFormula], AnyFormula]:
    """Register what an operator costs, for `count_flops`.

    The decorated function is called as `formula(*args, out=result, **kwargs)` with what the operator was called with,
    and returns a `Cost`, or an integer that is taken as multiply-accumulates.

    Example, for an operator of one's own::

        @bench.register_formula(torch.ops.mylib.my_matmul)
        def my_matmul(a, b, *, out):
            return out.numel() * a.shape[-1]

    Args:
        operators: `torch.ops.namespace.name`, an overload of it, what `torch.library.custom_op` made, or
            "namespace::name".
        family: the name under which the operator is reported; its own name without namespace if not given.

    Raises:
        TypeError: not an operator.
        ValueError: the operator has a formula already.
    """
    import_module("bench.counting.formulas")  # those of torch come first, so that a second one is noticed here
    names = [operator_name(operator) for operator in operators]

    def register(formula: AnyFormula) -> AnyFormula:
        for name in names:
            if name in FORMULAS:
                raise ValueError(f"operator {name} has a formula already")
        for name in names:
            FORMULAS[name] = Entry(family or plain_name(name), formula)
        return formula

    return register


def plain_name(name: str) -> str:
    """An operator's name without namespace and in-place underscore: "aten::relu_" -> "relu"."""
    return name.split("::", 1)[1].rstrip("_")
