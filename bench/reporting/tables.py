"""The paper's tables: what is published, what we count, and the difference, from counts alone.

The last word of a column's name is the kind of value: *published* columns hold the printed digits as text, *counted*
ones our own counts; *recomputed* ones divide a count by what is published or by another count; *assumed* shares of
frames are not published; a *difference* is ours less the published. What is not printed or not counted stays empty.

With records there are columns by setup, whose name is the first word: *measured* ones, among them the bounds of 95 %
intervals; *estimated* ones, never in one column with measured ones; *counted* speed-ups, by the operations that were
executed, and *realised* ones, the measured over the counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bench.evaluating.summary import evaluated, over_seeds, own_evaluations
from bench.published.audit import audit
from bench.published.tables import FRAMES, NUMERALS, QUOTED, VALIDATION_CLIPS, exactly, load_table, read_table
from bench.records.counts import Count
from bench.records.evaluation import Evaluation
from bench.records.files import write_forms
from bench.records.measurement import Record
from bench.reporting.explanations import QUOTED_FIGURES, TITLES, explain_accuracy, explain_measured
from bench.reporting.layout import measured_to_latex, measured_to_markdown, to_latex, to_markdown
from bench.reporting.measured import published_points
from bench.reporting.measured_columns import joined, measured_columns, was_measured

AVERAGE_TOLERANCE, TOTAL_TOLERANCE = 0.01, 0.02
"""GFLOPs per frame and TFLOPs that the rounding of the printed shares explains."""

_WORKLOADS = {1: "epic", 2: "epic", 4: "ucf101", 5: "ucf101"}
_TEMPORAL = (2, 5)
"""Tables of systems with a temporal sampler."""
_ACCURACIES = ("top1", "top5", "verb_top1", "verb_top5", "noun_top1", "noun_top5")


def table(
    number: int, counts: Iterable[Count], records: Iterable[Record] = (), evaluations: Iterable[Evaluation] = ()
) -> pd.DataFrame:
    """One of the paper's tables, with our counts and measurements beside the published values.

    Args:
        number: 1 to 5; Table III is derived from Table II, and has nothing measured.
        counts: of any systems. Those that belong here but are not printed in the paper come after the printed rows.
        records: of any systems; single-stream ones at the published operating points are taken.
        evaluations: of any systems; those of whole validation splits with trained weights are taken.

    Returns:
        A row per system, or per cell of Table III. GFLOPs are per frame, MACs in 1e9, parameters in 1e6, numbers to 9
        decimals. `reproduces` is "yes" where a count rounds to the published digits, or in Tables II and V is within
        the tolerances; "circular" where the shares of frames come from the very total; "average" where the published
        total contradicts the published average, and only the latter is reproduced; else "no"; and empty where there is
        nothing of the paper's to compare. Columns of measurements begin with the device, as in
        `cpu_ms_per_frame_measured`; `top1_measured` is the mean over seeds. What others publish of their own systems
        stands in the published columns, and where in the note.

    Raises:
        ValueError: another number.
    """
    frame, columns, _ = parts(number, counts, records, evaluations)
    return joined(frame, columns)


class Parts(NamedTuple):
    """A table without what was measured; what was, as `measured_columns` returns it, with its explanations."""

    frame: pd.DataFrame
    measured: pd.DataFrame
    notes: list[str]


def parts(
    number: int, counts: Iterable[Count], records: Iterable[Record] = (), evaluations: Iterable[Evaluation] = ()
) -> Parts:
    """The parts of what `table` returns."""
    frame = _counted_table(number, counts)
    points = _points(number, frame, records)
    own = _own(number, frame, evaluations)
    columns = measured_columns(frame, points, over_seeds(evaluated(own)).set_index("system"))
    return Parts(frame, columns, [*explain_accuracy(own), *(explain_measured(points) if points else [])])


def write_table(
    number: int,
    counts: Sequence[Count],
    out: Path,
    records: Sequence[Record] = (),
    evaluations: Sequence[Evaluation] = (),
) -> list[Path]:
    """Write a table as tableN.csv, with all digits, and as tableN.md and tableN.tex, with explanations.

    Measured columns are a second table in the latter two.

    Raises:
        RunError: the folder cannot be written to.
        ValueError: no number from 1 to 5.
    """
    frame, columns, notes = parts(number, counts, records, evaluations)
    texts = {
        "csv": joined(frame, columns).to_csv(index=False, lineterminator="\n"),
        "md": to_markdown(frame, number),
        "tex": to_latex(frame, number),
    }
    if not columns.empty:
        columns = columns[was_measured(columns)]
        texts["md"] += measured_to_markdown(columns, notes)
        title = f"Table {NUMERALS[number]} of the paper: {TITLES[number]}"
        texts["tex"] += measured_to_latex(columns, title, f"measured-{number}", notes)
    return write_forms(out, f"table{number}", texts)


def _counted_table(number: int, counts: Iterable[Count]) -> pd.DataFrame:
    counts = list(counts)
    if number == 3:
        return _accuracy_and_speed_up(_counted_table(2, counts))
    printed, counted = _aligned(number, counts)
    frame = _temporal(number, printed, counted) if number in _TEMPORAL else _spatial(printed, counted)
    frame["reproduces"] = list(_reproduces(number, frame))
    sources = {count.system: str(count.published.get("source", "")) for count in counts}
    frame["note"] = [
        _note(number, str(system), gflops, sources.get(str(system), ""))
        for system, gflops in frame["gflops_counted"].items()
    ]
    return frame.round(9).reset_index(names="system")


def _points(number: int, frame: pd.DataFrame, records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records of a table's systems, by setup."""
    systems = set() if number == 3 else set(frame["system"])
    return published_points(record for record in records if record.case.system in systems)


