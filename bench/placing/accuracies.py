"""Top-1 accuracies with where they come from: measured by us, published, given by the user, or none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bench.errors import UsageError
from bench.evaluating.metrics import wilson
from bench.evaluating.summary import own_evaluations
from bench.measuring.statistics import Interval
from bench.published.tables import VALIDATION_CLIPS, published_row
from bench.records.evaluation import Evaluation
from bench.reporting.accuracy_figure import accuracy_against_cost
from bench.systems.registry import System

Kind = Literal["measured", "published", "given"]


@dataclass(frozen=True)
class Accuracy:
    """Top-1 in per cent, with its 95 % interval.

    Attributes:
        top1: with bounds.
        kind: how it is known.
        source: where from.
    """

    top1: Interval
    kind: Kind
    source: str


def given(top1: float | None, source: str | None, workload: str) -> Accuracy | None:
    """What the user says of a new system.

    Raises:
        UsageError: no per cent, or one without the other.
    """
    if top1 is None and source is None:
        return None
    if top1 is None:
        raise UsageError(f"--source {source!r} is of nothing: give the accuracy too, as in --top1 74.2")
    if not 0 <= top1 <= 100:
        raise UsageError(f"--top1 {top1:g}: an accuracy is from 0 to 100 per cent")
    if not source or not source.strip():
        raise UsageError(f"--top1 {top1:g}: say where it is from, as in --source 'Table 2 of our paper'")
    return Accuracy(_with_interval(top1, workload), "given", source.strip())


def measured(workload: str, evaluations: Iterable[Evaluation]) -> dict[str, Accuracy]:
    """Of systems that were evaluated on the workload's whole validation split with trained weights."""
    own = own_evaluations(workload, evaluations)
    if not own:
        return {}
    table = accuracy_against_cost(own).drop_duplicates("system").set_index("system")
    found = {}
    for system, row in table.iterrows():
        seeds = "1 seed" if row["seeds"] == 1 else f"{row['seeds']} seeds, one standard deviation between them"
        top1 = Interval(row["top1"], row["top1_low"], row["top1_high"])
        found[str(system)] = Accuracy(top1, "measured", f"foveabench evaluate, {seeds}")
    return found


def published(system: str, described: System | None, workload: str) -> Accuracy | None:
    """What a system says of itself, or the paper's tables of it."""
    row = (described.published if described else None) or published_row(system)
    if "top1" not in row:
        return None
    return Accuracy(_with_interval(float(row["top1"]), workload), "published", str(row["source"]))


def _with_interval(top1: float, workload: str) -> Interval:
    """Wilson's interval of so many per cent of the workload's validation clips; where these are not known, none."""
    clips = VALIDATION_CLIPS.get(workload)
    if clips is None:
        return Interval(top1, top1, top1)
    ends = wilson(round(clips * top1 / 100), clips)
    return Interval(top1, min(ends.low, top1), max(ends.high, top1))
