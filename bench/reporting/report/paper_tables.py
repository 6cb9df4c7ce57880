"""Tables I to V as the report shows them: what is published, counted and measured of a system in one row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from bench.published.tables import NUMERALS
from bench.records.counts import Count
from bench.records.evaluation import Evaluation
from bench.records.measurement import Record
from bench.reporting.explanations import NOTES, TITLES
from bench.reporting.layout import HEADINGS, MEASURED_WORDS, in_digits, measured_texts
from bench.reporting.report.cells import Column, Table, kind_of
from bench.reporting.tables import parts

LEFT_OUT = ("shares_source", "spatial", "temporal")


def paper_table(
    number: int, counts: Iterable[Count], records: Sequence[Record], evaluations: Sequence[Evaluation]
) -> Table:
    """Table 1 to 5, as `bench.reporting.tables` makes it.

    Raises:
        ValueError: another number.
    """
    frame, measured, notes = parts(number, counts, records, evaluations)
    if "model" not in frame:  # Table III, whose cells are rows here
        frame.insert(1, "model", frame["spatial"] + "," + frame["temporal"])
    frame.insert(0, "model", frame.pop("model"))
    columns, texts = [], []
    for name in (each for each in frame.columns if each not in LEFT_OUT):
        heading = HEADINGS[name]
        columns.append(Column(heading.group, heading.words, kind_of(name)))
        texts.append([in_digits(value, heading.format) for value in frame[name]])
    for setup, name in measured.columns.to_flat_index():
        if name in MEASURED_WORDS and name not in ("system", "model"):
            columns.append(Column(_group(setup, name), MEASURED_WORDS[name], kind_of(name)))
            texts.append(measured_texts(measured, setup, name))
    title = f"Table {NUMERALS[number]}: {TITLES[number]}"
    return Table(f"table-{number}", title, *_filled(columns, texts), notes=[*NOTES[number], *notes])


def _group(setup: str, name: str) -> str:
    if setup:
        return f"Measured on {setup.replace('_', ' ')}"
    return "" if name.startswith("note") else "Accuracy (%), measured"


def _filled(columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> tuple[list[Column], list[list[str]]]:
    """Columns that have something to show, and the rows of their texts."""
    kept = [index for index, column in enumerate(texts) if any(column)]
    rows = pd.DataFrame({index: texts[index] for index in kept})
    return [columns[index] for index in kept], rows.to_numpy().tolist()
