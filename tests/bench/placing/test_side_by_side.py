from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from bench.errors import UsageError
from bench.measuring.statistics import Interval
from bench.placing import accuracies
from bench.placing.accuracies import Accuracy
from bench.placing.rows import place, printed, side_by_side
from bench.records.counts import Count
from bench.records.measurement import Energy, Record
from bench.systems.builtin import registry
from bench.systems.registry import System


def count(system: str, gflops: float, frames: int = 1) -> Count:
    flops = int(gflops * frames * 1e9)
    return Count(system, system, "Net", "R", frames, 10**6, flops // 2, flops, 2 * flops)


def rated(top1: float, low: float | None = None, high: float | None = None) -> Accuracy:
    return Accuracy(Interval(top1, low or top1, high or top1), "given", "here")


@pytest.fixture
def counts() -> list[Count]:
    return [count("mini/big", 4), count("mini/small", 1), count("mini/new", 2, frames=8), count("mini/unrated", 3)]


ACCURACIES = {"mini/big": rated(80, 78, 82), "mini/small": rated(60, 59, 61), "mini/new": rated(50, 40, 60)}


def test_rows_have_costs_per_frame_and_the_trade_off(counts: list[Count]) -> None:
    frame = side_by_side(counts, "mini", ["mini/new"], ACCURACIES, [])
    assert list(frame["system"]) == ["mini/small", "mini/new", "mini/unrated", "mini/big"]  # the cheapest first
    new = frame.set_index("system").loc["mini/new"]
    assert (new["gflops"], new["gflops_exact"], new["new"]) == (2, 4, True)
    assert (new["trade_off"], new["trade_off_low"], new["trade_off_high"]) == (2 / 50, 2 / 60, 2 / 40)
    assert list(frame["front_gflops"].fillna(False)) == [True, False, False, True]
    assert list(frame["dominated_by_gflops"]) == ["", "mini/small", "", ""]
    unrated = frame.set_index("system").loc["mini/unrated"]
    assert unrated[["top1", "trade_off", "front_gflops"]].isna().all()
    assert frame[["ms_per_frame", "joules_per_frame", "peak_mb", "front_ms_per_frame"]].isna().all(axis=None)


def test_a_placement_by_every_cost_that_is_known(counts: list[Count], make_record: Callable[..., Record]) -> None:
    times = {"mini/big": 30.0, "mini/small": 8.0, "mini/new": 80.0}
    records = [
        make_record(system, full=[ms] * 30, call_frames=8 if system == "mini/new" else 1)
        for system, ms in times.items()
    ]
    frame = side_by_side(counts, "mini", ["mini/new"], ACCURACIES, records)
    measured = frame.set_index("system")["ms_per_frame"]
    assert measured.drop("mini/unrated").to_dict() == pytest.approx(times | {"mini/new": 10.0})
    found = place(frame, "mini/new")
    assert found.trade_off is not None
    # 2/50 is above 1/60 for sure, and below 4/80 or not
    assert (found.trade_off.place, found.trade_off.best, found.trade_off.worst, found.trade_off.among) == (2, 2, 3, 3)
    assert {"gflops", "ms_per_frame", "peak_mb"} == set(found.standings)
    assert found.standings["ms_per_frame"].rank.place == 2
    assert found.standings["ms_per_frame"].rank.among == 3
    assert found.standings["gflops"].dominated_by == ["mini/small"]
    assert found.standings["gflops"].surely_dominated_by == []
    assert found.standings["gflops"].open == ["mini/small"]  # 60 may be the accuracy of both, or ours 60 and its 59
    assert found.missing == []


def test_what_is_not_known_is_said_and_not_made_up(counts: list[Count]) -> None:
    accuracies_of_others = {id: own for id, own in ACCURACIES.items() if id != "mini/new"}
    found = place(side_by_side(counts, "mini", ["mini/new"], accuracies_of_others, []), "mini/new")
    assert found.trade_off is None
    assert set(found.standings) == {"gflops"}
    assert found.standings["gflops"].on_front is None
    assert found.standings["gflops"].rank.place == 2
    no_accuracy, no_record = found.missing
    assert no_accuracy.startswith("mini/new has no top-1 accuracy, so it has no trade-off")
    assert no_record == "mini/new is not measured here: foveabench measure mini/new"


def test_energies_that_are_had_differently_are_not_compared(
    counts: list[Count], make_record: Callable[..., Record]
) -> None:
    def energy(label: str, joules: float) -> Energy:
        return Energy(label, "made up", joules, seconds=4.0, frames=100)  # type: ignore[arg-type]

    records = [
        make_record("mini/big", full=[30.0] * 30, energy=energy("measured:rapl-package", 400.0)),
        make_record("mini/small", full=[8.0] * 30, energy=energy("estimated:tdp", 1.0)),
        make_record("mini/new", full=[10.0] * 30, energy=energy("measured:rapl-package", 40.0)),
    ]
    frame = side_by_side(counts, "mini", ["mini/new"], ACCURACIES, records)
    assert frame["joules_per_frame"].notna().sum() == 3
    found = place(frame, "mini/new").standings["joules_per_frame"]
    assert (found.rank.among, found.rank.place, found.on_front) == (2, 1, True)


def test_systems_that_are_printed_and_not_counted_have_their_published_figures() -> None:
    frame = side_by_side([count("ucf101/new", 2)], "ucf101", ["ucf101/new"], {}, []).set_index("system")
    assert set(frame.index) == {*printed("ucf101"), "ucf101/new"}
    assert frame.loc["ucf101/dsn", ["gflops", "gflops_kind"]].tolist() == [20.36, "published"]
    assert frame.loc["ucf101/new", "gflops_kind"] == "counted"


def test_an_accuracy_of_nothing_has_no_trade_off() -> None:
    frame = side_by_side([count("mini/new", 2)], "mini", ["mini/new"], {"mini/new": rated(0)}, [])
    assert frame["trade_off"].isna().all()
    assert place(frame, "mini/new").trade_off is None


# --- accuracies ---


def test_a_given_accuracy_has_the_interval_of_the_validation_clips() -> None:
    found = accuracies.given(50.0, " our paper ", "ucf101")
    assert found is not None
    # Wilson (1927) at p = 1/2, of 3783 clips: z / 2 / sqrt(n + z^2)
    half = 100 * 1.959964 / 2 / (3783 + 1.959964**2) ** 0.5
    assert found.top1.low == pytest.approx(50 - half, abs=0.02)  # half a clip, as 3783 is odd
    assert found.top1.high == pytest.approx(50 + half, abs=0.02)
    assert (found.kind, found.source) == ("given", "our paper")
    without = accuracies.given(50.0, "us", "mini")
    assert without is not None
    assert without.top1 == Interval(50.0, 50.0, 50.0)
    assert accuracies.given(None, None, "ucf101") is None


@pytest.mark.parametrize(
    ("top1", "source", "message"),
    [
        (74.2, None, "--top1 74.2: say where it is from"),
        (74.2, "  ", "--top1 74.2: say where it is from"),
        (None, "us", "--source 'us' is of nothing"),
        (101.0, "us", "--top1 101: an accuracy is from 0 to 100"),
        (float("nan"), "us", "--top1 nan: an accuracy is from 0 to 100"),
    ],
)
def test_half_an_accuracy_is_none(top1: float | None, source: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        accuracies.given(top1, source, "ucf101")


def test_published_accuracies_come_from_the_system_or_the_tables() -> None:
    printed_one = accuracies.published("ucf101/tsn-resnet50", registry().find("ucf101/tsn-resnet50"), "ucf101")
    assert printed_one is not None
    assert (printed_one.top1.value, printed_one.kind) == (80.94, "published")
    assert "Table IV" in printed_one.source
    assert printed_one.top1.low < 80.94 < printed_one.top1.high
    own = System("ucf101/x", lambda: None, {"x": (3,)}, published={"top1": 70, "source": "blog"})  # type: ignore[arg-type,return-value]
    said = accuracies.published("ucf101/x", own, "ucf101")
    assert said is not None
    assert (said.top1.value, said.source) == (70, "blog")
    assert accuracies.published("ucf101/x", replace(own, published={}), "ucf101") is None


def test_columns_do_not_depend_on_what_is_known(counts: list[Count], make_record: Callable[..., Record]) -> None:
    bare = side_by_side(counts, "mini", [], {}, [])
    full = side_by_side(counts, "mini", [], ACCURACIES, [make_record("mini/big", full=[3.0] * 30)])
    assert list(bare.columns) == list(full.columns)
    assert isinstance(bare, pd.DataFrame)
