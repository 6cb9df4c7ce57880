"""Two systems that run in turns, in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import torch

from bench.backends.backend import UnsupportedError
from bench.compare.result import Comparison
from bench.errors import RunError
from bench.measuring.clock import Clock, warm_up
from bench.measuring.comparison import Verdict, interleave, judge, judge_mixtures
from bench.measuring.metrics import kind_of, shares_of_kinds
from bench.measuring.subject import Subject, footage_for
from bench.records.measurement import Case
from bench.systems.costs import FIXED_POLICIES, operating_point
from bench.systems.registry import Registry


def compare_systems(
    a: Case, b: Case, registry: Registry, clip: str, seconds: float, advance: Callable[[str], None]
) -> Comparison:
    """Run two systems in turns, in random order, in this process; a turn is a clip, frame by frame.

    After shorter turns, frames would find their weights where those of the other system left them, in memory and not
    in the caches. Of an adaptive system, the frames of each decision are weighed by their shares at the policy's
    operating point.

    Args:
        a, b: cases of single-stream, on one device and with equally many threads.
        registry: of their systems.
        clip: path of the clip, or "demo".
        seconds: of measuring.
        advance: told what is being done.

    Raises:
        RunError, UsageError: a system that cannot be built or run.
    """
    torch.set_num_threads(a.threads)
    clock = Clock(torch.device(a.device))
    turns = {}
    for name, case in (("a", a), ("b", b)):
        advance(f"preparing {case.system}")
        turns[name] = Turns(_prepare(case, registry, clip), clock)
        warm_up(turns[name].warm_up, seconds / 5)
    advance("clips in turns")
    clips = interleave(turns, seconds, timer=lambda turn: turn())
    verdict = _judge(turns["a"], turns["b"], (a, b), clips)
    how = f"{len(clips['a'])} clips of each, frame by frame, in turns"
    return Comparison(a.system, b.system, verdict.outcome, verdict.ratio, how, verdict.median, verdict.fast)


def _prepare(case: Case, registry: Registry, clip: str) -> Subject:
    system = registry.find(case.system)
    footage = footage_for(system, clip, case.frames)
    try:
        subject = Subject(system, footage, case.policy, torch.device(case.device), case.dtype, case.seed, case.backend)
    except UnsupportedError as error:
        raise RunError(f"{system.id}: {error}") from error
    if subject.backend:
        subject.compile(None)
    return subject


class Turns:
    """A system's clips, one at a time.

    Attributes:
        subject: the system.
        kinds: seconds per frame of video so far, by kind (see `metrics.kind_of`).
    """

    def __init__(self, subject: Subject, clock: Clock) -> None:
        self.subject, self._clock = subject, clock
        self._next = partial(next, subject.stream())
        self._full = partial(next, subject.stream(subject.through_all_stages))
        self.kinds: dict[str, list[float]] = {}

    def warm_up(self) -> float:
        """Run a call that goes through all stages; its seconds."""
        return self._clock.time(self._full)[0]

    def shares(self, of_decisions: Mapping[str, float]) -> dict[str, float]:
        """Per cent of frames by kind, given those by decision."""
        return shares_of_kinds(self.kinds, of_decisions, self.subject.frames)

    def __call__(self) -> float:
        """Run the next clip, frame by frame; the mean of their seconds."""
        calls = self.subject.frames // self.subject.system.frames
        total = 0.0
        for _ in range(calls):
            seconds, frame = self._clock.time(self._next)
            kind = kind_of(frame.decision, frame.t, self.subject.decides_by_frame)
            self.kinds.setdefault(kind, []).append(seconds / self.subject.system.frames)
            total += seconds
        return total / self.subject.frames


def _judge(a: Turns, b: Turns, cases: tuple[Case, Case], clips: Mapping[str, Sequence[float]]) -> Verdict:
    if set(a.kinds) | set(b.kinds) == {"full"}:
        frames = a.kinds["full"], b.kinds["full"]
        return judge(*(frames if len(frames[0]) == len(frames[1]) else (clips["a"], clips["b"])))
    return judge_mixtures(a.kinds, b.kinds, (_shares(a, cases[0]), _shares(b, cases[1])))


def _shares(turns: Turns, case: Case) -> dict[str, float]:
    """Of decisions at the operating point; those that were executed where it is not known, or one never came."""
    system = turns.subject.system
    if system.adaptive and case.policy in FIXED_POLICIES:
        shares = turns.shares(asdict(operating_point(system, case.policy)[0]))
        if all(kind in turns.kinds for kind, share in shares.items() if share > 0):
            return shares
    return {kind: float(len(seconds)) for kind, seconds in turns.kinds.items()}
