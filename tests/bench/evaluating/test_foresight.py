from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tiny_data import TinySet

from bench.errors import RunError
from bench.evaluating.campaign import evaluate_all
from bench.evaluating.foresight import foresight_over_seeds, foresight_path
from bench.evaluating.runner import Task
from bench.reporting.foresight_table import write_foresight_table


def write(folder: Path, seed: int, hallucinated: list[float], copied: list[float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"clip": range(len(copied)), "hallucinated": hallucinated, "copied": copied})
    table.assign(hallucinated_free=0.5).to_csv(folder / f"foresight.seed{seed}.csv", index=False)


def test_means_and_spread_over_seeds(tmp_path: Path) -> None:
    write(tmp_path, 0, [0.9, 0.7, 0.8], [0.8, 0.6, 0.7])
    write(tmp_path, 1, [0.8, 0.6, 0.7], [0.8, 0.6, 0.7])
    (row,) = foresight_over_seeds(tmp_path).to_dict("records")
    assert (row["seeds"], row["clips"], row["verdict"]) == (2, 3, "better")
    assert row["hallucinated"] == pytest.approx(0.75)
    assert row["hallucinated_spread"] == pytest.approx(0.1 / 2**0.5)
    assert row["copied_spread"] == pytest.approx(0)
    assert (row["gain"], row["gain_low"], row["gain_high"]) == pytest.approx((0.05, 0.05, 0.05))


@pytest.mark.parametrize(
    ("hallucinated", "verdict"),
    [
        ([0.5, 0.6, 0.5, 0.6], "worse"),
        ([0.7, 0.5, 0.7, 0.5], "no difference shown"),
        ([0.8, 0.9, 0.8, 0.7], "better"),
    ],
)
def test_verdicts(tmp_path: Path, hallucinated: list[float], verdict: str) -> None:
    write(tmp_path, 0, hallucinated, [0.6, 0.62, 0.61, 0.62])
    assert foresight_over_seeds(tmp_path)["verdict"].item() == verdict


def test_the_table_says_who_wins(tmp_path: Path) -> None:
    write(tmp_path / "mini", 0, [0.9, 0.8], [0.8, 0.75])
    files = write_foresight_table("mini", tmp_path, tmp_path / "out")
    assert [file.suffix for file in files] == [".csv", ".md", ".tex"]
    text = files[1].read_text()
    assert "| hallucinated, one frame ahead " in text
    assert "+0.0750 [+0.0500, +0.1000]: better" in text
    assert write_foresight_table("epic", tmp_path, tmp_path / "out") == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "foresight.seed0.csv").write_text("clip,hallucinated\n1,x\n")
    with pytest.raises(RunError, match=r"foresight\.seed0\.csv"):
        foresight_over_seeds(tmp_path)


def test_it_is_kept_beside_evaluations_of_kept_features(
    make_task: Callable[..., Task], weights: Path, tmp_path: Path
) -> None:
    common = make_task("", "", weights=weights, features=tmp_path / "features")
    system = make_task(system="small/s2-t3").find()
    evaluate_all([system], ["learned"], common, TinySet(4, {2: "damaged"}), 1, tmp_path)
    table = pd.read_csv(foresight_path(tmp_path, TinySet(4).name, common.seed))
    assert list(table["clip"]) == [0, 1, 3]
    assert table[["hallucinated", "copied", "hallucinated_free"]].abs().le(1).all(axis=None)
    evaluate_all([make_task(system="small/s2").find()], ["learned"], common, TinySet(4), 1, tmp_path / "none")
    assert not list((tmp_path / "none").rglob("foresight*"))
