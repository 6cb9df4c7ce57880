"""A comparison on the terminal, in LaTeX and in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.display import note, print_table, say
from bench.placing.front import Rank, Standing
from bench.placing.rows import COSTS
from bench.reporting.layout import latex_float, significant, with_bounds

if TYPE_CHECKING:
    from bench.placing.compared import Compared

SHORT = {"gflops": "GFLOPs", "ms_per_frame": "ms", "joules_per_frame": "J", "peak_mb": "MB"}
"""Of `COSTS`, where there is little room."""

MENTIONED = 5
"""How many rivals are named on the terminal; JSON and CSV have all."""


def show(compared: Compared, files: Sequence[Path]) -> None:
    """The table, where each new system stands, what is to be known of it all, and the files."""
    texts = _texts(compared.frame, bounds=False)
    print_table([" ".join(heading).strip() for heading in texts.columns.to_flat_index()], texts.to_numpy().tolist())
    for placement in compared.placements:
        say("")
        say("[bold]{system}[/bold]", system=placement.system)
        if placement.trade_off:
            say("  {what}: {rank}", what="GFLOPs per point of top-1", rank=_rank(placement.trade_off))
        for cost, standing in placement.standings.items():
            say("  {what}: {rank}{place}", what=COSTS[cost], rank=_rank(standing.rank), place=_place(standing))
    for text in [*compared.notes, *(text for placement in compared.placements for text in placement.missing)]:
        note(f"note: {text}")
    for path in files:
        print(path)


def to_json(compared: Compared, files: Sequence[Path]) -> dict[str, Any]:
    """Plain data, as `foveabench compare-backbones --json` prints it; what is missing is null."""
    rows: list[dict[str, Any]] = json.loads(compared.frame.to_json(orient="records", double_precision=15))
    for row in rows:
        row |= {name: value.split(";") if value else [] for name, value in row.items() if name.startswith("dominated")}
    return {
        "workload": compared.workload,
        "setup": compared.setup or None,
        "systems": rows,
        "placements": [asdict(placement) for placement in compared.placements],
        "notes": compared.notes,
        "files": [str(path) for path in files],
    }


def to_latex(frame: pd.DataFrame, title: str, label: str, notes: Sequence[str]) -> str:
    """The table, with intervals, as a landscape float of LaTeX."""
    return latex_float(title, label, _texts(frame, bounds=True), notes)


def _texts(frame: pd.DataFrame, bounds: bool) -> pd.DataFrame:
    """Everything as text, under groups; a new system is marked."""
    rows = [row for _, row in frame.iterrows()]
    columns: dict[tuple[str, str], list[str]] = {
        ("", "System"): [row["system"] + (" (new)" if row["new"] else "") for row in rows],
        ("GFLOPs", "paper"): [significant(row["gflops"]) for row in rows],
        ("GFLOPs", "exact"): [significant(row["gflops_exact"]) for row in rows],
        ("Top-1", "%"): [_bounded(row, "top1", 4, bounds) for row in rows],
        ("Top-1", "is"): list(frame["top1_kind"].fillna("")),
        ("Trade-off", "GFLOPs/%"): [_bounded(row, "trade_off", 3, bounds) for row in rows],
    }
    for cost, short in SHORT.items():
        if cost != "gflops" and frame[cost].notna().any():
            columns["Cost", short] = [_bounded(row, cost, 3, bounds) for row in rows]
    fronts = [[short for cost, short in SHORT.items() if row[f"front_{cost}"] is True] for row in rows]
    columns["", "On the front by"] = list(map(", ".join, fronts))
    return pd.DataFrame(columns)


def _bounded(row: pd.Series, name: str, digits: int, bounds: bool) -> str:
    low, high = (row.get(f"{name}_{side}") for side in ("low", "high"))
    if not bounds or pd.isna(low) or pd.isna(high):
        return significant(row[name], digits)
    return with_bounds(row[name], low, high)


def _rank(rank: Rank) -> str:
    left_open = "" if rank.best == rank.worst else f", {rank.best} to {rank.worst} within the intervals"
    return f"place {rank.place} of {rank.among}{left_open}"


def _place(standing: Standing) -> str:
    if standing.on_front is None:
        return ""
    if standing.on_front:
        return "; on the Pareto front" + (f", unless the truth favours {_some(standing.open)}" if standing.open else "")
    sure = "surely " if standing.surely_dominated_by else "within the intervals "
    by = standing.surely_dominated_by or standing.dominated_by
    return f"; {sure}dominated by {_some(by)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MENTIONED} more" if len(names) > MENTIONED else ""
    return ", ".join(names[:MENTIONED]) + more
