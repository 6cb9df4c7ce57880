"""The table of a data set on how well attention is foreseen, which decides what a temporal sampler can learn."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.evaluating.foresight import COLUMNS, foresight_over_seeds
from bench.records.files import write_forms
from bench.reporting.layout import bullets, latex_float, markdown_table, with_spread

HEADINGS = ("Attention of the next frame", "SSIM, measured")
_WORDS = {
    "hallucinated": "hallucinated, one frame ahead",
    "copied": "copied from the last frame",
    "hallucinated_free": "hallucinated from hallucinations",
}
_NOTE = (
    "Measured on {clips} held-out clips, {seeds}: the mean similarity to the attention that came; ± is the standard"
    " deviation between seeds. What is hallucinated from hallucinations is so after five frames that were seen, as the"
    " paper evaluates; a system hallucinates one frame ahead."
)


def write_foresight_table(data: str, evaluations: Path, out: Path) -> list[Path]:
    """Write foresight.csv, .md and .tex for a data set; nothing if no similarities were kept.

    Raises:
        RunError: a damaged file, or the folder cannot be written to.
    """
    frame = foresight_over_seeds(evaluations / data)
    if frame.empty:
        return []
    title, rows, note = foresight_shown(data, frame)
    shown = pd.DataFrame(rows, columns=pd.MultiIndex.from_product([[""], HEADINGS]))
    notes = [note]
    texts = {
        "csv": frame.round(9).to_csv(index=False, lineterminator="\n"),
        "md": f"# {title}\n\n{markdown_table(shown)}\n\n{bullets(notes)}\n",
        "tex": latex_float(title, f"{data}-foresight", shown, notes),
    }
    return write_forms(out, "foresight", texts)


def foresight_shown(data: str, frame: pd.DataFrame) -> tuple[str, list[list[str]], str]:
    """The table as it is read: its title, rows of `HEADINGS`, and a note.

    Args:
        data: the data set.
        frame: of `foresight_over_seeds`, not empty.
    """
    row = frame.iloc[0]
    values = [with_spread(row[name], row[f"{name}_spread"], 4) for name in COLUMNS.values()]
    gain = f"{row['gain']:+.4f} [{row['gain_low']:+.4f}, {row['gain_high']:+.4f}]: {row['verdict']}"
    rows = [[*each] for each in zip(_WORDS.values(), values, strict=True)]
    note = _NOTE.format(clips=row["clips"], seeds=f"{row['seeds']} seed{'' if row['seeds'] == 1 else 's'}")
    title = f"How well the hallucinator foresees attention on {data}"
    return title, [*rows, ["gain over copying [95 % interval]", gain]], note
