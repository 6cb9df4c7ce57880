from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import norm

from bench.measuring.statistics import (
    Interval,
    Percentile,
    drift,
    interval,
    is_steady,
    modes,
    resampled,
    samples_needed,
    statistics_of_resamples,
    total,
)

MEDIAN = Percentile(50)
times = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40)
Draw = Callable[[np.random.Generator, int], np.ndarray]
ONE_MODE: dict[str, Draw] = {
    "narrow lognormal": lambda generator, n: generator.lognormal(0, 0.02, n),
    "wide lognormal": lambda generator, n: generator.lognormal(0, 0.3, n),
    "exponential": lambda generator, n: generator.exponential(1, n),
    "exponential above a floor": lambda generator, n: 1 + 0.2 * generator.exponential(1, n),
    "uniform": lambda generator, n: generator.uniform(1, 2, n),
}


def autoregressive(generator: np.random.Generator, n: int, correlation: float) -> np.ndarray:
    """Standard normal samples, of which neighbours correlate."""
    noise = generator.normal(size=n + 100)
    return lfilter([np.sqrt(1 - correlation**2)], [1, -correlation], noise)[100:]


def bimodal(generator: np.random.Generator, n: int, slow: float, factor: float) -> list[float]:
    """Around 5 ms, a part of them slower by the factor."""
    centres = 0.005 * np.where(generator.random(n) < slow, factor, 1)
    return (centres * generator.lognormal(0, 0.02, n)).tolist()


@pytest.mark.parametrize(("q", "needed"), [(50, 11), (90, 64), (95, 130), (99, 662)])
def test_samples_needed_are_those_of_mlperfs_early_stopping(q: float, needed: int) -> None:
    assert samples_needed(q) == needed


@given(st.floats(50, 99), st.floats(0.5, 0.999))
def test_samples_needed_are_the_fewest_of_which_two_lie_beyond(q: float, confidence: float) -> None:
    def at_most_one_beyond(n: int) -> float:
        below = q / 100
        return below**n + n * below ** (n - 1) * (1 - below)

    needed = samples_needed(q, confidence)
    assert at_most_one_beyond(needed) <= 1 - confidence + 1e-9
    assert needed == 2 or at_most_one_beyond(needed - 1) > 1 - confidence - 1e-9


@given(times, st.floats(0, 100))
def test_percentiles_are_numpys_along_the_last_axis(values: list[float], q: float) -> None:
    both = np.array([values, values[::-1]])
    assert Percentile(q)(both) == pytest.approx([np.percentile(values, q)] * 2)


@given(st.lists(st.sampled_from([0.5, 1.0, 1.25, 3.0]) | st.floats(1e-6, 1e3), min_size=1, max_size=40), st.data())
def test_percentiles_of_resamples_are_numpys(values: list[float], data: st.DataObject) -> None:
    samples, q = np.array(values), data.draw(st.sampled_from([0, 10, 50, 90, 100]) | st.floats(0, 100))
    drawn = resampled(samples, np.random.default_rng(1), 50)
    made = Percentile(q).of_resamples(samples, np.random.default_rng(1), 50)
    assert made == pytest.approx(np.percentile(drawn, q, axis=1), rel=1e-12)


def test_percentiles_of_resamples_of_more_than_16_bits() -> None:
    samples = np.random.default_rng(0).random(40_000)
    drawn = resampled(samples, np.random.default_rng(1), 20)
    made = statistics_of_resamples(samples, MEDIAN, np.random.default_rng(1), 20)
    assert made == pytest.approx(np.median(drawn, axis=1), rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100])
