from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from bench.records.evaluation import evaluation_path, write_evaluation
from bench.records.measurement import Record, write_record

FOLDER = Path(__file__).resolve().parents[3]

SYSTEMS = """
import bench
from torch import nn


def net(name, **more):
    return bench.system(f"ucf101/{name}", inputs={"rgb": (3, 32, 32)}, **more)


@net("rated", title="A 50 % [net]_1", published={"top1": 85.9, "source": "a blog"})
def rated():
    return nn.Conv2d(3, 10, 3, padding=1)


@net("unrated")
def unrated():
    return nn.Conv2d(3, 10, 3, padding=1)


@net("raises")
def raises():
    raise OSError("no such weights\\nsecond line")


@net("wrong-shape")
def wrong_shape():
    return nn.Conv2d(4, 10, 3)


@net("s0")
def clash():
    return nn.Conv2d(3, 10, 3)


@bench.system("epic/other", inputs={"rgb": (3, 32, 32)})
def other():
    return nn.Conv2d(3, 10, 3)


@bench.system("elsewhere/net", inputs={"rgb": (3, 32, 32)})
def elsewhere():
    return nn.Conv2d(3, 10, 3)
"""
LABELS = {
    "high": '{"top1": "high", "source": "us"}',
    "beyond": '{"top1": 120, "source": "us"}',
    "without": '{"top1": 50}',
}
MACS = 3 * 9 * 10 * 32 * 32  # of `rated`

Cli = Callable[..., "Result"]


