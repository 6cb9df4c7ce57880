from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from adaptive_models.data.demo import write_demo_clip
from adaptive_models.san import SAN
from adaptive_models.ssim import ssim
from adaptive_models.system import AdaptiveSystem
from bench.errors import RunError, UsageError
from bench.reporting import attention_figures, clip_figures
from bench.reporting.clip_figures import CLIP_FIGURES, make_clip_figures
from bench.streaming import Stream, open_clip, stream_clip
from bench.systems.builtin import registry
from bench.systems.costs import build_model
from bench.systems.registry import System

FRAMES = 4
NARROW = (32, 32, 32, 64, 64)
POLICY = """
class Scripted:
    def choose(self, videos, t, logits):
        return [{1: 2, 3: 0}[t]]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip_figures")
    write_demo_clip(folder / "tiny.mp4", seconds=2, fps=5)
    (folder / "policy.py").write_text(POLICY)
    return folder


@pytest.fixture(scope="module")
def policy(folder: Path) -> str:
    return f"{folder / 'policy.py'}:Scripted"


@pytest.fixture(scope="module")
def stream(small_system: System, folder: Path) -> Iterator[Stream]:
    with open_clip(str(folder / "tiny.mp4"), small_system, FRAMES) as clip:
        yield stream_clip(clip, small_system, "always-full")


@pytest.fixture(scope="module")
def drawn(small_system: System, folder: Path, policy: str) -> dict[str, bytes]:
    out = folder / "drawn"
    paths = make_clip_figures([*CLIP_FIGURES], str(folder / "tiny.mp4"), small_system, policy, None, out, FRAMES)
    assert sorted(out.iterdir()) == sorted(paths)
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Figure, pd.DataFrame]]:
    """Figures and their data, instead of files."""
    made: list[tuple[Figure, pd.DataFrame]] = []

    def keep(figure: Figure, data: pd.DataFrame, name: str, out: Path) -> list[Path]:
        made.append((figure, data))
        return []

    monkeypatch.setattr(clip_figures, "save_figure", keep)
    monkeypatch.setattr(attention_figures, "save_figure", keep)
    return made


def deep(stream: Stream) -> Stream:
    """The stream, of a system whose network has as many blocks as SAN19."""

    def make(channels: int) -> SAN:
        return SAN((3, 3, 4, 6, 3), channels=channels, widths=NARROW)

    torch.manual_seed(0)
    return replace(stream, model=AdaptiveSystem(0, None, (3,), audio=False, head_layers=1, make_backbone=make).eval())


# --- attention of all blocks ---


@pytest.mark.parametrize("kind", ["pairwise", "patchwise"])
def test_attention_of_a_block_is_its_local_attentions_added_where_they_look(kind: str) -> None:
    torch.manual_seed(0)
    network = SAN((1, 1, 1, 2, 1), kind, widths=NARROW).double().eval()
    with torch.inference_mode():
        found = network.attentions(torch.randn(2, 3, 64, 64).double())
    assert list(found) == ["layer0.0", "layer1.0", "layer2.0", "layer3.0", "layer3.1", "layer4.0"]
    assert [cumulative.shape[1:] for _, cumulative in found.values()] == [
        (1, 32, 32), (1, 16, 16), (1, 8, 8), (2, 4, 4), (2, 4, 4), (2, 2, 2)
    ]  # fmt: skip
    for name in ("layer2.0", "layer3.1"):
        local, cumulative = found[name]
        added = torch.zeros_like(cumulative)
        side, height, width = local.shape[3], *local.shape[4:]
        for down, across, row, column in np.ndindex(side, side, height, width):
            y, x = row + down - side // 2, column + across - side // 2
            if 0 <= y < height and 0 <= x < width:
                added[:, :, y, x] += local[:, :, down, across, row, column]
        assert torch.allclose(added, cumulative)
        if kind == "pairwise":
            assert torch.allclose(local.sum(dim=(2, 3)), torch.ones(()).double())


def test_attention_of_the_split_is_that_of_the_prescan() -> None:
    torch.manual_seed(0)
    network, image = SAN((1, 1, 1, 2, 1), widths=NARROW, split="layer3.1").eval(), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network.attentions(image)["layer3.1"][1], network.prescan(image)[1])
        with pytest.raises(ValueError, match="SAN takes"):
            network.attentions(image[:, :1])


# --- what is shown ---


def test_fig5_has_the_attention_of_the_middle_frame_and_local_ones_of_six_footprints(
    drawn: dict[str, bytes], stream: Stream, folder: Path
) -> None:
    data = pd.read_csv(folder / "drawn" / "fig5.csv", dtype={"i_row": "Int64", "i_column": "Int64"})
    attention = stream.results[FRAMES // 2].attention
    assert attention is not None
    shown = data[data["map"] == "A"].pivot(index="row", columns="column", values="value").to_numpy()
    assert np.allclose(shown, attention.mean(dim=0), atol=2e-6)
    local = data[data["map"] == "a"].groupby(["i_row", "i_column"])
    assert set(local.groups) == {(row, column) for row in (1, 5) for column in (1, 3, 5)}
    for (row, column), cells in local:
        # a footprint is 7 x 7, and what of it lies in a map of 7 x 7 is shown
        assert set(cells["row"]) == set(range(max(row - 3, 0), min(row + 4, 7)))
        assert set(cells["column"]) == set(range(max(column - 3, 0), min(column + 4, 7)))
        assert 0 < cells["value"].sum() < 1


def test_fig5_draws_footprints_on_the_picture(stream: Stream, figures: list[tuple[Figure, pd.DataFrame]]) -> None:
    CLIP_FIGURES["fig5"](stream, Path())
    axes = figures[0][0].axes
    assert [panel.get_title() for panel in axes[:5]] == [
        "(a) input",
        *[f"(c) i = (1, {c})" for c in (1, 3, 5)],
        "(b) A",
    ]
    assert [len(panel.patches) for panel in axes] == [6, 1, 1, 1, 0, 1, 1, 1]
    (own,) = axes[1].patches
    assert (own.get_y(), own.get_x(), own.get_height(), own.get_width()) == (
        -0.5,
        -0.5,
        5,
        5,
    )  # rows and columns 0 to 4
    assert to_hex(own.get_edgecolor()) == to_hex(axes[0].patches[0].get_edgecolor())


def test_fig8_draws_boxes_of_all_frames_where_the_crops_were_taken(
    stream: Stream, figures: list[tuple[Figure, pd.DataFrame]]
) -> None:
    CLIP_FIGURES["fig8"](stream, Path())
    figure, data = figures[0]
    axes: list[Any] = figure.axes
    assert len(axes) == 3 * FRAMES
    for t, (panel, result) in enumerate(zip(axes[2 * FRAMES :], stream.results, strict=True)):
        assert result.boxes is not None
        by_colour = {to_hex(box.get_edgecolor()): (box.get_y(), box.get_x()) for box in panel.patches}
        assert [by_colour["#e41a1c"], by_colour["#4daf4a"]] == [tuple(box[:2]) for box in result.boxes.tolist()]
        for slot, box in enumerate(result.boxes.tolist(), start=1):
            assert [data.loc[t, f"box{slot}_{side}"] for side in ("top", "left", "bottom", "right")] == box


def test_fig9_has_no_hallucination_at_the_first_frame_and_the_similarity_of_the_maps_after_it(
    drawn: dict[str, bytes], stream: Stream, folder: Path
) -> None:
    data = pd.read_csv(folder / "drawn" / "fig9.csv")
    assert data["negative_ssim"].isna().tolist() == [True, False, False, False]
    assert data.filter(like="hallucination_").isna().all(axis=1).tolist() == [True, False, False, False]
    for result, shown in zip(stream.results[1:], data["negative_ssim"][1:], strict=True):
        assert result.attention is not None
        assert result.hallucination is not None
        assert shown == pytest.approx(-float(ssim(result.attention[None], result.hallucination[None])), abs=2e-6)
        maps = data.loc[result.t, [f"hallucination_{r}_{c}" for r, c in np.ndindex(7, 7)]].to_numpy(float)
        assert np.allclose(maps.reshape(7, 7), result.hallucination.mean(dim=0), atol=2e-6)


def test_fig9_writes_the_similarity_below(stream: Stream, figures: list[tuple[Figure, pd.DataFrame]]) -> None:
    CLIP_FIGURES["fig9"](stream, Path())
    below = [panel.get_xlabel() for panel in figures[0][0].axes[2 * FRAMES :]]
    assert below[0] == ""
    assert [float(text.replace("−", "-")) for text in below[1:]] == [
        round(-frame.similarity, 2) for frame in stream.frames[1:] if frame.similarity is not None
    ]


def test_fig11_has_every_block_beside_the_input(stream: Stream, figures: list[tuple[Figure, pd.DataFrame]]) -> None:
    CLIP_FIGURES["fig11"](deep(stream), Path())
    figure, data = figures[0]
    titles = [panel.get_title() for panel in figure.axes]
    assert titles[6] == "input"  # in the corner on the right
    names = [f"layer{stage}.{block}" for stage, blocks in enumerate((3, 3, 4, 6, 3)) for block in range(blocks)]
    sizes = [side for side, blocks in zip((56, 28, 14, 7, 3), (3, 3, 4, 6, 3), strict=True) for _ in range(blocks)]
    expected = [f"{name}, {side} × {side}" for name, side in zip(names, sizes, strict=True)]
    assert [*titles[:6], *titles[7:20]] == expected
    assert data.groupby("layer", sort=False).size().to_dict() == {
        name: side**2 for name, side in zip(names, sizes, strict=True)
    }
    for panel, (_, cells) in zip(figure.axes, list(data.groupby("layer", sort=False))[:6], strict=False):
        low, high = map(float, panel.get_xlabel().split(" to "))
        assert (low, high) == pytest.approx((cells["value"].min(), cells["value"].max()), rel=5e-3)
        assert panel.images[0].get_clim() == pytest.approx((cells["value"].min(), cells["value"].max()), abs=1e-6)


def test_fig12_has_decisions_of_the_policy_with_their_cost(drawn: dict[str, bytes], folder: Path) -> None:
    data = pd.read_csv(folder / "drawn" / "fig12.csv")
    assert data["decision"].tolist() == ["full", "prescan", "skip", "full"]
    first, prescan, skip, last = data["gflops"]
    assert skip == 0 < prescan < first < last  # the temporal sampler is not asked at the first
    assert data["attention_0_0"].isna().tolist() == [False, False, True, False]
    assert data["box1_top"].isna().tolist() == [False, True, True, False]
    assert pd.read_csv(folder / "drawn" / "fig8.csv")["decision"].tolist() == ["full"] * FRAMES


# --- how it is shown ---


def test_figures_say_of_what_they_are(
    small_system: System, folder: Path, policy: str, figures: list[tuple[Figure, pd.DataFrame]]
) -> None:
    torch.save(build_model(small_system).state_dict(), folder / "w.pt")
    for weights, words in ((None, "weights random, from seed 0"), (folder / "w.pt", f"weights {folder / 'w.pt'}")):
        make_clip_figures([*CLIP_FIGURES], str(folder / "tiny.mp4"), small_system, policy, weights, folder, FRAMES)
        captions = ["".join(figure.get_suptitle().split()) for figure, _ in figures]
        assert len(captions) == len(CLIP_FIGURES)
        for caption in captions:
            assert "tiny.mp4" in caption
            assert "small/s2-t3" in caption
            assert words.replace(" ", "") in caption
            assert ("random" in caption) == (weights is None)
        for _, data in figures:
            origins = data[["clip", "system", "weights"]].drop_duplicates().to_dict("records")
            name = str(weights or "random, from seed 0")
            assert origins == [{"clip": "tiny.mp4", "system": "small/s2-t3", "weights": name}]
        figures.clear()


@pytest.mark.parametrize("frames", [1, 4, 20])
def test_words_stay_inside_and_apart(
    small_system: System, folder: Path, figures: list[tuple[Figure, pd.DataFrame]], frames: int
) -> None:
    with open_clip(str(folder / "tiny.mp4"), small_system, frames) as clip:
        stream = deep(stream_clip(clip, small_system, "always-full"))
        for draw in CLIP_FIGURES.values():
            draw(replace(stream, system="epic/s3-t4", policy="published (Table II)"), Path())
    for figure, _ in figures:
        assert figure.get_size_inches()[0] in (3.5, 516 / 72)
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        found = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in found]
        panels = [(panel.get_title(), panel.get_window_extent(renderer)) for panel in figure.axes if panel.images]
        for text, box in boxes:
            assert box.x0 >= 0, text
            assert box.y0 >= 0, text
            assert box.x1 <= figure.bbox.x1, text
            assert box.y1 <= figure.bbox.y1, text
        for (text, box), (other, other_box) in combinations(boxes, 2):
            assert not box.overlaps(other_box), (text, other)
        for text, box in boxes:
            if not text.startswith("SSIM"):
                assert not any(box.overlaps(panel) for _, panel in panels), text


def test_files_are_as_wide_as_a_column_or_a_page(drawn: dict[str, bytes]) -> None:
    assert set(drawn) == {f"{name}.{suffix}" for name in CLIP_FIGURES for suffix in ("png", "svg", "csv")}
    for name in CLIP_FIGURES:
        width = int.from_bytes(drawn[f"{name}.png"][16:20], "big")
        assert width in (252 * 300 // 72, 516 * 300 // 72)
        assert f'width="{width * 72 // 300}pt"'.encode() in drawn[f"{name}.svg"]


def test_the_same_inputs_give_the_same_bytes(
    small_system: System, folder: Path, policy: str, drawn: dict[str, bytes], tmp_path: Path
) -> None:
    with matplotlib.rc_context({"font.size": 31, "svg.hashsalt": "mine", "image.cmap": "gray"}):
        paths = make_clip_figures(
            ["fig12", "fig5", "fig9"], str(folder / "tiny.mp4"), small_system, policy, None, tmp_path, FRAMES
        )
    assert len(paths) == 9
    for path in paths:
        assert path.read_bytes() == drawn[path.name], path.name


# --- what cannot be shown ---


@pytest.mark.parametrize(
    ("name", "system", "frames", "message"),
    [
        ("fig7", "epic/s3-t4", None, r"no figure 'fig7' of a clip: use fig5, fig8, fig9, fig11, fig12"),
        ("fig8", "epic/s0-t1", None, r"fig8: epic/s0-t1 samples no regions: use .* epic/s3"),
        ("fig9", "epic/s3", None, r"fig9: epic/s3 has no hallucinator: use one with a temporal sampler"),
        ("fig9", "epic/s3-t4", 1, r"fig9: --frames 1: the first frame has no hallucination"),
        ("fig5", "san19", None, r"san19 is not adaptive"),
    ],
)
def test_what_there_is_nothing_to_show_for_is_refused(
    tmp_path: Path, name: str, system: str, frames: int | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_clip_figures(["fig12", name], "demo", registry().find(system), "published", None, tmp_path / "new", frames)
    assert not (tmp_path / "new").exists()


def test_no_clip_no_weights_and_no_folder_are_one_error(small_system: System, folder: Path) -> None:
    clip = str(folder / "tiny.mp4")
    with pytest.raises(RunError, match=r"none\.mp4: no such file"):
        make_clip_figures(["fig5"], str(folder / "none.mp4"), small_system, "learned", None, folder, FRAMES)
    with pytest.raises(RunError, match=r"none\.pt: no such checkpoint"):
        make_clip_figures(["fig5"], clip, small_system, "learned", folder / "none.pt", folder, FRAMES)
    (folder / "taken").touch()
    with pytest.raises(RunError, match=r"cannot write .*fig5\.png"):
        make_clip_figures(["fig5"], clip, small_system, "learned", None, folder / "taken", FRAMES)
