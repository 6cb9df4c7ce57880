"""Figures of what was measured: pure functions of records and counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from adjustText import adjust_text
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bench.errors import RunError
from bench.measuring.metrics import DECISIONS, NAMES, samples_by_kind, stage_seconds
from bench.measuring.statistics import samples_needed
from bench.published.tables import published_row
from bench.records.counts import Count
from bench.records.measurement import Record
from bench.reporting.measured import operating_points, published_points, setup_of, workload_of
from bench.reporting.style import ONE_COLUMN, print_style, save_figure
from bench.systems.registry import spatial_sampler
from bench.systems.workloads import WORKLOADS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.text import Text

TWO_COLUMNS = 7.2
"""Width in inches of both columns of a two-column journal."""

MARKERS = "osD^vP"
"""Of S_0, S_1, ..., or of workloads."""

PLACE = ["setup", "machine", "workload"]
"""Columns of every figure's data."""

STAGES = ("scan", "decide", "hallucinate", "look", "classify", "call")
SOURCES = {
    "measured:rapl-package": "measured, processor packages",
    "measured:nvml": "measured, whole GPU",
    "estimated:tdp": "estimated from TDP",
}
"""Of energy, for an axis."""

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Of an element. Bytes are counted with float32; where weights alone are smaller, as by int8, they are not known."""


def speed_ups(records: Iterable[Record]) -> pd.DataFrame:
    """Of every (S_k, T_M) over its S_k in the same setup: by operations, counted, and by time, measured.

    Raises:
        RunError: no (S_k, T_M) was measured together with its S_k.
    """
    data = _points(records).dropna(subset="speed_up")
    if data.empty:
        raise RunError("speedup: no records of an (S_k, T_M) with times of its S_k beside its own, such as epic/s3-t4")
    values = ["flop_speed_up", "speed_up", "speed_up_low", "speed_up_high", "realised"]
    return data[[*PLACE, "system", "crops", "max_skip", *values]].astype({"max_skip": int, "crops": int})


def latencies(records: Iterable[Record]) -> pd.DataFrame:
    """Milliseconds of every frame by decision, of one S_k and its (S_k, T_M): that with most of them measured.

    Raises:
        RunError: no (S_k, T_M) was measured.
    """
    rows = []
    for setup, group in published_points(records).items():
        well = {record.case.system: record for record in group if record.status.state == "ok"}
        families = [family for family in map(spatial_sampler, well) if family]
        # One with most systems; of equal ones, of the first workload, and with most crops.
        order = [*WORKLOADS, *map(workload_of, families)]
        chosen = max(
            families, key=lambda each: (families.count(each), -order.index(workload_of(each)), each), default=""
        )
        for system in sorted(well):
            record = well[system]
            if chosen in (system, spatial_sampler(system)) and record.timing and record.counts:
                kinds = samples_by_kind(record)
                place = setup, setup_of(record).machine, workload_of(system), system
                for decision in DECISIONS:
                    rows += [(*place, decision, 1e3 * each / record.counts.frames) for each in kinds.get(decision, [])]
    if not rows:
        raise RunError("latency: no record of an (S_k, T_M), such as epic/s3-t4")
    return pd.DataFrame(rows, columns=[*PLACE, "system", "decision", "ms"])


def energies(records: Iterable[Record], counts: Iterable[Count]) -> pd.DataFrame:
    """Joules per frame, with how they were had, and the published top-1 accuracy.

    Raises:
        RunError: no record with energy of a system whose accuracy is published.
    """
    data = _points(records)
    titles = {count.system: f"{count.title} ({count.modalities})" for count in counts}
    data["title"] = [titles.get(system, system) for system in data["system"]]
    data["top1_published"] = [published_row(system).get("top1") for system in data["system"]]
    data = data.dropna(subset=["joules_per_frame", "top1_published"])
    if data.empty:
        raise RunError("energy: no record that has energy of a system whose accuracy is published")
    words = [*PLACE, "system", "title", "crops", "max_skip", "energy_label"]
    return data[[*words, "joules_per_frame", "top1_published"]]


def rooflines(records: Iterable[Record]) -> pd.DataFrame:
    """Operations per byte, counted, and operations per second, measured, of stages of full frames.

    The bytes are those that operators read and write one by one, as if nothing stayed in a cache, so that a stage may
    lie above the roof of the memory. `peak_flops_per_second` and `peak_bytes_per_second` are the setup's best.

    Raises:
        RunError: no record with times of stages and a peak.
    """
    rows = []
    for setup, group in published_points(records).items():
        for record in group:
            if record.status.state == "ok" and record.counts and record.peak and record.case.dtype in BYTES:
                times = stage_seconds(record)
                width = BYTES[record.case.dtype] / BYTES["float32"]
                for stage in record.counts.stages:
                    if stage.flops and stage.bytes and times.get(stage.name):
                        rate = stage.flops / times[stage.name]
                        place = setup, setup_of(record).machine, workload_of(record.case.system), record.case.system
                        peak = record.peak.flops_per_second, record.peak.bytes_per_second
                        rows.append((*place, stage.name, stage.flops / stage.bytes / width, rate, *peak))
    if not rows:
        raise RunError("roofline: no record with times of stages and the machine's peak")
    peaks = ["peak_flops_per_second", "peak_bytes_per_second"]
    values = ["flops_per_byte", "flops_per_second", *peaks]
    data = pd.DataFrame(rows, columns=[*PLACE, "system", "stage", *values])
    data[peaks] = data.groupby("setup")[peaks].transform("max")
    return data


def speedup(out: Path, records: Sequence[Record], counts: Sequence[Count]) -> list[Path]:
    """Write the speed-ups by operations against those by time, with the line of equal ones.

    Raises:
        RunError: as `speed_ups`, or the folder cannot be written to.
    """
    data = speed_ups(records)
    limits = 0.94 * min(1, data["speed_up_low"].min()), 1.06 * data[["flop_speed_up", "speed_up_high"]].max().max()
    with print_style() as colours:
        figure, panels = panels_by(data, ["workload"], height=2.9)
        for axes, part in panels:
            axes.plot(limits, limits, color="0.5", linestyle="--", linewidth=0.8)
            for _, row in part.iterrows():
                errors = [[row["speed_up"] - row["speed_up_low"]], [row["speed_up_high"] - row["speed_up"]]]
                style = {"fmt": MARKERS[row["crops"] % len(MARKERS)], "color": _colour(colours, row["max_skip"])}
                axes.errorbar(row["flop_speed_up"], row["speed_up"], errors, elinewidth=0.8, capsize=2, **style)
            axes.set(xlim=limits, ylim=limits, aspect="equal")
            axes.set(xlabel="Speed-up by operations (counted)", ylabel="Speed-up by time (measured)")
        equal = Line2D([], [], color="0.5", linestyle="--", linewidth=0.8, label="equal")
        handles = [equal, *_sampler_handles(data, colours)]
        figure.legend(handles=handles, loc="outside right center", frameon=False)
        return save_figure(figure, data, "speedup", out)


def latency(out: Path, records: Sequence[Record], counts: Sequence[Count]) -> list[Path]:
    """Write the time of every single frame of a few systems by decision, each with its median and, of
    enough samples to tell, its 90th percentile.

    Raises:
        RunError: as `latencies`, or the folder cannot be written to.
    """
    data = latencies(records)
    titles = {count.system: count.title for count in counts}
    generator = np.random.default_rng(0)
    with print_style() as colours:
        systems = sorted(data["system"].unique(), reverse=True)
        figure, panels = panels_by(data, ["decision"], height=0.75 + 0.24 * len(systems))
        for axes, part in panels:
            decision = part["decision"].iloc[0]
            for system, samples in part.groupby("system")["ms"]:
                y = systems.index(system)
                jitter = generator.uniform(-0.3, 0.3, len(samples))
                colour = colours[DECISIONS.index(decision)]
                axes.scatter(samples, y + jitter, 2, color=colour, alpha=0.5, linewidth=0, rasterized=True)
                for q, width in ((50, 1.6), (90, 0.7)):
                    if q > 50 and len(samples) < samples_needed(q):
                        continue
                    axes.vlines(samples.quantile(q / 100), y - 0.42, y + 0.42, color="black", linewidth=width)
            axes.set_yticks(range(len(systems)), [_math(titles.get(system, system)) for system in systems])
            axes.set(xlabel=f"ms per {NAMES[decision].removesuffix('s')} (measured)", ylim=(-0.6, len(systems) - 0.4))
            axes.tick_params(labelleft=decision == DECISIONS[0])
            _log_ticks(axes, part["ms"])
            axes.grid(visible=False, axis="y")
        handles = [Line2D([], [], color="black", linewidth=1.6, label="median")]
        handles.append(Line2D([], [], color="black", linewidth=0.7, label="90th percentile (of 64 samples or more)"))
        figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False)
        return save_figure(figure, data, "latency", out)


def energy(out: Path, records: Sequence[Record], counts: Sequence[Count]) -> list[Path]:
    """Write energy per frame against published top-1 accuracy; energies of different labels have different panels.

    Raises:
        RunError: as `energies`, or the folder cannot be written to.
    """
    data = energies(records, counts)
    with print_style() as colours:
        figure, panels = panels_by(data, ["energy_label", "workload"], height=2.6)
        names: dict[Axes, tuple[pd.DataFrame, list[Text]]] = {}
        for axes, part in panels:
            labels = []
            for _, row in part.iterrows():
                x, y = row["joules_per_frame"], row["top1_published"]
                if pd.isna(row["crops"]):
                    axes.plot(x, y, "*", color="0.4", markersize=5)
                    labels.append(axes.text(x, y, row["title"], fontsize=6))
                else:
                    colour = "0.3" if pd.isna(row["max_skip"]) else _colour(colours, row["max_skip"])
                    axes.plot(x, y, MARKERS[row["crops"] % len(MARKERS)], color=colour)
            source = SOURCES[part["energy_label"].iloc[0]]
            axes.set(xlabel=f"J per frame ({source})", ylabel="Top-1 accuracy (%, published)")
            axes.margins(0.15, 0.1)  # room for names
            _log_ticks(axes, part["joules_per_frame"])
            names[axes] = part, labels
        handles = [Patch(color="0.3", label="no $T$"), *_sampler_handles(data, colours)]
        figure.legend(handles=handles, loc="outside right center", frameon=False)
        for axes, (part, labels) in names.items():
            points = part["joules_per_frame"].to_numpy(), part["top1_published"].to_numpy()
            line = {"arrowstyle": "-", "color": "0.4", "linewidth": 0.5}
            adjust_text(labels, *points, ax=axes, expand=(1.2, 1.8), iter_lim=500, **line)
        return save_figure(figure, data, "energy", out)


def roofline(out: Path, records: Sequence[Record], counts: Sequence[Count]) -> list[Path]:
    """Write the achieved rates of stages under the roof of the machine's measured peak.

    Raises:
        RunError: as `rooflines`, or the folder cannot be written to.
    """
    data = rooflines(records)
    workloads = list(data["workload"].unique())
    with print_style() as colours:
        figure, panels = panels_by(data, [], height=2.6)
        for axes, part in panels:
            flops, memory = part[["peak_flops_per_second", "peak_bytes_per_second"]].iloc[0]
            ridge = flops / memory
            x = np.array([part["flops_per_byte"].min() / 2, ridge, 2 * max(part["flops_per_byte"].max(), ridge)])
            axes.loglog(x, np.minimum(flops, memory * x) / 1e9, color="black")
            for (workload, stage), points in part.groupby(["workload", "stage"]):
                (dots,) = axes.plot(points["flops_per_byte"], points["flops_per_second"] / 1e9, linestyle="")
                dots.set(marker=MARKERS[workloads.index(workload) % len(MARKERS)], alpha=0.6, markeredgewidth=0)
                dots.set_color(colours[STAGES.index(stage)])
            axes.set(
                xlabel="Operations per byte (counted, without caches)", ylabel="10⁹ operations per second (measured)"
            )
            axes.minorticks_off()
        roof = Line2D([], [], color="black", label="peak (measured)")
        stages = [stage for stage in STAGES if stage in set(data["stage"])]
        handles = [roof, *(Patch(color=colours[STAGES.index(stage)], label=stage) for stage in stages)]
        handles += [_dot(workload, MARKERS[i % len(MARKERS)], "0.3") for i, workload in enumerate(workloads)]
        figure.legend(handles=handles, loc="outside right center", frameon=False)
        return save_figure(figure, data, "roofline", out)


MEASURED_FIGURES: dict[str, Callable[[Path, Sequence[Record], Sequence[Count]], list[Path]]] = {
    "speedup": speedup,
    "latency": latency,
    "energy": energy,
    "roofline": roofline,
}


def _points(records: Iterable[Record]) -> pd.DataFrame:
    """Of the records that ended well, by setup."""
    parts = [operating_points(group).assign(setup=name) for name, group in published_points(records).items()]
    data = pd.concat(parts) if parts else operating_points([]).assign(setup="")
    data = data[data["state"] == "ok"].sort_values(["setup", "system"], ignore_index=True)
    samplers = data["system"].str.extract(r"/s(?P<crops>\d+)(?:-t(?P<max_skip>\d+))?$").astype("Int64")
    return data.assign(workload=data["system"].map(workload_of)).join(samplers)


def panels_by(data: pd.DataFrame, by: list[str], height: float) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A figure with a row for each setup and a panel for each value of other columns; without these, with one row.

    The title of a panel has the data set, where it is of one, and the setup.
    """
    setups = [part for _, part in data.groupby("setup", sort=False)]
    grid = [[part for _, part in setup.groupby(by, sort=False)] for setup in setups] if by else [setups]
    columns = max(map(len, grid))
    figure = Figure(figsize=(TWO_COLUMNS if columns > 1 else ONE_COLUMN, len(grid) * height))
    places = figure.add_gridspec(len(grid), columns)
    panels = []
    for row, parts in enumerate(grid):
        for column, part in enumerate(parts):
            setup, machine, workload = part[PLACE].iloc[0]
            words = [WORKLOADS[workload].title] if "workload" in by and workload in WORKLOADS else []
            axes = figure.add_subplot(places[row, column])
            axes.set_title(", ".join([*words, machine, setup.replace("_", " ")]), fontsize=7)
            panels.append((axes, part))
    return figure, panels


