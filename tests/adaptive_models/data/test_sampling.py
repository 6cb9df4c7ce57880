from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_models.data.sampling import random_in_segments, sampling, segment_centres


def test_middles_of_segments_worked_by_hand() -> None:
    assert segment_centres(100, 10) == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]
    assert segment_centres(164, 3) == [27, 82, 136]  # tick 54.67: 27.33, 82.0, 136.67
    assert segment_centres(10, 2, length=3) == [2, 6]  # tick 4: eight starts


def test_a_clip_shorter_than_the_segments_repeats_frames() -> None:
    assert segment_centres(3, 10) == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert segment_centres(1, 4) == [0, 0, 0, 0]


@given(st.integers(1, 5000), st.integers(1, 64), st.data())
def test_each_index_is_the_middle_of_its_segment(frames: int, segments: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, frames))
    indices = segment_centres(frames, segments, length)
    tick = Fraction(frames - length + 1, segments)
    assert len(indices) == segments
    assert indices == sorted(indices)
    assert indices[0] >= 0
    assert indices[-1] + length <= frames
    for t, index in enumerate(indices):
        # Published indices are floored floats, which fall one below where the middle is a whole number.
        assert tick * t + tick / 2 - index < 1 + Fraction(1, 10**6)
        assert index <= tick * t + tick / 2


@pytest.mark.parametrize(
    ("frames", "segments", "length", "named"),
    [
        (0, 10, 1, "frames is 0"),
        (10, 0, 1, "segments is 0"),
        (10, 3, 0, "length is 0"),
        (10, 3, 11, "length is 11"),
    ],
)
def test_bad_numbers_are_named(frames: int, segments: int, length: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        segment_centres(frames, segments, length)


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(0, 2**32 - 1), st.data())
def test_random_frames_lie_in_their_segments(frames: int, segments: int, seed: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, frames))
    indices = random_in_segments(frames, segments, length, seed=seed)
    assert indices == random_in_segments(frames, segments, length, seed=seed)
    assert len(indices) == segments
    assert indices[-1] + length <= frames
    tick = Fraction(frames - length + 1, segments)
    for t, index in enumerate(indices):
        assert tick * t - 1 < index < tick * (t + 1)


def test_every_frame_of_a_segment_is_drawn_about_equally_often() -> None:
    drawn = Counter(random_in_segments(30, 3, seed=seed)[1] for seed in range(4000))
    assert set(drawn) == set(range(10, 20))
    assert all(abs(count - 400) < 5 * 20 for count in drawn.values())  # five standard deviations


def test_without_a_seed_the_sampling_is_that_of_evaluation() -> None:
    assert sampling(None)(100, 10) == segment_centres(100, 10)
    assert sampling(7)(100, 10) == random_in_segments(100, 10, seed=7) != sampling(8)(100, 10)
