"""Tables as people read them: Markdown and LaTeX, with explanations of their columns."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd

from bench.published.tables import NUMERALS
from bench.reporting.explanations import NOTES, TITLES


class Heading(NamedTuple):
    """Of a column: its group, its own words, and the format of numbers that are not published digits."""

    group: str
    words: str
    format: str = ""


_GFLOPS, _TOTAL, _STAGES = "GFLOPs per frame", "TFLOPs in total", "Counted GFLOPs"
_ACCURACY, _TRADE_OFF, _SPEED_UP = "Accuracy (%), published", "GFLOPs per % of top-1", "Speed-up"
HEADINGS = {
    "system": Heading("", "System"),
    "model": Heading("", "Model"),
    "backbone": Heading("", "Backbone"),
    "modalities": Heading("", "Inputs"),
    "size_published": Heading("", "Size"),
    "skip_pct_published": Heading("Frames (%), published", "skipped"),
    "prescan_pct_published": Heading("Frames (%), published", "pre-scanned"),
    "full_pct_published": Heading("Frames (%), published", "full"),
    "skip_pct_assumed": Heading("Frames (%), assumed", "skipped", ".2f"),
    "prescan_pct_assumed": Heading("Frames (%), assumed", "pre-scanned", ".2f"),
    "full_pct_assumed": Heading("Frames (%), assumed", "full", ".2f"),
    "prescan_gflops_counted": Heading(_STAGES, "pre-scan", ".4f"),
    "full_gflops_counted": Heading(_STAGES, "full", ".4f"),
    "total_tflops_published": Heading(_TOTAL, "published"),
    "total_tflops_counted": Heading(_TOTAL, "counted", ".3f"),
    "total_tflops_difference": Heading(_TOTAL, "difference", "+.3f"),
    "gflops_published": Heading(_GFLOPS, "published"),
    "gflops_counted": Heading(_GFLOPS, "counted", ".3f"),
    "gflops_difference": Heading(_GFLOPS, "difference", "+.3f"),
    "gflops_described_counted": Heading(_GFLOPS, "as described", ".3f"),
    "gflops_exact_counted": Heading(_GFLOPS, "exact", ".3f"),
    "gmacs_counted": Heading("Counted", "GMACs", ".3f"),
    "mparams_counted": Heading("Counted", "M params", ".2f"),
    "top1_published": Heading(_ACCURACY, "top-1"),
    "top5_published": Heading(_ACCURACY, "top-5"),
    "verb_top1_published": Heading(_ACCURACY, "verb-1"),
    "verb_top5_published": Heading(_ACCURACY, "verb-5"),
    "noun_top1_published": Heading(_ACCURACY, "noun-1"),
    "noun_top5_published": Heading(_ACCURACY, "noun-5"),
    "trade_off_published": Heading(_TRADE_OFF, "published"),
    "trade_off_recomputed": Heading(_TRADE_OFF, "recomputed", ".4f"),
    "trade_off_difference": Heading(_TRADE_OFF, "difference", "+.4f"),
    "speed_up_published": Heading(_SPEED_UP, "published"),
    "speed_up_recomputed": Heading(_SPEED_UP, "recomputed", ".3f"),
    "speed_up_difference": Heading(_SPEED_UP, "difference", "+.3f"),
    "reproduces": Heading("", "Reproduced"),
    "note": Heading("", "Note"),
}

MEASURED_WORDS = {
    "system": "System",
    "model": "Model",
    "top1_measured": "top-1 (%)",
    "ms_per_frame_measured": "ms per frame",
    "clips_per_s_measured": "clips per s",
    "joules_per_frame_measured": "J per frame, measured",
    "joules_per_frame_estimated": "J per frame, estimated",
    "peak_mb_measured": "peak MB",
    "speed_up_counted": "speed-up counted",
    "speed_up_measured": "speed-up measured",
    "speed_up_realised": "realised",
    "note_measured": "Note",
}
"""Of columns of a setup, or of none; bounds of intervals are shown with their estimate."""

_SHORT = {
    "published": "publ.",
    "difference": "diff.",
    "recomputed": "recomp.",
    "as described": "described",
    "skipped": "skip",
    "pre-scanned": "pre",
    "Reproduced": "Repr.",
    "top-1, published": "top-1, publ.",
    "speed-up, published": "speed-up, publ.",
    "J per frame, measured": "J, measured",
    "J per frame, estimated": "J, estimated",
}
"""Words of headings where there is little room."""

_ESCAPES = {ord(sign): rf"\{sign}" for sign in "{}$&%#_"} | {
    ord("\\"): r"\textbackslash{}",
    ord("^"): r"\textasciicircum{}",
    ord("~"): r"\textasciitilde{}",
}

_NEEDS = r"% Needs \usepackage{booktabs,graphicx,rotating}."

_LATEX = r"""
\begin{sidewaystable*}
\centering
\setlength{\tabcolsep}{3pt}
\caption{%s}
\label{tab:%s}
\resizebox{\linewidth}{!}{%%
%s}
\par\medskip\scriptsize\raggedright
%s
\end{sidewaystable*}
"""


def to_markdown(frame: pd.DataFrame, number: int) -> str:
    """A table of `bench.reporting.tables` as a Markdown page, with its explanations."""
    title = f"Table {NUMERALS[number]}: {TITLES[number]}, published and counted"
    return f"# {title}\n\n{markdown_table(_shown(frame, number))}\n\n{bullets(NOTES[number])}\n"


def measured_to_markdown(frame: pd.DataFrame, notes: Sequence[str]) -> str:
    """The measured columns of a table as a section of its page, with their explanations."""
    return f"\n## Measured\n\n{markdown_table(_shown_measured(frame))}\n\n{bullets(notes)}\n"


def markdown_table(shown: pd.DataFrame) -> str:
    """Texts under groups and words of their own as a Markdown table; columns without a group are words, not numbers."""
    alignment = ["right" if group else "left" for group in shown.columns.get_level_values(0)]
    shown = shown.map(lambda text: text.replace("|", r"\|"))
    shown.columns = pd.Index([": ".join(filter(None, heading)) for heading in shown.columns])
    return shown.to_markdown(index=False, disable_numparse=True, colalign=alignment)


def to_latex(frame: pd.DataFrame, number: int) -> str:
    """The same as a landscape float of LaTeX, which needs booktabs, graphicx and rotating.

    Notes on single rows are marked with letters; system ids are left out.
    """
    notes = list(NOTES[number])
    if "note" in frame:
        marks, letters = _letters(frame["note"])
        frame = frame.assign(model=frame["model"] + marks).drop(columns=["system", "note"])
        notes += letters
    title = f"Table {NUMERALS[number]} of the paper: {TITLES[number]}, published and counted"
    return latex_float(title, f"reproduced-{number}", _shown(frame, number), notes)


def latex_float(title: str, label: str, shown: pd.DataFrame, notes: Sequence[str]) -> str:
    """Texts under groups and words of their own as a landscape float, which needs booktabs, graphicx and rotating."""
    return _NEEDS + _LATEX % (_as_math(title.translate(_ESCAPES)), label, *_latex_body(shown, notes))


def measured_to_latex(frame: pd.DataFrame, title: str, label: str, notes: Sequence[str]) -> str:
    """The measured columns of a table of that title as a float of their own, with their explanations."""
    marks, letters = _letters(frame["", "note_measured"])
    frame = frame.drop(columns=[("", "system"), ("", "note_measured")])
    frame["", "model"] += marks
    return _LATEX % (f"{title}, measured", label, *_latex_body(_shown_measured(frame), [*notes, *letters]))


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, never as a power of ten; empty for NaN."""
    return "" if pd.isna(value) else f"{value:.{_decimals(value, digits)}f}"


