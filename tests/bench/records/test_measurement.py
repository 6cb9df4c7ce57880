from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import bench.records
from bench.errors import RunError
from bench.records.measurement import (
    Activity,
    BatchSamples,
    Case,
    Change,
    Counts,
    Energy,
    Environment,
    FrameSamples,
    Memory,
    Peak,
    Record,
    Settings,
    StageCount,
    Status,
    Timing,
    json_schema,
    read_record,
    read_records,
    write_record,
)
from bench.records.profile import LayerTimes, PartTimes, StepProfile

PUBLISHED = Path(bench.records.__path__[0]) / "measurement.schema.json"
REGENERATE = (
    "python -c 'import json; from bench.records.measurement import json_schema; "
    f"print(json.dumps(json_schema(), indent=1))' > {PUBLISHED.name}"
)

CASE = Case("epic/s3-t4", "single-stream", "cuda:0", "float32", "published", 1, 10, 2, "demo")
SETTINGS = Settings(0.02, 10.0, 5.0, 4.0, 300.0, 8_000_000_000)
ENVIRONMENT = Environment(
    "Linux", "a processor", 2, 4, 3, 16 << 30, "", "performance", False, (800.0, 3600.0), 0.5, "a GPU", "550", 80 << 30,
    400.0, 1980.0, "3.12.1", "2.6.0", "0.1.0", {"numpy": "2.0"}, "MKL", (2, 2), "abc-dirty",
)  # fmt: skip
ACTIVITY = Activity(1.5, 4, 1.4, 1.6, 0.0, 3, [3600.0, 3500.0], 0, [1980.0], ["heat"], 1)
FRAMES = FrameSamples([0, 0, 1], [0, 1, 0], ["full", "skip", "prescan"], [0.5, 1e-6, 0.25])
FULL = Record(
    1, CASE, SETTINGS, Status("ok"), "2026-01-01T00:00:00+00:00", ENVIRONMENT,
    Counts(10, 20, 1, [StageCount("scan", 3, 7, 100)], {"skip": 20.0, "prescan": 30.0, "full": 50.0}, "Table II"),
    Timing("cuda events", [0.6, 0.5], True, 0.8, FRAMES, None, {"scan": [0.2]}, [0.01], ACTIVITY),
    Memory("VmHWM", 100, 200, 300, 50, 60),
    Energy("measured:nvml", "a counter", 12.5, {"gpu": 12.5}, 4.5, 100, 3.5, 2.0, ACTIVITY),
    Peak(1e12, 2e11), ["an input is of random numbers"],
)  # fmt: skip
BATCHES = BatchSamples([0, 4], [30, 31], [5, 4], [5, 5], [1.5, 1.25])
OFFLINE = replace(
    FULL,
    case=replace(CASE, scenario="offline", batch=4),
    timing=Timing("perf_counter", [], False, 2.8, None, BATCHES, {}, [], Activity(2.8, 2, 2.5)),
    energy=Energy("unavailable", "left out"),
)
PROFILE = StepProfile(
    [0.5, 0.25], [0.5], [0.75],
    [PartTimes("", "", [0.125]), PartTimes("look", "rest", [0.375])],
    [LayerTimes("look", "rest", "low_rgb.layer3.1", "fused", 1, 10, 25, 100, [0.25])],
    [1e-6],
)  # fmt: skip
PROFILED = replace(FULL, settings=replace(SETTINGS, profile=True), profile=PROFILE, reference_profile=PROFILE)
FAILED = Record(1, CASE, SETTINGS, Status("failed", "while building: OSError"), "2026-01-01T00:00:00+00:00")


@pytest.mark.parametrize("record", [FULL, OFFLINE, PROFILED, FAILED])
def test_a_record_is_read_as_it_was_written_and_follows_the_schema(tmp_path: Path, record: Record) -> None:
    path = tmp_path / "case.json"
    write_record(record, path)
    assert read_record(path) == record
    jsonschema.validate(json.loads(path.read_text()), json_schema())
    again = path.read_bytes()
    write_record(read_record(path), path)
    assert path.read_bytes() == again