def _own(number: int, frame: pd.DataFrame, evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Evaluations of a table's systems; Table III has none of its own."""
    systems = set() if number == 3 else set(frame["system"])
    return [each for each in own_evaluations(_WORKLOADS.get(number, ""), evaluations) if each.system in systems]


def _aligned(number: int, counts: list[Count]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is printed and what is counted, by system, with the same rows."""
    printed = load_table(number).set_index("system")
    elsewhere = {system for other in _WORKLOADS if other != number for system in read_table(other)}
    belonging = [
        count.system
        for count in counts
        if count.system.startswith(f"{_WORKLOADS[number]}/")
        and _samples_time(count) == (number in _TEMPORAL)
        and count.system not in elsewhere
    ]
    rows = list(dict.fromkeys([*printed.index, *belonging]))
    counted = _counted(counts)
    reference = counted["gflops"].reindex([system.partition("-t")[0] for system in rows])
    printed = printed.where(printed != "").reindex(rows)
    for count in counts:
        for name in ("top1", "avg_gflops") if count.system in belonging else ():
            if name in count.published:
                printed.loc[count.system, name] = f"{count.published[name]:g}"
    return printed, counted.reindex(rows).assign(reference_gflops=reference.array)


def _samples_time(count: Count) -> bool:
    """Whether some frames are not processed fully."""
    return count.shares is not None and count.shares["full"] < 100


def _counted(counts: list[Count]) -> pd.DataFrame:
    stages = [(count.published_stages or count.paper_stages) if _samples_time(count) else None for count in counts]
    words = {
        "title": [count.title for count in counts],
        "backbone": [count.backbone for count in counts],
        "modalities": [count.modalities for count in counts],
        "shares_source": [count.shares_source for count in counts],
    }
    numbers = {
        "gflops": [count.published_per_frame / 1e9 for count in counts],
        "gflops_described": [count.paper_per_frame / 1e9 for count in counts],
        "gflops_exact": [count.exact_per_frame / 1e9 for count in counts],
        "gmacs": [count.macs_per_frame / 1e9 for count in counts],
        "mparams": [count.params / 1e6 for count in counts],
        "prescan_gflops": [
            each.prescan / count.frames / 1e9 if each else None for count, each in zip(counts, stages, strict=True)
        ],
        "full_gflops": [
            each.full / count.frames / 1e9 if each else None for count, each in zip(counts, stages, strict=True)
        ],
        **{f"{name}_pct": [(count.shares or {}).get(name) for count in counts] for name in ("skip", "prescan", "full")},
    }
    systems = [count.system for count in counts]
    return pd.DataFrame(words, systems, dtype=object).join(pd.DataFrame(numbers, systems, dtype=float))


def _spatial(printed: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    """Tables I and IV: what a frame costs that is processed fully."""
    return pd.DataFrame(
        {
            "model": printed["model"].fillna(counted["title"]),
            "backbone": printed["backbone"].fillna(counted["backbone"]),
            "modalities": counted["modalities"].fillna(printed.get("modalities", "R")),  # Table IV is for RGB
            "size_published": printed["rgb_size"],
            **_beside("gflops", printed["avg_gflops"], counted["gflops"]),
            "gflops_described_counted": counted["gflops_described"],
            "gflops_exact_counted": counted["gflops_exact"],
            "gmacs_counted": counted["gmacs"],
            "mparams_counted": counted["mparams"],
            **_accuracy(printed),
            **_trade_off(printed, counted),
        }
    )


def _temporal(number: int, printed: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    """Tables II and V: what a frame costs on average, where frames are skipped and pre-scanned."""
    kind, shares = ("published", printed) if number == 2 else ("assumed", counted)
    teraflops = VALIDATION_CLIPS[_WORKLOADS[number]] * FRAMES[_WORKLOADS[number]] / 1e3
    speed_up = (counted["reference_gflops"] / counted["gflops"]).where(counted["full_gflops"].notna())
    return pd.DataFrame(
        {
            "model": printed["model"].fillna(counted["title"]),
            **{f"{name}_pct_{kind}": shares[f"{name}_pct"] for name in ("skip", "prescan", "full")},
            "shares_source": counted["shares_source"],
            "prescan_gflops_counted": counted["prescan_gflops"],
            "full_gflops_counted": counted["full_gflops"],
            **_beside("total_tflops", printed["total_tflops"], counted["gflops"] * teraflops),
            **_beside("gflops", printed["avg_gflops"], counted["gflops"]),
            "gflops_described_counted": counted["gflops_described"],
            "gflops_exact_counted": counted["gflops_exact"],
            **_accuracy(printed),
            **_trade_off(printed, counted),
            **_beside("speed_up", printed["speed_up"], speed_up, "recomputed"),
        }
    )


def _accuracy_and_speed_up(second: pd.DataFrame) -> pd.DataFrame:
    """Table III: one cell per S_k and T_M of Table II."""
    cells = second[second["speed_up_published"].notna()].reset_index(drop=True)
    samplers = cells["model"].str.split(",", expand=True).set_axis(["spatial", "temporal"], axis="columns")
    columns = ["system", "top1_published", "speed_up_published", "speed_up_recomputed", "speed_up_difference"]
    return samplers[["temporal", "spatial"]].join(cells[columns])


def _beside(name: str, published: pd.Series, ours: pd.Series, kind: str = "counted") -> dict[str, pd.Series]:
    difference = (ours - pd.to_numeric(published)).round(9) + 0.0  # no negative zero
    return {f"{name}_published": published, f"{name}_{kind}": ours, f"{name}_difference": difference}


def _accuracy(printed: pd.DataFrame) -> dict[str, pd.Series]:
    return {f"{name}_published": printed[name] for name in _ACCURACIES if name in printed}


def _trade_off(printed: pd.DataFrame, counted: pd.DataFrame) -> dict[str, pd.Series]:
    """GFLOPs per per cent of top-1 accuracy."""
    return _beside("trade_off", printed["trade_off"], counted["gflops"] / pd.to_numeric(printed["top1"]), "recomputed")


def _reproduces(number: int, frame: pd.DataFrame) -> Iterator[str]:
    printed, contradicted = read_table(number), _contradicted_totals()
    for system, row in frame.iterrows():
        if system not in printed or pd.isna(row["gflops_difference"]):
            yield ""
        elif number not in _TEMPORAL:
            interval = printed[str(system)]["avg_gflops"].interval
            yield "yes" if interval.meets(exactly(row["gflops_counted"])) else "no"
        elif abs(row["gflops_difference"]) > AVERAGE_TOLERANCE:
            yield "no"
        elif system in contradicted:
            yield "average"
        elif abs(row["total_tflops_difference"]) > TOTAL_TOLERANCE:
            yield "no"
        else:
            yield "circular" if number == 5 else "yes"


def _note(number: int, system: str, gflops: float, source: str) -> str:
    notes = {
        "not in the paper": system not in read_table(number),
        f"published: {source}": bool(source),
        "quoted in the paper from another publication": system in QUOTED,
        "not counted yet": pd.isna(gflops),
        QUOTED_FIGURES.get(system, ""): system in QUOTED_FIGURES and not pd.isna(gflops),
        "the published total contradicts the published average (audit)": system in _contradicted_totals(),
    }
    return "; ".join(note for note, applies in notes.items() if applies)


@cache
def _contradicted_totals() -> set[str]:
    return {finding.system for finding in audit() if finding.check == "total_vs_average"}
