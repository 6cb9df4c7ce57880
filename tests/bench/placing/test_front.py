from __future__ import annotations

import random
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measuring.statistics import Interval
from bench.placing.front import Point, on_front, rank, standing

NUMBERS = st.integers(0, 4).map(float)
INTERVALS = st.tuples(NUMBERS, NUMBERS, NUMBERS).map(lambda three: Interval(sorted(three)[1], min(three), max(three)))
POINTS = st.lists(st.tuples(INTERVALS, INTERVALS), min_size=2, max_size=6).map(
    lambda pairs: {f"s{index}": Point(*pair) for index, pair in enumerate(pairs)}
)


def exactly(value: float) -> Interval:
    return Interval(value, value, value)


def dominators(name: str, points: dict[str, tuple[float, float]]) -> set[str]:
    cost, top1 = points[name]
    return {
        other
        for other, (its_cost, its_top1) in points.items()
        if its_cost <= cost and its_top1 >= top1 and (its_cost, its_top1) != (cost, top1)
    }


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_the_front_is_of_those_that_nobody_dominates(pairs: list[tuple[float, float]]) -> None:
    points = {str(index): pair for index, pair in enumerate(pairs)}
    front = on_front(*(np.array(values) for values in zip(*pairs, strict=True)))
    assert front.tolist() == [not dominators(name, points) for name in points]
    assert front.any()


@given(POINTS, st.integers())
def test_whatever_the_truth_is_the_standing_allows_for_it(points: dict[str, Point], seed: int) -> None:
    """Truths are drawn from the intervals, their ends among them."""
    random.seed(seed)
    name = "s0"
    found = standing(name, points)
    values = {other: (point.cost.value, point.top1.value) for other, point in points.items() if point.top1}
    assert set(found.dominated_by) == dominators(name, values)
    assert found.on_front == (not found.dominated_by)
    place, best, worst, among = astuple(found.rank)
    assert place == 1 + sum(cost < values[name][0] for cost, _ in values.values())
    assert best <= place <= worst <= among == len(points)
    for _ in range(20):
        truth = {
            other: tuple(random.choice([each.low, each.value, each.high]) for each in (point.cost, point.top1))
            for other, point in points.items()
            if point.top1
        }
        true_dominators = dominators(name, truth)
        assert set(found.surely_dominated_by) <= true_dominators
        assert true_dominators <= {*found.surely_dominated_by, *found.open}
        true_place = 1 + sum(cost < truth[name][0] for cost, _ in truth.values())
        assert best <= true_place <= worst


def test_without_an_accuracy_there_is_an_order_of_costs_alone() -> None:
    points = {"new": Point(exactly(2), None), "a": Point(exactly(1), exactly(99)), "b": Point(exactly(3), None)}
    found = standing("new", points)
    assert (found.on_front, found.dominated_by, found.surely_dominated_by, found.open) == (None, [], [], [])
    assert astuple(found.rank) == (2, 2, 2, 3)
    assert standing("a", points).on_front is True


def test_a_rank_says_what_intervals_leave_open() -> None:
    values = {"new": Interval(5, 4, 6), "sure": exactly(3), "perhaps": Interval(7, 5.5, 8), "not": exactly(9)}
    assert astuple(rank("new", values)) == (2, 2, 3, 4)


@pytest.mark.parametrize(
    ("rival", "surely", "possibly"),
    [
        (Point(Interval(1, 0.9, 1.1), Interval(80, 79, 81)), True, True),
        (Point(Interval(1.9, 1.7, 2.1), Interval(80, 79, 81)), False, True),  # its cost may be higher
        (Point(Interval(1, 0.9, 1.1), Interval(70.5, 69, 72)), False, True),  # its accuracy may be lower
        (Point(Interval(3, 2.9, 3.1), Interval(80, 79, 81)), False, False),
        (Point(exactly(2), exactly(70)), False, True),  # the same, as far as estimates tell
    ],
)
def test_what_is_sure_and_what_is_open(rival: Point, surely: bool, possibly: bool) -> None:
    found = standing("new", {"new": Point(Interval(2, 1.9, 2.1), Interval(70, 69, 71)), "rival": rival})
    assert found.surely_dominated_by == (["rival"] if surely else [])
    assert found.open == (["rival"] if possibly and not surely else [])
