from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import jsonschema
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bench.systems.builtin
from adaptive_models.data.demo import write_demo_clip
from bench.errors import RunError, UsageError
from bench.measuring import metrics
from bench.measuring.worker import TELL_SECONDS, Message, Request, _teller, measure
from bench.records.measurement import Case, Record, Settings, json_schema, read_record, write_record
from bench.reporting.lost_time import NEVER_SAVED, losses
from bench.systems.registry import Registry, System

SETTINGS = Settings(width=0.3, budget=0.3, warmup=0.2, energy=0, time_limit=60, memory_limit=1 << 40)
CASE = Case("small/net", "single-stream", "cpu", "float32", "fixed", 1, 4, 1, "demo")


class Net(nn.Module):
    """A convolution that first waits, takes memory for the moment, and may fail at a call."""

    def __init__(self, seconds: float = 0.002, megabytes: int = 0, fails_at: int = 0) -> None:
        super().__init__()
        self.conv, self.seconds, self.megabytes = nn.Conv2d(3, 4, 3), seconds, megabytes
        self.calls, self.fails_at = 0, fails_at

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("out of luck")
        np.ones(self.megabytes << 20, dtype=np.uint8)
        time.sleep(self.seconds)
        return self.conv(x)


class Measure:
    """Measures a system in this process, and keeps what is told."""

    def __init__(self, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clip, self.patch = clip, monkeypatch
        self.messages: list[Message] = []

    def __call__(
        self, build: Callable[[], nn.Module] = Net, case: Case = CASE, settings: Settings = SETTINGS
    ) -> Record:
        system = System("small/net", build, {"rgb": (3, 32, 32)})
        self.patch.setattr(bench.systems.builtin, "registry", lambda adapters: Registry([system]))
        return measure(Request(case, settings, str(self.clip), []), self.messages.append)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_demo_clip(path, seconds=2, fps=5)
    return path


@pytest.fixture
def measured(clip: Path, monkeypatch: pytest.MonkeyPatch) -> Measure:
    return Measure(clip, monkeypatch)


def check(record: Record, folder: Path) -> None:
    """It can be written and read again, and follows the published schema."""
    write_record(record, folder / "case.json")
    assert read_record(folder / "case.json") == record
    jsonschema.validate(json.loads((folder / "case.json").read_text()), json_schema())


def test_a_fixed_system(measured: Measure, tmp_path: Path) -> None:
    record = measured()
    check(record, tmp_path)
    assert (record.case, record.settings, record.status.state) == (CASE, SETTINGS, "ok")
    assert record.notes == ["rgb is resized to 32x32"]
    assert record.change is None  # from itself
    assert record.environment is not None
    assert record.environment.threads[0] == 1
    assert record.counts is not None
    # 3 x 4 kernels of 3 x 3 and 4 biases; 30 x 30 positions; 2 operations per multiplication, and 1 per bias
    assert (record.counts.params, record.counts.activations) == (112, 4 * 900)
    assert [asdict(stage) for stage in record.counts.stages] == [
        {"name": "call", "macs": 900 * 108, "flops": 900 * 220, "bytes": record.counts.stages[0].bytes}
    ]
    assert (record.counts.frames, record.counts.shares) == (1, None)
    per_frame = metrics.seconds_per_frame(record)
    assert per_frame is not None
    assert 0.002 < per_frame.value < 0.02
    assert record.timing is not None
    assert len(record.timing.decode_seconds) == 4
    assert record.energy is not None
    assert (record.energy.label, record.energy.how) == ("unavailable", "left out")
    assert record.peak is not None
    assert record.peak.flops_per_second > 1e8


def test_phases_are_told_in_their_order(measured: Measure) -> None:
    measured()
    phases = list(dict.fromkeys(message.phase for message in measured.messages))
    assert phases == [
        *("loading", "decoding", "building", "warming up", "timing", "timing stages", "taking energy", "counting"),
    ]
    assert [message for message in measured.messages if message.environment] == measured.messages[:1]


def test_memory_is_what_building_and_the_first_frames_take(measured: Measure) -> None:
    def build() -> nn.Module:
        net = Net(megabytes=150)
        net.register_buffer("weights", torch.ones(25 << 20))  # of four bytes each
        return net

    memory = measured(build).memory
    assert memory is not None
    if memory.how != "VmHWM":
        pytest.skip("the peak of this process cannot be set back")
    assert (memory.built_bytes - memory.start_bytes) / 2**20 == pytest.approx(100, abs=15)
    assert (memory.peak_bytes - memory.start_bytes) / 2**20 == pytest.approx(250, abs=30)
    assert memory.cuda_allocated_bytes is None


def test_a_slow_system_gives_a_record_with_a_warning(measured: Measure, tmp_path: Path) -> None:
    record = measured(lambda: Net(seconds=0.15))
    check(record, tmp_path)
    assert record.timing is not None
    assert record.timing.frames is not None
    number = len(record.timing.frames.seconds)
    assert number < 11
    warnings = metrics.warnings(record)
    assert f"only {number} full frames, 11 are needed for a median: raise --budget" in warnings
    assert "times were still falling when the warm-up ended" in warnings


def test_energy_is_that_of_a_window_of_its_own(measured: Measure, tmp_path: Path) -> None:
    record = measured(settings=replace(SETTINGS, energy=0.1))
    check(record, tmp_path)
    assert record.energy is not None
    assert record.energy.label.split(":")[0] in ("measured", "estimated")
    assert record.energy.frames > 10
    assert record.energy.joules is not None
    assert record.energy.joules > 0


STAGES = ["scan", "decide", "hallucinate", "look", "classify"]


def test_an_adaptive_system_in_single_stream(small_adapter: str, clip: Path, tmp_path: Path) -> None:
    case = Case("small/s2-t3", "single-stream", "cpu", "bfloat16", "learned", 1, 3, 1, clip.name)
    record = measure(Request(case, SETTINGS, str(clip), [small_adapter]), lambda _: None)
    check(record, tmp_path)
    assert record.counts is not None
    assert [stage.name for stage in record.counts.stages] == STAGES
    assert (record.counts.shares, record.counts.shares_source) == (None, "")  # they depend on the video
    assert record.timing is not None
    assert list(record.timing.stage_seconds) == STAGES
    assert record.change is not None
    assert record.change.predictions == 3 * 2  # frames, groups of classes
    # bfloat16 keeps 8 bits, and rounds many times
    assert record.change.largest_difference is not None
    assert 1e-4 < record.change.largest_difference / record.change.largest_output < 0.5
    assert sum(metrics.executed_shares(record).values()) == pytest.approx(100)


@pytest.mark.parametrize(("scenario", "batch"), [("single-stream", 1), ("offline", 2)])
def test_its_spatial_sampler_runs_beside_it(
    scenario: Literal["single-stream", "offline"], batch: int, small_adapter: str, clip: Path, tmp_path: Path
) -> None:
    case = Case("small/s2-t3", scenario, "cpu", "float32", "learned", batch, 3, 1, clip.name)
    adapters = [small_adapter, small_adapter.replace(":small", ":spatial")]
    record = measure(Request(case, SETTINGS, str(clip), adapters), lambda _: None)
    check(record, tmp_path)
    assert record.reference_counts is not None
    assert record.reference_counts.shares == {"skip": 0.0, "prescan": 0.0, "full": 100.0}
    assert [stage.name for stage in record.reference_counts.stages] == ["scan", "look", "classify"]
    assert record.timing is not None
    assert record.timing.reference is not None
    assert record.timing.reference.system == "small/s2"
    faster = metrics.speed_up(record)
    assert faster is not None
    assert 0 < faster.low <= faster.value <= faster.high


def test_its_steps_and_those_of_its_spatial_sampler_are_profiled(
    small_adapter: str, clip: Path, tmp_path: Path
) -> None:
    case = Case("small/s2-t3", "single-stream", "cpu", "float32", "learned", 1, 3, 1, clip.name)
    adapters = [small_adapter, small_adapter.replace(":small", ":spatial")]
    messages: list[Message] = []
    request = Request(case, replace(SETTINGS, profile=True), str(clip), adapters)
    record = measure(request, messages.append)
    check(record, tmp_path)
    assert Message("profiling") in messages
    assert record.profile
    assert record.reference_profile
    assert {part.stage for part in record.profile.parts} == {"", *STAGES}
    assert {part.stage for part in record.reference_profile.parts} == {"", "scan", "look", "classify"}
    found = losses(record, 2.0, 1.5)
    assert sum(loss.lost for loss in found) == pytest.approx(1 / 1.5 - 1 / 2)
    assert {loss.stage for loss in found if loss.category == NEVER_SAVED} == {"decide", "hallucinate"}


def test_an_adaptive_system_offline(small_adapter: str, clip: Path, tmp_path: Path) -> None:
    case = Case("small/s2-t3", "offline", "cpu", "float32", "always-full", 2, 3, 1, clip.name)
    record = measure(Request(case, SETTINGS, str(clip), [small_adapter]), lambda _: None)
    check(record, tmp_path)
    assert record.counts is not None
    assert record.counts.shares == {"skip": 0.0, "prescan": 0.0, "full": 100.0}
    assert metrics.executed_shares(record) == {"skip": 0.0, "prescan": 0.0, "full": 100.0}
    assert record.timing is not None
    assert record.timing.stage_seconds == {}
    assert metrics.clips_per_second(record) is not None


def test_what_a_backend_cannot_run_gives_a_record_that_says_why(measured: Measure, tmp_path: Path) -> None:
    class Branching(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if x.mean().item() > 0 else -x)

    record = measured(Branching, replace(CASE, backend="compile"))
    check(record, tmp_path)
    assert record.status.state == "unsupported"
    assert record.status.cause.startswith("the model cannot be compiled: ")
    assert record.environment is not None
    assert (record.timing, record.memory) == (None, None)
    assert measured.messages[-1].phase == "compiling small/net"


def test_what_cannot_be_measured_is_one_line(measured: Measure) -> None:
    def build() -> nn.Module:
        raise OSError("no such weights")

    with pytest.raises(RunError, match=r"^small/net cannot be built: OSError: no such weights$"):
        measured(build)
    with pytest.raises(RuntimeError, match="out of luck"):
        measured(lambda: Net(fails_at=3))
    assert measured.messages[-1].phase == "warming up"
    with pytest.raises(UsageError, match=r"^no system or backbone 'small/nut'"):
        measured(case=replace(CASE, system="small/nut"))
    measured.clip = Path("none.mp4")
    with pytest.raises(RunError, match=r"^none\.mp4: no such file$"):
        measured()


def test_an_adapter_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone.py").write_text("import a_module_that_there_is_not")
    problem = r"^'.*gone\.py:net' cannot be loaded: ModuleNotFoundError: No module named 'a_module_that_there_is_not'$"
    with pytest.raises(UsageError, match=problem):
        measure(Request(CASE, SETTINGS, "demo", [f"{tmp_path / 'gone.py'}:net"]), lambda _: None)


# --- telling ---


def test_progress_is_told_at_the_start_of_a_phase_and_then_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    messages: list[Message] = []
    tell = _teller(messages.append)
    tell("warming up", {})
    tell("warming up", {"warm-up": [0.5]})
    tell("timing", {"full": [0.5], "skip": [0.25]})
    now += TELL_SECONDS
    tell("timing", {"full": [0.5, 1.5], "skip": [0.25] * 3})
    tell("timing", {"full": [0.5, 1.5, 1.5], "skip": [0.25] * 3})
    assert messages == [
        Message("warming up"),
        Message("timing", 2, 0.5),
        Message("timing", 5, 1.0),  # of full frames, which take most of the time
    ]


def test_the_estimate_told_is_that_of_recent_samples() -> None:
    messages: list[Message] = []
    _teller(messages.append)("timing", {"full": [9.0] * 2000 + [1.0] * 1000})
    assert messages == [Message("timing", 3000, 1.0)]
