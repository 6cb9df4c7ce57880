from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count, islice

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adaptive_models.data.clips import TensorClip
from adaptive_models.policies import AlwaysFull, GivenShares, Shares
from adaptive_models.system import AdaptiveSystem
from bench.compare.systems import Turns as SystemTurns
from bench.measuring.clock import Clock
from bench.measuring.metrics import overhead
from bench.measuring.scenarios import SingleStream, have_converged, measure_times, timed_stages
from bench.measuring.subject import Footage, Subject
from bench.records.measurement import Settings, Timing
from bench.systems.registry import System

CPU = torch.device("cpu")
SETTINGS = Settings(width=0.1, budget=0.5, warmup=0.3, energy=0, time_limit=60, memory_limit=1 << 40)
FRAMES = 5


class Sleeper(nn.Module):
    """Takes the given seconds at each call."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        super().__init__()
        self.seconds, self.calls = seconds, count()

    def forward(self, x: Tensor) -> None:
        time.sleep(self.seconds(next(self.calls)))


def sleeper(seconds: Callable[[int], float], frames: int = 1) -> Subject:
    shape = (3, 8, 8) if frames == 1 else (frames, 3, 8, 8)
    footage = Footage([TensorClip(torch.zeros(FRAMES, 3, 8, 8))], [], [])
    return Subject(
        System("small/sleeper", lambda: Sleeper(seconds), {"rgb": shape}, frames), footage, "fixed", CPU, "float32"
    )


def measured(subject: Subject, batch: int | None = None, **changes: float) -> tuple[Timing, list[tuple[str, int]]]:
    """The times of a subject, and how many samples it had told of at each moment."""
    told: list[tuple[str, int]] = []
    settings = Settings(**{**vars(SETTINGS), **changes})

    def tell(phase: str, kinds: dict[str, list[float]]) -> None:
        told.append((phase, sum(map(len, kinds.values()))))

    return measure_times(subject, batch, settings, [0.25], tell), told


@pytest.fixture(scope="module")
def adaptive(small_system: System) -> Subject:
    generator = torch.Generator().manual_seed(0)
    clips = [
        TensorClip(
            torch.rand(FRAMES, 3, 224, 224, generator=generator), torch.rand(FRAMES, 1, 256, 256, generator=generator)
        )
        for _ in range(2)
    ]
    subject = Subject(small_system, Footage(clips, [], []), "learned", CPU, "float32")
    subject.policy = GivenShares(Shares(20.0, 40.0, 40.0), max_skip=3, frames=FRAMES)
    return subject


# --- turns ---


def test_a_reference_takes_turns_and_as_much_time() -> None:
    subject, rival = sleeper(lambda call: 0.002), sleeper(lambda call: 0.01)
    timing = measure_times(subject, None, replace(SETTINGS, width=1e-6), [], lambda *_: None, rival)
    reference, own = timing.reference, timing.frames
    assert reference is not None
    assert own is not None
    assert reference.system == "small/sleeper"
    assert reference.after[:2] == [0, pytest.approx(5, abs=2)]
    assert reference.after == sorted(reference.after)
    assert sum(reference.seconds) == pytest.approx(sum(own.seconds), rel=0.1)
    assert 2 * SETTINGS.budget <= timing.phase_seconds < 4 * SETTINGS.budget
    assert 0 <= overhead(timing) < 0.2


def test_batches_take_turns_too() -> None:
    timing = measure_times(sleeper(lambda call: 0.002), 2, SETTINGS, [], lambda *_: None, sleeper(lambda call: 0.004))
    assert timing.reference is not None
    assert timing.reference.frames is None
    assert timing.reference.batches is not None
    assert set(timing.reference.batches.full) == {2 * FRAMES}


def test_the_calibration_workload_runs_about_once_a_second() -> None:
    timing, _ = measured(sleeper(lambda call: 0.005), width=1e-6, budget=2.2)
    assert 2 <= len(timing.calibration_seconds) <= 3
    assert timing.reference is None


# --- single-stream ---


def test_first_frames_are_a_kind_of_their_own_where_others_are_decided_about(adaptive: Subject) -> None:
    stream = SingleStream(adaptive, Clock(CPU))
    turns = SystemTurns(adaptive, Clock(CPU))
    for _ in range(2):
        turns()
    for _ in range(2 * FRAMES):
        stream.step()
    for kinds in (stream.kinds, turns.kinds):
        assert len(kinds["first"]) == 2  # of two clips
        assert {"first", "full", "prescan"} <= set(kinds)
        assert sum(map(len, kinds.values())) == 2 * FRAMES
    shares = turns.shares({"full": 50.0, "prescan": 50.0})
    assert shares == {"first": 100 / FRAMES, "full": 50 - 100 / FRAMES, "prescan": 50.0}
    alone = SingleStream(sleeper(lambda call: 0.001), Clock(CPU))
    alone.step()
    assert set(alone.kinds) == {"full"}


def test_samples_are_the_frames_in_their_order() -> None:
    timing, told = measured(sleeper(lambda call: 0.004))
    samples = timing.frames
    assert samples is not None
    assert timing.batches is None
    number = len(samples.seconds)
    assert [(video, t) for video, t in zip(samples.video, samples.t, strict=True)] == [
        (i // FRAMES, i % FRAMES) for i in range(number)
    ]
    assert set(samples.decision) == {"full"}
    assert all(seconds >= 0.004 for seconds in samples.seconds)
    assert (timing.clock, timing.decode_seconds, timing.stage_seconds) == ("perf_counter", [0.25], {})
    phases = list(dict.fromkeys(phase for phase, _ in told))
    assert phases == ["warming up", "timing", "timing stages"]
    for phase in phases:  # at its start, so that nobody takes a long first step for one of the phase before
        assert (phase, 0) in told


def test_the_phase_holds_its_samples_and_little_more() -> None:
    timing, _ = measured(sleeper(lambda call: 0.01), width=1e-6)
    assert timing.frames is not None
    assert sum(timing.frames.seconds) <= timing.phase_seconds
    assert 0 <= overhead(timing) < 0.2  # test_measuring_overhead.py is strict
    assert timing.activity.seconds >= timing.phase_seconds >= SETTINGS.budget


def test_steady_samples_end_the_phase_before_the_budget() -> None:
    timing, _ = measured(sleeper(lambda call: 0.005), budget=20)
    assert timing.steady
    assert timing.frames is not None
    assert 11 <= len(timing.frames.seconds) < 200
    assert timing.phase_seconds < 5


def test_a_warm_up_is_kept_apart() -> None:
    timing, _ = measured(sleeper(lambda call: 0.05 / (call + 1)), warmup=20)
    assert timing.steady
    assert timing.warmup_seconds[0] > 0.04
    assert timing.frames is not None
    assert max(timing.frames.seconds[:5]) < 0.04


def test_a_slow_system_gives_the_samples_that_the_budget_has_room_for() -> None:
    timing, _ = measured(sleeper(lambda call: 0.2), warmup=0.1)
    assert timing.frames is not None
    assert 1 <= len(timing.frames.seconds) <= 3
    assert not timing.steady
    assert len(timing.warmup_seconds) == 1


def test_a_call_that_stands_for_several_frames_is_one_sample() -> None:
    timing, _ = measured(sleeper(lambda call: 0.02, frames=2))
    assert timing.frames is not None
    assert timing.frames.t[:4] == [0, 2, 4, 0]


def test_an_adaptive_system_runs_as_its_policy_decides(adaptive: Subject) -> None:
    timing, _ = measured(adaptive)
    samples = timing.frames
    assert samples is not None
    expected = islice(adaptive.stream(), len(samples.seconds))
    assert [(f.video, f.t, f.decision) for f in expected] == [
        *zip(samples.video, samples.t, samples.decision, strict=True)
    ]
    seconds = {
        name: np.median([s for s, d in zip(samples.seconds, samples.decision, strict=True) if d == name])
        for name in ("full", "prescan", "skip")
    }
    assert seconds["skip"] < seconds["prescan"] < seconds["full"]


# --- offline ---


def test_offline_samples_are_batches_of_clips(adaptive: Subject) -> None:
    timing, told = measured(adaptive, batch=3)
    samples = timing.batches
    assert samples is not None
    assert timing.frames is None
    assert timing.stage_seconds == {}
    assert samples.first_video == [3 * i for i in range(len(samples.seconds))]
    for i, first in enumerate(samples.first_video):
        decisions = [frame.decision for frame in adaptive.batch(first, 3)]
        executed = (samples.full[i], samples.prescan[i], samples.skip[i])
        assert executed == tuple(decisions.count(name) for name in ("full", "prescan", "skip"))
        assert sum(executed) == 3 * FRAMES
    assert ("timing", 0) in told


# --- when it is enough ---


def noisy(number: int, spread: float, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).normal(1.0, spread, number).tolist()


def test_few_samples_never_suffice() -> None:
    assert not have_converged({"full": [1.0] * 10}, 0.5)
    assert have_converged({"full": [1.0] * 11}, 0.5)


def test_samples_suffice_when_their_median_is_known_well_enough() -> None:
    # the standard error of the median of normal samples is 1.2533 s / sqrt(n): a half-width of 2.5 % at n = 100
    samples = noisy(100, 0.1)
    assert have_converged({"full": samples}, 0.05)
    assert not have_converged({"full": samples}, 0.0125)


def test_every_kind_that_takes_much_of_the_time_must_be_known() -> None:
    assert not have_converged({"full": noisy(100, 0.01), "prescan": noisy(20, 0.5)}, 0.02)
    assert not have_converged({"full": noisy(100, 0.01), "prescan": [1.0] * 8}, 0.02)
    skips = [1e-6 * each for each in noisy(20, 0.5)]
    assert have_converged({"full": noisy(100, 0.01), "skip": skips}, 0.02)


# --- stages ---


def test_times_of_stages_add_up_to_that_of_the_frame(adaptive: Subject) -> None:
    assert isinstance(adaptive.model, AdaptiveSystem)
    clock = Clock(CPU)
    stream = SingleStream(adaptive, clock)
    with timed_stages(adaptive.model, clock) as seconds:
        frames = [stream.warm_up() for _ in range(FRAMES)]
    calls = {stage: len(times) for stage, times in seconds.items()}
    assert calls == {"scan": 5, "decide": 4, "hallucinate": 5, "look": 5, "classify": 5}
    stages = sum(map(sum, seconds.values()))
    assert 0.7 * sum(frames) < stages <= sum(frames)


def test_stages_of_the_record_are_those_of_frames_that_were_decided_about(adaptive: Subject) -> None:
    stages = measured(adaptive)[0].stage_seconds
    assert list(stages) == list(AdaptiveSystem.stages)
    assert {len(times) for times in stages.values()} == {3}


def test_stages_are_as_they_were_afterwards_even_after_an_error(adaptive: Subject) -> None:
    model = adaptive.model
    assert isinstance(model, AdaptiveSystem)
    before = dict(vars(model))
    with timed_stages(model, Clock(CPU)):
        assert "scan" in vars(model)
    assert vars(model) == before
    with pytest.raises(ValueError, match="images of shape"), timed_stages(model, Clock(CPU)):
        model.scan(torch.zeros(1, 3, 5, 5))
    assert vars(model) == before
    next(adaptive.stream(AlwaysFull()))
