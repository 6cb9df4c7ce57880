"""One case, measured in a process of its own, which a campaign starts.

It reads a request, one line of JSON, from standard input, and tells of its progress in lines of JSON on standard
output; the last one holds the record, or the error. When standard input closes, whoever asked is gone, and it ends.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from itertools import count
from statistics import median
from typing import IO, TYPE_CHECKING, Any

from pydantic import TypeAdapter

from bench.errors import in_words
from bench.records.measurement import (
    SCHEMA,
    Case,
    Counts,
    Environment,
    Memory,
    Record,
    Settings,
    StageCount,
    Status,
)

if TYPE_CHECKING:
    import torch

    from bench.measuring.subject import Footage, Subject
    from bench.records.profile import StepProfile
    from bench.systems.registry import System

TELL_SECONDS = 0.25
"""Between two messages of progress in a phase."""

GRACE_SECONDS = 5.0
"""After the time limit, for whoever asked to stop the worker, before it ends itself."""

RECENT = 1000
"""Samples of which an estimate is told; of all, it would take too long."""

ALWAYS_FULL = "always-full"
"""Name of the policy of references, which have nothing to decide."""

MEMORY_FRAMES = 2
"""Full frames whose peak of memory is taken: the first of a video, and one that the temporal sampler decides about."""


@dataclass(frozen=True)
class Request:
    """What a campaign asks of a worker.

    Attributes:
        case: to measure.
        settings: how thoroughly.
        clip: path of the clip, or "demo"; the case has its name only.
        adapters: for the registry.
    """

    case: Case
    settings: Settings
    clip: str
    adapters: list[str]


@dataclass(frozen=True)
class Message:
    """What a worker says.

    Attributes:
        phase: what it is doing.
        samples: taken in this phase.
        estimate: median seconds of the kind of sample that takes most of the time.
        environment: once, as soon as it is known.
        record: at the end.
        error: why it gives up.
    """

    phase: str
    samples: int = 0
    estimate: float | None = None
    environment: Environment | None = None
    record: Record | None = None
    error: str = ""


def main() -> None:
    """Serve one request, and end with status 0 if that came to a record, else 1."""
    line = sys.stdin.readline()
    threading.Thread(target=_end_with, args=[os.dup(0)], daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a model that asks a question gets no answer
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model prints is no message
    tell = partial(_send, answers)
    try:
        request = TypeAdapter(Request).validate_json(line)
        # A thread in C, which also ends a process whose interpreter is held by a call that does not return.
        faulthandler.dump_traceback_later(request.settings.time_limit + GRACE_SECONDS, exit=True)
        tell(Message("done", record=measure(request, tell)))
    except BaseException as error:  # sys.exit() in a model is no success
        tell(Message("failed", error=in_words(error)))
        os._exit(1)
    os._exit(0)  # whatever threads a model has left behind


def _end_with(asker: int) -> None:
    """End as soon as the other end of this file is closed."""
    os.read(asker, 1)
    os._exit(1)


def _send(answers: IO[str], message: Message) -> None:
    answers.write(json.dumps(asdict(message), allow_nan=False) + "\n")
    answers.flush()


def measure(request: Request, tell: Callable[[Message], None]) -> Record:
    """Measure a case in this process: memory first, then times, a profile, and energy, each in a pass of its own.

    What its backend cannot run gives a record that says why.

    Raises:
        RunError, UsageError: the system cannot be built, or cannot be run on the clip.
    """
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    import torch

    from bench.backends.backend import UnsupportedError
    from bench.backends.precision import computed_in
    from bench.measuring.changes import compare_outputs
    from bench.measuring.energy import measure_energy
    from bench.measuring.machine import environment
    from bench.measuring.peak import measure_peak
    from bench.measuring.profiling import profile_steps
    from bench.measuring.scenarios import measure_times
    from bench.measuring.subject import Subject, footage_for
    from bench.systems.builtin import registry
    from bench.systems.registry import spatial_sampler

    case, settings = request.case, request.settings
    torch.set_num_threads(case.threads)
    device = torch.device(case.device)
    surroundings = environment(device)
    tell(Message("loading", environment=surroundings))
    systems = registry(request.adapters)
    system = systems.find(case.system)
    tell(Message("decoding"))
    footage = footage_for(system, request.clip, case.frames)
    tell(Message("building"))
    batch = case.batch if case.scenario == "offline" else None
    rival, reference = spatial_sampler(system.id), None
    try:
        subject, memory = _build(system, footage, case, device, tell)
        if rival and rival in systems:
            reference = Subject(systems.find(rival), footage, ALWAYS_FULL, device, case.dtype, case.seed, case.backend)
            _compile(reference, batch, tell)
        compiled = _compiled(subject, reference)
        timing = measure_times(subject, batch, settings, footage.decode_seconds, _teller(tell), reference)
    except UnsupportedError as error:
        return Record(SCHEMA, case, settings, Status("unsupported", str(error)), started, surroundings)
    if late := _compiled(subject, reference) - compiled:
        subject.notes.append(f"{case.backend}: {late} networks were compiled while times were taken")
    if system.adaptive and system.frames > 1:
        full = system.frames * subject.decided["full"] / subject.decided.total()
        subject.notes.append(f"a sample is a step of {system.frames} frames, of which {full:.3g} are processed fully")
    profile: StepProfile | None = None
    reference_profile: StepProfile | None = None
    if settings.profile:
        tell(Message("profiling"))
        profile, *others = profile_steps([subject, reference] if reference else [subject], settings.budget)
        reference_profile = others[0] if others else None
    tell(Message("taking energy"))
    energy = measure_energy(_unit_of_energy(subject, batch), settings.energy, device)
    change = None
    if (case.backend, case.dtype) != ("eager", "float32"):
        tell(Message("comparing outputs"))
        plain = Subject(system, footage, case.policy, device, "float32", case.seed)
        change = compare_outputs(subject.outputs(batch), plain.outputs(batch))
    tell(Message("counting"))
    peak = measure_peak(device, computed_in(case.dtype))
    counts = _counts(system, case.policy, subject.decided)
    return Record(
        SCHEMA,
        case,
        settings,
        Status("ok"),
        started,
        surroundings,
        counts,
        timing,
        memory,
        energy,
        peak,
        subject.notes,
        _counts(reference.system, ALWAYS_FULL, {}) if reference else None,
        profile,
        reference_profile,
        change,
    )


def _build(
    system: System,
    footage: Footage,
    case: Case,
    device: torch.device,
    tell: Callable[[Message], None],
) -> tuple[Subject, Memory]:
    """Build the system and run its first full frames, and see how much memory that takes.

    What compiling takes for the moment is left out; what it keeps is not, beside torch's own weights.
    """
    from bench.measuring.memory import PeakMemory, resident_bytes
    from bench.measuring.subject import Subject

    peak = PeakMemory()
    start = resident_bytes()
    subject = Subject(system, footage, case.policy, device, case.dtype, case.seed, case.backend)
    if subject.backend:
        _compile(subject, case.batch if case.scenario == "offline" else None, tell)
        peak = PeakMemory()
    built = resident_bytes()
    if case.scenario == "offline":
        subject.batch(0, case.batch, subject.through_all_stages)
    else:
        frames = subject.stream(subject.through_all_stages)
        for _ in range(MEMORY_FRAMES):
            next(frames)
    allocated = reserved = None
    if device.type == "cuda":
        import torch

        allocated, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    return subject, Memory(peak.how, start, built, peak.peak_bytes, allocated, reserved)


def _compile(subject: Subject, batch: int | None, tell: Callable[[Message], None]) -> None:
    if subject.backend:
        tell(Message(f"compiling {subject.system.id}"))
        subject.compile(batch)


def _compiled(*subjects: Subject | None) -> int:
    """How much their backends have compiled so far."""
    return sum(subject.backend.compiled for subject in subjects if subject and subject.backend)


def _unit_of_energy(subject: Subject, batch: int | None) -> Callable[[], int]:
    """What is repeated while energy is taken: a clip, or a batch of clips; returns the frames of video in it.

    Where every frame is full, a single call will do.
    """
    videos = count(0, batch or 1)
    if batch is not None:
        return lambda: len(subject.batch(next(videos), batch))
    frames = subject.stream()
    calls = 1 if subject.system.max_skip is None else subject.frames

    def run() -> int:
        for _ in range(calls):
            next(frames)
        return calls * subject.system.frames

    return run


def _counts(system: System, policy: str, decided: Mapping[str, int]) -> Counts:
    """What a call costs: of a step that decides about several frames, with as many full ones as were decided."""
    from bench.systems.costs import FIXED_POLICIES, count_system

    known = policy in FIXED_POLICIES
    cost = count_system(system, policy=policy if known else "always-full")
    profile = cost.profile
    call: dict[str, Any] = {"name": "call", "macs": profile.macs, "flops": profile.flops, "bytes": profile.bytes}
    stages = profile.stages() if system.adaptive else [call]
    if system.adaptive and system.frames > 1:
        stages, known = _at_decided(stages, decided), False
    return Counts(
        params=profile.params,
        activations=profile.activations,
        frames=system.frames,
        stages=[StageCount(stage["name"], stage["macs"], stage["flops"], stage["bytes"]) for stage in stages],
        shares=asdict(cost.shares) if cost.shares and known else None,
        shares_source=cost.shares_source if known else "",
    )


def _at_decided(stages: Sequence[Mapping[str, Any]], decided: Mapping[str, int]) -> list[dict[str, Any]]:
    """Stages of a step in which every frame is full, at the share of full frames that was decided."""
    from bench.systems.registry import PRESCAN_STAGES

    full = decided["full"] / sum(decided.values())
    parts = {stage["name"]: 1.0 if stage["name"] in PRESCAN_STAGES else full for stage in stages}
    return [
        {name: value if name == "name" else round(value * parts[stage["name"]]) for name, value in stage.items()}
        for stage in stages
    ]


def _teller(tell: Callable[[Message], None]) -> Callable[[str, dict[str, list[float]]], None]:
    """Tells of each phase at its start, and then now and then of the kind of sample that takes most of the time."""
    last_phase, last_time = "", 0.0

    def told(phase: str, kinds: dict[str, list[float]]) -> None:
        nonlocal last_phase, last_time
        now = time.monotonic()
        if phase == last_phase and now - last_time < TELL_SECONDS:
            return
        last_phase, last_time = phase, now
        longest = max(kinds.values(), key=sum, default=[])
        tell(Message(phase, sum(map(len, kinds.values())), median(longest[-RECENT:]) if longest else None))

    return told
