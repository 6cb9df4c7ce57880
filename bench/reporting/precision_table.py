"""The table of a data set on what smaller numbers than float32 do to accuracy and decisions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.evaluating.precision import against_float32
from bench.records.evaluation import Evaluation
from bench.records.files import write_forms
from bench.reporting.layout import bullets, latex_float, markdown_table

HEADINGS = [
    ("", "System"),
    ("", "Type"),
    ("Top-1 (%), measured", "float32"),
    ("Top-1 (%), measured", "in this type"),
    ("Top-1 (%), measured", "gain [95 % interval]"),
    ("Other than in float32 (%), measured", "predictions"),
    ("Other than in float32 (%), measured", "decisions"),
    ("GFLOPs per frame, counted", "float32"),
    ("GFLOPs per frame, counted", "in this type"),
]
_NOTE = (
    "{clips} held-out clips, {seeds}, each system under its own decisions, with the same weights in both types; the"
    " interval is that of a paired bootstrap over clips. int8 is of the weights of GRUs alone, 32 of which share"
    " a scale; all else is float32. GFLOPs are those of the decisions that were made."
)


def write_precision_table(data: str, evaluations: Sequence[Evaluation], out: Path) -> list[Path]:
    """Write precision.csv, .md and .tex for a data set; nothing if all was evaluated in float32.

    Raises:
        RunError: the folder cannot be written to.
    """
    frame = against_float32([each for each in evaluations if each.data == data])
    if frame.empty:
        return []
    title, rows, note = precision_shown(data, frame)
    shown = pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(HEADINGS))
    texts = {
        "csv": frame.round(9).to_csv(index=False, lineterminator="\n"),
        "md": f"# {title}\n\n{markdown_table(shown)}\n\n{bullets([note])}\n",
        "tex": latex_float(title, f"{data}-precision", shown, [note]),
    }
    return write_forms(out, "precision", texts)


def precision_shown(data: str, frame: pd.DataFrame) -> tuple[str, list[list[str]], str]:
    """The table as it is read: its title, rows of `HEADINGS`, and a note.

    Args:
        data: the data set.
        frame: of `against_float32`, not empty.
    """
    rows = [
        [
            *(row["system"], row["dtype"], f"{row['top1_float32']:.1f}", f"{row['top1']:.1f}"),
            f"{row['gain']:+.1f} [{row['gain_low']:+.1f}, {row['gain_high']:+.1f}]: {row['verdict']}",
            *(f"{row[f'{name}_changed_pct']:.1f}" for name in ("predictions", "decisions")),
            *(f"{row[name]:.4f}" for name in ("gflops_float32", "gflops")),
        ]
        for _, row in frame.iterrows()
    ]
    seeds = f"{frame['seeds'].max()} seed{'' if frame['seeds'].max() == 1 else 's'}"
    return f"Systems on {data} in smaller numbers", rows, _NOTE.format(clips=frame["clips"].max(), seeds=seeds)
