"""Which of two is faster: both run in turns, in random order, in one process, and a verdict with its interval.

Turns matter: two processes one after another differ by several per cent on a machine with other work, and an interval
from within each does not know it. What is judged is the median of the ratios within rounds: what disturbs the machine
for longer than a round disturbs both, and drops out. Ratios of percentiles over all rounds, told beside it, jump when
one side saw a few more disturbed rounds than the other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from bench.measuring.statistics import Interval, Percentile, bounds, resampled

THRESHOLD = 0.015
"""Ratios nearer to 1 than this are never called a difference: the bootstrap does not know all of the noise."""

CERTAINTY = 0.99
"""Of the interval on which a verdict rests: what is asked at every commit must seldom be wrong."""

MINIMUM_ROUNDS = 10

ENOUGH_ROUNDS = 40
FEW_THRESHOLD = 0.1
"""In fewer rounds, intervals are too narrow to be trusted, and differences below this are not called."""

F = TypeVar("F", bound=Callable[[], object])

Outcome = Literal["faster", "slower", "no difference shown", "too noisy"]


@dataclass(frozen=True)
class Verdict:
    """Candidate over baseline: above 1 is slower.

    Attributes:
        outcome: of the candidate.
        ratio: on which the outcome rests: the median of the ratios within rounds with its 99 % interval; where rounds
            are no pairs, as `fast`.
        fast: ratio of the 10th percentiles.
        median: ratio of the medians.
        rounds: in which both ran once.
        clock: "wall", or "CPU" where wall time was too noisy to say.
        threshold: as a part of 1; smaller differences are not asked about.
    """

    outcome: Outcome
    ratio: Interval
    fast: Interval
    median: Interval
    rounds: int
    threshold: float
    clock: Literal["wall", "CPU"] = "wall"

    @property
    def words(self) -> str:
        """A sentence that says it with its uncertainty, and what to do where there is none."""
        ratio = f"{self.ratio.value:.3f} x the {self.clock} time [{self.ratio.low:.3f}, {self.ratio.high:.3f}]"
        if self.outcome in ("faster", "slower"):
            return f"{self.outcome}: {ratio}"
        if self.outcome == "no difference shown":
            return f"no difference of {2 * self.threshold:.1%} or more: {ratio}"
        return f"too noisy to say: {ratio} after {self.rounds} rounds; run longer, or quiet the machine"


def interleave(
    functions: Mapping[str, F], seconds: float, seed: int = 0, timer: Callable[[F], float] | None = None
) -> dict[str, list[float]]:
    """Run functions in rounds, each once a round in random order, until the seconds are over.

    Args:
        functions: by name; they should have been warmed up.
        seconds: for all rounds together; ten rounds are made in any case.
        seed: of the order.
        timer: runs a function and returns its seconds; the wall clock if not given.

    Returns:
        Seconds of each function, a sample per round.
    """
    timer = timer or wall_time
    shuffle = random.Random(seed).shuffle
    samples: dict[str, list[float]] = {name: [] for name in functions}
    order = list(functions.items())
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < MINIMUM_ROUNDS or time.perf_counter() < end:
        shuffle(order)
        for name, function in order:
            samples[name].append(timer(function))
        rounds += 1
    return samples


def wall_time(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def judge(baseline: Sequence[float], candidate: Sequence[float], threshold: float = THRESHOLD) -> Verdict:
    """Judge samples of interleaved rounds.

    A difference is called if the 99 % block-bootstrap interval of the median ratio within rounds leaves 1 out and that
    median is beyond the threshold; "no difference shown" if the interval leaves out differences of twice the
    threshold; what is neither is too noisy.

    Args:
        baseline, candidate: seconds, a sample per round.
        threshold: smallest difference that is called one, as a part of 1.

    Raises:
        ValueError: not as many samples of one as of the other, or fewer than ten.
    """
    if len(baseline) != len(candidate) or len(baseline) < MINIMUM_ROUNDS:
        raise ValueError(
            f"{len(baseline)} and {len(candidate)} samples: a verdict needs {MINIMUM_ROUNDS} rounds or more of both"
        )
    pairs = np.column_stack([baseline, candidate])
    drawn = resampled(pairs, np.random.default_rng(0))
    ratio = Interval(float(_within_rounds(pairs)), *bounds(_within_rounds(drawn), CERTAINTY))
    fast, median = (_ratio(pairs, drawn, q) for q in (10, 50))
    return Verdict(_outcome(ratio, threshold, len(pairs)), ratio, fast, median, len(pairs), threshold)


def compare_calls(
    baseline: Callable[[], object],
    candidate: Callable[[], object],
    seconds: float,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> Verdict:
    """Run two functions in turns and judge them; `judge`, with a second opinion.

    Where wall time is too noisy to say, CPU time decides, which other processes hardly touch; but only of work of a
    single thread that never waits: CPU time knows nothing of waiting, nor of other threads.

    Args:
        baseline, candidate: what runs in turns; warmed up.
        seconds: for both together.
        threshold: as in `judge`.
        seed: of the order.
    """
    functions = {"baseline": _CpuTimed(baseline), "candidate": _CpuTimed(candidate)}
    wall = interleave(functions, seconds, seed)
    verdict = judge(wall["baseline"], wall["candidate"], threshold)
    if verdict.outcome == "too noisy" and all(each.is_busy() for each in functions.values()):
        second = judge(functions["baseline"].seconds, functions["candidate"].seconds, threshold)
        if second.outcome != "too noisy":
            return replace(second, clock="CPU")
    return verdict


class _CpuTimed:
    """A function that keeps the CPU time of the thread in which it runs, call by call."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self.seconds: list[float] = []
        self._busy: list[float] = []

    def __call__(self) -> None:
        start, wall = time.thread_time(), time.perf_counter()
        self._function()
        wall = time.perf_counter() - wall
        self.seconds.append(time.thread_time() - start)
        self._busy.append(self.seconds[-1] / wall if wall else 0.0)

    def is_busy(self) -> bool:
        """Whether calls that nothing disturbs compute all the time, on this thread."""
        return bool(self._busy) and float(np.percentile(self._busy, 90)) >= 0.95


