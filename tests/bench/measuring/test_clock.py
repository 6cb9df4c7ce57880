from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from bench.measuring import clock
from bench.measuring.clock import Clock, repeat_until, warm_up


class Time:
    """Seconds that pass only when something is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.now)

    def passing(self, seconds: float) -> Callable[[], float]:
        def step() -> float:
            self.now += seconds
            return seconds

        return step


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def test_a_step_takes_the_time_that_it_takes_and_returns_what_it_returns() -> None:
    def step() -> str:
        time.sleep(0.05)
        return "result"

    timer = Clock(torch.device("cpu"))
    seconds, result = timer.time(step)
    assert (timer.name, result) == ("perf_counter", "result")
    assert 0.05 <= seconds < 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_timed_by_its_own_events() -> None:
    device = torch.device("cuda")
    a = torch.rand(4096, 4096, device=device)
    timer = Clock(device)
    short, _ = min(timer.time(lambda: a @ a) for _ in range(5))
    long, _ = min(timer.time(lambda: [a @ a for _ in range(10)]) for _ in range(5))
    assert timer.name == "cuda events"
    assert 7 < long / short < 13


# --- warm-up ---


def warmed(fake: Time, times: list[float], budget: float) -> tuple[int, bool]:
    """After how many steps of those times a warm-up ends, and whether it says that times are steady."""
    steps = iter(times)

    def step() -> float:
        return fake.passing(next(steps))()

    done = warm_up(step, budget)
    assert done.seconds == times[: len(done.seconds)]
    return len(done.seconds), done.steady


def test_a_warm_up_ends_when_times_no_longer_fall(fake: Time) -> None:
    count, steady = warmed(fake, [10.0, 8.0, 6.0, 4.0, 2.0] + [1.0] * 50, budget=1000)
    assert steady
    assert 8 < count < 20  # not while they fell, and soon after


def test_constant_times_need_few_steps_after_the_first(fake: Time) -> None:
    assert warmed(fake, [50.0] + [1.0] * 50, budget=1000) == (5, True)


def test_a_warm_up_whose_times_fall_all_along_ends_with_the_budget(fake: Time) -> None:
    times = [0.9**i for i in range(100)]
    count, steady = warmed(fake, times, budget=5)
    assert not steady
    assert sum(times[: count - 1]) < 5 <= sum(times[:count])


def test_a_step_longer_than_the_budget_is_made_once(fake: Time) -> None:
    assert warmed(fake, [7.0, 7.0], budget=5) == (1, False)


# --- the measured phase ---


def test_a_phase_ends_as_soon_as_samples_suffice(fake: Time) -> None:
    samples: list[float] = []
    seconds = repeat_until(lambda: samples.append(fake.passing(1.0)()), lambda: len(samples) >= 20, 1000)
    assert (len(samples), seconds) == (20, 20.0)


def test_a_phase_ends_with_its_budget(fake: Time) -> None:
    samples: list[float] = []
    assert repeat_until(lambda: samples.append(fake.passing(3.0)()), lambda: False, budget=10) == 12.0
    assert len(samples) == 4


def test_a_step_longer_than_the_budget_is_one_sample(fake: Time) -> None:
    assert repeat_until(fake.passing(30.0), lambda: False, budget=10) == 30.0


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.005])
def test_asking_takes_little_of_the_phase_however_long_it_takes(fake: Time, share: float) -> None:
    # asking takes a part of all the time there was, as it looks at all samples
    samples, asked = 0, 0.0

    def step() -> None:
        nonlocal samples
        samples += 1
        fake.now += 0.001

    def ask() -> bool:
        nonlocal asked
        asked += share * samples * 0.001
        fake.now += share * samples * 0.001
        return False

    seconds = repeat_until(step, ask, budget=20)
    assert seconds == pytest.approx(samples * 0.001 + asked)
    assert 0 < asked < 0.01 * seconds


def test_the_last_question_is_no_part_of_the_phase(fake: Time) -> None:
    def ask() -> bool:
        fake.now += 500
        return True

    assert repeat_until(fake.passing(2.0), ask, budget=1000) == 2.0


def test_a_phase_lasts_a_second_at_least_however_soon_it_converges(fake: Time) -> None:
    assert repeat_until(fake.passing(0.25), lambda: True, budget=10) == 1.0
    assert repeat_until(fake.passing(0.25), lambda: True, budget=0.5) == 0.5
