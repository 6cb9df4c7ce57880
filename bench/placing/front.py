"""Where a system stands among others: pure functions of costs and accuracies with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.measuring.statistics import Interval


@dataclass(frozen=True)
class Point:
    """A system: the less cost the better, the more accuracy the better."""

    cost: Interval
    top1: Interval | None


@dataclass(frozen=True)
class Rank:
    """A place in an order from the least; 1 is the first.

    Attributes:
        place: by the estimates.
        best, worst: that the intervals leave open.
        among: how many were ordered.
    """

    place: int
    best: int
    worst: int
    among: int


@dataclass(frozen=True)
class Standing:
    """Where a system stands by one cost.

    Attributes:
        rank: by that cost alone.
        on_front: whether no other is as cheap and as accurate, and better in one; None without an accuracy.
        dominated_by: those that are, by the estimates.
        surely_dominated_by: those that are wherever in the intervals the truth lies.
        open: those that may be, or may not, as the intervals have it.
    """

    rank: Rank
    on_front: bool | None
    dominated_by: list[str]
    surely_dominated_by: list[str]
    open: list[str]


def on_front(cost: np.ndarray, top1: np.ndarray) -> np.ndarray:
    """Whether no other point is both as cheap and as accurate, and better in one of the two; of points (n,) each."""
    no_worse = (cost[:, None] <= cost) & (top1[:, None] >= top1)
    better = (cost[:, None] < cost) | (top1[:, None] > top1)
    return np.logical_not((no_worse & better).any(axis=0))


def rank(name: str, values: Mapping[str, Interval]) -> Rank:
    """The place of one of several values in their order from the least."""
    own = values[name]
    others = [value for other, value in values.items() if other != name]
    return Rank(
        place=1 + sum(other.value < own.value for other in others),
        best=1 + sum(other.high < own.low for other in others),
        worst=1 + sum(other.low <= own.high for other in others),
        among=len(values),
    )


def standing(name: str, points: Mapping[str, Point]) -> Standing:
    """Where one of several systems stands."""
    own = points[name]
    ranked = rank(name, {other: point.cost for other, point in points.items()})
    if own.top1 is None:
        return Standing(ranked, None, [], [], [])
    rivals = {other: (point.cost, point.top1) for other, point in points.items() if other != name and point.top1}
    by_value = [other for other, (cost, top1) in rivals.items() if _dominates(cost.value, top1.value, own)]
    # At its worst a rival costs the upper bound and has the lower bound of its accuracy, and we are at our best.
    best = Point(_exactly(own.cost.low), _exactly(own.top1.high))
    worst = Point(_exactly(own.cost.high), _exactly(own.top1.low))
    surely = [other for other, (cost, top1) in rivals.items() if _dominates(cost.high, top1.low, best)]
    possibly = [other for other, (cost, top1) in rivals.items() if _dominates(cost.low, top1.high, worst)]
    undecided = [other for other in possibly if other not in surely]
    return Standing(ranked, not by_value, by_value, surely, undecided)


def _dominates(cost: float, top1: float, own: Point) -> bool:
    assert own.top1 is not None
    no_worse = cost <= own.cost.value and top1 >= own.top1.value
    return no_worse and (cost < own.cost.value or top1 > own.top1.value)


def _exactly(value: float) -> Interval:
    return Interval(value, value, value)
