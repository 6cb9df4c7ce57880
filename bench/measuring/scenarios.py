"""The scenarios, as MLPerf names them: single-stream, frame after frame, and offline, batches of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np

from adaptive_models.stepwise import Stepwise
from bench.measuring.calibration import Calibration
from bench.measuring.clock import Clock, repeat_until, warm_up
from bench.measuring.machine import Watch
from bench.measuring.metrics import DECISIONS, kind_of, material
from bench.measuring.statistics import Percentile, samples_needed, statistics_of_resamples
from bench.measuring.subject import Subject
from bench.records.measurement import BatchSamples, FrameSamples, ReferenceSamples, Settings, Timing

STAGE_FRAMES = 3
"""Full frames of the pass in which stages are timed, beside the first of the video, which is not decided about."""

FEWEST = samples_needed(50)

QUICK_RESAMPLES, QUICK_PART = 100, 0.9
"""Of asking while samples are taken: fewer resamples take less time, and know an interval only to a tenth."""

NORMAL_BOUND = 1.96
"""Standard deviations on either side that hold 95 %: of few resamples they are surer than their outer percentiles."""

Tell = Callable[[str, "dict[str, list[float]]"], None]
"""Is told the name of the phase, and the samples so far by kind, before every step."""


class Scenario(Protocol):
    """A way of running a subject, step by step.

    Attributes:
        kinds: seconds so far, by kind (see `metrics.kind_of`) or of "batch".
    """

    kinds: dict[str, list[float]]

    def warm_up(self) -> float:
        """Run a step that goes through all stages, and return its seconds."""
        ...

    def step(self) -> float:
        """Run a step, keep its sample, and return its seconds."""
        ...

    @property
    def samples(self) -> FrameSamples | BatchSamples:
        """All so far."""
        ...


class SingleStream:
    """Frames arrive one after another; a step is a frame, or the call that stands for several."""

    def __init__(self, subject: Subject, clock: Clock) -> None:
        self._clock, self._decides = clock, subject.decides_by_frame
        self._full = partial(next, subject.stream(subject.through_all_stages))
        self._next = partial(next, subject.stream())
        self.samples = FrameSamples([], [], [], [])
        self.kinds: dict[str, list[float]] = {}

    def warm_up(self) -> float:
        """A full frame."""
        return self._clock.time(self._full)[0]

    def step(self) -> float:
        """The next frame, as the policy decides."""
        seconds, frame = self._clock.time(self._next)
        self.samples.video.append(frame.video)
        self.samples.t.append(frame.t)
        self.samples.decision.append(frame.decision)
        self.samples.seconds.append(seconds)
        self.kinds.setdefault(kind_of(frame.decision, frame.t, self._decides), []).append(seconds)
        return seconds


class Offline:
    """All clips are there; a step is a batch of them."""

    def __init__(self, subject: Subject, clock: Clock, batch: int) -> None:
        self._subject, self._clock, self._batch = subject, clock, batch
        self.samples = BatchSamples([], [], [], [], [])
        self.kinds = {"batch": self.samples.seconds}

    def warm_up(self) -> float:
        """A batch of clips whose frames are all full."""
        return self._clock.time(partial(self._subject.batch, 0, self._batch, self._subject.through_all_stages))[0]

    def step(self) -> float:
        """The next clips, as the policy decides."""
        first = len(self.samples.seconds) * self._batch
        seconds, frames = self._clock.time(partial(self._subject.batch, first, self._batch))
        decisions: list[str] = [frame.decision for frame in frames]
        self.samples.first_video.append(first)
        for name in DECISIONS:
            getattr(self.samples, name).append(decisions.count(name))
        self.samples.seconds.append(seconds)
        return seconds


class Turns:
    """Steps of a scenario, and of the reference's in between, so that both take the same time in all.

    What disturbs the machine for longer than a turn disturbs both, and drops out of the ratio of their times.

    Args:
        scenario: whose steps are measured.
        reference: the same scenario of the system to which it is compared, if there is one.

    Attributes:
        after: how many steps of the scenario had been made before each of the reference's.
    """

    def __init__(self, scenario: Scenario, reference: Scenario | None) -> None:
        self._scenario, self._reference = scenario, reference
        self._steps, self._ahead = 0, 0.0
        self.after: list[int] = []

    def warm_up(self) -> None:
        """Of the reference, whose code is warm if the scenario's is, but not its weights."""
        if self._reference:
            self._reference.warm_up()

    def step(self) -> None:
        """A step of the scenario, and before it one of the reference if that has had less time so far."""
        if self._reference and self._ahead >= 0:
            self.after.append(self._steps)
            self._ahead -= self._reference.step()
        self._ahead += self._scenario.step()
        self._steps += 1


