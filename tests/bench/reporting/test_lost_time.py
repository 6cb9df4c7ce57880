from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_records import made_up_record

from bench.errors import RunError
from bench.records.measurement import Counts, Peak, Record, StageCount, Status
from bench.records.profile import LayerTimes, PartTimes, StepProfile
from bench.reporting.lost_figure import lost
from bench.reporting.lost_time import (
    CATEGORIES,
    LOW_UTILISATION,
    MEMORY,
    NEVER_SAVED,
    OVERHEAD,
    UNEXPLAINED,
    losses,
    lost_times,
    part_costs,
)

PEAK = Peak(1e11, 1e10)  # so that 1e9 operations take 10 ms, and 1e8 bytes as long

Part = tuple[str, str, float, list[tuple[str, int, int, float]]]
"""Stage, part, milliseconds, and of its layers the name, operations, bytes and milliseconds."""

PRESCAN: Part = ("scan", "pre-scan", 20, [("net", 10**9, 10**7, 20)])  # arithmetic 10, memory 0, else 10
HEADS: Part = ("classify", "GRU heads", 15, [("gru", 10**8, 10**8, 15)])  # arithmetic 1, memory 9, else 5
SAMPLER: Part = ("decide", "temporal sampler", 12, [("gru", 10**8, 10**8, 12)])  # arithmetic 1, memory 9, else 2
BETWEEN: Part = ("", "", 5, [("", 0, 0, 9)])


