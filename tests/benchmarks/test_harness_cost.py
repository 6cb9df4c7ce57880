"""What the harness itself takes: counting, starting, making tables and figures, and reading records.

Run with `pytest tests/benchmarks/test_harness_cost.py --benchmark-only -s`. Each is done in a fresh process and judged
by its CPU time (user and system), which other processes on the machine disturb the least.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import bench
from bench.records.measurement import read_record, write_record

RESULTS = Path(bench.__file__).parents[1] / "results"

COUNTING = """
from bench.systems.builtin import registry
from bench.systems.costs import count_system

for system in registry([]):
    count_system(system, "paper")
"""
HELP = 'from bench.cli import main; main(["--help"])'
REBUILDING = """
from pathlib import Path
from bench.reproduce import ALL_TABLES, all_records, make_figures, make_report, make_tables, write_pages

out = Path({out!r})
measured = all_records(out)
(records,) = measured.values()
assert len(records) == {count}
make_tables(out, ALL_TABLES, records)
make_figures(out, [], records)
write_pages(out, measured)
make_report(out, out / "report.html", records=measured)
"""
READING = """
from pathlib import Path
from bench.records.measurement import read_records

assert len(read_records(Path({folder!r}), print)) == {count}
"""

STARTS = 10
"""Of the command, of which the fastest counts."""


def cpu_seconds(code: str) -> float:
    """What a fresh process takes to run a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def judge(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], what: str, code: str, limit: float, starts: int = 1
) -> None:
    taken: list[float] = []
    start = time.perf_counter()
    benchmark.pedantic(lambda: taken.append(cpu_seconds(code)), rounds=starts)
    wall = (time.perf_counter() - start) / starts
    benchmark.extra_info["cpu_seconds"] = taken
    with capsys.disabled():
        print(f"\n{what}: {min(taken):.2f} s of CPU time, {wall:.2f} s in all; the limit is {limit:g} s")
    assert min(taken) < limit


def copies(folder: Path, count: int, profiles: bool = True) -> None:
    """Fill a folder with records: those of the results, and the same with other seeds and clips.

    Args:
        folder: to fill.
        count: of records.
        profiles: whether those that were made with `--profile` keep their profiles, most of their size.
    """
    originals = [read_record(path) for path in sorted((RESULTS / "records").glob("*/*.json"))]
    for number in range(count):
        record = originals[number % len(originals)]
        if not profiles:
            record = replace(record, profile=None, reference_profile=None)
        case = replace(record.case, seed=number // len(originals), clip=f"clip-{number // len(originals)}")
        write_record(replace(record, case=case), folder / f"{number:05d}.json")


def test_counting_every_listed_system(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]) -> None:
    judge(benchmark, capsys, "counting every listed system in one process", COUNTING, limit=15)


def test_help(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]) -> None:
    judge(benchmark, capsys, "foveabench --help", HELP, limit=0.3, starts=STARTS)


def test_rebuilding_all_tables_and_figures_from_1000_records(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("counts.json", "layers.json", "fig3.csv", "audit.json"):
        shutil.copy(RESULTS / name, tmp_path)
    copies(tmp_path / "records" / "machine", 1000)
    code = REBUILDING.format(out=str(tmp_path), count=1000)
    judge(benchmark, capsys, "tables, figures, pages and report of 1000 records", code, limit=20)


def test_reading_10000_records(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    copies(tmp_path, 10_000, profiles=False)
    code = READING.format(folder=str(tmp_path), count=10_000)
    judge(benchmark, capsys, "reading 10 000 records without profiles", code, limit=10)
