"""Figures of a record, or of an evaluation, that are asked for more than once, and take milliseconds each."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import ref

R = TypeVar("R")
T = TypeVar("T")


def once_per_record(figure: Callable[[R], T]) -> Callable[[R], T]:
    """A function that is called once for each record, which never changes; its result is kept as long as the record."""
    kept: dict[int, tuple[ref[R], T]] = {}

    @wraps(figure)
    def kept_figure(record: R) -> T:
        key = id(record)
        if key not in kept:
            kept[key] = ref(record, lambda _: kept.pop(key)), figure(record)
        return kept[key][1]

    return kept_figure
