"""What a comparison of two systems, records or revisions says."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.measuring.comparison import Outcome
from bench.measuring.statistics import Interval


@dataclass(frozen=True)
class Comparison:
    """B over A: above 1, B is slower.

    Attributes:
        a, b: what was compared.
        outcome: of B.
        ratio: of the times per frame, with its interval.
        how: what the ratio is of, and how many samples it rests on.
        median, fast: ratios of the medians and of the 10th percentiles, where samples are at hand.
        warnings: what speaks against the comparison.
    """

    a: str
    b: str
    outcome: Outcome
    ratio: Interval
    how: str
    median: Interval | None = None
    fast: Interval | None = None
    warnings: list[str] = field(default_factory=list)