def test_records_from_before_there_were_profiles_are_read(written: Path) -> None:
    def forget(data: dict[str, Any]) -> None:
        del data["profile"], data["reference_profile"], data["settings"]["profile"]

    change(written, forget)
    assert read_record(written) == FULL


def test_records_from_before_there_were_backends_are_of_eager(written: Path) -> None:
    def forget(data: dict[str, Any]) -> None:
        del data["case"]["backend"], data["change"]

    change(written, forget)
    assert read_record(written) == FULL
    assert FULL.case.backend == "eager"


def test_what_a_backend_changes_or_cannot_run_is_kept(tmp_path: Path) -> None:
    case = replace(CASE, backend="onnxruntime")
    ran = replace(FULL, case=case, change=Change(None, 2.5, 40, 3))
    refused = replace(FAILED, case=case, status=Status("unsupported", "low_rgb.prescan cannot be compiled: no luck"))
    for record in (ran, refused):
        write_record(record, tmp_path / "case.json")
        assert read_record(tmp_path / "case.json") == record
        jsonschema.validate(json.loads((tmp_path / "case.json").read_text()), json_schema())


def test_a_profile_with_other_steps_than_times_is_damage(written: Path) -> None:
    write_record(PROFILED, written)
    change(written, lambda data: data["profile"]["parts"][1]["seconds"].append(1.0))
    with pytest.raises(RunError, match=r"damaged \(profile: parts: \[2\] times, of 1 steps\)$"):
        read_record(written)


def test_the_published_schema_is_that_of_the_code() -> None:
    assert json.loads(PUBLISHED.read_text()) == json_schema(), f"what a record holds has changed: {REGENERATE}"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


Edit = Callable[[dict[str, Any]], Any]

DAMAGES: dict[str, Edit] = {
    r"timing.frames.seconds.1: Input should be a valid number": lambda d: put(d, ["frames", "seconds", 1], "0.5"),
    r"timing.frames.seconds.1: Input should be greater than or equal to 0": lambda d: put(
        d, ["frames", "seconds", 1], -0.5
    ),
    r"timing.frames.decision.0: Input should be 'full', 'prescan' or 'skip'": lambda d: put(
        d, ["frames", "decision", 0], "half"
    ),
    r"timing.phase_seconds: Input should be a finite number": lambda d: put(d, ["phase_seconds"], float("nan")),
    r"timing.warmup_seconds.0: Input should be a finite number": lambda d: put(d, ["warmup_seconds", 0], float("inf")),
    r"timing.steady: Input should be a valid boolean": lambda d: put(d, ["steady"], 1),
    r"memory.peak_bytes: Input should be a valid integer": lambda d: d["memory"].update(peak_bytes=1.5),
    r"energy.label: Input should be .*": lambda d: d["energy"].update(label="measured"),
    r"case.colour: Unexpected keyword argument": lambda d: d["case"].update(colour="red"),
    r"environment.cpu: Field required": lambda d: d["environment"].pop("cpu"),
    r"environment.clock_range_mhz.1: Field required": lambda d: d["environment"].update(clock_range_mhz=[800.0]),
    r"status: Field required": lambda d: d.pop("status"),
    r"schema: Field required": lambda d: d.pop("schema"),
}


def put(data: dict[str, Any], where: list[Any], value: Any) -> None:
    inner = data["timing"]
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "case.json"
    write_record(FULL, path)
    return path


def change(path: Path, make: Edit) -> Any:
    data = json.loads(path.read_text())
    make(data)
    path.write_text(json.dumps(data))
    return data


@pytest.mark.parametrize("problem", DAMAGES)
def test_a_damaged_record_is_one_line_that_names_the_file_and_the_place(written: Path, problem: str) -> None:
    data = change(written, DAMAGES[problem])
    with pytest.raises(RunError, match=rf"^.*case\.json: damaged \({problem}\)$"):
        read_record(written)
    if "finite" not in problem:  # which JSON does not know
        assert not jsonschema.Draft202012Validator(json_schema()).is_valid(data)


