"""The record of one measured case: everything that was observed, and nothing that can be computed from it.

Columns of samples are lists of equal length. Times are in seconds, energies in joules, sizes in bytes, clocks in MHz.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from bench.records.files import read_each, read_json, write_text
from bench.records.profile import StepProfile

SCHEMA: Literal[1] = 1

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Scenario = Literal["single-stream", "offline"]
Dtype = Literal["float32", "float16", "bfloat16", "int8"]
BackendName = Literal["eager", "compile", "onnxruntime", "openvino", "cudagraphs"]
State = Literal["ok", "failed", "unsupported", "killed", "out-of-memory", "timeout", "interrupted"]
Decision = Literal["full", "prescan", "skip"]
Seconds = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        system: id of the system.
        scenario: "single-stream", frames of one video after another, or "offline", batches of clips.
        device: as torch names it.
        dtype: of weights and images, as torch names it; int8 of weights alone.
        policy: who decides in an adaptive system; "fixed" for any other.
        batch: clips at once; 1 in single-stream.
        frames: frames of a clip.
        threads: of torch, within an operation.
        clip: name of the video file, or "demo", the built-in one.
        seed: of the weights, and of made-up inputs.
        backend: what runs the networks: "eager", torch's operators one by one, or what they are compiled for.
    """

    __pydantic_config__ = STRICT

    system: str
    scenario: Scenario
    device: str
    dtype: Dtype
    policy: str
    batch: int
    frames: int
    threads: int
    clip: str
    seed: int = 0
    backend: BackendName = "eager"

    @property
    def name(self) -> str:
        """For files and messages, as in "epic--s3-t4.single-stream.cpu-2-threads.float32.published.demo-10-frames".

        Where the backend is not eager, it follows the type, as in "float32-onnxruntime".
        """
        batch = f"-batch-{self.batch}" if self.scenario == "offline" else ""
        parts = (
            self.system.replace("/", "--"),
            self.scenario + batch,
            f"{self.device}-{self.threads}-threads",
            self.dtype + ("" if self.backend == "eager" else f"-{self.backend}"),
            self.policy,
            f"{self.clip}-{self.frames}-frames",
        )
        return ".".join(re.sub(r"[^\w-]", "-", part) for part in parts)


@dataclass(frozen=True)
class Settings:
    """How thoroughly it is measured.

    Attributes:
        width: wanted half-width of the 95 % interval of a median, as a part of it.
        budget: seconds of sampling at most; as much again for the reference, where there is one.
        warmup: seconds of warm-up at most.
        energy: seconds of the window in which energy is taken; 0 to leave energy out.
        time_limit: seconds after which the worker is stopped.
        memory_limit: resident bytes at which the worker is stopped.
        profile: whether to see where the time of a step goes.
    """

    __pydantic_config__ = STRICT

    width: float
    budget: float
    warmup: float
    energy: float
    time_limit: float
    memory_limit: int
    profile: bool = False


@dataclass(frozen=True)
class Status:
    """How the case ended, and in words why, unless it is ok; "unsupported" is what its backend cannot run."""

    __pydantic_config__ = STRICT

    state: State
    cause: str = ""


@dataclass(frozen=True)
class Environment:
    """Where and with what it was measured; None or empty where the machine does not tell.

    Attributes:
        platform: operating system and architecture.
        cpu: model of the processor.
        physical_cores, logical_cores: of the machine.
        usable_cores: that this process may run on.
        memory_bytes: of the machine.
        virtual: name of the hypervisor, if the machine is a virtual one.
        governor: of the CPU's clock.
        turbo: whether the CPU may exceed its nominal clock.
        clock_range_mhz: lowest and highest clock of the CPU.
        load: average of the machine in the minute before.
        gpu: name of the device, if it is one.
        gpu_driver, gpu_memory_bytes, gpu_power_limit_watts, gpu_max_clock_mhz: of that device.
        python, torch, foveabench: versions.
        libraries: versions of other packages that matter.
        torch_build: how torch computes on a CPU, in words.
        threads: of torch, within and between operations.
        revision: of foveabench's working tree, "-dirty" if it was changed; empty if it is installed.
    """

    __pydantic_config__ = STRICT

    platform: str
    cpu: str
    physical_cores: int | None
    logical_cores: int
    usable_cores: int
    memory_bytes: int
    virtual: str
    governor: str
    turbo: bool | None
    clock_range_mhz: tuple[float, float] | None
    load: float | None
    gpu: str
    gpu_driver: str
    gpu_memory_bytes: int | None
    gpu_power_limit_watts: float | None
    gpu_max_clock_mhz: float | None
    python: str
    torch: str
    foveabench: str
    libraries: dict[str, str]
    torch_build: str
    threads: tuple[int, int]
    revision: str


