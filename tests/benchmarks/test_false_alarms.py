from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from math import sqrt
from pathlib import Path

import false_alarms
import pandas as pd
import pytest
import torch

GUARD, CRITERIA = false_alarms.GUARD, false_alarms.CRITERIA


@pytest.fixture(scope="module", autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def rows(method: str, slow_down: int, alarms: list[bool]) -> list[dict[str, object]]:
    return [
        {
            "comparison": number,
            "slow_down_percent": slow_down,
            "repetitions": 100,
            "true_ratio": 1 + slow_down / 100,
            "method": method,
            "seconds": 2.0 + number,
            "ratio": 1.5,
            "outcome": "slower" if alarm else "too noisy",
            "alarm": alarm,
        }
        for number, alarm in enumerate(alarms)
    ]


def run(out: Path, *options: str) -> pd.DataFrame:
    script = [sys.executable, false_alarms.__file__, "--out", str(out), *options]
    subprocess.run(script, check=True, capture_output=True)
    return pd.read_csv(out / "false_alarms.csv")


def test_from_command_line_to_table_and_only_what_is_missing(tmp_path: Path) -> None:
    # Nothing is known of the guard, and of pytest-benchmark all but its comparison with what is 5 % slower.
    known = pd.DataFrame([row for slow in (0, 3) for name in CRITERIA for row in rows(name, slow, [True])])
    known.to_csv(tmp_path / "false_alarms.csv", index=False)

    made = run(tmp_path, "--comparisons", "2", "--pytest-comparisons", "1", "--seconds", "0.1")
    pd.testing.assert_frame_equal(made[: len(known)][known.columns], known, check_dtype=False)
    units = made.groupby(["method", "slow_down_percent", "comparison"]).size()
    assert (units == 1).all()
    assert units.groupby(level=[0, 1]).sum().to_dict() == {
        **{(GUARD, slow): 2 for slow in (0, 3, 5)},
        **{(name, slow): 1 for name in CRITERIA for slow in (0, 3, 5)},
    }
    assert (made["true_ratio"] == 1 + made["slow_down_percent"] / 100).all()
    assert (made["repetitions"] == 100).all()
    guard = made[made["method"] == GUARD]
    assert (guard["alarm"] == (guard["outcome"] == "slower")).all()
    assert guard[["ratio", "low", "high"]].notna().all(axis=None)

    page = (tmp_path / "false_alarms.md").read_text()
    assert page.startswith("# False alarms\n")
    assert all(f"| {method}" in page for method in (GUARD, *CRITERIA))
    assert "1 of 1 (20.7 to 100.0 %)" in page

    again = false_alarms.experiment(tmp_path / "false_alarms.csv", comparisons=2, pytest_comparisons=1, seconds=0.1)
    pd.testing.assert_frame_equal(again, made)


def test_summary_counts_alarms_with_wilsons_intervals() -> None:
    frame = pd.DataFrame(
        [
            *rows(GUARD, 0, [False] * 100),
            *rows(GUARD, 5, [True] * 96 + [False] * 4),
            *rows(CRITERIA[0], 0, [True] * 31 + [False] * 69),
            *rows(CRITERIA[0], 5, [True] * 100),
        ]
    )
    table = false_alarms.summary(frame)
    assert list(table["method"]) == [GUARD, CRITERIA[0]]
    assert list(table["seconds sampled"]) == ["51.50", "51.50"]
    assert list(table["false alarms at 0 %"]) == [wilson(0, 100), wilson(31, 100)]
    assert list(table["caught at 5 %"]) == [wilson(96, 100), wilson(100, 100)]


def wilson(count: int, n: int, z: float = 1.959964) -> str:
    """Wilson's formula (1927)."""
    share = count / n
    centre, margin = share + z**2 / (2 * n), z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (100 * abs(centre + sign * margin) / (1 + z**2 / n) for sign in (-1, 1))
    return f"{count} of {n} ({low:.1f} to {high:.1f} %)"


def test_pytest_benchmark_alarms_by_every_criterion_when_it_is_ten_times_slower() -> None:
    # Other tests run beside it and can stall either side for longer than it takes, which weighs on the mean of a few.
    compared = false_alarms.compare_by_pytest_benchmark(100, 1000, seconds=0.1)
    assert [row["method"] for row in compared] == list(CRITERIA)
    assert all(row["alarm"] and row["ratio"] > 1.5 for row in compared), compared


def test_an_end_of_pytest_that_statistics_do_not_explain_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = {"mean": 1.0, "median": 1.0, "min": 1.0, "total": 1.0}

    def crash(repetitions: int, seconds: float, storage: str, *options: str) -> subprocess.CompletedProcess[str]:
        name = f"{len(options)}.json"
        (Path(storage) / name).write_text(json.dumps({"benchmarks": [{"stats": stats}]}))
        return subprocess.CompletedProcess([], returncode=3 if options else 0, stdout="killed")

    monkeypatch.setattr(false_alarms, "time_by_pytest_benchmark", crash)
    with pytest.raises(RuntimeError, match=r"pytest ended with 3(.|\n)*killed"):
        false_alarms.compare_by_pytest_benchmark(100, 100, seconds=0.02)


def test_work_is_calibrated_in_hundreds() -> None:
    repetitions = false_alarms.calibrate()
    assert repetitions % 100 == 0
    assert repetitions > 0


def test_the_busy_process_ends_with_its_block() -> None:
    with false_alarms.busy_process() as process:
        assert process.poll() is None
    assert process.poll() is not None
