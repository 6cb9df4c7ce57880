from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.measuring import comparison
from bench.measuring.comparison import (
    THRESHOLD,
    Outcome,
    Verdict,
    compare_calls,
    interleave,
    judge,
    judge_mixtures,
    wall_time,
)

ROUNDS = 200


def samples(seed: int, factor: float = 1, spread: float = 0.01, rounds: int = ROUNDS) -> np.ndarray:
    """Seconds of a call of about 5 ms, never less, sometimes more."""
    return 0.005 * factor * (1 + spread * np.random.default_rng(seed).exponential(size=rounds))


def recording(calls: list[str]) -> dict[str, Callable[[], object]]:
    return {name: partial(calls.append, name) for name in ("a", "b", "c")}


def judged(baseline: np.ndarray, candidate: np.ndarray, threshold: float = THRESHOLD) -> Verdict:
    return judge(baseline.tolist(), candidate.tolist(), threshold)


def test_every_function_runs_once_a_round_in_random_order() -> None:
    calls: list[str] = []
    taken = interleave(recording(calls), seconds=0.02)
    rounds = [tuple(calls[start : start + 3]) for start in range(0, len(calls), 3)]
    assert len(calls) == 3 * len(rounds)
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) == 6
    assert {name: len(seconds) for name, seconds in taken.items()} == dict.fromkeys("abc", len(rounds))


