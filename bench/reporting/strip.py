"""The strip of a clip, as in the paper's Fig. 12: frames, attention, hallucination, and where the system looked closely."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive_models.data.transforms import displayable
from adaptive_models.system import HIGH_SIZE, FrameResult
from bench.errors import UsageError
from bench.records.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.streaming import Stream

BORDERS = {"full": "#d62728", "prescan": "#2ca02c"}
BOXES = ("#e41a1c", "#4daf4a", "#377eb8", "#ff7f00", "#984ea3")
ROWS = ("frame", "attention", "hallucination", "regions")
SUFFIXES = (".png", ".svg", ".pdf")


def draw_strip(stream: Stream, path: Path) -> None:
    """Draw a streamed clip: red borders for full frames, green for pre-scanned, none for skipped.

    Attention and hallucination are means over channels, on one scale; boxes are coloured by slot. A hallucination is shown
    where the system compared it, so not at the first frame.

    Args:
        stream: what `stream_clip` returned.
        path: .png, .svg or .pdf.

    Raises:
        UsageError: another suffix.
        RunError: the file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--figure {path}: the name must end in {', '.join(SUFFIXES)}")
    from matplotlib.figure import Figure

    rows = ROWS if any(result.boxes is not None for result in stream.results) else ROWS[:3]
    columns = len(stream.results)
    figure = Figure(figsize=(0.95 * columns + 0.7, 0.97 * len(rows) + 0.55), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)  # type: ignore[union-attr]
    axes = figure.subplots(len(rows), columns, squeeze=False)
    scale = _scale(stream.results)
    for column, (result, streamed) in enumerate(zip(stream.results, stream.frames, strict=True)):
        for row, name in enumerate(rows):
            _blank(axes[row, column])
            _draw(axes[row, column], name, result, stream, scale)
        axes[0, column].set_title(f"t = {result.t}", fontsize=7, pad=3)
        executed = f"{streamed.flops / 1e9:.2f} G" if streamed.flops else "skipped"
        axes[-1, column].set_xlabel(executed, fontsize=7, labelpad=3)
    for row, name in enumerate(rows):
        axes[row, 0].set_ylabel(name, fontsize=8)
    figure.suptitle(
        f"{stream.system}, {stream.policy.partition(' ')[0]} policy: "
        f"{stream.per_frame / 1e9:.2f} GFLOPs per frame executed, {stream.always_full / 1e9:.2f} always full",
        fontsize=8,
    )
    write_file(path, lambda temporary: figure.savefig(temporary, dpi=200, format=path.suffix[1:].lower()))


def _draw(axes: Axes, row: str, result: FrameResult, stream: Stream, scale: tuple[float, float]) -> None:
    if row == "attention" and result.attention is not None:
        _heat(axes, result.attention, scale)
    elif row == "hallucination" and result.hallucination is not None:
        _heat(axes, result.hallucination, scale)
        axes.text(0.04, 0.05, f"SSIM {result.similarity:.2f}", transform=axes.transAxes, fontsize=6, color="white")
    elif row == "frame":
        axes.imshow(_picture(stream, result.t), alpha=0.35 if result.decision == "skip" else 1.0)
        _border(axes, result.decision)
    elif row == "regions" and result.boxes is not None:
        from matplotlib.patches import Rectangle

        axes.imshow(_picture(stream, result.t))
        for slot, (top, left, bottom, right) in reversed(list(enumerate(result.boxes.tolist()))):
            color = BOXES[slot % len(BOXES)]
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=color, lw=1.3))
        axes.set_xlim(-0.5, HIGH_SIZE - 0.5)
        axes.set_ylim(HIGH_SIZE - 0.5, -0.5)


def _picture(stream: Stream, t: int) -> np.ndarray:
    assert stream.clip is not None
    return displayable(stream.clip.image(t))


def _heat(axes: Axes, maps: Any, scale: tuple[float, float]) -> None:
    axes.imshow(maps.float().mean(dim=0).cpu().numpy(), cmap="viridis", vmin=scale[0], vmax=scale[1])


def _scale(results: list[FrameResult]) -> tuple[float, float]:
    means = [result.attention.float().mean(dim=0) for result in results if result.attention is not None]
    return (min(float(m.min()) for m in means), max(float(m.max()) for m in means)) if means else (0.0, 1.0)


def _blank(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _border(axes: Axes, decision: str) -> None:
    if decision in BORDERS:
        for spine in axes.spines.values():
            spine.set(visible=True, color=BORDERS[decision], linewidth=2.5)
