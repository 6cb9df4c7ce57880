from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli import main
from bench.compare.command import START

NETS = """
import bench
from torch import nn


def convolutions(depth):
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *(nn.Conv2d(8, 8, 3, padding=1) for _ in range(depth)))


@bench.system("my/net", inputs={"rgb": (3, 64, 64)})
def net():
    return convolutions(DEPTH)
"""


def nets(folder: Path, depth: int) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "nets.py"
    path.write_text(NETS.replace("DEPTH", str(depth)))
    return path


SLEEPERS = """
import time
import bench
from torch import nn


class Sleeper(nn.Module):  # other work on the machine hardly touches it
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds)


@bench.system("my/one", inputs={"rgb": (3, 64, 64)})
def one():
    return Sleeper(0.01)


@bench.system("my/slow", inputs={"rgb": (3, 64, 64)})
def slow():
    return Sleeper(0.03)


@bench.system("my/pairs", inputs={"rgb": (2, 3, 64, 64)}, frames=2)
def pairs():
    return Sleeper(0.02)
"""


def sleepers(folder: Path) -> Path:
    path = folder / "sleepers.py"
    path.write_text(SLEEPERS)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_what_takes_longer_is_slower_and_what_takes_less_faster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sleepers(tmp_path)
    options = ["--adapter", f"{path}:one", "--adapter", f"{path}:slow", "--seconds", "1", "--threads", "1", "--json"]
    for a, b, outcome, ratio in (("my/one", "my/slow", "slower", 3), ("my/slow", "my/one", "faster", 1 / 3)):
        status, out, _ = run(capsys, "compare", a, b, *options)
        (comparison,) = json.loads(out)
        assert status == 0
        assert comparison["outcome"] == outcome
        assert comparison["ratio"]["value"] == pytest.approx(ratio, rel=0.3)


def test_a_system_of_two_frames_a_call_is_compared_per_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sleepers(tmp_path)
    adapters = ["--adapter", f"{path}:one", "--adapter", f"{path}:pairs"]
    _, out, _ = run(capsys, "compare", "my/one", "my/pairs", *adapters, "--seconds", "1", "--threads", "1", "--json")
    (comparison,) = json.loads(out)
    assert comparison["ratio"]["value"] == pytest.approx(1, abs=0.3)  # 2 if it were of calls


def test_adaptive_systems_are_compared_at_their_operating_points(
    small_adapter: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "samplers.py"
    source = Path(small_adapter.rpartition(":")[0]).read_text()
    path.write_text(source.replace("small/s2-t3", "epic/s2-t3x"))
    # Without published shares of its own, such a system has those of its k and M; half of its frames are skipped.
    adapters = ["--adapter", f"{path}:small", "--adapter", small_adapter]
    options = ["--seconds", "3", "--threads", "1", "--frames", "10", "--json"]
    _, out, _ = run(capsys, "compare", "small/s2-t3", "epic/s2-t3x", *adapters, *options)
    (comparison,) = json.loads(out)
    assert 0.5 < comparison["ratio"]["value"] < 2
    assert "in turns" in comparison["how"]


def test_two_working_trees_are_restarted_and_each_runs_its_own_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.compare.command.START", START | {"budget": 0.5, "warmup": 0.2})
    for name, depth in (("before", 2), ("after", 40)):
        nets(tmp_path / name, depth)
    trees = [str(tmp_path / name) for name in ("before", "after")]
    options = ["--system", "my/net", "--adapter", "nets.py:net", "--threads", "1", "--restarts", "3", "--json"]
    status, out, _ = run(capsys, "compare", *trees, *options)
    (comparison,) = json.loads(out)
    assert status == 0
    assert comparison["outcome"] == "slower"
    assert comparison["ratio"]["value"] > 3
    assert "3 restarts" in comparison["how"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["san19", "TREE"], "compare two of a kind"),
        (["san19", "san20"], "no system or backbone 'san20'"),
        (["san19", "san10", "--system", "san19"], "--system is for two working trees"),
        (["san19", "san10", "--live"], "--live is for two records"),
        (["TREE", "TREE"], "say with --system what to run"),
        (["san19", "san10", "--seconds", "0"], "--seconds 0: it must be positive"),
        (["san19", "san10", "--threads", "0"], "--threads 0: at least 1 is needed"),
        (["san19", "san10", "--device", "toaster"], "--device toaster"),
        (["epic/s0-t1", "epic/s1-t1", "--policy", "dice"], "no policy 'dice'"),
        (["TREE", "TREE", "--system", "san19", "--restarts", "2"], "at least 3 of each"),
    ],
)
def test_wrong_calls_are_one_clear_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "compare", *(each.replace("TREE", str(tmp_path)) for each in arguments))
    assert status == 2
    assert not out
    assert err.count("\n") == 1
    assert words in err
