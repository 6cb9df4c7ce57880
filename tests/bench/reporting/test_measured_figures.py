from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import made_up_records
import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bench.errors import RunError
from bench.records.counts import Count, Stages
from bench.records.measurement import Energy, Record, Status
from bench.reporting import measured_figures
from bench.reporting.measured_figures import MEASURED_FIGURES, energies, latencies, rooflines, speed_ups

MakeRecord = Callable[..., Record]

SPATIAL = {"shares": (0.0, 0.0, 100.0), "stages": made_up_records.SPATIAL}
TEMPORAL = {"shares": (30.0, 50.0, 20.0)}
STAGE_MS = {"scan": 25.0, "decide": 1.0, "hallucinate": 3.0, "look": 160.0, "classify": 6.0}
ESTIMATE = Energy("estimated:tdp", "a guess", joules=40.0, seconds=9.0, frames=20)
NVML = Energy("measured:nvml", "a counter", joules=30.0, seconds=9.0, frames=20)


@pytest.fixture(scope="module")
def records(make_record: MakeRecord) -> list[Record]:
    noise = np.random.default_rng(0).normal(1, 0.02, 40)
    full, prescan, skip = (list(ms * noise) for ms in (200.0, 50.0, 0.1))
    records = []
    for workload in ("epic", "ucf101"):
        for k in (0, 3):
            common = {"stage_ms": STAGE_MS, "energy": ESTIMATE}
            records.append(make_record(f"{workload}/s{k}", full, **SPATIAL, **common))
            for m in (1, 4):
                records.append(
                    make_record(f"{workload}/s{k}-t{m}", full, prescan, skip, beside=full, **TEMPORAL, **common)
                )
    records.append(make_record("epic/tbn-ra", full, energy=ESTIMATE))
    return records


@pytest.fixture(scope="module")
def with_gpu(records: Sequence[Record]) -> list[Record]:
    def moved(record: Record) -> Record:
        assert record.environment
        case = replace(record.case, device="cuda:0", dtype="float16")
        return replace(record, case=case, environment=replace(record.environment, gpu="H200"), energy=NVML)

    return [*records, *map(moved, records[:6])]


@pytest.fixture(scope="module")
def counts(records: Sequence[Record]) -> list[Count]:
    return [
        Count(record.case.system, record.case.system[-5:].upper(), "SAN19", "R", 1, 1, 1, 1, 1, Stages(1, 1))
        for record in records
    ]


@pytest.fixture(scope="module")
def drawn(
    records: Sequence[Record], counts: Sequence[Count], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("drawn")
    paths = [path for draw in MEASURED_FIGURES.values() for path in draw(out, records, counts)]
    assert sorted(out.iterdir()) == sorted(paths)
    return {path.name: path.read_bytes() for path in paths}


def test_speed_ups_are_of_every_sampler(records: Sequence[Record]) -> None:
    data = speed_ups(records).set_index("system")
    assert list(data.index) == [f"{each}/s{k}-t{m}" for each in ("epic", "ucf101") for k in (0, 3) for m in (1, 4)]
    row = data.loc["ucf101/s3-t4"]
    assert (row["setup"], row["machine"], row["workload"], row["crops"], row["max_skip"]) == (
        *("cpu", "Imaginary 9000", "ucf101"),
        *(3, 4),
    )
    assert row["flop_speed_up"] == pytest.approx(9800 / 2600)
    assert row["speed_up"] == pytest.approx(200 / 65.03, rel=0.01)
    assert row["speed_up_low"] < row["speed_up"] < row["speed_up_high"]


def test_latencies_are_of_every_frame_of_one_family(records: Sequence[Record]) -> None:
    data = latencies(records)
    assert data.groupby(["system", "decision"]).size().to_dict() == {
        ("epic/s3", "full"): 40,
        **{(f"epic/s3-t{m}", decision): 40 for m in (1, 4) for decision in ("prescan", "skip")},
        **{(f"epic/s3-t{m}", "full"): 36 for m in (1, 4)},  # about 4 of which, the first of a clip, nothing is decided
    }
    assert data.query("decision == 'skip'")["ms"].median() == pytest.approx(0.1, rel=0.02)
    more = [*records, replace(records[2], case=replace(records[2].case, system="ucf101/s0-t2"))]
    assert set(latencies(more)["system"]) == {"ucf101/s0", "ucf101/s0-t1", "ucf101/s0-t2", "ucf101/s0-t4"}


def test_energy_stands_beside_published_accuracy(with_gpu: Sequence[Record], counts: Sequence[Count]) -> None:
    own = replace(with_gpu[0], case=replace(with_gpu[0].case, system="epic/mine"))
    data = energies([*with_gpu, own], counts).set_index(["setup", "system"])
    # Table I
    assert data.loc[("cpu", "epic/s3"), "top1_published"] == 25.77
    assert data.loc[("cpu", "epic/tbn-ra"), ["top1_published", "title"]].tolist() == [28.32, "BN-RA (R)"]
    assert data["joules_per_frame"].groupby("setup").unique().map(list).to_dict() == {
        "cpu": [2.0],
        "cuda_float16": [1.5],
    }
    assert data["energy_label"].groupby("setup").unique().map(list).to_dict() == {
        "cpu": ["estimated:tdp"],
        "cuda_float16": ["measured:nvml"],
    }
    # no accuracy is published for them
    assert not {"epic/mine", "ucf101/s3-t4"} & set(data.index.get_level_values("system"))


def test_rooflines_divide_counts_by_times(with_gpu: Sequence[Record]) -> None:
    data = rooflines(with_gpu).set_index(["setup", "system", "stage"])
    row = data.loc[("cpu", "epic/s3-t4", "scan")]
    # by hand: 1000 million operations in 25 ms, and a byte for four of them
    assert row["flops_per_second"] == pytest.approx(40e9)
    assert row["flops_per_byte"] == 4
    assert (row["peak_flops_per_second"], row["peak_bytes_per_second"]) == (1e11, 1e10)
    # elements of half the size
    assert data.loc[("cuda_float16", "epic/s3-t4", "scan"), "flops_per_byte"] == 8
    assert data.loc[("cpu", "epic/tbn-ra", "call"), "flops_per_second"] == pytest.approx(12e9 / 0.2, rel=0.01)
    assert ("cpu", "epic/s3", "decide") not in data.index


def test_files_hold_the_data(drawn: dict[str, bytes], records: Sequence[Record], tmp_path: Path) -> None:
    assert set(drawn) == {f"{name}.{suffix}" for name in MEASURED_FIGURES for suffix in ("png", "svg", "csv")}
    (tmp_path / "speedup.csv").write_bytes(drawn["speedup.csv"])
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "speedup.csv"), speed_ups(records).reset_index(drop=True), check_dtype=False
    )