def judge_mixtures(
    baseline: Mapping[str, Sequence[float]],
    candidate: Mapping[str, Sequence[float]],
    shares: tuple[Mapping[str, float], Mapping[str, float]],
    threshold: float = THRESHOLD,
) -> Verdict:
    """Judge systems whose frames are of several kinds, each at its own shares of them.

    As `judge`, but of percentiles of each kind, weighed by the shares; rounds are no pairs then, for the two may have
    frames of different kinds in them.

    Args:
        baseline, candidate: seconds by kind, in the order in which they were taken.
        shares: of kinds, in per cent, of baseline and of candidate.
        threshold: as in `judge`.

    Raises:
        ValueError: fewer than ten samples of a side, or none of a kind that has a share.
    """
    for side, weights in zip((baseline, candidate), shares, strict=True):
        for kind, weight in weights.items():
            if weight > 0 and not side.get(kind):
                raise ValueError(f"no samples of {kind!r}, which have a share of {weight:g} %")
    rounds = min(sum(map(len, side.values())) for side in (baseline, candidate))
    if rounds < MINIMUM_ROUNDS:
        raise ValueError(f"{rounds} samples of one side: a verdict needs {MINIMUM_ROUNDS} or more of both")
    generator = np.random.default_rng(0)
    sides = [
        [
            (weights.get(kind, 0.0), np.asarray(seconds), resampled(np.asarray(seconds), generator))
            for kind, seconds in side.items()
            if seconds
        ]
        for side, weights in zip((baseline, candidate), shares, strict=True)
    ]

    def ratio(q: float) -> Interval:
        (a, drawn_a), (b, drawn_b) = (
            [np.sum([weight * Percentile(q)(each[position]) for weight, *each in side], axis=0) for position in (0, 1)]
            for side in sides
        )
        return Interval(float(b / a), *bounds(drawn_b / drawn_a))

    fast = ratio(10)
    return Verdict(_outcome(fast, threshold, rounds), fast, fast, ratio(50), rounds, threshold)


def _within_rounds(pairs: np.ndarray) -> np.ndarray:
    return np.median(pairs[..., 1] / pairs[..., 0], axis=-1)


def _ratio(pairs: np.ndarray, drawn: np.ndarray, q: float) -> Interval:
    statistic = Percentile(q)

    def ratio(samples: np.ndarray) -> np.ndarray:
        return statistic(samples[..., 1]) / statistic(samples[..., 0])

    return Interval(float(ratio(pairs)), *bounds(ratio(drawn)))


def _outcome(ratio: Interval, threshold: float, rounds: int) -> Outcome:
    outcome = outcome_of(ratio, threshold)
    if rounds < ENOUGH_ROUNDS and outcome_of(ratio, max(threshold, FEW_THRESHOLD)) != outcome:
        return "too noisy"
    return outcome


def outcome_of(ratio: Interval, threshold: float = THRESHOLD) -> Outcome:
    """What a ratio of times, candidate over baseline, shows: see `judge`."""
    if ratio.low > 1 and ratio.value > 1 + threshold:
        return "slower"
    if ratio.high < 1 and ratio.value < 1 / (1 + threshold):
        return "faster"
    if ratio.high < 1 + 2 * threshold and ratio.low > 1 / (1 + 2 * threshold):
        return "no difference shown"
    return "too noisy"
