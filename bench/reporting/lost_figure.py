"""The figure "saved FLOPs, lost where?": a pure function of records with profiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.records.counts import Count
from bench.records.measurement import Record
from bench.reporting.lost_time import CATEGORIES, lost_times
from bench.reporting.measured_figures import panels_by
from bench.reporting.style import ONE_COLUMN, print_style, save_figure


def lost(out: Path, records: Sequence[Record], counts: Sequence[Count]) -> list[Path]:
    """Write what each (S_k, T_M) loses of its speed-up by operations, a bar each; what it gains is left of 0.

    Beside its name are the speed-ups by operations and, after the arrow, by time.

    The data has the parts of every stage, of which the figure shows the sums.

    Raises:
        RunError: as `lost_times`, or the folder cannot be written to.
    """
    data = lost_times(records)
    titles = {count.system: count.title for count in counts}
    tallest = data.groupby("workload")["system"].nunique().max()
    with print_style() as colours:
        shades = dict(
            zip(CATEGORIES, (colours[1], colours[2], colours[0], colours[3], (0.75, 0.75, 0.75)), strict=True)
        )
        figure, panels = panels_by(data, ["workload"], height=1.2 + 0.2 * tallest)
        for axes, part in panels:
            sums = part.pivot_table("lost_speed_up", "system", "category", "sum", fill_value=0.0)
            systems = sorted(sums.index, reverse=True)
            sums = sums.reindex(index=systems, columns=list(CATEGORIES), fill_value=0.0)
            rows = np.arange(len(systems))
            for sign in (1, -1):
                left = np.zeros(len(systems))
                for category in CATEGORIES:
                    width = np.where(sign * sums[category] > 0, sums[category], 0.0)
                    axes.barh(rows, width, 0.62, left, color=shades[category], linewidth=0)
                    left += width
            axes.plot(sums.sum(axis=1), rows, "D", color="black", markersize=3)
            axes.axvline(0, color="black", linewidth=0.6)
            speed_ups = part.groupby("system")[["flop_speed_up", "speed_up"]].first()
            axes.set_yticks(
                rows,
                [
                    f"{_title(system, titles)}  {counted:.2f} → {measured:.2f}"
                    for system, (counted, measured) in speed_ups.loc[systems].iterrows()
                ],
            )
            axes.use_sticky_edges = False
            axes.margins(x=0.06)
            axes.set(xlabel="Speed-up lost (counted − measured)", ylim=(-0.6, len(rows) - 0.4))
            axes.grid(visible=False, axis="y")
        handles = [Patch(color=shades[category], label=category) for category in CATEGORIES]
        net = Line2D([], [], linestyle="", marker="D", color="black", markersize=3, label="in all")
        columns = 2 if figure.get_figwidth() <= ONE_COLUMN else 3
        figure.legend(handles=[*handles, net], loc="outside upper center", ncols=columns, frameon=False)
        return save_figure(figure, data, "lost", out)


def _title(system: str, titles: dict[str, str]) -> str:
    title = titles.get(system, system)
    return f"${title}$" if title.startswith("S_") else title
