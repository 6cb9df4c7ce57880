"""Figures of evaluations: accuracy against cost, and learned decisions against those that do not look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.errors import RunError
from bench.evaluating.summary import evaluated, learned_against_others, over_seeds
from bench.placing.front import on_front
from bench.records.evaluation import AT_COST_OF_LEARNED, Evaluation
from bench.reporting.style import ONE_COLUMN, print_style, save_figure
from bench.systems.registry import spatial_sampler
from bench.systems.workloads import WORKLOADS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPATIAL, TEMPORAL = "Spatial sampler", "Temporal sampler"
"""Headings of the legend."""

NO_SAMPLER = "none"
POINT = ["data", "split", "system", "policy"]
MARKERS = ("o", "s", "D", "^", "v", "P", "*", "X", "p", "h")


def accuracy_against_cost(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """Top-1 accuracy and operations of systems with trained weights on whole splits, under their own decisions.

    Returns:
        A row for each system and policy, means over seeds: `data`, `split`, `system`, `policy`, `seeds`, `gflops` per
        frame as executed, `top1` in per cent with `top1_low` and `top1_high`, which are one standard deviation between
        seeds away, or bounds of the Wilson interval where there is one seed; `pareto`, whether no other is both
        cheaper and more accurate.

    Raises:
        RunError: there is none.
    """
    rows = evaluated(each for each in _meaningful(evaluations) if not _is_for_comparison(each))
    if rows.empty:
        raise RunError("accuracy: no evaluation of a whole split with trained weights; `foveabench evaluate` makes one")
    data = over_seeds(rows)
    wilson = rows.groupby(POINT, sort=False)[["top1_low", "top1_high"]].first()
    data = data.join(wilson, on=POINT)
    several = data["seeds"] > 1
    data.loc[several, "top1_low"] = data["top1"] - data["top1_spread"]
    data.loc[several, "top1_high"] = data["top1"] + data["top1_spread"]
    for _, part in data.groupby(["data", "split"]):
        data.loc[part.index, "pareto"] = on_front(part["gflops"].to_numpy(), part["top1"].to_numpy())
    return data[[*POINT, "seeds", "gflops", "top1", "top1_low", "top1_high", "pareto"]]


def _is_for_comparison(evaluation: Evaluation) -> bool:
    """Whether it shows what learned decisions are worth: those that do not look, and none, of an (S_k, T_M)."""
    undecided = evaluation.policy == "always-full" and spatial_sampler(evaluation.system) is not None
    return undecided or evaluation.policy in AT_COST_OF_LEARNED


def _meaningful(evaluations: Iterable[Evaluation]) -> Iterator[Evaluation]:
    return (each for each in evaluations if each.trained and each.limit is None)


def accuracy(out: Path, evaluations: Sequence[Evaluation]) -> list[Path]:
    """Write top-1 accuracy against operations executed per frame, with the Pareto front; a panel for each data set.

    Raises:
        RunError: as `accuracy_against_cost`, or the folder cannot be written to.
    """
    data = accuracy_against_cost(evaluations)
    samplers = data["system"].str.extract(r"/s(\d+)(?:-t(\d+))?$")
    spatial = ("$S_" + samplers[0] + "$").fillna(data["system"].str.rpartition("/")[2])
    temporal = ("$T_" + samplers[1] + "$").fillna(NO_SAMPLER)
    kinds = sorted(spatial.unique(), key=lambda kind: (not kind.startswith("$"), kind))
    hues = [NO_SAMPLER, *sorted(set(temporal) - {NO_SAMPLER})]
    panels = list(data.assign(**{SPATIAL: spatial, TEMPORAL: temporal}).groupby(["data", "split"], sort=False))
    with print_style() as colours:
        style = {
            "hue_order": hues,
            "palette": dict(zip(hues, [(0.3, 0.3, 0.3), *colours], strict=False)),
            "style_order": kinds,
            "markers": dict(zip(kinds, cycle(MARKERS), strict=False)),
        }
        figure = Figure(figsize=(1.4 * ONE_COLUMN, 2.8 * len(panels)))
        for axes, ((name, split), part) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            _draw(axes, part, style)
            title = WORKLOADS[name].title if name in WORKLOADS else name
            several = f", mean of {part['seeds'].max()} seeds" if part["seeds"].max() > 1 else ""
            axes.set_title(f"{title} ({split}{several})", fontsize=7)
        return save_figure(figure, data, "accuracy", out)


def _draw(axes: Axes, data: pd.DataFrame, style: dict[str, Any]) -> None:
    front = data[data["pareto"]].sort_values("gflops")
    line = axes.step(front["gflops"], front["top1"], where="post", zorder=1, label="Pareto front")[0]
    line.set(color="0.4", linestyle="--", linewidth=0.8)
    errors = [data["top1"] - data["top1_low"], data["top1_high"] - data["top1"]]
    axes.errorbar(
        data["gflops"], data["top1"], errors, fmt="none", ecolor="0.75", elinewidth=0.6, capsize=1.5, zorder=2
    )
    points = {"x": "gflops", "y": "top1", "hue": TEMPORAL, "style": SPATIAL, **style}
    sns.scatterplot(data, **points, s=18, linewidth=0.3, zorder=3, ax=axes)
    axes.set(xlabel="GFLOPs per frame (executed)", ylabel="Top-1 accuracy (%, measured)", xlim=(0, None))
    sns.move_legend(axes, "center left", bbox_to_anchor=(1.02, 0.5), frameon=False)


def decisions(out: Path, evaluations: Sequence[Evaluation]) -> list[Path]:
    """Write by how much learned decisions are more accurate than random and uniform ones at their cost.

    Raises:
        RunError: no system has been evaluated with both; or the folder cannot be written to.
    """
    data = learned_against_others(_meaningful(evaluations))
    data = data[data["rival"].isin(AT_COST_OF_LEARNED)]
    if data.empty:
        raise RunError("decisions: no system was evaluated with the policy learned and with random or uniform")
    systems = list(data["system"].unique())[::-1]
    rivals = list(data["rival"].unique())
    with print_style() as colours:
        figure = Figure(figsize=(ONE_COLUMN, 0.8 + 0.16 * len(systems)))
        axes = figure.subplots()
        axes.axvline(0, color="0.5", linewidth=0.8)
        for position, rival in enumerate(rivals):
            part = data[data["rival"] == rival]
            y = [systems.index(system) + 0.15 - 0.3 * position for system in part["system"]]
            errors = [part["gain"] - part["gain_low"], part["gain_high"] - part["gain"]]
            axes.errorbar(
                part["gain"], y, xerr=errors, fmt="o", color=colours[position], elinewidth=0.8, label=f"over {rival}"
            )
        axes.set_yticks(range(len(systems)), systems)
        axes.set(xlabel="Gain of learned decisions in top-1 (points)")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper right", ncols=len(rivals), frameon=False)
        return save_figure(figure, data, "decisions", out)


ACCURACY_FIGURES: dict[str, Callable[[Path, Sequence[Evaluation]], list[Path]]] = {
    "accuracy": accuracy,
    "decisions": decisions,
}
