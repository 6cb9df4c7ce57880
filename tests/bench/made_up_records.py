"""Valid records of measurements that nobody made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.records.measurement import (
    Activity,
    Case,
    Counts,
    Decision,
    Energy,
    Environment,
    FrameSamples,
    Memory,
    Peak,
    Record,
    ReferenceSamples,
    Settings,
    StageCount,
    Status,
    Timing,
)

MakeRecord = Callable[..., Record]

ENVIRONMENT = Environment(
    platform="Linux-6.1-x86_64",
    cpu="Imaginary 9000",
    physical_cores=2,
    logical_cores=2,
    usable_cores=2,
    memory_bytes=8 * 2**30,
    virtual="kvm",
    governor="",
    turbo=None,
    clock_range_mhz=None,
    load=0.25,
    gpu="",
    gpu_driver="",
    gpu_memory_bytes=None,
    gpu_power_limit_watts=None,
    gpu_max_clock_mhz=None,
    python="3.11.2",
    torch="2.13.0",
    foveabench="0.1.0",
    libraries={"numpy": "2.3.0"},
    torch_build="MKL, OpenMP",
    threads=(2, 1),
    revision="0123abc",
)
ACTIVITY = Activity(seconds=10.0, cores=2, own_cpu_seconds=19.9, busy_cpu_seconds=20.0, stolen_cpu_seconds=0.0)
# Operations of each stage in millions; a byte for four of them
ADAPTIVE = {"scan": 1000, "decide": 50, "hallucinate": 150, "look": 8500, "classify": 300}
SPATIAL = {"scan": 1000, "look": 8500, "classify": 300}


def made_up_record(
    system: str,
    full: Sequence[float] = (),
    prescan: Sequence[float] = (),
    skip: Sequence[float] = (),
    shares: tuple[float, float, float] | None = None,
    stages: Mapping[str, int] | None = None,
    stage_ms: Mapping[str, float] | None = None,
    beside: Sequence[float] = (),
    energy: Energy | None = None,
    environment: Mapping[str, Any] | None = None,
    call_frames: int = 1,
    settings: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Record:
    """A valid single-stream record of a system on a CPU.

    Args:
        system: its id.
        full, prescan, skip: milliseconds of the frames with these decisions.
        shares: per cent of frames that are skipped, pre-scanned and full, as the record's counts have them.
        stages: millions of operations of each stage of a full frame; a fixed system has "call" only.
        stage_ms: milliseconds of each stage.
        beside: milliseconds of full frames of the S_k, taken at equal distances beside the system's own.
        energy: of the window; unavailable if not given.
        environment, settings: what is different in them.
        call_frames: frames of video that a call stands for.
        changes: fields of the record (status, timing, memory, peak, notes, ...) or of its case (device, dtype, ...).
    """
    stages = stages or (ADAPTIVE if shares else {"call": 12_000})
    of_case = {name: changes.pop(name) for name in list(changes) if name in Case.__dataclass_fields__}
    kinds: dict[Decision, Sequence[float]] = {"full": full, "prescan": prescan, "skip": skip}
    decisions = [decision for decision, times in kinds.items() for _ in times]
    seconds = [ms / 1e3 for times in kinds.values() for ms in times]
    case = Case(system, "single-stream", "cpu", "float32", "published" if shares else "fixed", 1, 10, 2, "demo")
    record = Record(
        schema=1,
        case=replace(case, **of_case),
        settings=replace(Settings(0.02, 20.0, 5.0, 4.0, 300.0, 4 * 2**30), **(settings or {})),
        status=Status("ok"),
        started="2026-01-01T00:00:00+00:00",
        environment=replace(ENVIRONMENT, **(environment or {})),
        counts=Counts(
            params=10**6,
            activations=10**6,
            frames=call_frames,
            stages=_stages(stages),
            shares=dict(zip(("skip", "prescan", "full"), shares, strict=True)) if shares else None,
            shares_source="Table II" if shares else "",
        ),
        timing=Timing(
            clock="perf_counter",
            warmup_seconds=[0.1] * 4,
            steady=True,
            phase_seconds=sum(seconds) * 1.01,
            frames=FrameSamples(
                [i // 10 for i in range(len(seconds))], [i % 10 for i in range(len(seconds))], decisions, seconds
            ),
            batches=None,
            stage_seconds={name: [ms / 1e3] * 3 for name, ms in (stage_ms or {}).items()},
            decode_seconds=[0.004, 0.006, 0.005],
            activity=ACTIVITY,
            reference=_reference(system, beside, len(seconds)),
        ),
        memory=Memory("VmHWM", start_bytes=200 * 10**6, built_bytes=400 * 10**6, peak_bytes=750 * 10**6),
        energy=energy or Energy("unavailable", "no counter, and codecarbon is not installed"),
        peak=Peak(1e11, 1e10),
        reference_counts=Counts(10**6, 10**6, 1, _stages(SPATIAL)) if beside else None,
    )
    return replace(record, **changes)


def _stages(millions: Mapping[str, int]) -> list[StageCount]:
    return [StageCount(name, m * 500_000, m * 10**6, m * 250_000) for name, m in millions.items()]


def _reference(system: str, beside: Sequence[float], samples: int) -> ReferenceSamples | None:
    if not beside:
        return None
    count = len(beside)
    after = [position * samples // count for position in range(count)]
    frames = FrameSamples([0] * count, list(range(count)), ["full"] * count, [ms / 1e3 for ms in beside])
    return ReferenceSamples(system.rpartition("-t")[0], after, frames, None)