def test_resamples_are_those_of_positions_in_a_circle(n: int) -> None:
    length = max(1, round(n**0.5))
    starts = np.random.default_rng(5).integers(0, n, size=(7, -(-n // length)))
    positions = [[(start + step) % n for start in row for step in range(length)][:n] for row in starts]
    samples = np.random.default_rng(6).random((n, 2))
    assert (resampled(samples, np.random.default_rng(5), 7) == samples[positions]).all()


@given(st.integers(1, 300), st.integers(0, 99))
def test_resamples_are_runs_of_neighbours(n: int, seed: int) -> None:
    drawn = resampled(np.arange(n), np.random.default_rng(seed), resamples=5)
    assert drawn.shape == (5, n)
    assert set(drawn.ravel()) <= set(range(n))
    breaks = ((np.diff(drawn) % n) != 1 % n).sum(axis=1)
    length = round(n ** (1 / 3))
    assert (breaks <= n / length).all()


def test_every_sample_is_drawn_equally_often_those_at_the_ends_too() -> None:
    drawn = resampled(np.arange(50), np.random.default_rng(0), resamples=20_000)
    assert np.bincount(drawn.ravel()) / 20_000 == pytest.approx(np.ones(50), abs=0.1)


def test_pairs_stay_pairs() -> None:
    drawn = resampled(np.column_stack([np.arange(30), 100 + np.arange(30)]), np.random.default_rng(0))
    assert drawn.shape == (1000, 30, 2)
    assert (drawn[..., 1] - drawn[..., 0] == 100).all()


@given(times, st.floats(0, 100))
def test_interval_estimates_by_the_statistic_and_lies_within_the_samples(values: list[float], q: float) -> None:
    estimate = interval(values, Percentile(q))
    assert estimate.value == pytest.approx(np.percentile(values, q))
    assert min(values) * (1 - 1e-9) <= estimate.low <= estimate.high <= max(values) * (1 + 1e-9)


@given(times, st.floats(1e-3, 1e3))
def test_interval_scales_with_the_unit(values: list[float], factor: float) -> None:
    scaled, expected = interval([factor * value for value in values], MEDIAN), interval(values, MEDIAN).scaled(factor)
    assert [scaled.value, scaled.low, scaled.high] == pytest.approx([expected.value, expected.low, expected.high])
    assert scaled.half_width == pytest.approx(expected.half_width, rel=1e-9, abs=1e-12)


def test_half_width_is_a_part_of_the_estimate() -> None:
    assert Interval(10, 9, 12).half_width == pytest.approx(0.15)
    assert Interval(0, -1, 1).half_width == float("inf")


def test_interval_is_the_same_each_time_and_another_with_another_seed() -> None:
    values = np.random.default_rng(0).lognormal(size=100).tolist()
    assert interval(values, MEDIAN, seed=1) == interval(values, MEDIAN, seed=1) != interval(values, MEDIAN, seed=2)


def test_interval_of_normal_samples_is_as_wide_as_theory_says() -> None:
    # The standard error of a median is sqrt(pi / 2n) standard deviations.
    generator, n = np.random.default_rng(3), 400
    estimates = [interval(generator.normal(size=n).tolist(), MEDIAN) for _ in range(40)]
    assert np.mean([estimate.high - estimate.low for estimate in estimates]) == pytest.approx(
        2 * 1.96 * np.sqrt(np.pi / 2 / n), rel=0.1
    )


@pytest.mark.parametrize("q", [10, 50])
def test_interval_holds_the_truth_about_as_often_as_it_says_only_because_of_blocks(q: float) -> None:
    generator, truth, repeats = np.random.default_rng(0), 10 + norm.ppf(q / 100), 150
    held = {"in order": 0, "shuffled": 0}
    for _ in range(repeats):
        values = 10 + autoregressive(generator, 200, correlation=0.5)
        for order, samples in (("in order", values), ("shuffled", generator.permutation(values))):
            estimate = interval(samples.tolist(), Percentile(q))
            held[order] += estimate.low <= truth <= estimate.high
    assert 0.8 <= held["in order"] / repeats <= 0.99
    assert held["shuffled"] / repeats <= held["in order"] / repeats - 0.05


def test_a_total_is_as_wide_as_if_its_parts_were_resampled_together() -> None:
    generator = np.random.default_rng(3)
    parts = [generator.lognormal(0, 0.1, 300), 2 + generator.exponential(0.2, 200), generator.normal(5, 0.02, 100)]
    whole = total([interval(part.tolist(), MEDIAN, seed) for seed, part in enumerate(parts)])
    drawn = sum(statistics_of_resamples(part, MEDIAN, generator, 4000) for part in parts)
    assert whole.value == pytest.approx(sum(map(np.median, parts)))
    assert (whole.low, whole.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.15 * np.ptp(drawn) / 2)


@given(times)
def test_a_total_of_one_part_is_that(values: list[float]) -> None:
    one = interval(values, MEDIAN)
    whole = total([one])
    assert (whole.value, whole.low, whole.high) == pytest.approx((one.value, one.low, one.high))


def test_interval_needs_samples() -> None:
    with pytest.raises(ValueError, match="no samples"):
        interval([], MEDIAN)


@pytest.mark.parametrize("name", ONE_MODE)
@pytest.mark.parametrize("n", [60, 300])
def test_samples_of_one_distribution_seldom_seem_to_drift_or_to_have_modes(name: str, n: int) -> None:
    generator = np.random.default_rng(0)
    draws = [ONE_MODE[name](generator, n).tolist() for _ in range(60)]
    assert sum(drift(draw) is not None for draw in draws) <= 1
    assert sum(modes(draw) is not None for draw in draws) <= 2


@pytest.mark.parametrize("n", [60, 300, 3000])
@pytest.mark.parametrize("total", [0.1, -0.1])
def test_a_trend_is_found_with_its_sign_and_size(n: int, total: float) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        found = drift((np.linspace(1, 1 + total, n) * generator.lognormal(0, 0.02, n)).tolist())
        assert found == pytest.approx(2 / 3 * total, rel=0.35)  # between the middles of first and last third


def test_a_step_is_a_drift_and_less_than_two_per_cent_is_none() -> None:
    generator = np.random.default_rng(0)
    noise = generator.lognormal(0, 0.005, 200)
    assert drift((noise * np.repeat([1, 1.3], 100)).tolist()) == pytest.approx(0.3, abs=0.01)
    assert drift((noise * np.linspace(1, 1.02, 200)).tolist()) is None


@pytest.mark.parametrize("slow", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("factor", [1.3, 2, 10])
def test_two_modes_are_found_where_they_are(slow: float, factor: float) -> None:
    generator = np.random.default_rng(0)
    for _ in range(10):
        assert modes(bimodal(generator, 300, slow, factor)) == pytest.approx((0.005, 0.005 * factor), rel=0.04)


def test_modes_of_few_samples_or_few_outliers_or_close_together_are_none() -> None:
    generator = np.random.default_rng(0)
    assert modes(bimodal(generator, 19, 0.5, 2)) is None
    assert modes(bimodal(generator, 300, 0.05, 2)) is None
    assert modes(bimodal(generator, 300, 0.5, 1.02)) is None
    assert modes([0.005] * 100) is None


def test_drift_and_modes_do_not_depend_on_the_unit() -> None:
    generator = np.random.default_rng(0)
    values = (np.linspace(1, 2, 300) * bimodal(generator, 300, 0.4, 4)).tolist()
    scaled = [1024 * value for value in values]
    found, rising = modes(values), drift(values)
    assert found is not None
    assert rising is not None
    assert modes(scaled) == pytest.approx([1024 * mode for mode in found])
    assert drift(scaled) == pytest.approx(rising)


def test_a_falling_sequence_is_never_steady() -> None:
    falling = [0.95**n for n in range(60)]
    assert not any(is_steady(falling[:n]) for n in range(len(falling) + 1))


def test_a_flat_or_rising_sequence_is_steady_from_the_fifth_time_on() -> None:
    for sequence in ([1.0] * 40, [1 + 0.1 * n for n in range(40)]):
        assert [is_steady(sequence[:n]) for n in range(41)] == [False] * 5 + [True] * 36


def test_the_first_time_does_not_count_however_slow() -> None:
    assert is_steady([1000.0, 1, 1, 1, 1])
    assert not is_steady([1.0, 2, 2, 1, 1])


def test_a_sequence_becomes_steady_some_time_after_it_has_fallen() -> None:
    sequence = [3 * 0.9**n for n in range(20)] + [0.36] * 40
    steady = [is_steady(sequence[:n]) for n in range(len(sequence) + 1)]
    assert not any(steady[:21])
    assert all(steady[-20:])


def test_one_disturbed_time_does_not_keep_a_warm_up_going() -> None:
    generator = np.random.default_rng(0)
    sequence = generator.lognormal(0, 0.005, 30)
    sequence[12] *= 10
    assert all(is_steady(sequence[:n].tolist()) for n in range(5, 31))
