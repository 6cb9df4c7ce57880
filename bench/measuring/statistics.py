"""Percentiles, intervals and warnings of samples that depend on their neighbours, as times of a computer do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats

RESAMPLES = 1000
CONFIDENCE = 0.95
AT_ONCE = 1_000_000
"""Values that are resampled at once."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""Maps samples (..., n) to values (...)."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """As a part of the estimate."""
        return (self.high - self.low) / 2 / abs(self.value) if self.value else float("inf")

    def scaled(self, factor: float) -> Interval:
        """In other units; a negative factor is not meant."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Percentile:
    """The statistic of a percentile, 0 to 100, interpolated linearly between samples."""

    q: float

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Map samples (..., n) to values (...)."""
        return np.percentile(samples, self.q, axis=-1)

    def of_resamples(self, samples: np.ndarray, generator: np.random.Generator, resamples: int) -> np.ndarray:
        """Of each resample of samples (n,) in turn.

        Ranks are drawn in place of values: they take a quarter of the memory, and the time goes into that.
        """
        n = len(samples)
        order = samples.argsort()
        ranks = np.empty(n, np.int16 if n <= np.iinfo(np.int16).max else np.int64)
        ranks[order] = np.arange(n)
        drawn = resampled(ranks, generator, resamples)
        below, part = divmod(self.q / 100 * (n - 1), 1)
        drawn.partition(int(below), axis=1)
        low = samples[order[drawn[:, int(below)]]]
        if not part:
            return low
        return low + part * (samples[order[drawn[:, int(below) + 1 :].min(axis=1)]] - low)


