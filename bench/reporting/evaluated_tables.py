"""The paper's tables for a data set on which systems were evaluated: accuracy measured beside operations executed.

Tables I and IV have baselines and spatial samplers, II and V temporal samplers, III both as a grid. I to III have the
accuracies of verbs, nouns and actions, as those of EPIC-KITCHENS; IV and V those of actions alone, as of one group of
classes. Every system runs under its own decisions; figures are means over seeds, with the spread between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from bench.evaluating.summary import evaluated, over_seeds, own_evaluations
from bench.published.tables import NUMERALS
from bench.records.counts import Count
from bench.records.evaluation import Evaluation
from bench.records.files import write_forms
from bench.records.measurement import Record
from bench.reporting.explanations import explain_accuracy, explain_measured
from bench.reporting.layout import (
    bullets,
    latex_float,
    markdown_table,
    measured_to_latex,
    measured_to_markdown,
    with_spread,
)
from bench.reporting.measured import single_stream_points
from bench.reporting.measured_columns import joined, measured_columns
from bench.systems.registry import spatial_sampler

NUMBERS = (1, 2, 3, 4, 5)
_TITLES = {
    1: "Baselines and spatial samplers",
    2: "Spatial and temporal samplers",
    3: "Accuracy and speed-up of spatial and temporal samplers",
    4: "Baselines and spatial samplers, actions",
    5: "Spatial and temporal samplers, actions",
}
_TEMPORAL = (2, 3, 5)
_ACTIONS = {"top1": "top-1", "top5": "top-5"}
_ALL = {
    **_ACTIONS,
    "product_top5": "top-5 by product",
    "verb_top1": "verb-1",
    "verb_top5": "verb-5",
    "noun_top1": "noun-1",
    "noun_top5": "noun-5",
}
_NOTES = (
    "Actions: top-k if the verb is among the best k verbs and the noun among the best k nouns; by product: if the pair"
    " is among the best k pairs by the product of probabilities.",
    "GFLOPs: executed, by the decisions on these clips; the trade-off has those of the paper convention, speed-ups over"
    " the same S_k have those of the exact one.",
)


def evaluated_table(number: int, data: str, counts: Iterable[Count], evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """One of the paper's tables for a data set, from evaluations of whole validation splits with trained weights.

    Args:
        number: 1 to 5.
        data: name of the data set.
        counts: of systems, for their names; those without evaluations are left out.
        evaluations: of any systems.

    Returns:
        A row per system: `system`, `model`, `backbone`, `modalities`, `seeds`, `clips`; `mparams_counted`; shares of
        frames, GFLOPs per frame in both conventions and in total TFLOPs, `_executed`; accuracies `_measured`, each with
        its `_spread`; `trade_off_recomputed`; and `speed_up_executed` over the same S_k, by operations. Table III has
        the rows of Table II.

    Raises:
        ValueError: no number from 1 to 5.
    """
    if number not in NUMBERS:
        raise ValueError(f"table {number}: the paper's are 1 to 5")
    meant = own_evaluations(data, evaluations)
    figures = over_seeds(evaluated(meant)).set_index("system")
    clips = {each.system: (len(each.clips), each.frames) for each in meant}
    rows = [_row(count, figures.loc[count.system], *clips[count.system]) for count in counts if count.system in clips]
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    reference = frame.set_index("system")["gflops_exact_executed"].reindex(frame["system"].map(spatial_sampler))
    frame["speed_up_executed"] = reference.to_numpy() / frame["gflops_exact_executed"]
    temporal = frame["speed_up_executed"].notna()
    keep = temporal | frame["system"].isin(frame["system"].map(spatial_sampler)) if number in _TEMPORAL else ~temporal
    return frame[keep].reset_index(drop=True)


def _row(count: Count, figures: pd.Series, clips: int, frames: int) -> dict[str, object]:
    accuracies = {f"{name}{kind}_measured": figures[f"{name}{kind}"] for name in _ALL for kind in ("", "_spread")}
    return {
        "system": count.system,
        "model": count.title,
        "backbone": count.backbone,
        "modalities": count.modalities,
        "seeds": figures["seeds"],
        "clips": clips,
        "mparams_counted": count.params / 1e6,
        **{f"{name}_pct_executed": figures[f"{name}_pct"] for name in ("skip", "prescan", "full")},
        "gflops_executed": figures["gflops_paper"],
        "gflops_exact_executed": figures["gflops"],
        "total_tflops_executed": figures["gflops_paper"] * clips * frames / 1e3,
        **accuracies,
        "trade_off_recomputed": figures["gflops_paper"] / figures["top1"] if figures["top1"] else None,
    }


def write_evaluated_tables(
    data: str, counts: Sequence[Count], evaluations: Sequence[Evaluation], out: Path, records: Sequence[Record] = ()
) -> list[Path]:
    """Write a data set's tables as tableN.csv, with all digits, tableN.md and tableN.tex; none without evaluations.

    Columns of times, memory and energy come from records of the same systems under their own decisions, if there are
    any. They are a second table in the latter two.

    Raises:
        RunError: the folder cannot be written to.
    """
    files = []
    for number in NUMBERS:
        frame = evaluated_table(number, data, counts, evaluations)
        if frame.empty:
            continue
        title = f"Table {NUMERALS[number]} for {data}: {_TITLES[number]}"
        own = [each for each in own_evaluations(data, evaluations) if each.system in set(frame["system"])]
        notes = [*explain_accuracy(own), *_NOTES]
        shown = _grid(frame) if number == 3 else _shown(frame, number)
        points = _points(frame, records) if number != 3 else {}
        columns = measured_columns(frame, points)
        texts = {
            "csv": joined(frame.round(9), columns).to_csv(index=False, lineterminator="\n"),
            "md": f"# {title}\n\n{markdown_table(shown)}\n\n{bullets(notes)}\n",
            "tex": latex_float(title, f"{data}-{number}", shown, notes),
        }
        if points:
            texts["md"] += measured_to_markdown(columns, explain_measured(points))
            texts["tex"] += measured_to_latex(columns, title, f"{data}-measured-{number}", explain_measured(points))
        files += write_forms(out, f"table{number}", texts)
    return files


def _points(frame: pd.DataFrame, records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records of a table's systems under their own decisions, by setup."""
    systems = set(frame["system"])
    return single_stream_points((each for each in records if each.case.system in systems), ("learned",))


