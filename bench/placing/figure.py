"""The figure of a comparison: accuracy against each cost, with the front and the new systems by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from bench.placing.rows import COSTS, comparable
from bench.reporting.style import ONE_COLUMN, print_style, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(frame: pd.DataFrame, title: str, name: str, out: Path) -> list[Path]:
    """Write the figure as PNG and SVG, and the whole table as CSV.

    A panel for each cost that is known of a system with an accuracy, of which there must be one. A new system without
    an accuracy is a line at its cost.

    Args:
        frame: of `side_by_side`.
        title: above the panels.
        name: of the files.
        out: their folder.

    Raises:
        RunError: the folder cannot be written to.
    """
    panels = [(cost, group) for cost in COSTS for group in comparable(frame, cost) if group["top1"].notna().any()]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with print_style() as colours:
        figure = Figure(figsize=(ONE_COLUMN * columns, 0.3 + 2.5 * rows))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, (cost, group) in zip(grid.flat, panels, strict=False):
            _panel(axes, cost, group, colours[3])
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_axis_off()
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2 * columns, frameon=False)
        figure.suptitle(title, fontsize=7)
        return save_figure(figure, frame, name, out)


def _panel(axes: Axes, cost: str, group: pd.DataFrame, colour_of_new: tuple[float, float, float]) -> None:
    rated = group[group["top1"].notna()]
    front = rated[rated[f"front_{cost}"].fillna(False)].sort_values(cost)
    axes.step(
        front[cost], front["top1"], where="post", color="0.4", linestyle="--", linewidth=0.8, label="Pareto front"
    )
    for new, colour, size in ((False, "0.55", 3.0), (True, colour_of_new, 5.0)):
        part = rated[rated["new"] == new]
        for kind, marker in (("measured", "o"), ("published", "s"), ("given", "D")):
            own = part[part["top1_kind"] == kind]
            if own.empty:
                continue
            errors = [own["top1"] - own["top1_low"], own["top1_high"] - own["top1"]]
            label = f"{'new' if new else 'known'}, top-1 {kind}"
            axes.errorbar(
                own[cost],
                own["top1"],
                errors,
                fmt=marker,
                color=colour,
                markersize=size,
                elinewidth=0.6,
                capsize=1.5,
                label=label,
                zorder=3 if new else 2,
            )
    for _, row in group[group["new"]].iterrows():
        if pd.isna(row["top1"]):
            axes.axvline(row[cost], color=colour_of_new, linewidth=0.8, linestyle=":")
            place, height = (row[cost], rated["top1"].min()), "top-1 unknown"
        else:
            place, height = (row[cost], row["top1"]), ""
        words = f"{row['title']}{', ' if height else ''}{height}"
        axes.annotate(words, place, (4, 4), textcoords="offset points", fontsize=6, color=colour_of_new)
    label = f"{COSTS[cost]} ({_kind(cost, group)})"
    axes.set(xlabel=label, ylabel="Top-1 accuracy (%)", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _kind(cost: str, group: pd.DataFrame) -> str:
    if cost == "gflops":
        return " or ".join(sorted(group["gflops_kind"].unique())) + ", paper convention"
    if cost == "joules_per_frame":
        return str(group["joules_label"].iloc[0]).partition(":")[0]
    return "measured"
