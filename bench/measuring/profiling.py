"""Where the time of a step goes: it is run untouched, with its stages timed, and with its layers timed, in turns.

So what looking costs is seen, and whatever else the machine does disturbs all three alike.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bench.counting.counter import Counter, counting
from bench.counting.isolation import operators_whole
from bench.measuring.clock import Clock
from bench.measuring.comparison import interleave
from bench.measuring.subject import Subject
from bench.measuring.tracing import Opened, Place, Tracer
from bench.records.profile import LayerTimes, PartTimes, StepProfile

MARKS = 200
"""Things that do nothing, timed to know what timing takes, for each sample of it."""
MARK_SAMPLES = 5


def profile_steps(subjects: Sequence[Subject], seconds: float) -> list[StepProfile]:
    """Profile systems in single-stream on one device, in turns.

    Args:
        subjects: the systems.
        seconds: of timing in all; ten rounds are made in any case.
    """
    profilers = [_Profiler(subject) for subject in subjects]
    ways = {f"{which} {way.__name__}": way for which, profiler in enumerate(profilers) for way in profiler.ways}
    interleave(ways, seconds, timer=lambda way: way())
    return [profiler.profile() for profiler in profilers]


class _Profiler:
    """A system, whose steps are run in three ways.

    A step of a system with a temporal sampler is a frame that this is asked about: no first one of a video.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject, self._clock = subject, Clock(subject.device)
        self._tracer = Tracer(subject.model)
        self._steps = subject.stream(subject.through_all_stages)
        self._taken = 0
        self._untouched: list[float] = []
        self._parts, self._layers = _Stopwatch(self._clock), _Stopwatch(self._clock)
        self.ways = (self.untouched, self.by_parts, self.by_layers)
        for _ in range(2):  # warm
            self._step()

    def untouched(self) -> float:
        """Seconds of a step as it is."""
        seconds, _ = self._clock.time(self._next_step())
        self._untouched.append(seconds)
        return seconds

    def by_parts(self) -> float:
        """Seconds of a step whose stages and parts are timed."""
        step = self._next_step()
        with self._tracer.tracing(self._parts, layers=False):
            return self._parts.time(step)

    def by_layers(self) -> float:
        """Seconds of a step whose layers are timed too."""
        step = self._next_step()
        with self._tracer.tracing(self._layers, layers=True):
            return self._layers.time(step)

    def _next_step(self) -> Callable[[], object]:
        """The next step, of which an unwanted one before it was run already."""
        if self._subject.system.max_skip is not None and self._taken % self._subject.frames == 0:
            self._step()
        return self._step

    def _step(self) -> None:
        next(self._steps)
        self._taken += 1

    def profile(self) -> StepProfile:
        """What was timed, with what it counts and moves."""
        costs = self._count(self._layers.opened)
        return StepProfile(
            self._untouched,
            self._parts.steps,
            self._layers.steps,
            [PartTimes(place.stage, place.part, seconds) for place, seconds in self._parts.own.items()],
            [
                LayerTimes(
                    *place,
                    self._layers.opened[place].type,
                    self._layers.calls[place] // len(self._layers.steps),
                    *costs.figures(place),
                    seconds,
                )
                for place, seconds in self._layers.own.items()
            ],
            [self._mark_seconds() for _ in range(MARK_SAMPLES)],
        )

    def _count(self, timed: Container[Place]) -> _Costs:
        step, counter = self._next_step(), Counter({"": self._subject.model}, "exact")
        costs = _Costs(counter, timed)
        with self._tracer.tracing(costs, layers=True), operators_whole(), torch.inference_mode(), counting(counter):
            step()
        return costs

    def _mark_seconds(self) -> float:
        """Seconds of timing something that does nothing, and of doing nothing."""
        watch = _Stopwatch(self._clock)
        opened = Opened(Place("nothing"))

        def nothing() -> None:
            for _ in range(MARKS):
                watch.run(opened, int)

        return watch.time(nothing) / MARKS


class _Stopwatch:
    """Times what runs in steps, each thing without what runs within it.

    Attributes:
        steps: seconds of each.
        own: seconds at each place, in each step; at `Place()`, of all that was in no stage.
        opened: the first that ran there.
        calls: how many ran there, in all steps together.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._depth = 0
        self._closed: list[tuple[Opened, int, Any, Any]] = []
        self.steps: list[float] = []
        self.own: dict[Place, list[float]] = {}
        self.opened: dict[Place, Opened] = {}
        self.calls: dict[Place, int] = {}

    def run(self, opened: Opened, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run something with marks round it; that takes the least time, and what they tell is asked after the step."""
        self._depth += 1
        self.opened.setdefault(opened.place, opened)
        start = self._clock.mark()
        try:
            return function(*args, **kwargs)
        finally:
            self._closed.append((opened, self._depth, start, self._clock.mark()))
            self._depth -= 1

    def time(self, step: Callable[[], object]) -> float:
        """Run a step; returns its seconds."""
        self._closed = []
        self.run(Opened(Place()), step)
        within, own = [0.0] * (2 + max(depth for _, depth, _, _ in self._closed)), dict.fromkeys(self.opened, 0.0)
        for opened, depth, start, end in self._closed:
            seconds = self._clock.between(start, end)
            own[opened.place] += seconds - within[depth + 1]
            within[depth + 1] = 0.0
            within[depth] += seconds
            self.calls[opened.place] = self.calls.get(opened.place, 0) + 1
        for place, seconds in own.items():
            self.own.setdefault(place, [0.0] * len(self.steps)).append(seconds)
        self.steps.append(within[1])
        return within[1]


class _Costs:
    """What the places of a step count and move; what runs at a place that was not timed belongs to the one round it.

    Args:
        counter: that counts the step.
        timed: places that were.
    """

    def __init__(self, counter: Counter, timed: Container[Place]) -> None:
        self._counter, self._timed = counter, timed
        self._within: list[set[int]] = [set()]  # numbers of rows of what runs at places inside, by depth
        self._rows: dict[Place, list[int]] = {}
        self._bytes: dict[Place, int] = {}

    def run(self, opened: Opened, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run something, and see what it adds to the count."""
        if opened.place not in self._timed:
            return function(*args, **kwargs)
        first = self._counter.new_row()
        self._within.append(set())
        result = function(*args, **kwargs)
        inside = self._within.pop()
        rows = set(range(first, self._counter.new_row()))
        self._within[-1] |= rows
        own = sorted(rows - inside)
        self._rows.setdefault(opened.place, []).extend(own)
        moved = sum(self._counter.rows[row].bytes for row in own)
        if moved and not inside and opened.modules:
            moved = _bytes(args, kwargs, result) + sum(map(_weights, opened.modules))
        self._bytes[opened.place] = self._bytes.get(opened.place, 0) + moved
        return result

    def figures(self, place: Place) -> tuple[int, int, int]:
        """Multiply-accumulates, operations and bytes at a place."""
        if place == Place():
            inside = set(chain(*self._rows.values()))
            rows = [row for number, row in enumerate(self._counter.rows) if number not in inside]
        else:
            rows = [self._counter.rows[number] for number in self._rows.get(place, [])]
        moved = sum(row.bytes for row in rows) if place == Place() else self._bytes.get(place, 0)
        return sum(row.macs for row in rows), sum(row.flops for row in rows), moved


def _bytes(*values: Any) -> int:
    return sum(each.nbytes for each in tree_leaves(values) if isinstance(each, Tensor))


def _weights(module: nn.Module) -> int:
    return _bytes([*module.parameters(), *module.buffers()])
