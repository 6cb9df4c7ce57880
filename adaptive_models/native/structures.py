"""What structures of the compiled operators are made of, and the operators themselves."""

from __future__ import annotations

import ctypes
from typing import Any

from torch import Tensor

from adaptive_models import native


def fields(kind: Any, *names: str) -> tuple[tuple[str, Any], ...]:
    """Fields of one type."""
    return tuple((name, kind) for name in names)


def pointers(*names: str) -> tuple[tuple[str, Any], ...]:
    """Fields that are pointers."""
    return fields(ctypes.c_void_p, *names)


def numbers(*names: str) -> tuple[tuple[str, Any], ...]:
    """Fields that are int64_t."""
    return fields(ctypes.c_int64, *names)


def pointer(tensor: Tensor) -> int:
    """Where a tensor begins."""
    return tensor.data_ptr()


def operators() -> ctypes.CDLL:
    """The operators, of which the caller knows that they are there."""
    found = native.operators()
    assert found is not None
    return found