def _log_ticks(axes: Axes, values: pd.Series) -> None:
    """A logarithmic axis whose ticks are round numbers, even within less than a decade."""
    axes.set_xscale("log")
    spread = values.max() / values.min()
    steps = MaxNLocator(4) if spread < 4 else LogLocator(subs=(1, 2, 5) if spread < 100 else (1,))
    axes.xaxis.set_major_locator(steps)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _colour(colours: Sequence[Any], max_skip: int) -> Any:
    return colours[(max_skip - 1) % len(colours)]


def _sampler_handles(data: pd.DataFrame, colours: Sequence[Any]) -> list[Artist]:
    """For a legend: colours of T_M, markers of S_k."""
    temporal, spatial = (sorted(data[name].dropna().unique()) for name in ("max_skip", "crops"))
    return [
        *(Patch(color=_colour(colours, m), label=f"$T_{m}$") for m in temporal),
        *(_dot(f"$S_{k}$", MARKERS[k % len(MARKERS)], "0.3") for k in spatial),
    ]


def _dot(label: str, marker: str, colour: Any) -> Line2D:
    return Line2D([], [], linestyle="", marker=marker, color=colour, label=label)


def _math(title: str) -> str:
    """S_3,T_4 as mathematics."""
    return f"${title}$" if title.startswith("S_") else title