def _shown(frame: pd.DataFrame, number: int) -> pd.DataFrame:
    """Everything as text, under a group and words of its own."""
    accuracies = _ACTIONS if number > 3 else _ALL
    texts = {("", "Model"): list(frame["model"])}
    if number in _TEMPORAL:
        for name, words in (("skip", "skipped"), ("prescan", "pre-scanned"), ("full", "full")):
            texts["Frames (%), executed", words] = [f"{value:.1f}" for value in frame[f"{name}_pct_executed"]]
        texts["TFLOPs in total", "executed"] = [f"{value:.4f}" for value in frame["total_tflops_executed"]]
    else:
        texts["", "Backbone"] = list(frame["backbone"])
        texts["", "Inputs"] = list(frame["modalities"])
        texts["Counted", "M params"] = [f"{value:.3f}" for value in frame["mparams_counted"]]
    texts["GFLOPs per frame", "executed"] = [f"{value:.4f}" for value in frame["gflops_executed"]]
    texts["GFLOPs per frame", "exact"] = [f"{value:.4f}" for value in frame["gflops_exact_executed"]]
    for name, words in accuracies.items():
        if frame[f"{name}_measured"].notna().any():
            texts["Accuracy (%), measured", words] = _accuracies(frame, name)
    texts["GFLOPs per % of top-1", "recomputed"] = [
        "" if pd.isna(value) else f"{value:.5f}" for value in frame["trade_off_recomputed"]
    ]
    if number in _TEMPORAL:
        texts["Speed-up", "executed"] = [_speed_up(value) for value in frame["speed_up_executed"]]
    return pd.DataFrame(texts)


def _accuracies(frame: pd.DataFrame, name: str) -> list[str]:
    return list(map(with_spread, frame[f"{name}_measured"], frame[f"{name}_spread_measured"]))


def _speed_up(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f}"


def _grid(frame: pd.DataFrame) -> pd.DataFrame:
    """Table III: a row per T_M and a group per S_k."""
    cells = frame[frame["speed_up_executed"].notna()].copy()
    cells[["spatial", "temporal"]] = cells["model"].str.split(",", expand=True)
    texts: dict[tuple[str, str], list[str]] = {("", "Sampler"): list(cells["temporal"].unique())}
    for spatial, group in cells.groupby("spatial"):
        texts[str(spatial), "top-1, measured"] = _accuracies(group, "top1")
        texts[str(spatial), "speed-up, executed"] = [_speed_up(value) for value in group["speed_up_executed"]]
    return pd.DataFrame(texts)
