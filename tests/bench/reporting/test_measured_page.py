from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_up_records import SPATIAL

from bench.errors import RunError, UsageError
from bench.records.measurement import BatchSamples, Energy, Record, Status, write_record
from bench.reporting.measured_page import write_measured
from bench.reproduce import machines_of

MakeRecord = Callable[..., Record]

FOLDER = Path(__file__).resolve().parents[3]
# 2 J a frame in 0.1 s, so that 10 frames per second can be processed; idle, the machine uses 5 W
COUNTER = Energy("measured:nvml", "a counter", joules=40.0, seconds=2.0, frames=20, idle_joules=10.0, idle_seconds=2.0)
ESTIMATE = Energy("estimated:tdp", "a guess", joules=40.0, seconds=2.0, frames=20)


@pytest.fixture(scope="module")
def records(make_record: MakeRecord) -> list[Record]:
    spatial = {"shares": (0.0, 0.0, 100.0), "stages": SPATIAL}
    temporal = {"shares": (30.0, 50.0, 20.0)}
    first = make_record("epic/s3", [200.0] * 20, energy=ESTIMATE, **spatial)
    batches = BatchSamples([0, 2, 4], [20] * 3, [0] * 3, [0] * 3, [1.0, 2.0, 3.0])
    assert first.timing
    return [
        first,
        make_record(
            "epic/s3-t4", [200.0] * 12, [50.0] * 20, [0.1] * 12, beside=[200.0], notes=["silent clip"], **temporal
        ),
        replace(
            first,
            case=replace(first.case, scenario="offline", batch=2),
            timing=replace(first.timing, frames=None, batches=batches),
            notes=["silent clip"],
        ),
        make_record("epic/tbn-ra", [9.0] * 5, device="cuda", energy=COUNTER, environment={"gpu": "H200", "load": 3.5}),
        replace(make_record("epic/s2-t4", **temporal), status=Status("killed", "by signal 9 | while timing")),
    ]


def page(records: Sequence[Record], out: Path, frame_rate: float = 30.0) -> tuple[pd.DataFrame, str]:
    data, text = write_measured(records, out, frame_rate)
    return pd.read_csv(data), text.read_text()


def table(text: str, title: str) -> list[dict[str, str]]:
    """Rows of the first table under a heading."""
    lines = text.partition(f"{title}\n\n")[2].partition("\n\n")[0].replace(r"\|", "/").splitlines()
    heading, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(heading, row, strict=True)) for row in rows]


def test_every_record_has_a_row(records: Sequence[Record], tmp_path: Path) -> None:
    data, _ = page(records, tmp_path)
    assert data["system"].tolist() == [record.case.system for record in records]
    assert data["state"].tolist() == ["ok"] * 4 + ["killed"]
    assert data["ms_per_frame"].tolist() == pytest.approx([200, 65.03, 100, 9, float("nan")], nan_ok=True)
    assert data["speed_up"].dropna().tolist() == pytest.approx([200 / 65.03])
    assert data["cause"].dropna().tolist() == ["by signal 9 | while timing"]
    assert data["energy_label"].tolist()[:4] == ["estimated:tdp", "unavailable", "estimated:tdp", "measured:nvml"]


def test_scenarios_have_tables_of_their_own(records: Sequence[Record], tmp_path: Path) -> None:
    _, text = page(records, tmp_path)
    cpu, gpu = text.split("## H200, device cuda")
    spatial, temporal = table(cpu, "### One video, frame after frame")
    assert spatial["System"] == "epic/s3"
    assert spatial["ms per frame: all"] == "200.0 [200.0, 200.0]"
    assert (temporal["Speed-up: counted"], temporal["Speed-up: realised"]) == ("3.77", "0.816")
    assert temporal["J per frame: estimated"] == ""
    (batch,) = table(cpu, "### Batches of clips")
    # three batches of 20 frames in 6 s
    assert (batch["Batch: clips"], batch["Throughput: frames per s"].split()[0]) == ("2", "10.0")
    (tbn,) = table(gpu, "### One video, frame after frame")
    assert tbn["J per frame: measured"] == "2.00"
    assert "J per frame: measured" not in spatial
    assert "J per frame: estimated" not in tbn


