"""Strips of a clip: a column per frame, with what a system made of it below (paper, Figs. 8, 9 and 12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from adaptive_models.data.transforms import displayable
from adaptive_models.system import FrameResult
from bench.records.files import write_file
from bench.reporting.panels import BELOW, GAP, LINE, TITLE, even_rows, in_short, label, square_panels
from bench.reporting.style import print_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.streaming import Stream

ROWS = {"attention": "attention", "hallucination": "hallucination", "regions": "boxes"}
"""Rows below the frames, and what of a frame each of them shows."""

BORDERS = {"full": "#d62728", "prescan": "#2ca02c"}
BOXES = ("#e41a1c", "#4daf4a", "#377eb8", "#ff7f00", "#984ea3")
BOX_NAMES = ("red", "green", "blue", "orange", "violet")
COLOURS = "viridis"
SIDES = ("top", "left", "bottom", "right")
MOST_COLUMNS = 10
DIGITS = 6
UNDATED = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def draw_strip(stream: Stream, path: Path) -> None:
    """Write the strip of a clip's decisions; the same results give the same bytes.

    Args:
        stream: what `stream_clip` returned, its clip still open.
        path: .png, .svg or .pdf.

    Raises:
        RunError: the file cannot be written.
    """
    suffix = path.suffix[1:].lower()
    with print_style():
        figure = strip_figure(stream)
        write_file(path, lambda temporary: figure.savefig(temporary, dpi=300, format=suffix, metadata=UNDATED[suffix]))


def strip_figure(stream: Stream) -> Figure:
    """The decisions (paper, Fig. 12): red borders for full frames, green for pre-scanned, pale for skipped.

    Below each frame are the operations that were executed for it. Rows that would be empty are left out.
    """
    caption = (
        f"Frames with red borders were processed fully, with green ones only pre-scanned, pale ones skipped. "
        f"Below: what was decided, and the operations executed, {stream.per_frame / 1e9:.3g} GFLOPs per frame, "
        f"{stream.always_full / 1e9:.3g} if every frame were full ({stream.convention} convention)."
    )
    below = [f"{frame.decision}\n{frame.flops / 1e9:.3g} G" for frame in stream.frames]
    return frames_figure(stream, filled_rows(stream), caption, below, decisions=True)


def filled_rows(stream: Stream) -> list[str]:
    """The rows that have something to show for some frame."""
    return [row for row, shown in ROWS.items() if any(getattr(result, shown) is not None for result in stream.results)]


def frames_figure(
    stream: Stream, rows: Sequence[str], caption: str, below: Sequence[str] = (), decisions: bool = False
) -> Figure:
    """Frames of a clip, up to ten side by side, and what the system made of them.

    Attention and hallucination are means over channels, on one scale and interpolated. A hallucination is shown where
    the system compared it, so not at the first frame. Boxes are coloured by slot.

    Args:
        stream: what `stream_clip` returned, its clip still open.
        rows: of `ROWS`, to show below the frames.
        caption: what is shown; scale, clip, system, weights and policy are added.
        below: texts below the columns.
        decisions: whether to mark them with borders and paleness.
    """
    blocks, columns = even_rows(len(stream.results), MOST_COLUMNS)
    names = ["frame", *rows]
    room = BELOW + LINE * below[0].count("\n") if below else 0.0
    between = [GAP] * len(rows)
    above = [TITLE, *between, *[room + TITLE, *between] * (blocks - 1)]
    scale = _range(result.attention for result in stream.results)
    text = [caption, *_legend(stream, rows, scale), f"{provenance(stream)}; policy {stream.policy}."]
    figure, axes = square_panels(" ".join(text), above, columns, below=room, left=LINE)
    for position, result in enumerate(stream.results):
        first, column = position // columns * len(names), position % columns
        panels = dict(zip(names, axes[first : first + len(names), column], strict=True))
        for name, panel in panels.items():
            _draw(panel, name, result, stream, scale)
            label(
                panel,
                above=f"t = {result.t}" if name == names[0] else "",
                below=below[position] if below and name == names[-1] else "",
                left=name if column == 0 else "",
            )
        if decisions:
            _mark(panels, result)
    return figure


def frames_data(stream: Stream, rows: Sequence[str]) -> pd.DataFrame:
    """The numbers in such a figure, a row per frame.

    Columns: `clip`, `system`, `weights`, `policy`; `t`; `source_frame`, from 0; `decision`; `gflops` executed;
    `negative_ssim` of attention and hallucination; `box1_top`, ... in pixels of the image, 224 x 224;
    `attention_0_0`, ... and `hallucination_0_0`, ...: row and column of the map, mean over channels.
    """
    data = []
    for frame, result in zip(stream.frames, stream.results, strict=True):
        numbers: dict[str, object] = {**origin(stream), "policy": stream.policy}
        numbers |= {"t": frame.index, "source_frame": frame.source_frame, "decision": frame.decision}
        numbers["gflops"] = frame.flops / 1e9
        if "hallucination" in rows:
            numbers["negative_ssim"] = None if frame.similarity is None else round(-frame.similarity, DIGITS)
        if "regions" in rows and result.boxes is not None:
            for slot, box in enumerate(result.boxes.tolist(), start=1):
                numbers |= {f"box{slot}_{side}": value for side, value in zip(SIDES, box, strict=True)}
        for name in ("attention", "hallucination"):
            maps = getattr(result, name)
            if name in rows and maps is not None:
                values = channel_mean(maps).round(DIGITS)
                numbers |= {f"{name}_{row}_{column}": value for (row, column), value in np.ndenumerate(values)}
        data.append(numbers)
    frame_rows = pd.DataFrame(data)
    return frame_rows.astype({name: "Int64" for name in frame_rows if name.startswith("box")})


def origin(stream: Stream) -> dict[str, str]:
    """Of what a picture is, so that nobody takes random weights for trained ones."""
    assert stream.clip is not None
    return {"clip": stream.clip.path.name, "system": stream.system, "weights": stream.weights}


def provenance(stream: Stream) -> str:
    """The same for a caption."""
    return "Clip {clip}; system {system}; weights {weights}".format(**origin(stream))


def channel_mean(maps: Tensor) -> np.ndarray:
    """The mean of maps over their first dimension, the channels, in double precision."""
    return maps.double().mean(dim=0).cpu().numpy()


def _draw(axes: Axes, row: str, result: FrameResult, stream: Stream, scale: tuple[float, float]) -> None:
    if row == "attention" and result.attention is not None:
        _heat(axes, result.attention, scale)
    elif row == "hallucination" and result.hallucination is not None:
        _heat(axes, result.hallucination, scale)
    elif row == "frame":
        axes.imshow(_picture(stream, result.t))
    elif row == "regions" and result.boxes is not None:
        axes.imshow(_picture(stream, result.t))
        for slot, (top, left, bottom, right) in reversed(list(enumerate(result.boxes.tolist()))):
            color = BOXES[slot % len(BOXES)]
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=color, lw=1.2))


def _mark(panels: dict[str, Axes], result: FrameResult) -> None:
    """Mark what was decided, and the similarity that the temporal sampler knew."""
    panels["frame"].images[0].set_alpha(0.35 if result.decision == "skip" else 1.0)
    if result.decision in BORDERS:
        panels["frame"].spines[:].set(visible=True, color=BORDERS[result.decision], linewidth=2)
    if result.hallucination is not None:
        outline = withStroke(linewidth=1.2, foreground="black")  # white alone is lost on the bright end of the scale
        axes, text = panels["hallucination"], f"SSIM {result.similarity:.2f}"
        axes.text(0.05, 0.05, text, transform=axes.transAxes, fontsize=6, color="white", path_effects=[outline])


def _legend(stream: Stream, rows: Sequence[str], scale: tuple[float, float]) -> list[str]:
    """Sentences on what is drawn."""
    found = []
    if "attention" in rows:
        found.append(f"Attention, mean over channels: {in_short(*scale)} (dark to bright).")
    if "hallucination" in rows:
        reach = _range(result.hallucination for result in stream.results)
        found.append(f"Hallucination, on the same scale: {in_short(*reach)}.")
    if "regions" in rows:
        slots = max(len(result.boxes) for result in stream.results if result.boxes is not None)
        names = [BOX_NAMES[slot % len(BOXES)] for slot in range(slots)]
        found.append(f"Regions by slot: {', '.join(names)}; where they coincide the first is seen.")
    return found


def _picture(stream: Stream, t: int) -> np.ndarray:
    assert stream.clip is not None
    return displayable(stream.clip.image(t))


def _heat(axes: Axes, maps: Tensor, scale: tuple[float, float]) -> None:
    low, high = scale
    axes.imshow(channel_mean(maps), cmap=COLOURS, vmin=low, vmax=high, interpolation="bilinear")


def _range(maps: Iterable[Tensor | None]) -> tuple[float, float]:
    """The smallest and the largest channel mean; systems without attention draw none."""
    means = [channel_mean(each) for each in maps if each is not None]
    return (min(m.min() for m in means), max(m.max() for m in means)) if means else (0.0, 1.0)
