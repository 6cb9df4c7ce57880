"""Pictures beside and below each other, in a figure as wide as a column or a page of a paper."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine

from bench.reporting.style import ONE_COLUMN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE = 516 / 72
"""Width in inches of the text of a two-column page."""

GAP = 0.04
"""Inches between panels."""

LINE = 0.12
"""Inches that a line of text takes."""

LARGEST = 1.0
"""Side of a panel in inches, at most."""

TITLE = BELOW = LINE + 0.04
"""Inches that a title above, or a label below a panel needs."""

TEXT_SIZE = 6.5
"""In points."""

LETTERS_PER_INCH = 20
"""Of a caption, wide letters allowed for."""


def even_rows(count: int, most: int) -> tuple[int, int]:
    """Rows and columns for so many things, as few rows as hold them with at most so many in each, filled evenly."""
    rows = -(-count // most)
    return rows, -(-count // rows)


def square_panels(
    caption: str, above: Sequence[float], columns: int, below: float = 0.0, left: float = 0.0
) -> tuple[Figure, np.ndarray]:
    """Square panels without ticks and frames, under a caption; up to four columns fit a column, more need a page.

    Args:
        caption: at the top, wrapped.
        above: inches above each row of panels.
        columns: of panels.
        below: inches below the last row.
        left: inches left of the first column.

    Returns:
        The figure, and its axes (rows, columns).
    """
    width = ONE_COLUMN if columns <= 4 else PAGE
    text = fill(caption, int(width * LETTERS_PER_INCH), break_on_hyphens=False)
    room = (text.count("\n") + 1) * LINE + GAP
    gaps = GAP * (columns + 1)
    side = min(LARGEST, (width - left - gaps) / columns)
    first = left + GAP + (width - left - gaps - columns * side) / 2
    height = room + sum(above) + len(above) * side + below + GAP
    by_hand = PlaceHolderLayoutEngine(
        adjust_compatible=True, colorbar_gridspec=True
    )  # "none" is lost at the first save
    figure = Figure(figsize=(width, height), layout=by_hand)
    figure.suptitle(text, x=GAP / width, y=1 - GAP / height, ha="left", va="top", fontsize=TEXT_SIZE, parse_math=False)
    axes = np.empty((len(above), columns), dtype=object)
    for row, column in np.ndindex(axes.shape):
        x = first + column * (side + GAP)
        y = height - room - sum(above[: row + 1]) - (row + 1) * side
        place = (x / width, y / height, side / width, side / height)
        axes[row, column] = figure.add_axes(place, xticks=[], yticks=[])
        axes[row, column].spines[:].set_visible(False)
    return figure, axes


def label(axes: Axes, above: str = "", below: str = "", left: str = "") -> None:
    """Write on the sides of a panel."""
    axes.set_title(above, fontsize=TEXT_SIZE, pad=2.5)
    axes.set_xlabel(below, fontsize=TEXT_SIZE, labelpad=2.5)
    axes.set_ylabel(left, fontsize=TEXT_SIZE, labelpad=2.5)


def in_short(low: float, high: float) -> str:
    """A range of values for people, as in "0.033 to 1.13"."""
    return f"{round(low, 4):.3g} to {round(high, 4):.3g}"
