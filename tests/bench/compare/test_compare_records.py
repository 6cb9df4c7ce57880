from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_records import MakeRecord

from bench.compare.command import Task, compare_any
from bench.compare.records import compare_folders, compare_records
from bench.errors import RunError, UsageError
from bench.records.measurement import Status, write_record

LIVE = Task(True, None, 1.0, 1, "cpu", "float32", "published", "demo", None, None, [])
STEADY = [10.0, 10.1, 9.9, 10.05, 9.95] * 20


def slowed(factor: float) -> list[float]:
    return [factor * ms for ms in STEADY]


@pytest.mark.parametrize(
    ("factor", "outcome"),
    [(1.0, "no difference shown"), (1.04, "no difference shown"), (1.2, "slower"), (0.8, "faster")],
)
def test_processes_may_differ_by_five_per_cent_and_what_is_beyond_is_called(
    make_record: MakeRecord, factor: float, outcome: str
) -> None:
    comparison = compare_records(make_record("a/x", full=STEADY), make_record("a/y", full=slowed(factor)))
    assert comparison.outcome == outcome
    assert comparison.ratio.value == pytest.approx(factor)
    assert comparison.ratio.low <= factor <= comparison.ratio.high
    assert (comparison.a, comparison.b) == ("a/x", "a/y")


def test_the_ratio_is_of_time_at_the_operating_point_not_of_the_mix_that_was_drawn(make_record: MakeRecord) -> None:
    shares = (50.0, 25.0, 25.0)
    # 25 % of 4 ms and 25 % of 20 ms: 6 ms per frame, however many frames of each were drawn.
    few = make_record("a/x", full=[20.0] * 12, prescan=[4.0] * 60, skip=[0.0] * 12, shares=shares)
    many = make_record("a/y", full=[20.0] * 60, prescan=[4.0] * 12, skip=[0.0] * 12, shares=shares)
    assert compare_records(few, many).ratio.value == pytest.approx(1.0)


def test_noise_is_too_noisy(make_record: MakeRecord) -> None:
    wild = [5.0, 40.0, 10.0, 20.0, 5.0, 5.0, 40.0, 10.0, 10.0, 20.0, 5.0, 40.0]
    assert compare_records(make_record("a/x", full=wild), make_record("a/y", full=wild)).outcome == "too noisy"


@pytest.mark.parametrize(
    ("change", "word"),
    [({"frames": 16}, "frames"), ({"dtype": "bfloat16"}, "dtype"), ({"clip": "x.mp4"}, "clip")],
)
def test_different_tasks_are_refused_by_name(make_record: MakeRecord, change: dict, word: str) -> None:
    with pytest.raises(UsageError, match=f"different tasks: {word}"):
        compare_records(make_record("a/x", full=STEADY), make_record("a/x", full=STEADY, **change))


def test_another_machine_is_a_warning_for_one_system_and_refused_for_two(make_record: MakeRecord) -> None:
    here = make_record("a/x", full=STEADY)
    there = make_record("a/x", full=STEADY, environment={"cpu": "Imaginary 9001"})
    (warning,) = compare_records(here, there).warnings
    assert "Imaginary 9000" in warning
    assert "Imaginary 9001" in warning
    with pytest.raises(UsageError, match="different machines"):
        compare_records(here, replace(there, case=replace(there.case, system="a/y")))


def test_backends_are_compared_for_one_system_and_refused_for_two(make_record: MakeRecord) -> None:
    eager = make_record("a/x", full=STEADY)
    other = make_record("a/x", full=slowed(0.5), backend="openvino")
    comparison = compare_records(eager, other)
    assert (comparison.a, comparison.b, comparison.outcome) == ("a/x (eager)", "a/x (openvino)", "faster")
    with pytest.raises(UsageError, match=r"different systems and different backends \(eager and openvino\)"):
        compare_records(eager, replace(other, case=replace(other.case, system="a/y")))


def test_other_versions_are_a_warning(make_record: MakeRecord) -> None:
    older = make_record("a/x", full=STEADY, environment={"torch": "2.6.0"})
    assert compare_records(older, make_record("a/x", full=STEADY)).warnings == ["torch 2.6.0 and 2.13.0"]


def test_a_failed_case_has_nothing_to_compare(make_record: MakeRecord) -> None:
    failed = replace(make_record("a/x"), status=Status("timeout", "stopped while timing"), timing=None)
    with pytest.raises(RunError, match="timeout, stopped while timing"):
        compare_records(failed, make_record("a/y", full=STEADY))


def test_folders_are_compared_by_name_and_what_cannot_be_is_told(make_record: MakeRecord, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for name in ("one", "two", "gone"):
        write_record(make_record(f"a/{name}", full=STEADY), before / f"{name}.json")
    write_record(make_record("a/one", full=slowed(2)), after / "one.json")
    (after / "two.json").write_text(json.dumps({"schema": 1}))
    problems: list[str] = []
    (comparison,) = compare_folders(before, after, problems.append)
    assert comparison.outcome == "slower"
    assert comparison.ratio.value == pytest.approx(2.0)
    assert any("gone.json" in problem for problem in problems)
    assert any("two.json" in problem and "damaged" in problem for problem in problems)


def test_folders_without_a_common_record_are_an_error(make_record: MakeRecord, tmp_path: Path) -> None:
    write_record(make_record("a/x", full=STEADY), tmp_path / "a" / "x.json")
    write_record(make_record("a/y", full=STEADY), tmp_path / "b" / "y.json")
    with pytest.raises(RunError, match="no record in common"):
        compare_folders(tmp_path / "a", tmp_path / "b", lambda _: None)


@pytest.mark.parametrize(("change", "word"), [({"device": "cuda"}, "device"), ({"threads": 1}, "threads")])
def test_records_of_other_devices_or_threads_cannot_be_run_again_side_by_side(
    make_record: MakeRecord, change: dict, word: str, tmp_path: Path
) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    write_record(make_record("a/x", full=STEADY), paths[0])
    write_record(make_record("a/y", full=STEADY, **change), paths[1])
    with pytest.raises(UsageError, match=f"records of different tasks: {word}"):
        compare_any(str(paths[0]), str(paths[1]), LIVE, lambda _: None)


def test_a_machine_that_changed_its_pace_is_a_warning(make_record: MakeRecord) -> None:
    records = [make_record("a/x", full=STEADY), make_record("a/y", full=STEADY)]
    paced = [
        replace(record, timing=replace(record.timing, calibration_seconds=[seconds]))
        for record, seconds in zip(records, (0.003, 0.0036), strict=True)
    ]
    (warning,) = compare_records(*paced).warnings
    assert "took 3 and 3.6 ms" in warning
