from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import RunError
from bench.records.files import write_file, write_text

FOLDER = Path(__file__).resolve().parents[3]


def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "counts.json", "µ-ops\n")
    assert (tmp_path / "a" / "b" / "counts.json").read_bytes() == b"\xc2\xb5-ops\n"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["counts.json"]


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / "counts.json", "{}")
    assert stat.S_IMODE((tmp_path / "counts.json").stat().st_mode) == 0o644


def test_a_file_that_was_there_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "table1.csv"
    path.write_text("an old and longer text")
    before = path.stat().st_ino
    write_text(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_ino != before  # who has the old one open still reads the old one


def test_the_temporary_file_has_the_suffix_that_writers_go_by(tmp_path: Path) -> None:
    suffixes = []
    write_file(tmp_path / "fig3.png", lambda path: suffixes.append(path.suffix))
    assert suffixes == [".png"]


@pytest.mark.parametrize("error", [ValueError("no such layer"), KeyboardInterrupt()])
def test_an_interrupted_writer_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "fig3.png"
    path.write_text("old")

    def write_half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise error

    with pytest.raises(type(error)):
        write_file(path, write_half)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"fig3.png": "old"}


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path) -> None:
    # a limit on the size of files makes the kernel refuse the rest, as a full disk does
    path = tmp_path / "counts.json"
    path.write_text("old")
    code = """
import resource, signal, sys
from pathlib import Path
from bench.errors import RunError
from bench.records.files import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(Path(sys.argv[1]), "x" * 100_000)
except RunError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(path)]
    result = subprocess.run(command, check=True, cwd=FOLDER, capture_output=True, text=True)
    assert result.stdout == f"cannot write {path}: File too large\n"
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"counts.json": "old"}


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(RunError, match=r"^cannot write .*results/counts\.json: File exists$"):
        write_text(tmp_path / "results" / "counts.json", "{}")


def test_a_folder_in_the_place_of_the_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "counts.json").mkdir()
    with pytest.raises(RunError, match=r"^cannot write .*counts\.json: Is a directory$"):
        write_text(tmp_path / "counts.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["counts.json"]
