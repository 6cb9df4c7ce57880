"""The five tables of the paper as printed, where the number of printed decimals is information.

Source: Mac, Do, Vo, "Efficient Human Vision Inspired Action Recognition Using Adaptive Spatiotemporal
Sampling", IEEE Transactions on Image Processing, 2023, section IV.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NUMERALS = {1: "I", 2: "II", 3: "III", 4: "IV", 5: "V"}
#: Frames sampled from a clip and clips of the validation set, per workload (section IV; `epic` split of TBN).
FRAMES = {"epic": 10, "ucf101": 16}
VALIDATION_CLIPS = {"epic": 2398, "ucf101": 3783}
#: Rows that the authors took over from other publications instead of measuring them.
QUOTED = frozenset(
    {"epic/slowfast-r101-8x8", "epic/avslowfast-r101-8x8", "ucf101/res3d-18", "ucf101/dsn", "ucf101/smart"}
)
_WORDS = frozenset({"system", "model", "backbone", "modalities", "temporal", "spatial"})


@dataclass(frozen=True)
class Interval:
    """A closed interval of exact rational numbers; the four operations propagate it through a formula."""

    low: Fraction
    high: Fraction

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Interval) -> Interval:
        """Product of two intervals without negative numbers."""
        return Interval(self.low * other.low, self.high * other.high)

    def __truediv__(self, other: Interval) -> Interval:
        """Quotient of an interval without negative numbers and a positive one."""
        return Interval(self.low / other.high, self.high / other.low)

    def meets(self, other: Interval) -> bool:
        """Whether the two have a number in common, end points included."""
        return self.low <= other.high and other.low <= self.high


def exactly(value: float | Fraction) -> Interval:
    """The interval of one number; a float counts as the binary number it is."""
    return Interval(Fraction(value), Fraction(value))


@dataclass(frozen=True)
class Printed:
    """A number as printed: the table's Roman numeral (or `text`), the system id, the column, the digits."""

    table: str
    system: str
    column: str
    text: str

    @property
    def value(self) -> Fraction:
        """The printed number itself; ValueError where the digits are none."""
        return Fraction(self.text)

    @property
    def decimals(self) -> int:
        """How many decimals are printed, trailing zeros included."""
        return len(self.text.partition(".")[2])

    @property
    def interval(self) -> Interval:
        """What rounds to these digits: half a unit of the last one to either side, both ties included."""
        half = Fraction(1, 2 * 10**self.decimals)
        return Interval(self.value - half, self.value + half)


Row = Mapping[str, Printed]
Table = Mapping[str, Row]


@cache
def _rows(number: int) -> tuple[dict[str, str], ...]:
    if number not in NUMERALS:
        raise ValueError(f"the paper has tables 1 to 5, not {number!r}")
    (source,) = (file for file in files(__package__).iterdir() if file.name.startswith(f"table{number}_"))
    with source.open(encoding="utf-8") as stream:
        return tuple(csv.DictReader(stream))


def load_table(number: int) -> pd.DataFrame:
    """Table 1 to 5 as a frame of strings, one row per printed row, empty where nothing is printed.

    Raises ValueError for another number.
    """
    import pandas as pd  # half a second that whoever only asks for one published number need not wait

    return pd.DataFrame(_rows(number))


def read_table(number: int) -> Table:
    """The numbers of table 1 to 5 as `table[system id][column]`, without cells where nothing is printed.

    The cells of Table III get the ids of the systems of Table II whose values they repeat. Raises ValueError
    for another number.
    """
    table: dict[str, Row] = {}
    for row in _rows(number):
        system = row.get("system") or f"epic/{row['spatial']}-{row['temporal']}".lower().replace("_", "")
        table[system] = {
            column: Printed(NUMERALS[number], system, column, text)
            for column, text in row.items()
            if text and column not in _WORDS
        }
    return table


def published_row(system_id: str) -> dict[str, float | str]:
    """Everything printed about a system, empty if nothing is.

    Numbers are floats under the column names of the tables (`top1` in per cent, `avg_gflops` per frame, ...);
    `source` names the tables, and says so where the authors quote the row from another publication.
    """
    found: dict[str, float | str] = {}
    tables = {number: row for number in NUMERALS if (row := read_table(number).get(system_id))}
    for row in tables.values():
        found |= {column: float(cell.value) for column, cell in row.items()}
    if tables:
        source = " and ".join(f"Table {NUMERALS[number]}" for number in tables)
        found["source"] = f"{source} (quoted there)" if system_id in QUOTED else source
    return found


def published_shares(system_id: str) -> dict[str, float] | None:
    """Per cent of frames skipped, only pre-scanned and fully processed (Table II); None if not printed."""
    row = read_table(2).get(system_id)
    if row is None:
        return None
    return {stage: float(row[f"{stage}_pct"].value) for stage in ("skip", "prescan", "full")}
