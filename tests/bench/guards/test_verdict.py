from __future__ import annotations

from dataclasses import replace

import pytest

from bench.guards.baselines import Baseline, new_baseline
from bench.guards.exact import Fingerprint
from bench.guards.timing import TimeRatio
from bench.guards.verdict import compare
from bench.measuring.statistics import Interval

MEGABYTE = 10**6
HERE = TimeRatio(2.0, "a processor", "2.13.0")


def baseline(peak_memory: int | None = 100 * MEGABYTE, time: TimeRatio | None = None) -> Baseline:
    return new_baseline("own/net", Fingerprint("x", "", None, [], [], []), peak_memory, time)


@pytest.mark.parametrize("now", [90, 109.9])
def test_memory_within_the_band_is_no_difference(now: float) -> None:
    verdict = compare(baseline(), baseline(int(now * MEGABYTE)), 0.1, None)
    assert (verdict.failures, verdict.notes) == ([], [])


@pytest.mark.parametrize("now", [89, 111])
def test_memory_outside_the_band_fails_to_either_side(now: int) -> None:
    verdict = compare(baseline(), baseline(now * MEGABYTE), 0.1, None)
    assert verdict.failures == [f"peak memory of one call: 100.0 MB -> {now}.0 MB (band 10%)"]


def test_small_peaks_may_differ_by_what_libraries_take() -> None:
    assert compare(baseline(2 * MEGABYTE), baseline(4 * MEGABYTE), 0.1, None).failures == []
    assert compare(baseline(2 * MEGABYTE), baseline(5 * MEGABYTE), 0.1, None).failures != []


def test_memory_that_is_guarded_in_one_of_the_two_only_fails() -> None:
    assert compare(baseline(None), baseline(), 0.1, None).failures == [
        "peak memory of one call: not guarded -> 100.0 MB"
    ]
    assert compare(baseline(None), baseline(None), 0.1, None).failures == []


@pytest.mark.parametrize("what", ["torch", "platform"])
def test_memory_of_other_surroundings_is_not_judged_and_that_is_said(what: str) -> None:
    old = baseline()
    old = replace(old, made_with={**old.made_with, what: "another"})
    verdict = compare(old, baseline(900 * MEGABYTE), 0.1, None)
    assert verdict.failures == []
    (note,) = verdict.notes
    assert note.startswith("peak memory of one call: 100.0 MB -> 900.0 MB, not judged: on ")
    assert "another" in note


def around(ratio: float) -> Interval:
    return Interval(ratio, ratio - 0.1, ratio + 0.1)


@pytest.mark.parametrize("ratio", [1.6, 2.0, 2.59])
def test_time_within_the_band_is_no_difference(ratio: float) -> None:
    verdict = compare(baseline(time=HERE), baseline(time=replace(HERE, ratio=ratio)), 0.1, around(ratio))
    assert (verdict.failures, verdict.notes) == ([], [])


def test_time_fails_if_its_whole_interval_is_beyond_the_band() -> None:
    verdict = compare(baseline(time=HERE), baseline(time=replace(HERE, ratio=2.61)), 0.1, around(2.61))
    assert verdict.failures == [
        "time of one call: 2 -> 2.61 [2.51, 2.71] x the calibration workload: slower by more than 25%"
    ]


def test_time_that_became_better_is_a_note() -> None:
    verdict = compare(baseline(time=HERE), baseline(time=replace(HERE, ratio=1.4)), 0.1, around(1.4))
    assert verdict.failures == []
    assert "faster; update the baseline" in verdict.notes[0]


@pytest.mark.parametrize("other", [replace(HERE, cpu="another"), replace(HERE, torch="2.6.0"), replace(HERE, cpu="")])
def test_time_of_another_machine_is_not_judged_and_that_is_said(other: TimeRatio) -> None:
    verdict = compare(baseline(time=other), baseline(time=replace(HERE, ratio=9.0)), 0.1, around(9.0))
    assert verdict.failures == []
    assert verdict.notes[0].endswith("not judged: baseline of another machine")


def test_time_without_a_baseline_fails() -> None:
    verdict = compare(baseline(), baseline(time=HERE), 0.1, around(2.0))
    assert verdict.failures[0].startswith("time of one call: not guarded -> 2 [1.9, 2.1]")