def test_pictures_fill_one_column_or_both(drawn: dict[str, bytes]) -> None:
    widths = {name: int.from_bytes(drawn[f"{name}.png"][16:20], "big") / 300 for name in MEASURED_FIGURES}
    assert widths == {"speedup": 7.2, "latency": 7.2, "energy": 7.2, "roofline": 3.5}


@pytest.mark.parametrize("name", MEASURED_FIGURES)
def test_the_same_records_draw_the_same_bytes(
    name: str, drawn: dict[str, bytes], records: Sequence[Record], counts: Sequence[Count], tmp_path: Path
) -> None:
    with matplotlib.rc_context({"font.size": 31, "svg.hashsalt": "mine"}):
        for path in MEASURED_FIGURES[name](tmp_path, records, counts):
            assert path.read_bytes() == drawn[path.name], path.name


def test_names_cover_neither_each_other_nor_a_mark(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    energy = {  # as measured once, when TBN lay on SAN19-base and AVSlowFast on SlowFast
        **{"epic/tbn-ra": 1.79, "epic/san19-base": 2.19, "epic/tbn-raf": 2.80, "epic/s0": 1.97, "epic/s3": 2.05},
        **{"epic/avslowfast-r101-8x8": 3.65, "epic/slowfast-r101-8x8": 4.10},
    }
    records = [make_record(name, [2e3], energy=replace(ESTIMATE, joules=20 * each)) for name, each in energy.items()]
    counts = [Count(name, name[5:], "", "R", 1, 1, 1, 1, 1, Stages(1, 1)) for name in energy]
    figures: list[Figure] = []
    monkeypatch.setattr(measured_figures, "save_figure", lambda figure, *_: figures.append(figure))
    MEASURED_FIGURES["energy"](Path(), records, counts)
    figures[0].draw_without_rendering()
    axes = figures[0].axes[0]
    names = [text.get_window_extent() for text in axes.texts if text.get_text()]
    marks = [axes.transData.transform((line.get_xdata()[0], line.get_ydata()[0])) for line in axes.lines]
    assert len(names) == 5
    assert len(marks) == 7
    assert not any(one.overlaps(other) for one, other in combinations(names, 2))
    assert not any(name.contains(*mark) for name in names for mark in marks)
    assert all(axes.bbox.containsx(name.x0) and axes.bbox.containsx(name.x1) for name in names)


@pytest.mark.parametrize("name", MEASURED_FIGURES)
def test_axes_say_what_is_measured_estimated_counted_or_published(
    name: str, with_gpu: Sequence[Record], counts: Sequence[Count], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(measured_figures, "save_figure", lambda figure, *_: figures.append(figure))
    MEASURED_FIGURES[name](Path(), with_gpu, counts)
    labels = [(axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) for axes in figures[0].axes]
    x, y = {
        "speedup": ("counted", "measured"),
        "latency": ("measured", ""),
        "energy": ("estimated from TDP", "published"),
        "roofline": ("counted", "measured"),
    }[name]
    assert all(x in label and y in other for title, label, other in labels if title.endswith("Imaginary 9000, cpu"))
    gpu = [(label, other) for title, label, other in labels if title.endswith("H200, cuda float16")]
    assert gpu
    assert all(("measured, whole GPU" if name == "energy" else x) in label for label, _ in gpu)
    assert not any("estimated" in label for label, _ in gpu)


@pytest.mark.parametrize(
    ("name", "missing"), [("speedup", "S_k"), ("latency", "S_k"), ("energy", "accuracy"), ("roofline", "peak")]
)
def test_records_that_are_missing_are_one_clear_error(
    name: str, missing: str, make_record: MakeRecord, tmp_path: Path
) -> None:
    failed = make_record("epic/s3-t4", **TEMPORAL, status=Status("killed"), timing=None, counts=None, memory=None)
    for records in ([], [failed], [make_record("epic/tbn-ra", [1.0], peak=None)]):
        with pytest.raises(RunError, match=rf"{name}: no record.*{missing}"):
            MEASURED_FIGURES[name](tmp_path, records, [])
    assert not list(tmp_path.iterdir())


def test_one_system_is_enough_to_draw(make_record: MakeRecord, tmp_path: Path) -> None:
    pair = [
        make_record("epic/s3", [200.0], **SPATIAL),
        make_record("epic/s3-t1", [200.0], [50.0], beside=[200.0], shares=(0, 50, 50)),
    ]
    records = [replace(record, energy=ESTIMATE) for record in pair]
    for draw in MEASURED_FIGURES.values():
        if draw is not measured_figures.roofline:
            assert len(draw(tmp_path, records, [])) == 3
