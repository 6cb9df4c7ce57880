"""Which frames of a video stand for it."""

from __future__ import annotations


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
    if frames < 1:
        raise ValueError(f"frames is {frames}; a video has at least 1")
    if segments < 1:
        raise ValueError(f"segments is {segments}; at least 1 is needed")
    if not 1 <= length <= frames:
        raise ValueError(f"length is {length}; it must be between 1 and the {frames} frames of the video")
    tick = (frames - length + 1) / segments
    return [int(tick / 2 + tick * segment) for segment in range(segments)]