def test_always_on_video_costs_watt_hours_or_is_too_slow(records: Sequence[Record], tmp_path: Path) -> None:
    slow, text = page(records, tmp_path, 30)
    assert slow["watt_hours_per_hour"].isna().all()
    assert table(text, "### One video, frame after frame")[0]["Wh per hour at 30 fps: estimated"] == "too slow"
    data, text = page(records, tmp_path, 4)
    # by hand: 4 frames of 2 J a second; of the counter's 2 J, 0.5 J are idle power, which counts for all of the time
    assert data["watt_hours_per_hour"].tolist()[:4] == pytest.approx([8, float("nan"), 8, 5 + 4 * 1.5], nan_ok=True)
    assert table(text, "### One video, frame after frame")[0]["Wh per hour at 4 fps: estimated"] == "8.00"
    with pytest.raises(ValueError, match="positive"):
        write_measured(records, tmp_path, 0)


def test_failed_cases_warnings_and_notes_are_told(records: Sequence[Record], tmp_path: Path) -> None:
    _, text = page(records, tmp_path)
    assert "5 cases, 1 of them failed" in text
    (failed,) = table(text, "## Failed")
    assert (failed["system"], failed["state"], failed["cause"]) == (
        "epic/s2-t4",
        "killed",
        "by signal 9 / while timing",
    )
    assert "- epic--tbn-ra.single-stream.cuda-2-threads.float32.fixed.demo-10-frames: only 5 full frames" in text
    assert "- silent clip (2 of 5 cases)" in text
    assert "- Energy on cpu, estimated:tdp: a guess." in text
    assert "- Energy on cuda, measured:nvml: a counter." in text


def test_the_environment_is_told_once_and_differences_are_warned_of(
    records: Sequence[Record], make_record: MakeRecord, tmp_path: Path
) -> None:
    _, text = page(records, tmp_path)
    assert "Warning:" not in text
    told = {row["Environment"]: row["Value"] for row in table(text, "of energy.")}
    assert told["cpu"] == "Imaginary 9000"
    assert told["gpu"] == "H200"  # of one case, the others have none to tell
    assert told["memory"] == "8.6 GB"
    assert told["load at the start"] == "0.25 to 3.50"
    assert "governor" not in told
    _, text = page([*records, make_record("epic/s0", [1.0], environment={"torch": "2.6.0"})], tmp_path)
    assert "**Warning: these cases differ in torch: not all can be compared.**" in text
    assert "2.13.0 (5 of 6 cases); 2.6.0 (1 of 6 cases)" in text


def test_records_without_an_environment_and_no_records_at_all(make_record: MakeRecord, tmp_path: Path) -> None:
    early = replace(make_record("epic/s0"), environment=None, status=Status("timeout", "300 s"), timing=None)
    data, text = page([early], tmp_path)
    assert data["state"].tolist() == ["timeout"]
    assert "1 cases, 1 of them failed" in text
    data, text = page([], tmp_path)
    assert data.empty
    assert "0 cases" in text


def test_the_machine_with_most_records_goes_first_unless_another_is_asked_for(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    for machine, ids in {"board": ["epic/s0"], "server": ["epic/s0", "epic/s1"], "bench": ["epic/s3"]}.items():
        for id in ids:
            record = make_record(id)
            write_record(record, tmp_path / "records" / machine / f"{record.case.name}.json")
    assert machines_of(tmp_path) == ["server", "bench", "board"]
    assert machines_of(tmp_path, "board") == ["board", "server", "bench"]
    with pytest.raises(UsageError, match=r"no measurements of the machine 'phone' in .*: there are bench, board, serv"):
        machines_of(tmp_path, "phone")
    assert machines_of(tmp_path / "nowhere") == []


def test_another_process_writes_the_same_bytes(records: Sequence[Record], tmp_path: Path) -> None:
    for index, record in enumerate(records):
        write_record(record, tmp_path / "records" / f"{index}.json")
    here = {path.name: path.read_bytes() for path in write_measured(records, tmp_path / "here")}
    code = """
import sys
from pathlib import Path
from bench.records.measurement import read_records
from bench.reporting.measured_figures import MEASURED_FIGURES
from bench.reporting.measured_page import write_measured
records = read_records(Path(sys.argv[1]) / "records", print)
write_measured(records, Path(sys.argv[1]) / "there")
for name in ("speedup", "latency"):
    MEASURED_FIGURES[name](Path(sys.argv[1]) / "there", records, [])
"""
    from bench.reporting.measured_figures import MEASURED_FIGURES

    for name in ("speedup", "latency"):
        here |= {path.name: path.read_bytes() for path in MEASURED_FIGURES[name](tmp_path / "here", records, [])}
    environment = {**os.environ, "PYTHONHASHSEED": "7", "MPLBACKEND": "svg", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=FOLDER, env=environment)
    assert {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == here


def test_a_folder_that_cannot_be_made_is_one_clear_error(records: Sequence[Record], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match=r"cannot write .*measured\.csv"):
        write_measured(records, tmp_path / "taken")
