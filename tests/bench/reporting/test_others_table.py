from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from baselines.arnet import ARNet
from baselines.frameexit import FrameExit
from bench.reporting.others_table import others_table, write_others
from bench.systems.others import Bounds, adafocus, frameexit

RESNET50 = 4_089_184_256 - 2048 * 1000
"""Multiply-accumulates at 224 pixels without the classifier."""
MOBILENET = 300_774_272 - 1280 * 1000


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return others_table().set_index("title")


def test_adafocus_by_hand() -> None:
    looks = RESNET50 * 128**2 // 224**2  # every map halves without rest
    encoder = 1280 * 32 * 49 + 32 * 49 * 1024
    policy = 3 * 1024 * (1024 + 1024) + 1024 * 49
    memory = 3 * 1024 * (1280 + 2048 + 1024) + 1024 * 200
    macs = 16 * (MOBILENET + looks + encoder + policy + memory)
    assert adafocus() == Bounds(macs, macs)
    assert macs / 1e9 == pytest.approx(26.6, rel=0.01)  # published; nothing here was made to fit


def test_frameexit_by_hand() -> None:
    of_a_frame, classifier = RESNET50 + 2048 * 4096, 4096 * 200
    gate = 2 * (4096 * 128 + 128 * 64) + 128
    assert frameexit() == Bounds(of_a_frame + classifier, 10 * of_a_frame + 8 * gate + 2 * classifier)


def test_the_published_figure_lies_within_the_bounds(frame: pd.DataFrame) -> None:
    for title, row in frame.drop("AdaFocus (128 x 128)").iterrows():
        assert row["gmacs_least_counted"] < float(row["gflops_published"]) < row["gmacs_most_counted"], title
    assert frame.loc["AR-Net (ResNet)", "gmacs_most_counted"] > 16 * RESNET50 / 1e9


def test_every_row_says_where_it_is_from(frame: pd.DataFrame, tmp_path: Path) -> None:
    assert frame["source"].ne("").all()
    files = write_others(tmp_path)
    assert [path.name for path in files] == ["others.csv", "others.md", "others.tex"]
    text = (tmp_path / "others.md").read_text()
    assert all(title in text for title in frame.index)


def test_networks_say_what_they_should() -> None:
    with torch.device("meta"):
        model = ARNet(7).eval()
        features, choices = model.scan(torch.empty(2, 3, 84, 84))
        assert choices.shape == (2, 4 + 3)
        assert {model.look(torch.empty(2, 3, side, side), features).shape for side in (224, 168, 112, 84)} == {(2, 7)}
        exits = FrameExit(7).eval()
        assert {exits(torch.empty(2, frames, 3, 64, 64)).shape for frames in (1, 2, 10)} == {(2, 7)}
