from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer

from bench.errors import RunError, UsageError
from bench.evaluating.command import command
from bench.records.evaluation import read_evaluation

SYSTEMS = """
import bench
from adaptive_models.san import SAN
from adaptive_models.system import AdaptiveSystem

INPUTS = {"rgb": (3, 224, 224), "spectrogram": (1, 256, 256)}


def narrow(channels):
    return SAN((0, 0, 0, 1, 0), channels=channels, widths=(32, 32, 32, 64, 64))


def make(max_skip):
    return AdaptiveSystem(1, max_skip, (8, 9), audio=True, head_layers=1, make_backbone=narrow, hidden=16)


@bench.system("own/s1-t2", inputs=INPUTS, crops=1, max_skip=2)
def temporal():
    return make(2)


@bench.system("own/s1", inputs=INPUTS, crops=1)
def spatial():
    return make(None)
"""

app = typer.Typer()
app.command()(command)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("adapter") / "own_systems.py"
    path.write_text(SYSTEMS)
    return ["--adapter", f"{path}:temporal", "--adapter", f"{path}:spatial"]


def run(*arguments: Any) -> None:
    app(list(map(str, arguments)), standalone_mode=False)


def on_mini(*arguments: Any, out: Path) -> None:
    run(*arguments, "--data", "mini", "--limit", 2, "--frames", 2, "--workers", 1, "--out", out)


def test_systems_and_policies_on_mini(adapters: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies = ["--policy", "random", "--policy", "learned", "--policy", "uniform"]
    on_mini("own/*", *adapters, *policies, "--seed", 2, "--json", out=tmp_path)
    printed = json.loads(capsys.readouterr().out)
    names = ["own--s1-t2.learned", "own--s1-t2.random", "own--s1-t2.uniform", "own--s1.always-full"]
    folder = tmp_path / "evaluations" / "mini"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.seed2.limit-2{suffix}" for name in names for suffix in (".json", ".times.csv")
    )
    rows = {(row["system"], row["policy"]): row for row in printed["evaluations"]}
    assert list(rows) == [
        ("own/s1-t2", "learned"),
        ("own/s1-t2", "random"),
        ("own/s1-t2", "uniform"),
        ("own/s1", "always-full"),
    ]
    learned = read_evaluation(folder / "own--s1-t2.learned.seed2.limit-2.json")
    assert [clip.labels for clip in learned.clips] == [(0, 0), (1, 1)]
    assert (learned.seed, learned.limit, learned.frames, learned.trained) == (2, 2, 2, False)
    row = rows["own/s1-t2", "learned"]
    assert row["gflops"] == pytest.approx(sum(clip.flops for clip in learned.clips) / 4e9)
    assert row["clips"] == 2
    assert row["trade_off"] is None or row["trade_off"] > 0
    assert [each["rival"] for each in printed["comparisons"]] == ["random", "uniform", "own/s1"]
    times = pd.read_csv(folder / "own--s1-t2.learned.seed2.limit-2.times.csv")
    assert times["id"].tolist() == [clip.id for clip in learned.clips]
    assert (times[["seconds", "decode_seconds"]] > 0).all(axis=None)

    on_mini("own/s1-t2", *adapters, "--policy", "random", "--seed", 2, out=tmp_path)  # from the file of the learned one
    shown = capsys.readouterr()
    assert "own/s1-t2  random" in shown.out
    assert "2 clips of mini val, 2 frames each" in shown.out
    assert "own/s1-t2: random weights" in shown.err

    on_mini("own/s1-t2", *adapters, "--dtype", "int8", "--seed", 2, out=tmp_path)
    assert "2 clips of mini val, 2 frames each, in int8" in capsys.readouterr().out
    small = read_evaluation(folder / "own--s1-t2.learned.int8.seed2.limit-2.json")
    assert (small.dtype, small.weights) == ("int8", learned.weights)
    assert small.clips[0].logits != learned.clips[0].logits
    assert small.clips[0].logits[0] == pytest.approx(learned.clips[0].logits[0], abs=0.02)

    two = [str(folder / f"own--s1{kind}") for kind in ("-t2.learned.seed2.limit-2.json", ".always-full")]
    run("--compare", *two)
    shown = capsys.readouterr()
    assert "own/s1-t2 learned" in shown.out
    assert "2 clips, seeds 2" in shown.out
    run("--compare", *two, "--json")
    compared = json.loads(capsys.readouterr().out)
    assert compared["a"]["system"] == "own/s1-t2"
    assert set(compared["differences"]["top1"]) == {"value", "low", "high"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], UsageError, "name systems and, with --data, a data set"),
        (["mini/s0"], UsageError, "name systems and, with --data, a data set"),
        (["own/s1", "--data", "maxi"], UsageError, "no 'val' of 'maxi': --data is epic, ucf101, mini"),
        (["own/s1", "--data", "mini", "--split", "test"], UsageError, "no 'test' of 'mini'"),
        (["own/s1", "--data", "epic=nowhere"], RunError, "nowhere: no such folder"),
        (["own/s1", "--data", "mini", "--frames", "0"], Exception, "range x>=1|greater than or equal to 1"),
        (["san1*", "--data", "mini"], UsageError, "san1[*]: no system that takes the frames of a clip"),
        (["epic/tbn-raf", "--data", "mini"], UsageError, "epic/tbn-raf takes rgb .*: a clip gives rgb and spectrogram"),
        (["own/s9", "--data", "mini"], UsageError, "no system or backbone 'own/s9'"),
        (
            ["own/s1-t2", "--data", "mini", "--policy", "random"],
            UsageError,
            "own/s1-t2: evaluate the policy learned too",
        ),
        (["own/s1", "--data", "mini", "--features", "kept"], UsageError, "--features needs --weights"),
        (
            ["own/s1", "--data", "mini", "--features", "kept", "--dtype", "bfloat16"],
            UsageError,
            "--features: they are kept in float32, and are other ones in bfloat16",
        ),
        (
            ["mini/tsn-resnet50", "--data", "mini", "--dtype", "int8"],
            RunError,
            "mini/tsn-resnet50 --dtype int8: int8 is for",
        ),
        (["own/s1", "--compare", "a", "b"], UsageError, "--compare takes two results and no systems"),
        (["--compare", "a", "b"], RunError, "a: neither a file of results nor the name of one"),
    ],
)
def test_wrong_calls(
    adapters: list[str], tmp_path: Path, arguments: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(*adapters, "--frames", 3, "--out", tmp_path, *arguments)
