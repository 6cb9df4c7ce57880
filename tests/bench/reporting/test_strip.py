from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib.style
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from adaptive_models.data.demo import write_demo_clip
from adaptive_models.data.transforms import displayable
from bench.errors import RunError
from bench.reporting.strip import draw_strip, strip_figure
from bench.streaming import Stream, open_clip, stream_clip
from bench.systems.registry import System

POLICY = """
class Scripted:
    def choose(self, videos, t, logits):
        return [{1: 2, 3: 0}[t]]
"""
DECISIONS = ("full", "prescan", "skip", "full")
ROWS = ("frame", "attention", "hallucination", "regions")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strip")
    write_demo_clip(folder / "demo.mp4", seconds=2, fps=5)
    (folder / "policy.py").write_text(POLICY)
    return folder


@pytest.fixture(scope="module")
def stream(small_system: System, folder: Path) -> Iterator[Stream]:
    with open_clip(str(folder / "demo.mp4"), small_system, 4) as clip:
        stream = stream_clip(clip, small_system, f"{folder / 'policy.py'}:Scripted")
        assert tuple(frame.decision for frame in stream.frames) == DECISIONS
        yield stream


@pytest.fixture(scope="module")
def axes(stream: Stream) -> np.ndarray:
    """The axes of the strip as rows and columns."""
    return np.array(strip_figure(stream).axes).reshape(len(ROWS), len(DECISIONS))


def border(axes: Axes) -> str | None:
    spine = axes.spines["left"]
    return to_hex(spine.get_edgecolor()) if spine.get_visible() else None


def test_rows_and_columns_are_named(axes: np.ndarray, stream: Stream) -> None:
    assert tuple(row[0].get_ylabel() for row in axes) == ROWS
    assert [each.get_title() for each in axes[0]] == ["t = 0", "t = 1", "t = 2", "t = 3"]
    below = [each.get_xlabel().split() for each in axes[-1]]
    assert [words[0] for words in below] == list(DECISIONS)
    assert [float(words[1]) for words in below] == pytest.approx([f.flops / 1e9 for f in stream.frames], rel=5e-3)


def test_borders_and_paleness_tell_the_decision(axes: np.ndarray) -> None:
    assert [border(each) for each in axes[0]] == ["#d62728", "#2ca02c", None, "#d62728"]
    assert [each.images[0].get_alpha() < 1 for each in axes[0]] == [False, False, True, False]


def test_pictures_are_the_frames_of_the_clip(axes: np.ndarray, stream: Stream) -> None:
    assert stream.clip is not None
    for t, each in enumerate(axes[0]):
        assert np.array_equal(each.images[0].get_array(), displayable(stream.clip.image(t)))


@pytest.mark.parametrize(("row", "name"), [(1, "attention"), (2, "hallucination")])
def test_maps_are_means_over_channels_on_one_scale(axes: np.ndarray, stream: Stream, row: int, name: str) -> None:
    attention = [result.attention.mean(dim=0) for result in stream.results if result.attention is not None]
    scale = (min(float(m.min()) for m in attention), max(float(m.max()) for m in attention))
    for each, result in zip(axes[row], stream.results, strict=True):
        maps = getattr(result, name)
        assert len(each.images) == (maps is not None)
        if maps is not None:
            assert np.allclose(each.images[0].get_array(), maps.mean(dim=0).numpy())
            assert each.images[0].get_clim() == pytest.approx(scale)
    assert [bool(each.images) for each in axes[2]] == [False, True, False, True]


def test_boxes_lie_where_the_crops_were_taken(axes: np.ndarray, stream: Stream) -> None:
    for each, result in zip(axes[3], stream.results, strict=True):
        drawn = {
            (box.get_y(), box.get_x(), box.get_y() + box.get_height(), box.get_x() + box.get_width())
            for box in each.patches
        }
        assert drawn == ({tuple(box) for box in result.boxes.tolist()} if result.boxes is not None else set())


def test_rows_that_would_be_empty_are_left_out(stream: Stream) -> None:
    results = [replace(result, attention=None, boxes=None, hallucination=None) for result in stream.results]
    assert len(strip_figure(replace(stream, results=results)).axes) == len(DECISIONS)


def test_the_title_says_what_was_run_with_which_weights(stream: Stream) -> None:
    title = " ".join(strip_figure(stream).get_suptitle().split())
    executed, full = f"{stream.per_frame / 1e9:.3g}", f"{stream.always_full / 1e9:.3g}"
    for words in ("small/s2-t3", executed, full, "exact", "Scripted", "weights random, from seed 0"):
        assert words in title


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "PNG"])
def test_the_same_results_give_the_same_bytes(stream: Stream, folder: Path, suffix: str) -> None:
    draw_strip(stream, folder / f"a.{suffix}")
    with matplotlib.style.context("dark_background"):  # of someone who likes it
        draw_strip(stream, folder / f"b.{suffix}")
    first, second = ((folder / f"{name}.{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert len(first) > 10_000


def test_a_strip_that_cannot_be_written(stream: Stream, folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(RunError, match="cannot write"):
        draw_strip(stream, folder / "file" / "a.png")
