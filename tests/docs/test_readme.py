"""What the README says to write and to call is written, and called."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli import main

FOLDER = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (FOLDER / "README.md").read_text(), re.DOTALL | re.MULTILINE)
FILES = {found[1]: text for kind, text in BLOCKS if kind == "python" and (found := re.match(r"# (\w+\.py)\n", text))}
"""Adapters by the name that stands in their first line."""


def commands(file: str) -> list[list[str]]:
    """The calls of foveabench that name that file."""
    lines = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if f"{file}:" in line]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the README, and nothing else but the counts of known systems, which take long."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "results").mkdir()
    shutil.copy(FOLDER / "results" / "counts.json", tmp_path / "results")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    def run(arguments: list[str]) -> str:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        out, err = capsys.readouterr()
        assert not exit_.value.code, err
        return out

    return run


def test_ten_lines_make_a_row_in_the_table(work: Path, call: Callable[[list[str]], str]) -> None:
    calls = commands("my_net.py")
    assert [arguments[0] for arguments in calls] == ["flops", "measure", "tables", "compare-backbones"]
    written = [line for line in FILES["my_net.py"].splitlines() if line]
    assert len(written) + 1 <= 10  # and the call for the row
    for arguments in calls:
        call(arguments)
    with (work / "results" / "table4.csv").open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["system"] == "ucf101/my-net")
    macs = 14 * 14 * 64 * 3 * 49 + 64 * 14 * 14 * 101
    assert float(row["gmacs_counted"]) == macs / 1e9
    assert float(row["cpu_ms_per_frame_measured"]) > 0
    with (work / "results" / "compared" / "ucf101-ucf101-my-net.csv").open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["new"] == "True")
    assert (row["top1"], row["top1_kind"], row["top1_source"]) == ("52.1", "published", "our notebook")
    assert float(row["ms_per_frame"]) > 0
    assert "ucf101/my-net" in call(["list", "--adapter", "my_net.py:my_net"])


def test_a_guard_of_the_same_system_needs_no_change_of_the_package(work: Path) -> None:
    (work / "test_cost.py").write_text(
        "from my_net import my_net\n\n\ndef test_my_model(efficiency):\n    efficiency.check(my_net)\n"
    )
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark"]
    for more in (["--efficiency-update"], []):
        run = subprocess.run([*pytest_, *more], capture_output=True, text=True, check=False, cwd=work)
        assert run.returncode == 0, run.stdout + run.stderr
    assert (work / "efficiency" / "ucf101-my-net.json").is_file()
    wider = FILES["my_net.py"].replace("64", "65")
    (work / "my_net.py").write_text(wider)
    run = subprocess.run(pytest_, capture_output=True, text=True, check=False, cwd=work)
    assert run.returncode == 1
    assert "ucf101/my-net" in run.stdout


def test_the_adaptive_system_with_another_backbone_runs(work: Path, call: Callable[[list[str]], str]) -> None:
    (arguments,) = commands("adaptive_vit.py")
    out = call(arguments)
    assert "ucf101/vit-s2-t3, policy published" in out
    assert {"full", "prescan", "skip"} <= set(out.split())