def profile(*parts: Part) -> StepProfile:
    layers = [
        LayerTimes(stage, part, layer, "Layer" if layer else "", 1, flops // 2, flops, moved, [ms / 1e3] * 3)
        for stage, part, _, own in parts
        for layer, flops, moved, ms in own
    ]
    steps = [sum(ms for _, _, ms, _ in parts) / 1e3] * 3
    times = [PartTimes(stage, part, [ms / 1e3] * 3) for stage, part, ms, _ in parts]
    return StepProfile(steps, steps, [sum(layer.seconds[0] for layer in layers)] * 3, times, layers, [1e-6])


def profiled(system: str = "epic/s3-t4", **changes: Any) -> Record:
    """Half of the frames are skipped, a quarter pre-scanned, a quarter full."""
    stages = [StageCount("scan", 0, 10**9, 0), StageCount("classify", 0, 10**8, 0)]
    record = made_up_record(
        system,
        [47.0] * 5,
        [37.0] * 5,
        [0.1] * 10,
        shares=(50.0, 25.0, 25.0),
        stages={"scan": 1000, "decide": 100, "classify": 100},
        beside=[40.0] * 20,
        peak=PEAK,
        profile=profile(PRESCAN, SAMPLER, HEADS, BETWEEN),
        reference_profile=profile(PRESCAN, HEADS, BETWEEN),
        reference_counts=Counts(1, 1, 1, stages),
    )
    return replace(record, **changes)


def by_category(record: Record, counted: float, measured: float) -> dict[str, float]:
    sums = dict.fromkeys(CATEGORIES, 0.0)
    for loss in losses(record, counted, measured):
        sums[loss.category] += loss.lost
    return sums


def test_a_known_decomposition() -> None:
    # A frame of S_k takes 40 ms for 1.1e9 operations: 26 of arithmetic and low utilisation, 9 of memory, 5 of overhead.
    # One of (S_k, T_M) has 0.5 x (1e9 + 1e8) + 0.25 x 1e8 = 0.575e9 operations.
    # Of these, 0.525e9 are of stages that S_k has too, and 0.05e9 of the temporal sampler.
    counted = 1.1 / 0.575
    shared, sampler = 0.525 / 1.1, 0.05 / 1.1
    taken = 0.5 * (20 + 12 + 5) + 0.25 * 15 + 0.5 * 0.1
    sums = {name: 40 * lost for name, lost in by_category(profiled(), counted, 40 / taken).items()}
    assert sums == pytest.approx(
        {
            OVERHEAD: 0.5 * 5 + 0.5 * 0.1 - 5 * shared,
            MEMORY: 0.25 * 9 - 9 * shared,
            LOW_UTILISATION: 0.5 * 20 + 0.25 * 6 - 26 * shared,
            NEVER_SAVED: 0.5 * 12 - 40 * sampler,
            UNEXPLAINED: 0.0,
        },
        abs=1e-9,
    )
    # and what it takes longer at its operating point is not explained
    assert 40 * by_category(profiled(), counted, 40 / (taken + 3))[UNEXPLAINED] == pytest.approx(3)


def test_parts_are_split_by_what_limits_them() -> None:
    fast = ("look", "crops", 2.0, [("net", 10**9, 0, 3.0)])  # faster than the peak, and timed longer than the part
    cutting = ("look", "spatial sampler", 3.0, [("", 0, 10**7, 4.0)])  # moves 1e7 bytes, and the rest is Python
    mixed = ("look", "rest", 10.0, [("net", 10**8, 0, 4.0), ("empty", 0, 0, 1.0), ("", 0, 0, 2.0)])
    limits = {cost.part: cost.limits for cost in part_costs(profile(fast, cutting, mixed), PEAK)}
    ms = {name: [round(1e3 * value, 9) for value in vars(each).values()] for name, each in limits.items()}
    assert ms == {"crops": [2, 0, 0, 0], "spatial sampler": [0, 1, 0, 2], "rest": [1, 0, 3, 6]}


def test_equal_systems_lose_nothing() -> None:
    same = profiled(profile=profile(PRESCAN, HEADS, BETWEEN))
    assert same.counts
    always_full = replace(same.counts, shares={"skip": 0.0, "prescan": 0.0, "full": 100.0})
    same = replace(same, counts=always_full)
    assert by_category(same, 1.0, 1.0) == pytest.approx(dict.fromkeys(CATEGORIES, 0.0), abs=1e-12)


@st.composite
def parts(draw: st.DrawFn, stages: list[str]) -> list[Part]:
    """Any profile, also such as cannot be: layers faster than the machine, and times below 0 of what looking took."""
    amounts, times = st.integers(0, 10**10), st.floats(-0.01, 1000)
    made: list[Part] = [("scan", "first", draw(st.floats(0.01, 1000)), [("net", draw(st.integers(1, 10**10)), 0, 1.0)])]
    for stage in draw(st.lists(st.sampled_from(stages), max_size=5)):
        part = f"part {len(made)}"
        layers = [("", draw(amounts), draw(amounts), draw(times))]
        layers += [(f"layer {i}", draw(amounts), draw(amounts), draw(times)) for i in range(draw(st.integers(0, 3)))]
        made.append((stage, part, draw(times), layers))
    return made


STAGES = ["scan", "decide", "hallucinate", "look", "classify", ""]


@settings(deadline=None, max_examples=200)
@given(
    own=parts(STAGES),
    theirs=parts(STAGES),
    shares=st.tuples(st.floats(0, 100), st.floats(0, 100)).map(lambda cut: (min(cut), max(cut) - min(cut))),
    counted=st.floats(0.1, 100),
    measured=st.floats(0.1, 100),
)
def test_the_parts_add_up_to_the_gap(
    own: list[Part], theirs: list[Part], shares: tuple[float, float], counted: float, measured: float
) -> None:
    record = profiled(profile=profile(*own), reference_profile=profile(*theirs))
    assert record.counts
    shares_of = {"skip": shares[0], "prescan": shares[1], "full": 100 - sum(shares)}
    record = replace(record, counts=replace(record.counts, shares=shares_of))
    found = losses(record, counted, measured)
    size = 1 + sum(abs(loss.lost) for loss in found)
    gap = counted * measured * sum(loss.lost for loss in found)
    assert gap == pytest.approx(counted - measured, abs=1e-9 * size * counted * measured)
    for (_, _, ms, _), cost in zip(own, part_costs(profile(*own), PEAK), strict=True):
        assert min(vars(cost.limits).values()) >= -1e-12
        assert cost.limits.seconds == pytest.approx(max(ms, 0) / 1e3, abs=1e-12)


def test_the_data_has_every_system_and_adds_up() -> None:
    records = [profiled(f"{workload}/s{k}-t2") for workload in ("epic", "ucf101") for k in (0, 3)]
    bare = made_up_record("epic/s1-t1", [1.0], [1.0], shares=(0, 50, 50), beside=[1.0])
    data = lost_times([*records, bare, made_up_record("epic/s1", [1.0])])
    assert list(data["system"].unique()) == ["epic/s0-t2", "epic/s3-t2", "ucf101/s0-t2", "ucf101/s3-t2"]
    assert set(data["crops"]) == {0, 3}
    for _, part in data.groupby("system"):
        counted, measured = part[["flop_speed_up", "speed_up"]].iloc[0]
        assert counted == pytest.approx(1.1 / 0.575)
        # medians of 47, 37 and 0.1 ms, weighed by the shares
        assert measured == pytest.approx(40 / (0.25 * 47 + 0.25 * 37 + 0.5 * 0.1))
        assert part["lost_speed_up"].sum() == pytest.approx(counted - measured)
        assert part["lost_time"].sum() == pytest.approx(1 / measured - 1 / counted)


Change = Callable[[Record], Record]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: replace(record, profile=None),
        lambda record: replace(record, reference_profile=None),
        lambda record: replace(record, peak=None),
        lambda record: replace(record, status=Status("killed"), timing=None, counts=None),
        lambda record: replace(record, case=replace(record.case, policy="learned")),
        lambda record: replace(record, case=replace(record.case, scenario="offline")),
    ],
)
def test_what_is_missing_is_one_clear_error(change: Change, tmp_path: Path) -> None:
    for records in ([], [change(profiled())]):
        with pytest.raises(RunError, match=r"^lost: no record of an \(S_k, T_M\) with profiles of it and its S_k; .*"):
            lost(tmp_path, records, [])
    assert not list(tmp_path.iterdir())


def test_the_figure_has_its_data_beside_it_and_is_the_same_every_time(tmp_path: Path) -> None:
    records = [profiled("epic/s0-t1"), profiled("ucf101/s2-t3")]
    files = lost(tmp_path / "a", records, [])
    assert [path.name for path in files] == ["lost.png", "lost.svg", "lost.csv"]
    again = lost(tmp_path / "b", records[::-1], [])
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in again]
    data = pd.read_csv(files[2], keep_default_na=False)
    assert set(data["category"]) == set(CATEGORIES)
