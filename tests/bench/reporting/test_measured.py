from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_records import SPATIAL

from bench.measuring.metrics import speed_up
from bench.measuring.statistics import Interval, ratio
from bench.records.measurement import BatchSamples, Decision, Energy, FrameSamples, Record, ReferenceSamples, Status
from bench.reporting.measured import flops_per_frame, measured, operating_points, published_points, setup_of

MakeRecord = Callable[..., Record]


@pytest.fixture(scope="module")
def spatial(make_record: MakeRecord) -> Record:
    return make_record("epic/s3", [200.0] * 20, shares=(0.0, 0.0, 100.0), stages=SPATIAL)


@pytest.fixture(scope="module")
def temporal(make_record: MakeRecord) -> Record:
    return make_record("epic/s3-t4", [200.0] * 12, [50.0] * 20, [0.1] * 12, beside=[200.0], shares=(30.0, 50.0, 20.0))


def offline(record: Record, batch: int, seconds: float) -> Record:
    """Ten batches, of whose frames a fifth is full and half is pre-scanned."""
    frames = batch * record.case.frames
    full, prescan, skip = ([share * frames // 10] * 10 for share in (2, 5, 3))
    samples = BatchSamples([batch * index for index in range(10)], full, prescan, skip, [seconds] * 10)
    assert record.timing
    timing = replace(record.timing, frames=None, batches=samples)
    return replace(record, case=replace(record.case, scenario="offline", batch=batch), timing=timing)


def test_times_are_weighed_by_the_shares_of_the_operating_point(temporal: Record) -> None:
    (row,) = measured([temporal]).to_dict("records")
    # by hand: 0.2 x 200 + 0.5 x 50 + 0.3 x 0.1
    assert row["ms_per_frame"] == pytest.approx(65.03)
    assert row["ms_per_frame_low"] == pytest.approx(65.03)
    assert row["frames_per_second"] == pytest.approx(1000 / 65.03)
    assert row["clips_per_second"] == pytest.approx(100 / 65.03)
    assert (row["full_ms_p50"], row["prescan_ms_p50"], row["skip_ms_p50"]) == pytest.approx((200, 50, 0.1))
    assert math.isnan(row["full_ms_p90"])  # takes 64 samples
    assert row["decode_ms_per_frame"] == pytest.approx(5)
    assert row["peak_mb"] == 550  # 750 less 200


def test_calls_of_several_frames_are_spread_over_them(make_record: MakeRecord) -> None:
    (row,) = measured([make_record("ucf101/tsn-resnet50", [80.0] * 64, call_frames=8)]).to_dict("records")
    assert row["ms_per_frame"] == row["full_ms_p50"] == row["full_ms_p90"] == pytest.approx(10)


def test_speed_ups_divide_the_same_spatial_sampler(spatial: Record, temporal: Record) -> None:
    rows = measured([temporal, spatial]).set_index("system")
    row = rows.loc["epic/s3-t4"]
    # by hand: scan, decide and hallucinate are 1200; 0.5 x 1200 + 0.2 x 10000 = 2600 of 9800 million operations
    assert row["flop_speed_up"] == pytest.approx(9800 / 2600)
    assert row["speed_up"] == pytest.approx(200 / 65.03)
    assert row["realised"] == pytest.approx(200 / 65.03 * 2600 / 9800)
    assert rows.loc["epic/s3", ["flop_speed_up", "speed_up", "realised"]].isna().all()


def test_without_the_reference_beside_it_there_is_no_speed_up(spatial: Record, make_record: MakeRecord) -> None:
    alone = make_record("epic/s3-t4", [200.0] * 12, [50.0] * 20, [0.1] * 12, shares=(30.0, 50.0, 20.0))
    assert measured([alone, spatial])["speed_up"].isna().all()


@pytest.mark.parametrize("frames", [10, 2])
def test_first_frames_of_clips_about_which_nothing_is_decided_are_a_kind_of_their_own(
    make_record: MakeRecord, frames: int
) -> None:
    record = make_record("epic/s3-t4", [1.0] * 40, beside=[200.0] * 40, shares=(30.0, 50.0, 20.0), frames=frames)
    assert record.timing
    decisions: list[Decision] = ["full", "prescan", "full", "skip"] * 10
    seconds = [0.160, 0.050, 0.200, 0.0001] * 10
    samples = FrameSamples([i // 4 for i in range(40)], [i % 4 for i in range(40)], decisions, seconds)
    (row,) = measured([replace(record, timing=replace(record.timing, frames=samples))]).to_dict("records")
    first = {10: 0.1, 2: 0.2}[frames]  # one frame of a clip, but no more than are full
    by_hand = first * 160 + (0.2 - first) * 200 + 0.5 * 50 + 0.3 * 0.1
    assert row["ms_per_frame"] == pytest.approx(by_hand)
    assert row["speed_up"] == pytest.approx(200 / by_hand)
    assert row["full_ms_p50"] == pytest.approx(200)


def test_where_first_frames_alone_are_full_they_are_all_that_is(make_record: MakeRecord) -> None:
    record = make_record("epic/s3-t4", [1.0] * 20, shares=(30.0, 50.0, 20.0))
    assert record.timing
    decisions: list[Decision] = ["full", "prescan", "skip", "skip"] * 5
    samples = FrameSamples(
        [i // 4 for i in range(20)], [i % 4 for i in range(20)], decisions, [0.160, 0.050, 0.0001, 0.0001] * 5
    )
    (row,) = measured([replace(record, timing=replace(record.timing, frames=samples))]).to_dict("records")
    assert row["ms_per_frame"] == pytest.approx(0.2 * 160 + 0.5 * 50 + 0.3 * 0.1)


def test_changes_of_pace_drop_out_of_speed_ups(make_record: MakeRecord) -> None:
    generator = np.random.default_rng(0)
    decisions = generator.permutation(["full"] * 40 + ["prescan"] * 100 + ["skip"] * 60).tolist()
    pace = np.where(np.arange(201) // 25 % 2, 1.8, 1.0)  # slow and fast phases, which differ in their mix of decisions
    own = [{"full": 0.2, "prescan": 0.05, "skip": 1e-4}[each] * f for each, f in zip(decisions, pace[1:], strict=True)]
    record = make_record("epic/s3-t4", [1.0] * 200, beside=list(200.0 * pace[:-1]), shares=(30.0, 50.0, 20.0))
    assert record.timing
    frames = replace(record.timing.frames, decision=decisions, seconds=own)
    (row,) = measured([replace(record, timing=replace(record.timing, frames=frames))]).to_dict("records")
    assert row["speed_up"] == pytest.approx(200 / 65.03, rel=1e-9)
    assert row["ms_per_frame"] > 1.2 * 65.03  # which is what the times alone would have told


def test_a_sample_is_divided_by_the_mean_of_the_references_beside_it(make_record: MakeRecord) -> None:
    record = make_record("epic/s3-t4", [100.0] * 6, beside=[200.0, 300.0], shares=(0.0, 0.0, 100.0), stages=SPATIAL)
    assert record.timing
    assert record.timing.reference
    assert record.timing.reference.after == [0, 3]
    # by hand: three samples lie between 200 and 300, three have 300 before them alone: medians of 1/2.5 and 1/3
    assert speed_up(record) == Interval(pytest.approx(60 / 22), pytest.approx(2.5), pytest.approx(3.0))


def test_speed_ups_are_of_frames_where_calls_take_several(make_record: MakeRecord) -> None:
    record = make_record("mine/s1-t2", [800.0] * 20, call_frames=8, beside=[200.0] * 20, shares=(0.0, 0.0, 100.0))
    assert speed_up(record) == Interval(*[pytest.approx(2.0)] * 3)


def test_names_that_only_look_alike_have_no_speed_up(spatial: Record, make_record: MakeRecord) -> None:
    similar = make_record("epic/s3-tuned", [100.0] * 20, shares=(0.0, 0.0, 100.0))
    assert measured([spatial, similar])["speed_up"].isna().all()


def test_operations_are_weighed_as_times_are(temporal: Record, make_record: MakeRecord) -> None:
    unknown = make_record("epic/s3-t4", [200.0] * 10, [50.0] * 30, shares=(30.0, 50.0, 20.0))
    # nothing was skipped, so what was executed weighs: a quarter of the frames is full
    assert flops_per_frame(unknown) == pytest.approx((0.75 * 1200 + 0.25 * 10_000) * 1e6)
    assert measured([unknown])["ms_per_frame"].item() == pytest.approx(0.75 * 50 + 0.25 * 200)
    assert flops_per_frame(make_record("epic/tbn-ra", [10.0], call_frames=4)) == 3e9


def test_batches_have_times_and_rates_but_no_latencies(spatial: Record, temporal: Record) -> None:
    records = [offline(temporal, 4, 2.0), offline(spatial, 4, 8.0), offline(spatial, 8, 8.0)]
    assert measured(records).empty
    frame = operating_points(records)
    assert frame["ms_per_frame"].tolist() == pytest.approx([50, 200, 100])
    assert frame["clips_per_second"].tolist() == pytest.approx([2, 0.5, 1])


def test_batches_have_speed_ups_over_batches_beside_them(temporal: Record) -> None:
    alone = offline(temporal, 4, 2.0)
    assert alone.timing
    batches = BatchSamples([0, 4], [40] * 2, [0] * 2, [0] * 2, [6.0, 10.0])
    timing = replace(alone.timing, reference=ReferenceSamples("epic/s3", [0, 5], None, batches))
    (row,) = operating_points([replace(alone, timing=timing)]).to_dict("records")
    # by hand: five batches of 2 s lie between 6 and 10 s, five have 10 s before them alone: mean of 2/8 and 2/10
    assert row["speed_up"] == pytest.approx(1 / 0.225)
    assert row["flop_speed_up"] == pytest.approx(9800 / (0.5 * 1200 + 0.2 * 10_000))


def test_the_calibration_workload_is_told_where_it_ran(temporal: Record) -> None:
    assert temporal.timing
    timing = replace(temporal.timing, calibration_seconds=[0.003, 0.005, 0.004])
    assert measured([replace(temporal, timing=timing), temporal])["calibration_ms"].tolist() == pytest.approx(
        [4.0, math.nan], nan_ok=True
    )


def test_energy_keeps_its_label_and_is_empty_where_there_is_none(temporal: Record, make_record: MakeRecord) -> None:
    energy = Energy("estimated:tdp", "a model", joules=50.0, seconds=5.0, frames=200)
    frame = measured([replace(temporal, energy=energy), temporal, make_record("epic/s0", [1.0], energy=energy)])
    assert frame["joules_per_frame"].tolist() == pytest.approx([0.25, math.nan, 0.25], nan_ok=True)
    assert frame["energy_label"].tolist() == ["estimated:tdp", "unavailable", "estimated:tdp"]


def test_failed_cases_have_no_figures_and_their_cause(temporal: Record) -> None:
    failed = replace(temporal, status=Status("killed", "by signal 9"))
    (row,) = operating_points([failed]).to_dict("records")
    assert (row["state"], row["cause"]) == ("killed", "by signal 9")
    assert math.isnan(row["ms_per_frame"])
    assert measured([failed]).empty


def test_warnings_come_along(make_record: MakeRecord) -> None:
    (warnings,) = measured([make_record("epic/s0", [10.0] * 5)])["warnings"]
    assert "only 5 full frames" in warnings


def test_distances_of_a_ratios_bounds_add_as_squares() -> None:
    # by hand on the logarithmic scale: 3, 4 -> 5 down, and 8, 6 -> 10 up
    found = ratio(
        Interval(2.0, 2 * math.exp(-0.03), 2 * math.exp(0.08)), Interval(1.0, math.exp(-0.06), math.exp(0.04))
    )
    assert found.value == 2
    assert found.low == pytest.approx(2 * math.exp(-0.05))
    assert found.high == pytest.approx(2 * math.exp(0.10))


def test_the_interval_of_a_ratio_covers_it_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    trials, covered = 4000, 0
    for over, under in generator.normal((2.0, 1.0), (0.05, 0.02), (trials, 2)):
        found = ratio(
            Interval(over, over - 1.96 * 0.05, over + 1.96 * 0.05),
            Interval(under, under - 1.96 * 0.02, under + 1.96 * 0.02),
        )
        covered += found.low <= 2.0 <= found.high
    assert covered / trials == pytest.approx(0.95, abs=0.01)


positive = st.floats(1e-3, 1e3)


@given(positive, positive, st.lists(st.floats(0.01, 1), min_size=4, max_size=4))
def test_a_ratio_lies_in_its_interval_within_that_of_the_bounds(over: float, under: float, widths: list[float]) -> None:
    a = Interval(over, over * widths[0], over / widths[1])
    b = Interval(under, under * widths[2], under / widths[3])
    found = ratio(a, b)
    slack = 1 + 1e-9
    assert a.low / b.high <= found.low * slack
    assert found.low <= found.value * slack
    assert found.value <= found.high * slack
    assert found.high <= a.high / b.low * slack


def test_points_are_those_of_the_setup_with_most_records(spatial: Record, make_record: MakeRecord) -> None:
    rest = {"shares": (0.0, 0.0, 100.0)}
    here = [spatial, make_record("epic/s2", [1.0], **rest)]
    there = make_record("epic/s3", [1.0], environment={"cpu": "Other"}, **rest)
    half = make_record("epic/s3", [1.0], dtype="float16", device="cuda:0", environment={"gpu": "H200"}, **rest)
    always = make_record("epic/s3-t4", [1.0], policy="always-full", **rest)
    fixed = make_record("epic/tbn-ra", [1.0])
    early = replace(make_record("epic/s1", **rest), environment=None, status=Status("timeout"))
    # another workload may have been measured elsewhere
    ucf = make_record("ucf101/s0", [1.0], environment={"cpu": "Other"}, **rest)
    found = published_points([there, *here, offline(spatial, 2, 1.0), half, always, fixed, early, ucf])
    assert found == {"cpu": [*here, fixed, early, ucf], "cuda_float16": [half]}


def test_backends_are_rows_of_their_own_and_tables_have_eager_alone(temporal: Record) -> None:
    other = replace(temporal, case=replace(temporal.case, backend="onnxruntime"))
    assert list(operating_points([temporal, other])["backend"]) == ["eager", "onnxruntime"]
    assert published_points([other, temporal]) == {"cpu": [temporal]}
    assert published_points([other]) == {}
    setups = setup_of(temporal), setup_of(other)
    assert [setup.name for setup in setups] == ["cpu", "cpu_onnxruntime"]
    assert ", float32, onnxruntime, clip demo" in setups[1].words
    assert "eager" not in setups[0].words
