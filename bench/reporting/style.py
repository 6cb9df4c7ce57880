"""How figures look, and how they are written: the same bytes on every run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import matplotlib.style
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.records.files import write_file, write_text

ONE_COLUMN = 3.5
"""Width in inches of a column in a two-column journal."""

_DOTS_PER_INCH = 300
_PRINT = {
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "svg.hashsalt": "foveabench",  # else the ids of elements are random
}


@contextmanager
def print_style() -> Iterator[list[tuple[float, float, float]]]:
    """Seaborn's white grid at the sizes of print, whatever the user's settings; gives a colour-blind-safe palette."""
    with matplotlib.style.context(["default", sns.axes_style("whitegrid"), _PRINT]):
        yield sns.color_palette("colorblind")


def save_figure(figure: Figure, data: pd.DataFrame, name: str, out: Path) -> list[Path]:
    """Write a figure as PNG (300 dots per inch) and SVG, and its data as CSV, each whole or not at all.

    Raises:
        RunError: the folder cannot be written to.
    """
    undated: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    paths = []
    for suffix, metadata in undated.items():
        paths.append(out / f"{name}.{suffix}")
        write_file(paths[-1], partial(figure.savefig, format=suffix, dpi=_DOTS_PER_INCH, metadata=metadata))
        figure.set_layout_engine("none")  # the other picture has the same layout, which takes half of the time
    paths.append(out / f"{name}.csv")
    write_text(paths[-1], data.to_csv(index=False, lineterminator="\n"))
    return paths