@pytest.mark.parametrize("column", ["video", "t", "decision", "seconds"])
def test_columns_of_unequal_length_are_damage(written: Path, column: str) -> None:
    change(written, lambda data: data["timing"]["frames"][column].pop())
    with pytest.raises(RunError, match=r"damaged \(timing\.frames: columns of unequal length: \{.*\}\)$"):
        read_record(written)


def test_batches_of_unequal_length_are_damage(written: Path) -> None:
    write_record(OFFLINE, written)
    change(written, lambda data: data["timing"]["batches"]["skip"].pop())
    with pytest.raises(RunError, match=r"damaged \(timing\.batches: columns of unequal length"):
        read_record(written)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"null", b"\xff\xfe", b"{}"])
def test_what_is_no_record_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "case.json").write_bytes(content)
    with pytest.raises(RunError, match=r"^.*case\.json: damaged \([^\n]+\)$"):
        read_record(tmp_path / "case.json")


def test_a_record_that_was_cut_off_is_damaged(written: Path) -> None:
    whole = written.read_bytes()
    for part in (1, len(whole) // 3, len(whole) - 3):
        written.write_bytes(whole[:part])
        with pytest.raises(RunError, match=r"damaged \(the file: Invalid JSON: EOF"):
            read_record(written)


def test_another_schema_is_refused_by_its_number(written: Path) -> None:
    change(written, lambda data: data.update(schema=2, added="later"))
    with pytest.raises(RunError, match=r"case\.json: schema 2, this version reads 1$"):
        read_record(written)


def test_a_missing_record_and_a_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^.*none\.json: no such record$"):
        read_record(tmp_path / "none.json")
    with pytest.raises(RunError, match="cannot be read"):
        read_record(tmp_path)


def test_what_is_not_finite_is_never_written(tmp_path: Path) -> None:
    assert FULL.timing is not None
    record = replace(FULL, timing=replace(FULL.timing, phase_seconds=float("nan")))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(record, tmp_path / "case.json")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_costs_itself_alone(tmp_path: Path) -> None:
    write_record(FULL, tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{")
    write_record(FAILED, tmp_path / "c.json")
    (tmp_path / ".c-half.json").write_text("{")  # of a run that was killed while it wrote
    (tmp_path / "notes.txt").write_text("no record")
    problems: list[str] = []
    assert read_records(tmp_path, problems.append) == [FULL, FAILED]
    assert [problem.partition(": ")[0] for problem in problems] == [str(tmp_path / "b.json")]
    assert read_records(tmp_path / "none", pytest.fail) == []
    assert gc.isenabled()


def test_operations_of_a_call_are_those_of_its_stages() -> None:
    stages = [StageCount("scan", 3, 7, 0), StageCount("look", 5, 11, 0)]
    assert Counts(0, 0, 1, stages).flops == 18


def test_names_of_cases_are_names_of_files_and_tell_them_apart() -> None:
    assert CASE.name == "epic--s3-t4.single-stream.cuda-0-2-threads.float32.published.demo-10-frames"
    offline = replace(CASE, scenario="offline", batch=4, policy="path/to my.py:Policy", clip="a clip.mp4")
    assert offline.name == (
        "epic--s3-t4.offline-batch-4.cuda-0-2-threads.float32.path-to-my-py-Policy.a-clip-mp4-10-frames"
    )
    changes = (("threads", 1), ("frames", 16), ("clip", "x.mp4"), ("backend", "openvino"))
    others = [replace(CASE, **{name: value}) for name, value in changes]
    assert len({case.name for case in [CASE, *others]}) == 5
    assert others[-1].name == "epic--s3-t4.single-stream.cuda-0-2-threads.float32-openvino.published.demo-10-frames"
