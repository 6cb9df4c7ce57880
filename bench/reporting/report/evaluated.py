"""What was evaluated on a data set, as the report shows it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bench.evaluating.summary import learned_against_others, own_evaluations
from bench.reporting.evaluated_tables import evaluated_table
from bench.reporting.explanations import explain_accuracy
from bench.reporting.foresight_table import HEADINGS as FORESIGHT
from bench.reporting.foresight_table import foresight_shown
from bench.reporting.layout import in_digits, with_spread
from bench.reporting.precision_table import HEADINGS as PRECISION
from bench.reporting.precision_table import precision_shown
from bench.reporting.report.cells import Column, Table, kind_of
from bench.reporting.report.results import Results

TITLES = {1: "baselines and spatial samplers", 2: "spatial and temporal samplers"}
_ACCURACY = "Accuracy (%)"
HEADINGS = {
    "model": ("", "Model", ""),
    "system": ("", "System", ""),
    "backbone": ("", "Backbone", ""),
    "modalities": ("", "Inputs", ""),
    "skip_pct_executed": ("Frames (%)", "skipped", ".1f"),
    "prescan_pct_executed": ("Frames (%)", "pre-scanned", ".1f"),
    "full_pct_executed": ("Frames (%)", "full", ".1f"),
    "gflops_executed": ("GFLOPs per frame", "executed", ".4f"),
    "gflops_exact_executed": ("GFLOPs per frame", "exact", ".4f"),
    "total_tflops_executed": ("TFLOPs", "in total", ".4f"),
    "mparams_counted": ("Counted", "M params", ".3f"),
    "top1_measured": (_ACCURACY, "top-1", ""),
    "top5_measured": (_ACCURACY, "top-5", ""),
    "product_top5_measured": (_ACCURACY, "top-5 by product", ""),
    "verb_top1_measured": (_ACCURACY, "verb-1", ""),
    "verb_top5_measured": (_ACCURACY, "verb-5", ""),
    "noun_top1_measured": (_ACCURACY, "noun-1", ""),
    "noun_top5_measured": (_ACCURACY, "noun-5", ""),
    "trade_off_recomputed": ("GFLOPs per %", "of top-1", ".5f"),
    "speed_up_executed": ("Speed-up", "by operations", ".2f"),
}


def evaluated_tables(results: Results) -> Iterator[Table]:
    """Of every data set: accuracy beside operations, learned decisions against those that do not look, how well
    attention is foreseen, and what smaller numbers do.
    """
    evaluations = results.evaluations
    for data in sorted({each.data for each in evaluations}):
        own = own_evaluations(data, evaluations)
        for number, title in TITLES.items():
            frame = evaluated_table(number, data, results.counts, evaluations)
            if not frame.empty:
                columns, rows = _shown(frame)
                yield Table(
                    f"evaluated-{data}-{number}", f"{data}: {title}", columns, rows, notes=explain_accuracy(own)
                )
        whole = [each for each in evaluations if each.data == data and each.trained and each.limit is None]
        rivals = learned_against_others(whole)
        if len(rivals):
            yield _against_rivals(data, rivals)
        if data in results.foresight:
            title, rows, note = foresight_shown(data, results.foresight[data])
            columns = [Column("", FORESIGHT[0]), Column("", "SSIM", "measured")]
            yield Table(f"foresight-{data}", title, columns, rows, notes=[note])
        precision = results.precision[results.precision["data"] == data]
        if len(precision):
            title, rows, note = precision_shown(data, precision)
            labels = [group.partition(", ") for group, _ in PRECISION]
            columns = [
                Column(group, words, kind) for (group, _, kind), (_, words) in zip(labels, PRECISION, strict=True)
            ]
            yield Table(f"precision-{data}", title, columns, rows, notes=[note])


def _shown(frame: pd.DataFrame) -> tuple[list[Column], list[list[str]]]:
    columns, texts = [], []
    for name, (group, words, form) in HEADINGS.items():
        if name not in frame or frame[name].isna().all():
            continue
        columns.append(Column(group, words, kind_of(name)))
        if kind_of(name) == "measured":
            spread = frame[f"{name.removesuffix('_measured')}_spread_measured"]
            texts.append(list(map(with_spread, frame[name], spread)))
        else:
            texts.append([in_digits(value, form) for value in frame[name]])
    return columns, [list(row) for row in zip(*texts, strict=True)]


def _against_rivals(data: str, rivals: pd.DataFrame) -> Table:
    columns = [
        Column("", "System"),
        Column("", "Rival"),
        Column("GFLOPs per frame", "learned", "counted"),
        Column("GFLOPs per frame", "rival", "counted"),
        Column("Top-1 (%)", "learned", "measured"),
        Column("Top-1 (%)", "rival", "measured"),
        Column("Top-1 (%)", "gain [95 % interval]", "measured"),
        Column("", "Verdict"),
    ]
    rows = []
    for _, row in rivals.iterrows():
        costs = [f"{row[name]:.4f}" for name in ("gflops", "rival_gflops")]
        accuracies = [f"{row[name]:.1f}" for name in ("accuracy", "rival_accuracy")]
        gain = f"{row['gain']:+.1f} [{row['gain_low']:+.1f}, {row['gain_high']:+.1f}]"
        rows.append([row["system"], row["rival"], *costs, *accuracies, gain, row["verdict"]])
    title = f"{data}: learned decisions against others"
    note = (
        "Random and uniform decisions spend what the learned ones do on the same clips; the S_k of a system processes"
        " every frame fully. Means over seeds; intervals by a paired bootstrap over clips."
    )
    return Table(f"rivals-{data}", title, columns, rows, notes=[note])
