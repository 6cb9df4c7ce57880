"""Which frames of a video stand for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np


def segment_centres(frames: int, segments: int, length: int = 1) -> list[int]:
    """Indices of the frames in the middle of equal segments: the sampling of evaluation.

    Args:
        frames: number of frames of the video, n.
        segments: number of segments, T.
        length: number of consecutive frames, L, that start at each index; all of them lie inside the video.

    Returns:
        T indices that never decrease; a video of fewer frames than segments repeats some.

    Raises:
        ValueError: if n or T is below one, or L is not in 1..n.

    Source: the temporal segments of TSN (Wang et al., 2016) as the published code samples them:
    `tick = (n - L + 1) / T`, index `int(tick / 2 + tick * t)`, in floating point.
    """
    tick = _tick(frames, segments, length)
    return [int(tick / 2 + tick * segment) for segment in range(segments)]


def random_in_segments(frames: int, segments: int, length: int = 1, *, seed: int) -> list[int]:
    """Indices of a random frame in each of equal segments: the sampling of training.

    Args:
        frames: number of frames of the video, n.
        segments: number of segments, T.
        length: as of `segment_centres`.
        seed: the same seed draws the same frames.

    Returns:
        T indices that never decrease; index t is `int(tick * (t + u))`, with u uniform in [0, 1) and the tick of
        `segment_centres`, of which u = 1/2 makes these the centres.

    Raises:
        ValueError: as `segment_centres`.

    Source: training with temporal segments (TSN, Wang et al., 2016).
    """
    tick = _tick(frames, segments, length)
    shares = np.random.default_rng(seed).random(segments)
    return [min(int(tick * (segment + share)), frames - length) for segment, share in enumerate(shares)]


def sampling(seed: int | None) -> Callable[[int, int], list[int]]:
    """Which frames to look at: those of evaluation without a seed, else those of training."""
    return segment_centres if seed is None else partial(random_in_segments, seed=seed)


def _tick(frames: int, segments: int, length: int) -> float:
    """Length of one of the equal segments in which a sample of `length` frames can start."""
    if frames < 1:
        raise ValueError(f"frames is {frames}; a video has at least 1")
    if segments < 1:
        raise ValueError(f"segments is {segments}; at least 1 is needed")
    if not 1 <= length <= frames:
        raise ValueError(f"length is {length}; it must be between 1 and the {frames} frames of the video")
    return (frames - length + 1) / segments
