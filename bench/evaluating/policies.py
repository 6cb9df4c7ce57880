"""Decisions that do not look, at the cost of learned ones: what learning to decide has to beat."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from torch import Tensor


class Shuffled:
    """Random decisions with exactly the shares, and so the cost, of decisions made by a temporal sampler.

    Every clip gets the decisions of another clip, drawn without replacement, in random order: all full frames but the
    first, and all pre-scans with the frames skipped after them, change places. So neither how much a clip gets nor
    when depends on what is in it.

    Args:
        decisions: of every clip, a letter a frame, as `ClipOutcome` has them.
        seed: of the draws.
    """

    def __init__(self, decisions: Sequence[str], seed: int) -> None:
        generator = np.random.default_rng(seed)
        self._choices = [_shuffled(decisions[clip], generator) for clip in generator.permutation(len(decisions))]

    def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> list[int]:
        """What was drawn for frame t of the clips at these positions; the logits play no part."""
        return [self._choices[video][t] for video in videos]


def _shuffled(decisions: str, generator: np.random.Generator) -> list[int]:
    """A choice for each frame, -1 where it is skipped; the first is full."""
    runs = re.findall("F|PS*", decisions[1:])
    choices = [0]
    for position in generator.permutation(len(runs)):
        run = runs[position]
        choices += [0] if run == "F" else [len(run)] + [-1] * (len(run) - 1)
    return choices


class Uniform:
    """Every n-th frame full and nothing of the others, at a given cost.

    A budget seldom buys the same stride for all clips: the counts of full frames of two clips differ by one at most,
    and follow each other evenly (as pixels of a line do: Bresenham, 1965), so that the first N clips cost N times the
    mean to within one full frame.

    Args:
        budget: operations to be spent on all clips together.
        full: operations of a full frame.
        clips: number of clips.
        frames: T of each.
    """

    def __init__(self, budget: int, full: int, clips: int, frames: int) -> None:
        self._budget, self._full, self._clips, self._frames = budget, full, clips, frames

    def frames_of(self, video: int) -> list[int]:
        """Which frames of the clip at this position are full: the first, and others evenly after it."""
        before, after = (position * self._budget // (self._full * self._clips) for position in (video, video + 1))
        count = min(max(after - before, 1), self._frames)
        return [index * self._frames // count for index in range(count)]
