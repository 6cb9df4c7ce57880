"""Data of the report's plots: accuracy against every cost that is known, and speed-ups by operations and by time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from bench.evaluating.summary import OWN_POLICIES, by_own_decisions
from bench.published.tables import published_row
from bench.records.counts import Count
from bench.records.evaluation import Evaluation
from bench.records.measurement import Record
from bench.reporting.accuracy_figure import accuracy_against_cost
from bench.reporting.measured import PUBLISHED_POINT, Setup, operating_points, setup_of, workload_of
from bench.systems.workloads import WORKLOADS

DIGITS = 6
"""Significant ones of what is drawn; the tables have the printed digits."""

Value = list[float]
"""A value, or a value with the bounds of its interval."""


def title_of(workload: str) -> str:
    """A data set's name for people."""
    return WORKLOADS[workload].title if workload in WORKLOADS else workload


def accuracy_plot(
    counts: Sequence[Count], records: Iterable[Record], evaluations: Sequence[Evaluation]
) -> dict[str, Any]:
    """Systems of each data set with their accuracies and costs.

    Returns:
        `axes`: costs by name, each with `label` and `kind`; `data`: of each data set `name`, `title`, and `points`,
        each with `system`, `title`, `group` (T_M, S_k or baseline), `crops`, and `accuracy` and `cost`, where a value
        stands for each kind and axis for which there is one.
    """
    axes = {
        "published": {"label": "GFLOPs per frame", "kind": "published"},
        "counted": {"label": "GFLOPs per frame, paper convention", "kind": "counted"},
        "exact": {"label": "GFLOPs per frame, exact convention", "kind": "counted"},
        "executed": {"label": "GFLOPs per frame as executed on held-out clips", "kind": "counted"},
    }
    measured = _measured_accuracies(evaluations)
    costs: dict[str, dict[str, Value]] = {}
    for setup, frame in _best_points(records, set(measured)):
        for axis, (label, kind, values) in _axes_of(setup, frame).items():
            axes[axis] = {"label": label, "kind": kind}
            for system, value in values.items():
                costs.setdefault(system, {})[axis] = value
    data: dict[str, list[dict[str, Any]]] = {}
    for count in counts:
        printed = count.published or published_row(count.system)
        cost = {"counted": _rounded(count.published_per_frame / 1e9), "exact": _rounded(count.exact_per_frame / 1e9)}
        if "avg_gflops" in printed:
            cost["published"] = _rounded(float(printed["avg_gflops"]))
        accuracy = {"published": _rounded(float(printed["top1"]))} if "top1" in printed else {}
        if count.system in measured:
            row = measured[count.system]
            accuracy["measured"] = _rounded(row["top1"], row["top1_low"], row["top1_high"])
            cost["executed"] = _rounded(row["gflops"])
        data.setdefault(workload_of(count.system), []).append(
            {
                "system": count.system,
                "title": count.title or count.system,
                "inputs": count.modalities,
                **_family(count.system),
                "accuracy": accuracy,
                "cost": {**cost, **costs.get(count.system, {})},
            }
        )
    sets = [{"name": name, "title": title_of(name), "points": points} for name, points in data.items()]
    used = {axis for points in data.values() for point in points for axis in point["cost"]}
    return {"axes": {name: axis for name, axis in axes.items() if name in used}, "data": sets}


def speed_up_plot(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Speed-ups of every (S_k, T_M) over its S_k: `counted`, by operations, and `measured`, by time."""
    found = []
    for setup, frame in _best_points(records, set()):
        for row in frame.dropna(subset="speed_up").to_dict("records"):
            found.append(
                {
                    "system": row["system"],
                    "title": _sampler_title(row["system"]),
                    "data": title_of(workload_of(row["system"])),
                    "setup": setup.words,
                    **_family(row["system"]),
                    "counted": _rounded(row["flop_speed_up"]),
                    "measured": _rounded(row["speed_up"], row["speed_up_low"], row["speed_up_high"]),
                    "realised": _rounded(row["realised"]),
                }
            )
    return found


def _measured_accuracies(evaluations: Sequence[Evaluation]) -> dict[str, pd.Series]:
    """Of systems under their own decisions on their whole validation split, by system."""
    own = by_own_decisions(each for each in evaluations if each.data == workload_of(each.system))
    return {str(row["system"]): row for _, row in accuracy_against_cost(own).iterrows()} if own else {}


def _best_points(records: Iterable[Record], evaluated: set[str]) -> Iterator[tuple[Setup, pd.DataFrame]]:
    """A row for each system of every setup, under the policy that its accuracy is of.

    Published accuracies are of the published operating points, measured ones of systems' own decisions.
    """
    setups: dict[Setup, dict[str, Record]] = {}
    for record in records:
        case = record.case
        order = [*OWN_POLICIES, *PUBLISHED_POINT] if case.system in evaluated else [*PUBLISHED_POINT, *OWN_POLICIES]
        if case.scenario != "single-stream" or record.status.state != "ok" or case.policy not in order:
            continue
        own = setups.setdefault(setup_of(record), {})
        rival = own.get(case.system)
        if rival is None or order.index(case.policy) < order.index(rival.case.policy):
            own[case.system] = record
    for setup, chosen in sorted(setups.items()):
        yield setup, operating_points(list(chosen.values()))


def _axes_of(setup: Setup, frame: pd.DataFrame) -> dict[str, tuple[str, str, dict[str, Value]]]:
    """Label, kind and values by system of each cost that was measured on a setup."""
    place = f"{setup.machine}, {setup.device}, {setup.threads} threads, {setup.dtype}"
    place += "" if setup.backend == "eager" else f", {setup.backend}"
    kinds = frame["energy_label"].astype(str).str.partition(":")[0]
    bounded = frame.set_index("system")[["ms_per_frame", "ms_per_frame_low", "ms_per_frame_high"]]
    columns = {
        ("ms", "ms per frame", "measured"): bounded,
        **{
            (f"J {kind}", "J per frame", kind): frame[kinds == kind].set_index("system")[["joules_per_frame"]]
            for kind in ("measured", "estimated")
        },
        ("MB", "peak MB", "measured"): frame.set_index("system")[["peak_mb"]],
    }
    return {
        f"{name} {'|'.join(map(str, setup))}": (
            f"{words} ({place})",
            kind,
            {str(system): _rounded(*row) for system, *row in values.dropna().itertuples()},
        )
        for (name, words, kind), values in columns.items()
        if len(values.dropna())
    }


def _family(system: str) -> dict[str, Any]:
    """What a point looks like: its group, and the k of S_k; third parties' systems are baselines."""
    found = re.search(r"/s(\d+)(?:-t(\d+))?$", system)
    if not found:
        return {"group": "baseline", "crops": None}
    return {"group": f"T_{found[2]}" if found[2] else "S_k", "crops": int(found[1])}


def _sampler_title(system: str) -> str:
    return re.sub(r"^.*/s(\d+)-t(\d+)$", r"S_\1,T_\2", system)


def _rounded(*values: float) -> Value:
    return [float(f"{value:.{DIGITS}g}") for value in values]
