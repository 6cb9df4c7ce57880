"""Systems in smaller numbers beside themselves in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench.evaluating.precision import COLUMNS, against_float32, in_float32
from bench.records.evaluation import Evaluation
from bench.reporting.precision_table import write_precision_table

LABELS = [(0, 0), (1, 1), (2, 0), (0, 1)]


def logits(*classes: tuple[int, int]) -> list[tuple[list[float], list[float]]]:
    return [([float(i == verb) for i in range(3)], [float(i == noun) for i in range(2)]) for verb, noun in classes]


@pytest.fixture
def evaluations(made_up: Callable[..., Evaluation]) -> list[Evaluation]:
    right = logits(*LABELS)
    half = logits((0, 0), (1, 0), (0, 0), (0, 1))  # the second and the third are taken for something else
    return [
        made_up(LABELS, right, ["FPSF", "FPSF", "FFFF", "FPPP"]),
        made_up(LABELS, half, ["FPSF", "FFFF", "FFFF", "FPPP"], dtype="int8"),
        made_up(LABELS, right, ["FPSF", "FPSF", "FFFF", "FPPP"], dtype="bfloat16"),
    ]


def test_each_type_is_held_against_float32(evaluations: list[Evaluation]) -> None:
    table = against_float32(evaluations)
    assert list(table) == COLUMNS
    assert table["dtype"].tolist() == ["bfloat16", "int8"]
    same, other = (row for _, row in table.iterrows())
    assert (same["gain"], same["predictions_changed_pct"], same["decisions_changed_pct"]) == (0, 0, 0)
    assert same["verdict"] == "no difference shown"
    assert (other["top1_float32"], other["top1"], other["gain"]) == (100, 50, -50)
    assert other["gain_low"] <= -50 <= other["gain_high"]
    assert other["predictions_changed_pct"] == 50  # 2 of 4 clips
    assert other["decisions_changed_pct"] == pytest.approx(100 * 2 / 16)  # PS became FF
    assert (other["seeds"], other["clips"]) == (1, 4)


def test_seeds_are_put_together(evaluations: list[Evaluation]) -> None:
    plain, small, _ = evaluations
    both = [plain, small, replace(plain, seed=1), replace(plain, seed=1, dtype="int8")]
    (row,) = against_float32(both).to_dict("records")
    assert (row["seeds"], row["gain"], row["predictions_changed_pct"]) == (2, -25, 25)


def test_only_what_differs_in_the_type_alone_is_compared(evaluations: list[Evaluation]) -> None:
    plain, small, _ = evaluations
    changes = ({"weights": "sha256:1"}, {"policy": "random"}, {"limit": 4}, {"seed": 3}, {"trained": False})
    for change in changes:
        assert against_float32([plain, replace(small, **change)]).empty
    assert against_float32([plain, replace(small, clips=small.clips[:3])]).empty
    assert against_float32([small]).empty
    assert in_float32(evaluations) == [plain]


def test_the_table_in_three_forms(evaluations: list[Evaluation], tmp_path: Path) -> None:
    files = write_precision_table("mini", evaluations, tmp_path)
    assert [path.name for path in files] == ["precision.csv", "precision.md", "precision.tex"]
    assert pd.read_csv(files[0])["gain"].tolist() == [0, -50]
    assert "mini/s3-t2" in files[1].read_text()
    assert "4 held-out clips, 1 seed," in files[1].read_text()
    assert "| int8" in files[1].read_text()
    assert write_precision_table("mini", in_float32(evaluations), tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