def measure_times(
    subject: Subject,
    batch: int | None,
    settings: Settings,
    decode: list[float],
    tell: Tell,
    reference: Subject | None = None,
) -> Timing:
    """Warm up, measure until the medians are known well enough, and time the stages.

    Args:
        subject: what is measured.
        batch: clips at once, or None for single-stream.
        settings: width of the intervals and budgets.
        decode: seconds of decoding, which go into the record.
        tell: for progress.
        reference: runs in turns with the subject, with every frame full, where a speed-up over it is wanted.
    """
    clock = Clock(subject.device)
    scenario = _scenario(subject, clock, batch)
    rival = _scenario(reference, clock, batch) if reference else None
    turns = Turns(scenario, rival)
    warm: dict[str, list[float]] = {"warm-up": []}

    def warm_step() -> float:
        tell("warming up", warm)
        warm["warm-up"].append(scenario.warm_up())
        return warm["warm-up"][-1]

    warmed = warm_up(warm_step, settings.warmup)
    turns.warm_up()
    calibration = Calibration()
    watch = Watch(subject.device)

    def step() -> None:
        tell("timing", scenario.kinds)
        turns.step()
        calibration.look()
        watch.look()

    budget = settings.budget * (2 if reference else 1)
    phase_seconds = repeat_until(step, lambda: have_converged(scenario.kinds, settings.width), budget)
    activity = watch.activity()
    tell("timing stages", {})
    return Timing(
        clock=clock.name,
        warmup_seconds=warmed.seconds,
        steady=warmed.steady,
        phase_seconds=phase_seconds,
        **_columns(scenario.samples),
        stage_seconds=_stage_times(subject, clock) if batch is None else {},
        decode_seconds=decode,
        activity=activity,
        reference=ReferenceSamples(reference.system.id, turns.after, **_columns(rival.samples))
        if reference and rival
        else None,
        calibration_seconds=calibration.seconds,
    )


def _scenario(subject: Subject, clock: Clock, batch: int | None) -> Scenario:
    return SingleStream(subject, clock) if batch is None else Offline(subject, clock, batch)


def _columns(samples: FrameSamples | BatchSamples) -> dict[str, Any]:
    single = isinstance(samples, FrameSamples)
    return {"frames": samples if single else None, "batches": None if single else samples}


def have_converged(kinds: Mapping[str, Sequence[float]], width: float) -> bool:
    """Whether the medians of all kinds that take a material part of the time are known to that half-width, surely.

    Args:
        kinds: seconds by kind.
        width: as a part of the median.
    """
    generator = np.random.default_rng(0)
    for seconds in material(kinds).values():
        if len(seconds) < FEWEST:
            return False
        medians = statistics_of_resamples(np.asarray(seconds), Percentile(50), generator, QUICK_RESAMPLES)
        if NORMAL_BOUND * medians.std() > QUICK_PART * width * np.median(seconds):
            return False
    return True


def _stage_times(subject: Subject, clock: Clock) -> dict[str, list[float]]:
    """Seconds of each stage of full steps of an adaptive system; nothing for others, whose only stage is the call."""
    if not isinstance(subject.model, Stepwise):
        return {}
    steps: dict[str, list[float]] = {stage: [] for stage in subject.model.stages}
    with timed_stages(subject.model, clock) as seconds:
        frames = subject.stream(subject.through_all_stages)
        for _ in range(1 + STAGE_FRAMES):
            next(frames)
            for stage, times in seconds.items():
                if times:
                    steps[stage].append(sum(times))
                    times.clear()
    return {stage: times[-STAGE_FRAMES:] for stage, times in steps.items() if times}


@contextmanager
def timed_stages(model: Stepwise, clock: Clock) -> Iterator[dict[str, list[float]]]:
    """While it lasts, the stages of a system add their seconds to the lists that it yields."""
    seconds: dict[str, list[float]] = {stage: [] for stage in model.stages}

    def timed(stage: str) -> Callable[..., Any]:
        method = getattr(model, stage)

        def run(*args: Any) -> Any:
            elapsed, result = clock.time(partial(method, *args))
            seconds[stage].append(elapsed)
            return result

        return run

    replacements = {stage: timed(stage) for stage in model.stages}
    before = {stage: vars(model)[stage] for stage in model.stages if stage in vars(model)}  # a backend's
    vars(model).update(replacements)
    try:
        yield seconds
    finally:
        for stage in replacements:
            del vars(model)[stage]
        vars(model).update(before)
