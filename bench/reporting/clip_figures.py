"""The paper's figures of attention, regions, hallucinations and decisions, of any clip, system and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.display import progress
from bench.errors import UsageError
from bench.reporting.attention_figures import fig5, fig11
from bench.reporting.strip import filled_rows, frames_data, frames_figure, strip_figure
from bench.reporting.style import print_style, save_figure
from bench.streaming import Stream, open_clip, stream_clip

if TYPE_CHECKING:
    from bench.systems.registry import System


def fig8(stream: Stream, out: Path) -> list[Path]:
    """Write Fig. 8: frames, attention, and the regions of the spatial sampler, coloured by slot.

    Raises:
        RunError: the folder cannot be written to.
    """
    rows = ["attention", "regions"]
    with print_style():
        figure = frames_figure(stream, rows, "Regions that the spatial sampler found.")
        return save_figure(figure, frames_data(stream, rows), "fig8", out)


def fig9(stream: Stream, out: Path) -> list[Path]:
    """Write Fig. 9: frames, attention, the hallucination made for each from the frames before, and their negative SSIM.

    Raises:
        RunError: the folder cannot be written to.
    """
    rows = ["attention", "hallucination"]
    below = ["" if frame.similarity is None else f"{-frame.similarity:.2f}" for frame in stream.frames]
    caption = "Hallucinations, made from the frames before; below, their negative SSIM with the attention (−1: alike)."
    with print_style():
        figure = frames_figure(stream, rows, caption, [text.replace("-", "−") for text in below])
        return save_figure(figure, frames_data(stream, rows), "fig9", out)


def fig12(stream: Stream, out: Path) -> list[Path]:
    """Write Fig. 12: what was decided for each frame, what it cost, and what the samplers saw.

    Raises:
        RunError: the folder cannot be written to.
    """
    with print_style():
        return save_figure(strip_figure(stream), frames_data(stream, filled_rows(stream)), "fig12", out)


CLIP_FIGURES: dict[str, Callable[[Stream, Path], list[Path]]] = {
    "fig5": fig5,
    "fig8": fig8,
    "fig9": fig9,
    "fig11": fig11,
    "fig12": fig12,
}


def make_clip_figures(
    names: Sequence[str],
    clip_name: str,
    system: System,
    policy: str,
    weights: Path | None,
    out: Path,
    frames: int | None = None,
) -> list[Path]:
    """Draw figures of a clip, each as PNG, SVG and CSV.

    Args:
        names: of `CLIP_FIGURES`.
        clip_name: a video file, or "demo".
        system: an adaptive system.
        policy: who decides in fig12; in the others every frame is full, so that there is something to see at each.
        weights: as `stream_clip` takes them; random ones if not given, which the figures say.
        out: folder for the files.
        frames: how many frames to sample; the workload's if not given. fig5 and fig11 show the middle one.

    Raises:
        UsageError: a figure that there is not, or that the system cannot have; a wrong policy or number of frames.
        RunError: a clip or weights that cannot be used, or a folder that cannot be written to.
    """
    for name in names:
        _check(name, system, frames)
    policies = {name: policy if name == "fig12" else "always-full" for name in names}
    with open_clip(clip_name, system, frames) as clip, progress(len(names)) as advance:
        streams: dict[str, Stream] = {}
        files: list[Path] = []
        for name in names:
            advance(f"drawing {name}")
            chosen = policies[name]
            if chosen not in streams:
                streams[chosen] = stream_clip(clip, system, chosen, weights)
            files += CLIP_FIGURES[name](streams[chosen], out)
    return files


def _check(name: str, system: System, frames: int | None) -> None:
    """Refuse a figure that the system has nothing to show for, before the work is done."""
    if name not in CLIP_FIGURES:
        raise UsageError(f"no figure {name!r} of a clip: use {', '.join(CLIP_FIGURES)}")
    if name != "fig12" and system.adaptive and system.crops is None:
        raise UsageError(f"{name}: {system.id} has no attention to draw: use an S_k or S_k,T_M, such as epic/s3-t4")
    if name == "fig8" and not system.crops:
        raise UsageError(f"fig8: {system.id} samples no regions: use a system with crops, such as epic/s3")
    if name == "fig9" and system.max_skip is None:
        raise UsageError(f"fig9: {system.id} has no hallucinator: use one with a temporal sampler, such as epic/s3-t4")
    if name == "fig9" and frames == 1:
        raise UsageError("fig9: --frames 1: the first frame has no hallucination, at least 2 are needed")