class Result:
    """What a call of the command did."""

    def __init__(self, status: Any, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Calls the command in a folder with systems, and with the counts of all known ones, which take long to make."""
    (tmp_path / "mine.py").write_text(SYSTEMS)
    for name, published in LABELS.items():
        (tmp_path / f"{name}.py").write_text(
            f'import bench\n@bench.system("ucf101/x", inputs={{"x": (3,)}}, published={published})\ndef x(): ...\n'
        )
    (tmp_path / "results").mkdir()
    shutil.copy(FOLDER / "results" / "counts.json", tmp_path / "results")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as exit_:
            main(["compare-backbones", *map(str, arguments)])
        return Result(exit_.value.code or 0, *capsys.readouterr())

    return call


def test_an_adapter_among_all_known_systems(compare: Cli, make_record: Callable[..., Record], tmp_path: Path) -> None:
    for system, ms in (("ucf101/rated", 90.0), ("ucf101/s0", 80.0), ("ucf101/res3d-18", 200.0)):
        record = make_record(system, full=[ms] * 30)
        write_record(record, tmp_path / "results" / "records" / "imaginary" / f"{record.case.name}.json")
    result = compare("--adapter", "mine.py:rated", "--json")
    assert (result.status, result.err) == (0, "")
    data = result.data
    rows = {row["system"]: row for row in data["systems"]}
    assert {"ucf101/s3-t4", "ucf101/tsn-resnet50", "ucf101/dsn", "ucf101/rated"} <= rows.keys()
    assert [row["system"] for row in data["systems"] if row["new"]] == ["ucf101/rated"]
    own = rows["ucf101/rated"]
    # The `paper` convention counts multiply-accumulates and biases
    assert own["gflops"] * 1e9 == pytest.approx(MACS + 10 * 32 * 32)
    assert own["trade_off"] == pytest.approx(own["gflops"] / 85.9)
    assert (own["top1_kind"], own["top1_source"], own["ms_per_frame"]) == ("published", "a blog", 90)
    assert rows["ucf101/s0"]["dominated_by_gflops"] == ["ucf101/rated", "ucf101/s0-t1"]
    assert rows["ucf101/s0-t4"]["top1"] is None
    (placement,) = data["placements"]
    assert placement["trade_off"]["place"] == 1
    by_flops, by_time = (placement["standings"][name] for name in ("gflops", "ms_per_frame"))
    assert (by_flops["on_front"], by_flops["rank"]["place"]) == (True, 1)
    assert (by_time["on_front"], by_time["rank"]["place"], by_time["rank"]["among"]) == (True, 2, 3)
    assert placement["missing"] == []
    assert data["setup"] == "cpu"
    files = {Path(file).suffix: tmp_path / file for file in data["files"]}
    assert {".png", ".svg", ".csv", ".tex"} == files.keys()
    with files[".csv"].open() as file:
        assert [row["system"] for row in csv.DictReader(file)] == list(rows)
    tex = files[".tex"].read_text()
    assert r"A 50 \% [net]\_1 among the systems of UCF-101" in tex
    assert r"ucf101/rated (new) &" in tex


def test_for_people(compare: Cli) -> None:
    result = compare("--adapter", "mine.py:rated")
    assert result.status == 0
    assert "ucf101/rated (new)" in result.out
    assert "GFLOPs per frame: place 1 of " in result.out
    assert "; on the Pareto front" in result.out
    assert "note: top-1 of ucf101/rated is published: a blog" in result.err
    assert "note: ucf101/rated is not measured here: foveabench measure ucf101/rated" in result.err


def test_an_accuracy_that_is_given_or_none(compare: Cli) -> None:
    result = compare("--adapter", "mine.py:unrated", "--json")
    assert result.status == 0
    own = next(row for row in result.data["systems"] if row["new"])
    assert [own[name] for name in ("top1", "trade_off", "top1_kind", "front_gflops")] == [None] * 4
    (placement,) = result.data["placements"]
    assert placement["trade_off"] is None
    assert placement["standings"]["gflops"]["on_front"] is None
    assert any("has no top-1 accuracy, so it has no trade-off" in text for text in placement["missing"])
    given = compare("--adapter", "mine.py:unrated", "--top1", 60, "--source", "us", "--json").data
    own = next(row for row in given["systems"] if row["new"])
    assert (own["top1"], own["top1_kind"], own["top1_source"]) == (60, "given", "us")
    assert own["top1_low"] < 60 < own["top1_high"]


def test_an_accuracy_that_was_measured_goes_before_a_published_one(
    compare: Cli, made_up: Callable[..., Any], tmp_path: Path
) -> None:
    pattern = [([2.0, 1.0],)] * 15 + [([1.0, 2.0],)] * 5
    evaluation = made_up([(0,)] * 20, pattern, "FFFF", system="ucf101/rated", policy="fixed", data="ucf101")
    write_evaluation(evaluation, evaluation_path(Path("results"), "ucf101", "val", None, "ucf101/rated", "fixed", 0))
    data = compare("--adapter", "mine.py:rated", "--json").data
    own = next(row for row in data["systems"] if row["new"])
    assert (own["top1"], own["top1_kind"]) == (75, "measured")
    assert own["top1_low"] == pytest.approx(53.1, abs=0.1)  # Wilson, of 15 in 20
    assert own["top1_high"] == pytest.approx(88.8, abs=0.1)


def test_a_known_system_and_a_backbone_are_placed_too(compare: Cli) -> None:
    data = compare("ucf101/s3", "san19", "--json").data
    first, second = data["placements"]
    assert (first["system"], second["system"], data["workload"]) == ("ucf101/s3", "san19", "ucf101")
    assert len([row for row in data["systems"] if row["system"] == "ucf101/s3"]) == 1
    assert first["standings"]["gflops"]["dominated_by"]


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        ([], "name a new system, such as timm:resnet50", 2),
        (["san19"], "--workload is needed: san19 is of none; use epic, ucf101, mini", 2),
        (["san19", "--workload", "hmdb"], "no known systems of 'hmdb'", 2),
        (["ucf101/s9"], "no system or backbone 'ucf101/s9'", 2),
        (["--adapter", "mine.py:raises"], "ucf101/raises cannot be built: OSError: no such weights", 1),
        (["--adapter", "mine.py:wrong_shape"], "ucf101/wrong-shape cannot be run on rgb 3x32x32: RuntimeError", 1),
        (["--adapter", "mine.py:clash"], "there is a system 'ucf101/s0' already: give yours another id", 2),
        (["--adapter", "mine.py:elsewhere"], "no known systems of 'elsewhere'", 2),
        (["--adapter", "mine.py:other", "--adapter", "mine.py:rated"], "systems of epic and ucf101 cannot be", 2),
        (["--adapter", "mine.py:rated", "--workload", "epic"], "systems of epic and ucf101 cannot be compared", 2),
        (["--adapter", "high.py:x"], "published top1 'high': it is a number of per cent", 2),
        (["--adapter", "beyond.py:x"], "published top1 120: it is a number of per cent, from 0 to 100", 2),
        (["--adapter", "without.py:x"], 'say where, under "source"', 2),
        (["ucf101/s0", "--top1", "50"], "--top1 50: say where it is from, as in --source", 2),
        (["ucf101/s0", "ucf101/s1", "--top1", "50", "--source", "us"], "--top1 50 is of one system, and 2 are new", 2),
        (["ucf101/s0", "--setup", "cuda"], "--setup cuda: nothing was measured so; there is nothing", 2),
        (["ucf101/s0", "--machine", "pluto"], "no measurements of the machine 'pluto'", 2),
        (["ucf101/s0", "--out", "mine.py"], "mine.py", 1),
    ],
)
def test_what_is_wrong_is_said_in_a_line(compare: Cli, arguments: list[str], message: str, status: int) -> None:
    result = compare(*arguments)
    assert (result.status, result.out) == (status, "")
    assert message in result.err
    assert result.err.count("\n") == 1