@dataclass(frozen=True)
class Activity:
    """What the machine did during a phase.

    Attributes:
        seconds: wall time of the phase.
        cores: that the process may run on.
        own_cpu_seconds: CPU time of this process.
        busy_cpu_seconds: CPU time that all processes used; None where the machine does not tell.
        stolen_cpu_seconds: that a hypervisor gave to other guests.
        involuntary_switches: how often this process was made to wait for another.
        clocks_mhz: of the CPU, read now and then.
        throttled: how often the CPU slowed down for heat; None where the machine does not tell.
        gpu_clocks_mhz: of the GPU, read now and then.
        gpu_throttled: reasons for which the GPU slowed down.
        gpu_processes: other processes that used the GPU.
    """

    __pydantic_config__ = STRICT

    seconds: Seconds
    cores: int
    own_cpu_seconds: float
    busy_cpu_seconds: float | None = None
    stolen_cpu_seconds: float | None = None
    involuntary_switches: int | None = None
    clocks_mhz: list[float] = field(default_factory=list)
    throttled: int | None = None
    gpu_clocks_mhz: list[float] = field(default_factory=list)
    gpu_throttled: list[str] = field(default_factory=list)
    gpu_processes: int | None = None


@dataclass(frozen=True)
class StageCount:
    """What a stage of one full frame costs, counted; a system that is not adaptive has one stage, "call"."""

    __pydantic_config__ = STRICT

    name: str
    macs: int
    flops: int
    bytes: int


@dataclass(frozen=True)
class Counts:
    """What one call costs, counted in the `exact` convention; one full frame of an adaptive system.

    Attributes:
        params: parameters.
        activations: elements that multiplying layers put out.
        frames: frames of video that one call stands for.
        stages: in the order in which they run.
        shares: per cent of frames {"skip", "prescan", "full"} at the operating point of the policy, if known.
        shares_source: where they come from.
    """

    __pydantic_config__ = STRICT

    params: int
    activations: int
    frames: int
    stages: list[StageCount]
    shares: dict[str, float] | None = None
    shares_source: str = ""

    @property
    def flops(self) -> int:
        """Of one call."""
        return sum(stage.flops for stage in self.stages)


@dataclass(frozen=True)
class FrameSamples:
    """Single-stream: a sample per frame, or per call of a system that takes several frames at once."""

    __pydantic_config__ = STRICT

    video: list[int]
    t: list[int]
    decision: list[Decision]
    seconds: list[Seconds]

    def __post_init__(self) -> None:
        _check_columns(self)


@dataclass(frozen=True)
class BatchSamples:
    """Offline: a sample per batch of clips, with the number of frames by decision."""

    __pydantic_config__ = STRICT

    first_video: list[int]
    full: list[int]
    prescan: list[int]
    skip: list[int]
    seconds: list[Seconds]

    def __post_init__(self) -> None:
        _check_columns(self)


