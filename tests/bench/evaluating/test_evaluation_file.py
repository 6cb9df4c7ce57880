from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.errors import RunError
from bench.records.evaluation import (
    Evaluation,
    evaluation_path,
    read_evaluation,
    read_evaluations,
    write_evaluation,
)


@pytest.fixture
def evaluation(made_up: Callable[..., Evaluation]) -> Evaluation:
    logits = [([0.1, 2.5, -1.0, 3.0, 0.0, 7.25], [0.3333333, 0.2])] * 2
    notes = {"clip-1": ["silence stands for the sound"]}
    return made_up([(3, 0), (5, 1)], logits, ["FPSS", "FFPF"], left_out={"clip-9": "clip-9.avi: is empty"}, notes=notes)


def test_a_file_holds_all_of_it(evaluation: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_evaluation(evaluation, path)
    assert read_evaluation(path) == evaluation
    data = json.loads(path.read_text())
    assert data["clips"][0] == {
        "id": "clip-0",
        "labels": [3, 0],
        "top": [[5, 3, 1, 0, 4], [0, 1]],
        "logits": [[7.25, 3.0, 2.5, 0.1, 0.0], [0.3333333, 0.2]],
        "decisions": "FPSS",
        "flops": 0,
    }
    assert list(data)[-1] == "clips"
    # a line for each clip, so that revisions can be compared
    assert sum('"decisions"' in line for line in path.read_text().splitlines()) == 2


def test_names_of_files(tmp_path: Path) -> None:
    def name(*arguments: Any) -> str:
        return evaluation_path(tmp_path, *arguments).relative_to(tmp_path).as_posix()

    assert name("mini", "val", None, "mini/s3-t2", "learned", 0) == "evaluations/mini/mini--s3-t2.learned.seed0.json"
    assert (
        name("mini", "train", 40, "a.b", "x/own.py:Best", 2)
        == "evaluations/mini-train/a-b.x-own-py-Best.seed2.limit-40.json"
    )
    assert (
        name("mini", "val", None, "mini/s3-t2", "learned", 0, "int8")
        == "evaluations/mini/mini--s3-t2.learned.int8.seed0.json"
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema", 2, "schema 2, this version reads 1"),
        ("seed", "0", "damaged .seed"),
        ("clips", [{"id": "x"}], "damaged .clips.0.labels"),
        ("surprise", 1, "damaged .surprise"),
    ],
)
def test_damaged_files(evaluation: Evaluation, tmp_path: Path, key: str, value: object, message: str) -> None:
    write_evaluation(evaluation, tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(data | {key: value}))
    with pytest.raises(RunError, match=message):
        read_evaluation(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decisions": "FXS"}, "clips.1.decisions"),
        ({"labels": [1]}, "clip clip-1: labels, top and logits of different"),
    ],
)
def test_damaged_clips(evaluation: Evaluation, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_evaluation(evaluation, tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    data["clips"][1] |= changes
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(RunError, match=message):
        read_evaluation(tmp_path / "a.json")


def test_a_damaged_file_costs_itself_alone(evaluation: Evaluation, tmp_path: Path) -> None:
    for seed in (0, 1):
        other = replace(evaluation, seed=seed)
        write_evaluation(other, evaluation_path(tmp_path, "mini", "val", None, "mini/s3-t2", "learned", seed))
    (tmp_path / "evaluations" / "mini" / "broken.json").write_text("{")
    problems: list[str] = []
    assert [each.seed for each in read_evaluations(tmp_path / "evaluations", problems.append)] == [0, 1]
    assert len(problems) == 1
    assert "broken.json: damaged" in problems[0]
    assert read_evaluations(tmp_path / "nowhere", problems.append) == []


def test_results_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such evaluation; `foveabench evaluate` makes it"):
        read_evaluation(tmp_path / "a.json")
