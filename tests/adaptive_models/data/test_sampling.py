from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_models.data.sampling import segment_centres


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
