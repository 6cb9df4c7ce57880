"""Tables of the report: texts that say of themselves whether they are published, counted, measured or estimated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

KINDS = {
    "published": "printed in the paper",
    "counted": "by us, from the model",
    "measured": "on a machine, or on held-out clips",
    "estimated": "from a model of the machine, or assumed",
}
"""Of values, and what they mean."""

OWN_WORDS = {
    **{kind: kind for kind in KINDS},
    **dict.fromkeys(("recomputed", "difference", "executed"), "counted"),
    "realised": "measured",
    "assumed": "estimated",
}
"""The kind of a column by the last word of its name: what is computed from two kinds is as uncertain as the lesser."""

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class Column:
    """A column: its group, its own words, and the kind of its values; words and notes have none."""

    group: str
    words: str
    kind: str = ""


@dataclass
class Table:
    """A table as it is shown.

    Attributes:
        id: for links.
        title: its caption.
        columns: the first is the heading of the rows.
        rows: texts, as many as there are columns; empty where nothing is known.
        notes: explanations below it.
    """

    id: str
    title: str
    columns: list[Column]
    rows: list[list[str]]
    notes: Sequence[str] = ()

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings above the columns, and over how many each stands."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and found[-1][0] == column.group:
                found[-1] = column.group, found[-1][1] + 1
            else:
                found.append((column.group, 1))
        return found


def kind_of(column: str) -> str:
    """The kind of a column of `bench.reporting` by its name; empty for words."""
    return OWN_WORDS.get(column.rpartition("_")[2], "")


def with_subscripts(text: str) -> Markup:
    """Prose with the subscripts of S_k and T_M."""
    return Markup(re.sub(r"\b([ST])_(\w)", r"\1<sub>\2</sub>", escape(text)))


def typeset(text: str) -> str:
    """Samplers with their subscripts, and signs of differences as minus: for people only."""
    text = re.sub(r"\b([ST])_(\d+)", lambda found: found[1] + found[2].translate(SUBSCRIPTS), text)
    return re.sub(r"^-(?=[\d.]+$)", "\N{MINUS SIGN}", text)