def resampled(samples: np.ndarray, generator: np.random.Generator, resamples: int = RESAMPLES) -> np.ndarray:
    """Resamples (resamples, n, ...) of samples (n, ...) in circular blocks, so that what depends on neighbours stays.

    Blocks are of length n^(1/2): longer than the n^(1/3) that is best where dependence is weak (Politis and Romano,
    1992), for what disturbs a computer lasts.
    """
    n = len(samples)
    length = max(1, round(n**0.5))
    starts = generator.integers(0, n, size=(resamples, -(-n // length)))
    circle = np.concatenate([samples, samples[: length - 1]])
    blocks = np.moveaxis(sliding_window_view(circle, length, axis=0), -1, 1)
    return blocks.take(starts, axis=0).reshape(resamples, -1, *samples.shape[1:])[:, :n]


def statistics_of_resamples(
    samples: np.ndarray, statistic: Statistic, generator: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """A statistic of each of so many resamples of samples (n,)."""
    at_once = max(1, AT_ONCE // len(samples))  # else many samples would take gigabytes
    portions = [min(at_once, resamples - done) for done in range(0, resamples, at_once)]
    if isinstance(statistic, Percentile):
        return np.concatenate([statistic.of_resamples(samples, generator, portion) for portion in portions])
    return np.concatenate([statistic(resampled(samples, generator, portion)) for portion in portions])


def interval(samples: Sequence[float], statistic: Statistic, seed: int = 0) -> Interval:
    """A statistic of samples in the order in which they were taken, with its block-bootstrap interval.

    Raises:
        ValueError: no samples.
    """
    if not len(samples):
        raise ValueError("no samples: an interval needs some")
    return _interval(tuple(samples), statistic, seed)


@lru_cache(maxsize=4096)
def _interval(samples: tuple[float, ...], statistic: Statistic, seed: int) -> Interval:
    """What is asked of the same samples again, by tables, figures and warnings about them."""
    values = np.asarray(samples, dtype=float)
    drawn = statistics_of_resamples(values, statistic, np.random.default_rng(seed))
    return Interval(float(statistic(values)), *bounds(drawn))


def bounds(drawn: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Between which that part of resampled statistics lies."""
    tail, last = (1 - confidence) / 2, len(drawn) - 1
    low, high = np.interp([tail * last, (1 - tail) * last], np.arange(len(drawn)), np.sort(drawn))
    return float(low), float(high)


def total(parts: Sequence[Interval]) -> Interval:
    """Sum of independent estimates, with its interval.

    The distance of each bound is the root of the sum of squares of the distances of the parts' (MOVER: Zou and Donner,
    2008).
    """
    value = sum(part.value for part in parts)
    down = math.hypot(*(part.value - part.low for part in parts))
    up = math.hypot(*(part.high - part.value for part in parts))
    return Interval(value, value - down, value + up)


def ratio(over: Interval, under: Interval) -> Interval:
    """Quotient of two independent positive estimates, with its interval.

    On the logarithmic scale, the distance of each bound is the root of the sum of squares of the two distances that
    lead there, so that intervals need not be symmetric (MOVER: Donner and Zou, 2012).
    """
    value = over.value / under.value
    down = math.hypot(math.log(over.value / over.low), math.log(under.high / under.value))
    up = math.hypot(math.log(over.high / over.value), math.log(under.value / under.low))
    return Interval(value, value * math.exp(-down), value * math.exp(up))


@cache
def samples_needed(q: float, confidence: float = 0.99) -> int:
    """How many samples make a percentile credible: with one beyond it allowed, chance is ruled out with 99 %.

    It gives the numbers of MLPerf's early stopping: 11 for p50, 64 for p90, 130 for p95, 662 for p99.

    Raises:
        ValueError: q is not between 0 and 100.
    """
    if not 0 < q < 100:
        raise ValueError(f"percentile {q:g}: samples tell of those between 0 and 100")
    tail = min(q, 100 - q) / 100
    n = 2
    while stats.binom.cdf(1, n, tail) > 1 - confidence:
        n += 1
    return n


def drift(samples: Sequence[float]) -> float | None:
    """How much later samples differ from earlier ones, as a part of them; None if they do not.

    The medians of the first and last third must differ by 3 % or more, and Kendall's rank correlation with time rule
    out chance (p < 0.001).
    """
    values = np.asarray(samples, dtype=float)
    if len(values) < 12:
        return None
    third = len(values) // 3
    change = float(np.median(values[-third:]) / np.median(values[:third])) - 1
    if abs(change) < 0.03:
        return None
    starts = np.linspace(0, len(values), min(len(values), 60), endpoint=False).astype(int)
    means = np.add.reduceat(values, starts) / np.diff(starts, append=len(values))
    trend = stats.kendalltau(np.arange(len(means)), means)
    return change if trend.pvalue < 0.001 else None


def modes(samples: Sequence[float]) -> tuple[float, float] | None:
    """The two times that samples cluster round, if they do: a deep valley in their density, a tenth on either side."""
    values = np.asarray(samples, dtype=float)
    if len(values) < 40 or np.ptp(values) <= 0.05 * np.median(values):
        return None
    logs = np.log(np.clip(values, *np.percentile(values, [1, 99])))
    if np.ptp(logs) == 0:
        return None
    grid = np.linspace(logs.min(), logs.max(), 200)
    # Silverman's rule on the smaller of the two spreads, or two far clusters would be smoothed into one.
    spread = min(logs.std(), np.subtract(*np.percentile(logs, [75, 25])) / 1.34) or logs.std()
    width = 0.9 * spread * len(logs) ** -0.2
    density = np.exp(-0.5 * ((grid[:, None] - logs) / width) ** 2).mean(axis=1)  # the kernel's scale does not matter
    valleys = np.arange(1, len(grid) - 1)
    left, right = np.maximum.accumulate(density), np.maximum.accumulate(density[::-1])[::-1]
    depths = density[valleys] / np.minimum(left[valleys - 1], right[valleys])
    sides = np.searchsorted(np.sort(logs), grid[valleys]) / len(logs)
    depths[(depths >= 0.5) | (sides < 0.1) | (sides > 0.9)] = np.inf
    if np.isinf(depths).all():
        return None
    valley = int(valleys[depths.argmin()])
    peaks = int(density[:valley].argmax()), valley + int(density[valley:].argmax())
    return float(np.exp(grid[peaks[0]])), float(np.exp(grid[peaks[1]]))


def is_steady(times: Sequence[float], tolerance: float = 0.03) -> bool:
    """Whether a warm-up is over: its second half is not faster than the first by more than the tolerance.

    The very first time is left out, and of many only the later ones count.
    """
    recent = list(times[1:])[-max(4, len(times) // 2) :]
    if len(recent) < 4:
        return False
    half = len(recent) // 2
    return float(np.median(recent[half:])) >= (1 - tolerance) * float(np.median(recent[:half]))