def _check_columns(samples: FrameSamples | BatchSamples) -> None:
    lengths = {name: len(column) for name, column in vars(samples).items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of unequal length: {lengths}")


@dataclass(frozen=True)
class ReferenceSamples:
    """Of the S_k of an (S_k, T_M), which ran in turns with it in the same process.

    Attributes:
        system: id.
        after: how many samples of the case itself had been taken before each of these.
        frames: samples of single-stream.
        batches: samples of offline.
    """

    __pydantic_config__ = STRICT

    system: str
    after: list[int]
    frames: FrameSamples | None
    batches: BatchSamples | None

    @property
    def seconds(self) -> list[float]:
        """Of each sample."""
        samples = self.frames or self.batches
        return samples.seconds if samples else []

    def __post_init__(self) -> None:
        if len(self.after) != len(self.seconds):
            raise ValueError(f"{len(self.seconds)} samples of {self.system}, and {len(self.after)} places for them")


@dataclass(frozen=True)
class Timing:
    """The measured phase, and the warm-up before it.

    Attributes:
        clock: "perf_counter", or "cuda events".
        warmup_seconds: of each clip, or batch, of the warm-up.
        steady: whether the warm-up ended because times no longer fell.
        phase_seconds: wall time of the measured phase, from the first sample to the last.
        frames: samples of single-stream.
        batches: samples of offline.
        stage_seconds: of each stage of full frames, in a pass of its own.
        decode_seconds: of each frame of the clip: decoding and preparing image and spectrogram, apart from inference.
        activity: what the machine did during the measured phase.
        reference: samples of the system against which speed-ups are, if there is one; in the measured phase too.
        calibration_seconds: of a small workload on the CPU that ran now and then in the measured phase, and tells how
            fast the machine itself was.
    """

    __pydantic_config__ = STRICT

    clock: Literal["perf_counter", "cuda events"]
    warmup_seconds: list[Seconds]
    steady: bool
    phase_seconds: Seconds
    frames: FrameSamples | None
    batches: BatchSamples | None
    stage_seconds: dict[str, list[Seconds]]
    decode_seconds: list[Seconds]
    activity: Activity
    reference: ReferenceSamples | None = None
    calibration_seconds: list[Seconds] = field(default_factory=list)


@dataclass(frozen=True)
class Memory:
    """Memory of the worker, which is a fresh process.

    Attributes:
        how: where the peak comes from: "VmHWM" (kernel, reset before the model was built) or "ru_maxrss".
        start_bytes: resident before the model is built.
        built_bytes: resident with the model and its inputs.
        peak_bytes: the most that was resident, up to the end of the first full frames.
        cuda_allocated_bytes, cuda_reserved_bytes: peaks of torch's allocator, on a GPU.
    """

    __pydantic_config__ = STRICT

    how: Literal["VmHWM", "ru_maxrss"]
    start_bytes: int
    built_bytes: int
    peak_bytes: int
    cuda_allocated_bytes: int | None = None
    cuda_reserved_bytes: int | None = None


@dataclass(frozen=True)
class Energy:
    """Energy of a window in which the system ran.

    Attributes:
        label: how it was had: "measured:rapl-package", "measured:nvml", "estimated:tdp" or "unavailable". Never added
            to another label's.
        how: the counters, or the model of the estimate, or the reason for having nothing, in words.
        joules: of the window; None if unavailable.
        parts: the same by counter, and of counters that are not in it, such as dram.
        seconds: of the window.
        frames: of video that were processed in it.
        idle_joules, idle_seconds: of a window before, in which nothing ran; None where it was not measured.
        activity: what the machine did during the window.
    """

    __pydantic_config__ = STRICT

    label: Literal["measured:rapl-package", "measured:nvml", "estimated:tdp", "unavailable"]
    how: str
    joules: float | None = None
    parts: dict[str, float] = field(default_factory=dict)
    seconds: Seconds = 0.0
    frames: int = 0
    idle_joules: float | None = None
    idle_seconds: float | None = None
    activity: Activity | None = None


@dataclass(frozen=True)
class Peak:
    """The most that this machine did with these threads, or this device: operations and bytes per second."""

    __pydantic_config__ = STRICT

    flops_per_second: float
    bytes_per_second: float


@dataclass(frozen=True)
class Change:
    """How far outputs are from those of eager float32: of full frames of the same clip, with the same weights.

    Outputs are the logits of each group of classes, or, of a bare backbone, its features.

    Attributes:
        largest_difference: between two outputs; None where some are not finite.
        largest_output: of eager float32, by its absolute value.
        predictions: frames, or calls, times groups.
        changed: how many of them have another class as the likeliest.
    """

    __pydantic_config__ = STRICT

    largest_difference: float | None
    largest_output: float
    predictions: int
    changed: int


@dataclass(frozen=True)
class Record:
    """One case, measured or failed.

    Attributes:
        schema: version of this format.
        case: what was measured.
        settings: how thoroughly.
        status: how it ended.
        started: time of the start, UTC, ISO 8601.
        environment: where; None if it failed before that was known.
        counts: what the system costs by counting.
        reference_counts: what the reference of its timing costs.
        timing: samples.
        memory: of the worker.
        energy: of a window of its own.
        peak: of the machine.
        notes: what was put in place of something missing, a sentence each.
        profile: where the time of a step goes, if that was asked.
        reference_profile: of the reference, taken in turns with it.
        change: of the outputs, where the case is not of eager float32.
    """

    __pydantic_config__ = STRICT

    schema: Literal[1]
    case: Case
    settings: Settings
    status: Status
    started: str
    environment: Environment | None = None
    counts: Counts | None = None
    timing: Timing | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    peak: Peak | None = None
    notes: list[str] = field(default_factory=list)
    reference_counts: Counts | None = None
    profile: StepProfile | None = None
    reference_profile: StepProfile | None = None
    change: Change | None = None


_RECORDS = TypeAdapter(Record)


def json_schema() -> dict[str, Any]:
    """The format of a record as a JSON schema (draft 2020-12)."""
    return {"$schema": GenerateJsonSchema.schema_dialect, **_RECORDS.json_schema()}


def write_record(record: Record, path: Path) -> None:
    """Write a record as JSON, whole or not at all.

    Raises:
        RunError: the folder cannot be written to, or the disk is full.
    """
    write_text(path, json.dumps(asdict(record), indent=1, allow_nan=False) + "\n")


def read_record(path: Path) -> Record:
    """Read what `write_record` wrote.

    Raises:
        RunError: a file that is not there, damaged, or of another schema.
    """
    return read_json(path, _RECORDS, SCHEMA, "no such record")


def read_records(folder: Path, on_problem: Callable[[str], None]) -> list[Record]:
    """All records right in a folder, in the order of their names; a damaged one costs itself alone.

    Args:
        folder: which may be missing.
        on_problem: called with what is wrong with a record that cannot be read.
    """
    # without what was being written when a run was killed
    return read_each(folder.glob("[!.]*.json"), read_record, on_problem)
