"""Two records, or two folders of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.compare.result import Comparison
from bench.errors import RunError, UsageError
from bench.measuring.comparison import outcome_of
from bench.measuring.metrics import SAME_PACE, calibration_seconds, seconds_per_frame
from bench.measuring.statistics import ratio
from bench.records.measurement import Case, Environment, Record, read_record

BETWEEN_PROCESSES = 0.05
"""An allowance: records show smaller differences that are none. Of 30 pairs of processes that ran the same, the medians
of 6 differed by more (median:5% in results/false_alarms.md), so that even this is no safe limit."""


def compare_records(a: Record, b: Record) -> Comparison:
    """Compare what two records hold, of one machine or of two.

    Two processes differ even if they run the same, so that less than 5 % is no difference here, whatever the samples'
    own interval says.

    Raises:
        UsageError: cases that differ in more than the system or the policy, or systems and machines that both differ.
        RunError: a case that failed.
    """
    for record in (a, b):
        if record.status.state != "ok":
            raise RunError(f"{record.case.name}: {record.status.state}, {record.status.cause}: nothing to compare")
    refuse_different_tasks(a.case, b.case)
    machine = _differing(a, b, ("cpu", "gpu", "usable_cores", "threads"))
    if machine and a.case.system != b.case.system:
        raise UsageError(
            f"records of different systems and different machines ({'; '.join(machine)}): their ratio says nothing"
        )
    if a.case.backend != b.case.backend and a.case.system != b.case.system:
        raise UsageError(
            f"records of different systems and different backends ({a.case.backend} and {b.case.backend}): their ratio"
            " says nothing"
        )
    times = [seconds_per_frame(record) for record in (a, b)]
    if times[0] is None or times[1] is None:
        raise RunError(f"{a.case.name}, {b.case.name}: no samples to compare")
    over = ratio(times[1], times[0])
    warnings = [f"another machine: {text}" for text in machine]
    warnings += _differing(a, b, ("governor", "turbo", "torch", "python", "torch_build", "libraries", "revision"))
    paces = [pace for record in (a, b) if (pace := calibration_seconds(record))]
    if len(paces) == 2 and max(paces) > (1 + SAME_PACE) * min(paces):
        warnings.append(
            f"the machine's own pace changed: a calibration workload took {paces[0] * 1e3:.3g} and"
            f" {paces[1] * 1e3:.3g} ms beside them; use --live"
        )
    outcome = outcome_of(over, BETWEEN_PROCESSES)
    return Comparison(_name(a, b), _name(b, a), outcome, over, "times per frame of two records", warnings=warnings)


def compare_folders(a: Path, b: Path, on_problem: Callable[[str], None]) -> list[Comparison]:
    """Compare records of the same name in two folders.

    Args:
        a, b: folders.
        on_problem: told of records that cannot be compared.

    Raises:
        RunError: no record of one has its like in the other.
    """
    names = [{path.name for path in folder.glob("[!.]*.json")} for folder in (a, b)]
    if not names[0] & names[1]:
        raise RunError(f"{a} and {b} have no record in common")
    for name in sorted(names[0] ^ names[1]):
        on_problem(f"{name} is in {a if name in names[0] else b} alone")
    comparisons = []
    for name in sorted(names[0] & names[1]):
        try:
            comparisons.append(compare_records(read_record(a / name), read_record(b / name)))
        except (RunError, UsageError) as error:
            on_problem(str(error))
    return comparisons


def refuse_different_tasks(a: Case, b: Case, more: Sequence[str] = ()) -> None:
    """Refuse cases whose times do not compare.

    Args:
        a, b: the cases.
        more: what else must be the same in them.

    Raises:
        UsageError: it names the first difference.
    """
    for what in ("scenario", "dtype", "batch", "frames", "clip", *more):
        if getattr(a, what) != getattr(b, what):
            raise UsageError(
                f"records of different tasks: {what} {getattr(a, what)} in {a.name}, {getattr(b, what)} in {b.name}"
            )


def _differing(a: Record, b: Record, facts: Sequence[str]) -> list[str]:
    """Facts of the environment that differ, in words."""
    ours, theirs = (_facts(record.environment) for record in (a, b))
    return [f"{fact} {ours.get(fact)} and {theirs.get(fact)}" for fact in facts if ours.get(fact) != theirs.get(fact)]


def _facts(environment: Environment | None) -> dict[str, object]:
    return asdict(environment) if environment else {}


def _name(record: Record, other: Record) -> str:
    """A record by what sets it apart from the other."""
    if record.case.system != other.case.system:
        return record.case.system
    if record.case.policy != other.case.policy:
        return f"{record.case.system} ({record.case.policy})"
    if record.case.backend != other.case.backend:
        return f"{record.case.system} ({record.case.backend})"
    return f"{record.case.system} of {record.started}"
