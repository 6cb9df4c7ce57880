"""Which cases a call asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import psutil

from bench.backends.backend import check_backend
from bench.errors import RunError, UsageError
from bench.measuring.machine import environment, usable_cores
from bench.records.measurement import BackendName, Case, Dtype, Scenario
from bench.streaming import make_policy, policy_of, usable_device
from bench.systems.registry import Registry, System
from bench.systems.workloads import WORKLOADS

BATCHES = (1, 4)
"""Clips at once, in offline, if none are asked for."""


def chosen_systems(registry: Registry, patterns: Iterable[str]) -> list[System]:
    """Systems by id or by pattern, as in `epic/*`, each once.

    Raises:
        UsageError: an id that there is not, or a pattern that nothing matches.
    """
    chosen: dict[str, System] = {}
    for pattern in patterns:
        if any(letter in pattern for letter in "*?["):
            found = [system for system in registry if fnmatchcase(system.id, pattern)]
            if not found:
                raise UsageError(f"no system matches {pattern!r}: see `foveabench list`")
        else:
            found = [registry.find(pattern)]
        chosen |= {system.id: system for system in found}
    return list(chosen.values())


def default_threads() -> int:
    """As many as there are physical cores, of those that this process may use: what torch takes by itself."""
    usable = len(usable_cores())
    return min(usable, psutil.cpu_count(logical=False) or usable)


def make_cases(
    systems: Iterable[System],
    scenario: Scenario,
    device: str,
    dtype: Dtype,
    policy: str,
    batches: Sequence[int],
    frames: int | None,
    threads: int,
    clip: str,
    backends: Sequence[BackendName] = ("eager",),
) -> list[Case]:
    """A case for each system and backend, and in offline for each batch size too.

    Args:
        systems: to be measured.
        scenario: "single-stream" or "offline".
        device: as torch names it.
        dtype: of weights and inputs.
        policy: who decides, in systems with a temporal sampler; others have nothing to decide.
        batches: clips at once, in offline.
        frames: of a clip; the workload's if not given.
        threads: of torch.
        clip: a video file, a folder or tar archive of its frames, a folder of such, or "demo".
        backends: what runs the networks.

    Raises:
        UsageError: numbers below 1, or a policy that a system cannot follow.
        RunError: no such clip.
    """
    for name, number in (("--threads", threads), ("--frames", frames), *(("--batch", batch) for batch in batches)):
        if number is not None and number < 1:
            raise UsageError(f"{name} {number}: at least 1 is needed")
    if clip != "demo" and not Path(clip).exists():
        raise RunError(f"{clip}: no such file or folder")
    return [
        Case(
            system=system.id,
            scenario=scenario,
            device=device,
            dtype=dtype,
            policy=policy_of(system, policy),
            batch=batch,
            frames=_frames_of(system, frames),
            threads=threads,
            clip="demo" if clip == "demo" else Path(clip).name,
            backend=backend,
        )
        for system in systems
        for backend in dict.fromkeys(backends)
        for batch in (batches if scenario == "offline" else [1])
    ]


def _frames_of(system: System, frames: int | None) -> int:
    if frames is not None:
        return frames
    if system.workload in WORKLOADS:
        return WORKLOADS[system.workload].frames
    if system.adaptive:
        raise UsageError(f"--frames is needed: {system.id} is of none of the workloads {', '.join(WORKLOADS)}")
    return system.frames


def check_cases(cases: Iterable[Case], systems: Iterable[System]) -> None:
    """Find out what no case could be measured with, before any is.

    Raises:
        UsageError: a device or backend that cannot be used, or a policy that there is not, or that a system cannot
            follow.
    """
    by_id = {system.id: system for system in systems}
    for case in cases:
        check_backend(case.backend, case.device)
        usable_device(case.device)
        if by_id[case.system].decides:
            make_policy(case.policy, by_id[case.system], case.frames)


def machine_folder(out: Path, device: str) -> Path:
    """Where records of this machine lie: "records", and a name of the GPU, or of the processor with its cores."""
    facts = environment(usable_device(device))
    name = facts.gpu or f"{facts.cpu} {facts.usable_cores} cores"
    plain = re.sub(r"\((r|tm)\)|\b(cpu|processor)\b", " ", name.lower())
    return out / "records" / re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
