"""All systems of a workload side by side: what they cost, how accurate they are, and how each is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.measuring.statistics import Interval
from bench.placing.accuracies import Accuracy
from bench.placing.front import Point, Rank, Standing, on_front, rank, standing
from bench.published.tables import NUMERALS, published_row, read_table
from bench.records.counts import Count
from bench.records.measurement import Record
from bench.reporting.measured import operating_points

COSTS = {
    "gflops": "GFLOPs per frame",
    "ms_per_frame": "ms per frame",
    "joules_per_frame": "J per frame",
    "peak_mb": "peak memory in MB",
}
"""What systems are compared by; each against accuracy."""

COLUMNS = [
    *("system", "new", "title", "backbone", "frames", "gflops", "gflops_kind", "gflops_exact", "mparams"),
    *("top1", "top1_low", "top1_high", "top1_kind", "top1_source", "trade_off", "trade_off_low", "trade_off_high"),
    *("ms_per_frame", "ms_per_frame_low", "ms_per_frame_high", "joules_per_frame", "joules_label", "peak_mb"),
]


def side_by_side(
    counts: Iterable[Count],
    workload: str,
    new: Sequence[str],
    accuracies: Mapping[str, Accuracy],
    records: Sequence[Record],
) -> pd.DataFrame:
    """A row for each system, the cheapest first.

    Args:
        counts: of known and new systems.
        workload: whose published rows are taken too where a system is not counted.
        new: ids of the new systems.
        accuracies: by system; those that are missing stay empty.
        records: single-stream ones of one setup.

    Returns:
        `COLUMNS`, `front_...` for each of `COSTS`, whether a system is on the front, and `dominated_by_...`, the ids of
        those that dominate it. GFLOPs are per frame of video in the `paper` convention, of systems as they are
        described, so that old and new ones are counted alike; `gflops_kind` says whether they are counted, or published
        of a system that we do not count. `trade_off` is GFLOPs per point of top-1. Milliseconds, joules and megabytes
        are *measured*, or as `joules_label` says. Accuracies say in `top1_kind` how they are known.
        Columns in _low and _high are bounds of 95 % intervals.
    """
    costs = operating_points([each for each in records if each.status.state == "ok"]).drop_duplicates("system")
    measured = costs.set_index("system")
    rows = [_row(each, accuracies.get(each.system), each.system in new, measured) for each in counts]
    counted = {row["system"] for row in rows}
    for system in printed(workload):
        if system not in counted:
            rows.append(_published_row(system, accuracies.get(system)))
    frame = pd.DataFrame(rows, columns=COLUMNS).sort_values(["gflops", "system"], ignore_index=True)
    for cost in COSTS:
        front: dict[str, bool] = {}
        dominators: dict[str, str] = {}
        for group in comparable(frame[frame["top1"].notna()], cost):
            front |= zip(
                group["system"], on_front(group[cost].to_numpy(float), group["top1"].to_numpy(float)), strict=True
            )
            points = _points(group, cost)
            dominators |= {system: ";".join(standing(system, points).dominated_by) for system in points}
        frame[f"front_{cost}"] = frame["system"].map(front).astype("boolean")
        frame[f"dominated_by_{cost}"] = [dominators.get(system, "") for system in frame["system"]]
    return frame


@dataclass(frozen=True)
class Placement:
    """Where a new system stands.

    Attributes:
        system: its id.
        trade_off: GFLOPs per point of top-1, and its place among those of others; None without an accuracy.
        standings: by each cost that is known of it.
        missing: in words, what is not known, and how to know it.
    """

    system: str
    trade_off: Rank | None
    standings: dict[str, Standing]
    missing: list[str]


def place(frame: pd.DataFrame, system: str) -> Placement:
    """Where a system stands among those of `side_by_side`."""
    own = frame[frame["system"] == system].iloc[0]
    standings = {}
    for cost in COSTS:
        for group in comparable(frame, cost):
            if system in set(group["system"]):
                standings[cost] = standing(system, _points(group, cost))
    known = frame[frame["trade_off"].notna()].set_index("system", drop=False)
    trade_offs = {str(name): _interval(row, "trade_off") for name, row in known.iterrows()}
    missing = []
    if pd.isna(own["top1"]):
        missing.append(
            f"{system} has no top-1 accuracy, so it has no trade-off and no place on a front: give one with --top1 and"
            " --source, or evaluate it"
        )
    if pd.isna(own["ms_per_frame"]):
        missing.append(f"{system} is not measured here: foveabench measure {system}")
    return Placement(system, rank(system, trade_offs) if system in trade_offs else None, standings, missing)


def comparable(frame: pd.DataFrame, cost: str) -> Iterator[pd.DataFrame]:
    """Rows with that cost; energies that are not had in the same way stay apart."""
    known = frame[frame[cost].notna()]
    if cost != "joules_per_frame":
        yield known
    else:
        yield from (group for _, group in known.groupby("joules_label"))


def _points(frame: pd.DataFrame, cost: str) -> dict[str, Point]:
    return {
        str(row["system"]): Point(_interval(row, cost), _interval(row, "top1") if pd.notna(row["top1"]) else None)
        for _, row in frame.iterrows()
    }


def _interval(row: pd.Series, name: str) -> Interval:
    """With the bounds that there are."""
    value = float(row[name])
    low, high = (row.get(f"{name}_{side}") for side in ("low", "high"))
    return Interval(value, value if pd.isna(low) else float(low), value if pd.isna(high) else float(high))


def _row(count: Count, accuracy: Accuracy | None, new: bool, measured: pd.DataFrame) -> dict[str, Any]:
    gflops = count.paper_per_frame / 1e9
    row: dict[str, Any] = {
        "system": count.system,
        "new": new,
        "title": count.title,
        "backbone": count.backbone,
        "frames": count.frames,
        "gflops": gflops,
        "gflops_kind": "counted",
        "gflops_exact": count.exact_per_frame / 1e9,
        "mparams": count.params / 1e6,
        **_accuracy(accuracy, gflops),
    }
    if count.system in measured.index:
        own = measured.loc[count.system]
        names = ("ms_per_frame", "ms_per_frame_low", "ms_per_frame_high", "joules_per_frame", "peak_mb")
        row |= {name: own[name] for name in names}
        row["joules_label"] = own["energy_label"] if pd.notna(own["joules_per_frame"]) else None
    return row


def _published_row(system: str, accuracy: Accuracy | None) -> dict[str, Any]:
    gflops = float(published_row(system)["avg_gflops"])
    names = {"system": system, "new": False, "title": system.rpartition("/")[2]}
    return {**names, "gflops": gflops, "gflops_kind": "published", **_accuracy(accuracy, gflops)}


def _accuracy(accuracy: Accuracy | None, gflops: float) -> dict[str, Any]:
    if accuracy is None:
        return {}
    top1 = accuracy.top1
    # From better to worse accuracies; of none at all there is no trade-off.
    trade_off = [gflops / bound if bound > 0 else None for bound in (top1.high, top1.value, top1.low)]
    return {
        **dict(zip(("top1", "top1_low", "top1_high"), (top1.value, top1.low, top1.high), strict=True)),
        **dict(zip(("trade_off_low", "trade_off", "trade_off_high"), trade_off, strict=True)),
        "top1_kind": accuracy.kind,
        "top1_source": accuracy.source,
    }


def printed(workload: str) -> list[str]:
    """Systems of the workload of which the paper prints GFLOPs."""
    rows = (row for number in NUMERALS for row in read_table(number))
    return [id for id in dict.fromkeys(rows) if id.startswith(f"{workload}/") and "avg_gflops" in published_row(id)]
