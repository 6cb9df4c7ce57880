"""The strip of a clip, as in the paper's Fig. 12: frames, attention, hallucination, and regions looked at closely."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from torch import Tensor

from adaptive_models.data.transforms import displayable
from adaptive_models.system import FrameResult
from bench.records.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.streaming import Stream

BORDERS = {"full": "#d62728", "prescan": "#2ca02c"}
BOXES = ("#e41a1c", "#4daf4a", "#377eb8", "#ff7f00", "#984ea3")
STYLE = {"font.family": "DejaVu Sans", "svg.hashsalt": "foveabench"}  # a font that comes along, ids that do not change
UNDATED = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def draw_strip(stream: Stream, path: Path) -> None:
    """Write the strip of a clip; the same results give the same bytes.

    Args:
        stream: what `stream_clip` returned, its clip still open.
        path: .png, .svg or .pdf.

    Raises:
        RunError: the file cannot be written.
    """
    suffix = path.suffix[1:].lower()
    with matplotlib.style.context(["default", STYLE]):
        figure = strip_figure(stream)
        write_file(path, lambda temporary: figure.savefig(temporary, dpi=200, format=suffix, metadata=UNDATED[suffix]))


def strip_figure(stream: Stream) -> Figure:
    """A column per frame: red borders for full frames, green for pre-scanned, pale for skipped.

    Attention and hallucination are means over channels, on one scale and interpolated. A hallucination is shown where
    the system compared it, so not at the first frame; boxes are coloured by slot. Empty rows are left out.
    """
    rows = ["frame"]
    for name, needed in (("attention", "attention"), ("hallucination", "hallucination"), ("regions", "boxes")):
        if any(getattr(result, needed) is not None for result in stream.results):
            rows.append(name)
    columns = len(stream.results)
    figure = Figure(
        figsize=(0.95 * columns + 0.7, len(rows) + 0.9), layout=ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01)
    )
    axes = figure.subplots(len(rows), columns, squeeze=False)
    scale = _scale(stream.results)
    for column, (result, streamed) in enumerate(zip(stream.results, stream.frames, strict=True)):
        for row, name in enumerate(rows):
            axes[row, column].set(xticks=[], yticks=[])
            axes[row, column].set_box_aspect(1)
            axes[row, column].spines[:].set_visible(False)
            _draw(axes[row, column], name, result, stream, scale)
        axes[0, column].set_title(f"t = {result.t}", fontsize=7, pad=3)
        axes[-1, column].set_xlabel(f"{streamed.decision}\n{streamed.flops / 1e9:.2f} G", fontsize=7, labelpad=3)
    for row, name in enumerate(rows):
        axes[row, 0].set_ylabel(name, fontsize=8)
    figure.suptitle(
        f"{stream.system}: {stream.per_frame / 1e9:.2f} GFLOPs per frame executed, {stream.always_full / 1e9:.2f} if "
        f"every frame were full ({stream.convention} convention)\npolicy {stream.policy}; weights {stream.weights}",
        fontsize=8,
    )
    return figure


def _draw(axes: Axes, row: str, result: FrameResult, stream: Stream, scale: tuple[float, float]) -> None:
    if row == "attention" and result.attention is not None:
        _heat(axes, result.attention, scale)
    elif row == "hallucination" and result.hallucination is not None:
        _heat(axes, result.hallucination, scale)
        axes.text(0.04, 0.05, f"SSIM {result.similarity:.2f}", transform=axes.transAxes, fontsize=6, color="white")
    elif row == "frame":
        axes.imshow(_picture(stream, result.t), alpha=0.35 if result.decision == "skip" else 1.0)
        if result.decision in BORDERS:
            axes.spines[:].set(visible=True, color=BORDERS[result.decision], linewidth=2.5)
    elif row == "regions" and result.boxes is not None:
        axes.imshow(_picture(stream, result.t))
        for slot, (top, left, bottom, right) in reversed(list(enumerate(result.boxes.tolist()))):
            color = BOXES[slot % len(BOXES)]
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=color, lw=1.3))


def _picture(stream: Stream, t: int) -> np.ndarray:
    assert stream.clip is not None
    return displayable(stream.clip.image(t))


def _heat(axes: Axes, maps: Tensor, scale: tuple[float, float]) -> None:
    low, high = scale
    axes.imshow(_mean(maps), cmap="viridis", vmin=low, vmax=high, interpolation="bilinear")


def _scale(results: list[FrameResult]) -> tuple[float, float]:
    """The smallest and the largest attention of the clip; systems without attention draw none."""
    means = [_mean(result.attention) for result in results if result.attention is not None]
    return (min(m.min() for m in means), max(m.max() for m in means)) if means else (0.0, 1.0)


def _mean(maps: Tensor) -> np.ndarray:
    return maps.float().mean(dim=0).cpu().numpy()