def test_every_function_is_as_often_in_each_place() -> None:
    calls: list[str] = []
    interleave(recording(calls), seconds=0.1)
    firsts = calls[: 3 * (len(calls) // 3) : 3]
    assert len(firsts) > 300
    assert [firsts.count(name) / len(firsts) for name in "abc"] == pytest.approx([1 / 3] * 3, abs=0.1)


def test_ten_rounds_are_made_however_little_time_there_is() -> None:
    assert {len(seconds) for seconds in interleave(recording([]), seconds=0).values()} == {10}


def test_rounds_end_when_the_seconds_are_over() -> None:
    start = time.perf_counter()
    taken = interleave({"a": lambda: time.sleep(0.001), "b": lambda: time.sleep(0.002)}, seconds=0.2)
    assert 0.2 <= time.perf_counter() - start < 0.3
    assert 0.15 < sum(map(sum, taken.values())) < 0.3
    assert np.median(taken["a"]) < np.median(taken["b"])


def test_the_order_is_that_of_the_seed() -> None:
    orders = []
    for seed in (1, 1, 2):
        calls: list[str] = []
        interleave(recording(calls), seconds=0, seed=seed)
        orders.append(calls)
    assert orders[0] == orders[1] != orders[2]


def test_a_timer_of_ones_own_runs_the_functions_and_gives_the_samples() -> None:
    calls: list[str] = []

    def timer(function: Callable[[], object]) -> float:
        function()
        return float(len(calls))

    taken = interleave(recording(calls), seconds=0, timer=timer)
    assert sorted(sample for name in taken for sample in taken[name]) == list(range(1, 31))
    assert [calls[int(position) - 1] for position in taken["b"]] == ["b"] * 10


def test_wall_time_is_that_of_the_call() -> None:
    assert 0.01 <= wall_time(lambda: time.sleep(0.01)) < 0.1


@pytest.mark.parametrize(
    ("factor", "spread", "outcome", "words"),
    [
        (1.05, 0.01, "slower", "slower: 1.0"),
        (0.95, 0.01, "faster", "faster: 0.9"),
        (1.0, 0.01, "no difference shown", "no difference of 3.0% or more: "),
        (1.0, 5.0, "too noisy", "run longer"),
    ],
)
def test_four_verdicts(factor: float, spread: float, outcome: Outcome, words: str) -> None:
    rounds = 12 if outcome == "too noisy" else ROUNDS
    verdict = judged(samples(1, 1, spread, rounds), samples(2, factor, spread, rounds))
    assert verdict.outcome == outcome
    assert words in verdict.words
    assert verdict.rounds == rounds
    assert verdict.fast.low <= verdict.fast.value <= verdict.fast.high


def test_ratios_are_of_candidate_over_baseline() -> None:
    baseline, candidate = samples(1, 1, 0.3), samples(2, 1.2, 0.3)
    verdict = judged(baseline, candidate)
    assert verdict.fast.value == pytest.approx(np.percentile(candidate, 10) / np.percentile(baseline, 10))
    assert verdict.median.value == pytest.approx(np.median(candidate) / np.median(baseline))


@settings(max_examples=30)
@given(st.integers(0, 99), st.floats(0.9, 1.1), st.integers(-10, 10))
def test_the_unit_does_not_matter(seed: int, factor: float, power: int) -> None:
    baseline, candidate = samples(seed, 1, 0.05, 60), samples(seed + 100, factor, 0.05, 60)
    assert judged(2.0**power * baseline, 2.0**power * candidate) == judged(baseline, candidate)


@settings(max_examples=30)
@given(st.integers(0, 99), st.floats(0.9, 1.1))
def test_the_other_way_round_is_the_inverse(seed: int, factor: float) -> None:
    baseline, candidate = samples(seed, 1, 0.05, 60), samples(seed + 100, factor, 0.05, 60)
    there, back = judged(baseline, candidate), judged(candidate, baseline)
    assert [back.fast.value, back.fast.low, back.fast.high] == pytest.approx(
        [1 / there.fast.value, 1 / there.fast.high, 1 / there.fast.low], rel=1e-3
    )


@settings(max_examples=10)
@given(st.integers(0, 99))
def test_the_slower_the_candidate_the_worse_the_verdict(seed: int) -> None:
    baseline, candidate = samples(seed, 1, 0.02, 60), samples(seed + 100, 1, 0.02, 60)
    verdicts = [judged(baseline, factor * candidate) for factor in np.linspace(0.9, 1.1, 11)]
    ranks = [{"faster": 0, "slower": 2}.get(verdict.outcome, 1) for verdict in verdicts]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0
    assert ranks[-1] == 2
    for factor, verdict in zip(np.linspace(0.9, 1.1, 11), verdicts, strict=True):
        assert verdict.fast.low / factor == pytest.approx(verdicts[0].fast.low / 0.9)


def test_differences_below_the_threshold_are_not_called_however_sure() -> None:
    baseline, candidate = samples(1, 1, 1e-4), samples(2, 1.01, 1e-4)
    assert judged(baseline, candidate, threshold=0.015).outcome == "no difference shown"
    assert judged(baseline, candidate, threshold=0.005).outcome == "slower"
    assert judged(candidate, baseline, threshold=0.005).outcome == "faster"


def test_noise_alone_is_seldom_called_a_slow_down_and_true_ones_are_seen() -> None:
    outcomes = {
        factor: [judged(samples(seed, 1, 0.05), samples(seed + 1000, factor, 0.05)).outcome for seed in range(50)]
        for factor in (1, 1.03, 1.05)
    }
    assert outcomes[1].count("slower") + outcomes[1].count("faster") <= 1
    assert outcomes[1.03].count("slower") >= 45
    assert outcomes[1.05].count("slower") == 50


def test_what_disturbs_a_third_of_the_rounds_of_one_side_is_not_taken_for_a_slow_down() -> None:
    for seed in range(20):
        disturbed = np.where(np.random.default_rng(seed + 2000).random(ROUNDS) < 1 / 3, 2.5, 1)
        assert judged(samples(seed), samples(seed + 1000) * disturbed).outcome == "no difference shown"


def test_a_machine_that_slows_down_slows_both() -> None:
    slowing = np.linspace(1, 1.5, ROUNDS)
    for seed in range(20):
        baseline, candidate = slowing * samples(seed), slowing * samples(seed + 1000)
        assert judged(baseline, candidate).outcome not in ("slower", "faster")
        assert judged(baseline, 1.05 * candidate).median.value == pytest.approx(1.05, abs=0.02)


@pytest.mark.parametrize(("baseline", "candidate"), [(9, 9), (20, 19), (0, 0)])
def test_a_verdict_needs_ten_rounds_of_both(baseline: int, candidate: int) -> None:
    with pytest.raises(ValueError, match=f"{baseline} and {candidate} samples: a verdict needs 10 rounds"):
        judge([1.0] * baseline, [1.0] * candidate)


def test_a_mixture_is_the_sum_of_its_kinds_at_their_shares() -> None:
    full, skip = [0.010] * 20, [0.001] * 30
    shares = {"full": 50.0, "skip": 50.0}, {"full": 20.0, "skip": 80.0}
    verdict = judge_mixtures({"full": full, "skip": skip}, {"skip": skip, "full": full[:12]}, shares)
    assert verdict.outcome == "faster"
    assert [verdict.fast.value, verdict.fast.low, verdict.fast.high] == pytest.approx([2.8 / 5.5] * 3)
    assert verdict.median.value == pytest.approx(2.8 / 5.5)
    assert verdict.rounds == 42


def test_a_mixture_of_one_kind_has_the_ratios_of_that_kind() -> None:
    baseline, candidate, shares = samples(1), samples(2, 1.05), {"full": 100.0}
    mixed = judge_mixtures({"full": baseline.tolist()}, {"full": candidate.tolist()}, (shares, shares))
    verdict = judged(baseline, candidate)
    assert mixed.outcome == verdict.outcome == "slower"
    assert mixed.fast.value == pytest.approx(verdict.fast.value)
    assert mixed.median.value == pytest.approx(verdict.median.value)


def test_more_samples_of_a_kind_than_its_share_do_not_count_for_more() -> None:
    few, many = ({"full": samples(1, 10)[:20].tolist(), "skip": samples(2)[:n].tolist()} for n in (20, 200))
    verdict = judge_mixtures(few, many, ({"full": 50.0, "skip": 50.0},) * 2)
    assert verdict.outcome == "no difference shown"


def test_mixtures_need_ten_samples_of_a_side() -> None:
    with pytest.raises(ValueError, match="9 samples of one side: a verdict needs 10 or more of both"):
        judge_mixtures({"full": [1.0] * 20}, {"full": [1.0] * 4, "skip": [1.0] * 5}, ({"full": 1.0}, {"full": 1.0}))


def test_what_disturbs_a_machine_for_longer_than_a_round_drops_out() -> None:
    # Nine rounds of ten are disturbed, and times are 1 or 2.5 x as long in them: percentiles of all rounds jump.
    for seed in range(20):
        generator = np.random.default_rng(seed + 2000)
        mood = np.where(generator.random(ROUNDS) < 0.9, 2.5, 1)
        split = np.where(generator.random((2, ROUNDS)) < 0.1, 2.5, 1)  # a disturbance that begins between the two
        baseline, candidate = samples(seed) * mood * split[0], samples(seed + 1000) * mood * split[1]
        assert judged(baseline, candidate).outcome == "no difference shown"
        assert judged(baseline, 1.05 * candidate).outcome == "slower"


class Machine:
    """A machine whose clocks go on as it is told, so that what others do on this one is no matter."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def compute(self, seconds: float) -> None:
        self.wall += seconds
        self.cpu += seconds

    def wait(self, seconds: float) -> None:
        self.wall += seconds

    @property
    def clocks(self) -> SimpleNamespace:
        return SimpleNamespace(perf_counter=lambda: self.wall, thread_time=lambda: self.cpu)


def test_a_call_that_computes_is_judged_by_cpu_time_where_wall_time_is_too_noisy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine, moods = Machine(), random.Random(0)
    monkeypatch.setattr(comparison, "time", machine.clocks)

    def call(work: float) -> Callable[[], None]:
        def run() -> None:
            machine.compute(work * moods.uniform(1, 1.01))
            if moods.random() < 0.8:  # the core is taken away
                machine.wait(moods.uniform(0, 0.01))

        return run

    verdict = compare_calls(call(0.002), call(0.0021), seconds=2)
    assert (verdict.clock, verdict.outcome) == ("CPU", "slower")
    assert verdict.ratio.value == pytest.approx(1.05, abs=0.01)


def test_a_call_that_waits_is_never_judged_by_cpu_time() -> None:
    moods = random.Random(0)
    verdict = compare_calls(
        lambda: time.sleep(moods.uniform(0, 0.01)), lambda: time.sleep(moods.uniform(0, 0.01)), seconds=0.5
    )
    assert (verdict.clock, verdict.outcome) == ("wall", "too noisy")
