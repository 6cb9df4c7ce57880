"""What is held against a baseline: what fails, and what cannot be judged or only calls for an update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.guards.baselines import Baseline
from bench.guards.exact import differences, is_better, shortened, totals
from bench.guards.timing import BAND
from bench.measuring.statistics import Interval

ACCEPT = "pytest --benchmark --efficiency-update"

MEMORY_SLACK = 2 << 20
"""Bytes by which peaks may differ in any case: what the first calls of libraries take depends on their builds."""


@dataclass
class Verdict:
    """A line each, without the system's name.

    Attributes:
        failures: differences that fail the test.
        notes: what was not judged, or became better without failing the test. An update settles it.
    """

    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(old: Baseline, new: Baseline, memory_band: float, time: Interval | None) -> Verdict:
    """Hold what was found against the baseline.

    Args:
        old: the baseline.
        new: what was found.
        memory_band: by which the peak of memory may differ, as a part of the baseline's.
        time: of `new.time`; None if time is not to be compared.
    """
    was, now = old.fingerprint, new.fingerprint
    verdict = Verdict([*shortened(differences(was, now)), *totals(was, now)])
    _compare_memory(old, new, memory_band, verdict)
    if time is not None:
        _compare_time(old, new, time, verdict)
    return verdict


def _compare_memory(old: Baseline, new: Baseline, band: float, verdict: Verdict) -> None:
    was, now = old.peak_memory, new.peak_memory
    change = f"peak memory of one call: {_megabytes(was)} -> {_megabytes(now)}"
    if was is None or now is None:
        if was != now:
            verdict.failures.append(change)
    elif old.surroundings != new.surroundings:
        verdict.notes.append(f"{change}, not judged: on {old.surroundings} -> {new.surroundings}")
    elif abs(now - was) > max(band * was, MEMORY_SLACK):
        verdict.failures.append(f"{change} (band {band:.0%})")


def _compare_time(old: Baseline, new: Baseline, interval: Interval, verdict: Verdict) -> None:
    assert new.time is not None
    now = f"{interval.value:.3g} [{interval.low:.3g}, {interval.high:.3g}] x the calibration workload"
    if old.time is None:
        verdict.failures.append(f"time of one call: not guarded -> {now}")
        return
    change = f"time of one call: {old.time.ratio:.3g} -> {now}"
    if not old.time.is_of_machine(new.time):
        verdict.notes.append(f"{change}, not judged: baseline of another machine")
    elif interval.low > old.time.ratio * (1 + BAND):
        verdict.failures.append(f"{change}: slower by more than {BAND:.0%}")
    elif interval.high < old.time.ratio / (1 + BAND):
        verdict.notes.append(f"{change}: faster; update the baseline: {ACCEPT}")


def _megabytes(count: int | None) -> str:
    return "not guarded" if count is None else f"{count / 1e6:.1f} MB"


def message(old: Baseline, new: Baseline, path: str, failures: Sequence[str]) -> str:
    """Why a test fails, in several lines: each difference, and how to accept them.

    Args:
        old: the baseline.
        new: what was found.
        path: of the baseline.
        failures: from `compare`.
    """
    versions = "; ".join(
        f"{what} {old.made_with.get(what)}, now {version}"
        for what, version in new.made_with.items()
        if old.made_with.get(what) != version
    )
    better = is_better(old.fingerprint, new.fingerprint)
    lines = [
        f"{new.system} is not what its baseline says: {path}" + (f" (made with {versions})" if versions else ""),
        *(f"{new.system}: {failure}" for failure in failures),
        f"{'That is better; update the baseline' if better else 'If that is meant, accept it'}: {ACCEPT}",
    ]
    return "\n".join(lines)
