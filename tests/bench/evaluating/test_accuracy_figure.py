from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import RunError
from bench.evaluating.metrics import accuracy, hits
from bench.records.evaluation import Evaluation
from bench.reporting.accuracy_figure import ACCURACY_FIGURES, accuracy_against_cost, decisions

MakeUp = Callable[..., Evaluation]


@pytest.fixture
def evaluations(made_up: MakeUp) -> list[Evaluation]:
    def make(system: str, right: int, decided: str, **changes: object) -> Evaluation:
        pattern = [([2.0, 1.0],)] * right + [([1.0, 2.0],)] * (20 - right)
        return made_up([(0,)] * 20, pattern, decided, system=system, **changes)

    fixed = {"exact": {"call": 10**11}, "paper": {"call": 10**11}}
    made = [
        make("mini/san19-base", 14, "FFFF", policy="fixed", stages=fixed),
        make("mini/s0", 12, "FFFF", policy="always-full"),
        make("mini/s0-t2", 10, "FPSF"),
        make("mini/s0-t2", 14, "FPSF", seed=1),
        make("mini/s0-t4", 4, "FPSS"),
        make("mini/s1-t4", 3, "FPSS"),
        make("epic/s0", 5, "FFFF", policy="always-full", data="epic"),
    ]
    for policy, right in (("random", 8), ("uniform", 13)):
        made += [make("mini/s0-t2", right, "FSSF", policy=policy, seed=seed) for seed in (0, 1)]
    made.append(make("mini/s0-t2", 20, "FFFF", policy="always-full"))  # no point of its own
    made.append(make("mini/s9", 20, "FSSS", trained=False))
    made.append(make("mini/s8", 20, "FSSS", limit=20))
    return made


def test_points_and_their_front(evaluations: list[Evaluation]) -> None:
    data = accuracy_against_cost(evaluations).set_index("system")
    assert set(data.index) == {"mini/san19-base", "mini/s0", "mini/s0-t2", "mini/s0-t4", "mini/s1-t4", "epic/s0"}
    # 60 % for 70 %, of two seeds: their standard deviation is 10 / sqrt(2) * sqrt(2) = 14.14 points
    row = data.loc["mini/s0-t2"]
    assert (row["seeds"], row["top1"]) == (2, 60)
    assert (row["top1_low"], row["top1_high"]) == pytest.approx((60 - 14.142, 60 + 14.142), abs=1e-3)
    assert row["gflops"] == pytest.approx(253 / 4)
    one = accuracy(hits(evaluations[1])["top1"])
    assert data.loc["mini/s0", ["top1_low", "top1_high"]].tolist() == [one.low, one.high]
    # mini/s1-t4 costs what mini/s0-t4 does; mini/s0 is no better than mini/s0-t2 and costs more
    front = {"mini/san19-base": True, "mini/s0": False, "mini/s0-t2": True, "mini/s0-t4": True, "mini/s1-t4": False}
    assert data["pareto"].to_dict() == front | {"epic/s0": True}


def test_files_hold_the_data(evaluations: list[Evaluation], tmp_path: Path) -> None:
    for name, draw in ACCURACY_FIGURES.items():
        paths = draw(tmp_path, evaluations)
        assert [path.name for path in paths] == [f"{name}.png", f"{name}.svg", f"{name}.csv"]
        before = [path.read_bytes() for path in paths]
        assert [path.read_bytes() for path in draw(tmp_path, evaluations)] == before
    shown = pd.read_csv(tmp_path / "accuracy.csv")
    pd.testing.assert_frame_equal(shown, accuracy_against_cost(evaluations), check_dtype=False)
    gains = pd.read_csv(tmp_path / "decisions.csv").set_index("rival")["gain"]
    assert gains.to_dict() == pytest.approx({"random": 20, "uniform": -5})


def test_nothing_to_draw(evaluations: list[Evaluation], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="accuracy: no evaluation of a whole split with trained weights"):
        accuracy_against_cost([replace(each, trained=False) for each in evaluations])
    with pytest.raises(RunError, match="decisions: no system was evaluated with the policy learned and with random"):
        decisions(tmp_path, evaluations[:4])