def with_bounds(value: float, low: float, high: float) -> str:
    """An estimate and its interval, as in "71.2 [70.9, 71.6]"; empty for NaN.

    Two digits of the interval's width are shown, but not more than four of the estimate.
    """
    if pd.isna(value):
        return ""
    decimals = _decimals(value, 4)
    if high > low:
        decimals = min(decimals, _decimals((high - low) / 2, 2))
    return f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def with_spread(value: float, spread: float, decimals: int = 1) -> str:
    """An estimate with its standard deviation, as in "74.1 ± 1.2"; empty for NaN."""
    if pd.isna(value):
        return ""
    return f"{value:.{decimals}f}" + ("" if pd.isna(spread) else f" ± {spread:.{decimals}f}")


def _decimals(value: float, digits: int) -> int:
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else digits


def bullets(notes: Sequence[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {note}" for note in notes)


def _letters(notes: pd.Series) -> tuple[pd.Series, list[str]]:
    """Marks for rows with notes, and the notes with their letters."""
    letters = {note: chr(ord("a") + index) for index, note in enumerate(filter(None, notes.unique()))}
    marks = notes.map(lambda note: f" [{letters[note]}]" if note else "")
    return marks, [f"{letter}: {note}." for note, letter in letters.items()]


def _latex_body(shown: pd.DataFrame, notes: Sequence[str]) -> tuple[str, str]:
    """The tabular, and the paragraphs under it."""
    shown = shown.rename(columns=_SHORT, level=1)
    styler = shown.style.hide(axis="index").format(_as_math, escape="latex")
    styler = styler.format_index(_as_math, escape="latex", axis="columns")
    alignment = "".join("r" if group else "l" for group in shown.columns.get_level_values(0))
    lines = styler.to_latex(hrules=True, multicol_align="c", column_format=alignment).splitlines()
    lines.insert(lines.index(r"\toprule") + 2, _rules_under_groups(shown.columns))
    paragraphs = "\n\n".join(_as_math(note.translate(_ESCAPES)) for note in notes)
    return "\n".join(lines), paragraphs


def _shown(frame: pd.DataFrame, number: int) -> pd.DataFrame:
    """Everything as text, under a group and words of its own."""
    if number == 3:
        return _grid(frame)
    columns = {column: HEADINGS[column] for column in map(str, frame) if column != "shares_source"}
    texts = {
        (group, words): [in_digits(value, form) for value in frame[column]]
        for column, (group, words, form) in columns.items()
    }
    return pd.DataFrame(texts)


def _shown_measured(frame: pd.DataFrame) -> pd.DataFrame:
    """The same of measured columns, each under its setup."""
    return pd.DataFrame(
        {
            (setup.replace("_", " "), MEASURED_WORDS[column]): measured_texts(frame, setup, column)
            for setup, column in frame.columns.to_flat_index()
            if column in MEASURED_WORDS
        }
    )


def measured_texts(frame: pd.DataFrame, setup: str, column: str) -> list[str]:
    """A column of `measured_columns` as text; estimates with their intervals, accuracies with their spread."""
    name, _, kind = column.rpartition("_")
    bounds = [(setup, f"{name}_{side}_{kind}") for side in ("low", "high")]
    if column == "top1_measured":
        return list(map(with_spread, frame[setup, column], frame[setup, "top1_spread_measured"]))
    if not setup:
        return list(frame[setup, column])
    if bounds[0] in frame:
        return list(map(with_bounds, frame[setup, column], *(frame[bound] for bound in bounds)))
    return list(map(significant, frame[setup, column]))


def _grid(cells: pd.DataFrame) -> pd.DataFrame:
    """Table III as it is printed, a row per T_M and a group per S_k."""
    words = {
        "top1_published": "top-1, published",
        "speed_up_published": "speed-up, published",
        "speed_up_recomputed": "recomputed",
    }
    texts = {("", "Sampler"): list(cells["temporal"].unique())}
    for spatial, group in cells.groupby("spatial"):
        for column, word in words.items():
            texts[str(spatial), word] = [in_digits(value, HEADINGS[column].format) for value in group[column]]
    return pd.DataFrame(texts)


def in_digits(value: Any, form: str) -> str:
    """A number in a format with decimals, without a sign where it rounds to zero; words as they are, empty for NaN."""
    if pd.isna(value):
        return ""
    if isinstance(value, str):
        return value
    rounded = round(value, int(form[-2]))
    return format(rounded, form) if rounded else format(0.0, form.lstrip("+"))


def _as_math(text: Any) -> str:
    """Samplers, differences and letters of notes in escaped text."""
    text = re.sub(r"\b([ST])\\_(\w)", r"$\1_\2$", text)
    text = re.sub(r"^[+-][\d.]+$", r"$\g<0>$", text)
    return re.sub(r" \[([a-z])\]$", r"\\textsuperscript{\1}", text)


def _rules_under_groups(columns: pd.Index) -> str:
    rules, first = "", 1
    for group, run in groupby(columns.get_level_values(0)):
        last = first + len(list(run)) - 1
        rules += rf"\cmidrule(lr){{{first}-{last}}}" if group else ""
        first = last + 1
    return rules
