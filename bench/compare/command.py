"""Finding out what kind of things are to be compared, and comparing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.compare.records import compare_folders, compare_records, refuse_different_tasks
from bench.compare.result import Comparison
from bench.compare.revisions import compare_revisions
from bench.compare.systems import compare_systems
from bench.display import note
from bench.errors import UsageError
from bench.measuring.campaign import settings
from bench.measuring.cases import check_cases, default_threads, make_cases
from bench.measuring.worker import Request
from bench.records.measurement import Case, Dtype, read_record
from bench.systems.builtin import registry
from bench.systems.registry import Registry

START = {"width": 1.0, "budget": 5.0, "warmup": 3.0, "energy": 0.0, "time_limit": 300.0}
"""Of each start of a working tree: several short ones tell more than a long one."""

Kind = Literal["system", "record", "folder of records", "working tree"]


@dataclass(frozen=True)
class Task:
    """How things are compared: as the options of `foveabench compare` say.

    Attributes:
        live: run the systems of two records again.
        system: id of what is run in two working trees.
        seconds: for which two systems run in turns.
        restarts: of each of two working trees.
        device, dtype, policy, clip, frames, threads: as of a case.
        adapters: for the registry; files are relative to each tree.
    """

    live: bool
    system: str | None
    seconds: float
    restarts: int
    device: str
    dtype: Dtype
    policy: str
    clip: str
    frames: int | None
    threads: int | None
    adapters: list[str]

    def cases(self, systems: Registry, *ids: str) -> list[Case]:
        """A case of single-stream for each system.

        Raises:
            UsageError, RunError: a system that there is not, or that cannot be run so.
        """
        found = [systems.find(id) for id in ids]
        threads = default_threads() if self.threads is None else self.threads
        cases = make_cases(
            found, "single-stream", self.device, self.dtype, self.policy, [1], self.frames, threads, self.clip
        )
        check_cases(cases, found)
        return cases


def compare_any(a: str, b: str, task: Task, advance: Callable[[str], None]) -> list[Comparison]:
    """Compare two systems, records, folders of records, or working trees, whichever they are.

    Args:
        a, b: of one kind.
        task: how.
        advance: told what is being done.

    Raises:
        UsageError: things of different kinds, or options that do not fit them.
        RunError: what the kind of comparison may raise.
    """
    kind = _kind_of(a)
    if kind != _kind_of(b):
        raise UsageError(f"{a} is a {kind}, {b} a {_kind_of(b)}: compare two of a kind")
    if kind != "working tree" and task.system is not None:
        raise UsageError(f"--system is for two working trees: {a} is a {kind}")
    if kind != "record" and task.live:
        raise UsageError(f"--live is for two records, whose systems are run again: {a} is a {kind}")
    if kind == "working tree":
        return [_compare_trees((Path(a), Path(b)), task, advance)]
    if kind == "folder of records":
        return compare_folders(Path(a), Path(b), note)
    if kind == "system":
        first, second = task.cases(registry(task.adapters), a, b)
    else:
        records = read_record(Path(a)), read_record(Path(b))
        if not task.live:
            return [compare_records(*records)]
        first, second = (record.case for record in records)
        refuse_different_tasks(first, second, ("device", "threads"))
    return [compare_systems(first, second, registry(task.adapters), task.clip, task.seconds, advance)]


def _kind_of(name: str) -> Kind:
    path = Path(name)
    if path.is_file():
        return "record"
    if path.is_dir():
        return "folder of records" if any(path.glob("[!.]*.json")) else "working tree"
    return "system"


def _compare_trees(trees: tuple[Path, Path], task: Task, advance: Callable[[str], None]) -> Comparison:
    if task.system is None:
        raise UsageError(f"{trees[0]} and {trees[1]} are working trees: say with --system what to run in them")
    in_first = [str(trees[0] / adapter) if ".py:" in adapter else adapter for adapter in task.adapters]
    (case,) = task.cases(registry(in_first), task.system)
    clip = task.clip if task.clip == "demo" else str(Path(task.clip).resolve())
    request = Request(case, settings(**START), clip, task.adapters)
    return compare_revisions(trees, request, task.restarts, advance)
