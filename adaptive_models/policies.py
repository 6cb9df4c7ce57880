"""Policies: who decides whether a frame is skipped, pre-scanned or processed fully.

A policy is asked at every frame that is looked at, except the first of a video, which is always full. It answers with
m in 0..M (paper, section III.D): 0 processes the frame fully; m > 0 leaves it pre-scanned and skips the next m - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from adaptive_models.temporal_sampler import greedy, gumbel


class Policy(Protocol):
    """What a system asks; anything with this method will do."""

    def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> Sequence[int]:
        """Decide for several videos at frame t.

        Args:
            videos: which videos of the run are asked about, by position.
            t: index of the frame.
            logits: (len(videos), M + 1), what the temporal sampler says.

        Returns:
            A choice m in 0..M for each video.
        """
        ...


class AlwaysFull:
    """Processes every frame fully."""

    def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> list[int]:
        """0 for every video."""
        return [0] * len(videos)


class Learned:
    """The temporal sampler's own choice: its best, or with a seed a Gumbel sample, the same however videos are batched."""

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._generators: dict[int, torch.Generator] = {}

    def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> list[int]:
        """The largest logit, or a sample of the softmax."""
        if self._seed is None:
            return greedy(logits).tolist()
        return [int(gumbel(row, self._generator(v))) for v, row in zip(videos, logits.cpu().split(1), strict=True)]

    def _generator(self, video: int) -> torch.Generator:
        if video not in self._generators:
            seed = np.random.SeedSequence((self._seed, video)).generate_state(1, np.uint64)[0]
            self._generators[video] = torch.Generator().manual_seed(int(seed) % 2**63)
        return self._generators[video]


@dataclass(frozen=True)
class Shares:
    """Per cent of a video's frames that are skipped, only pre-scanned, and fully processed."""

    skip: float
    prescan: float
    full: float


class GivenShares:
    """Decisions that T_M could have made, whose shares over many videos are the ones given.

    Each choice is drawn with fixed probabilities: p_0 for a full frame, and p_m proportional to r^m for m = 1..M, with p_0
    and r solved so that the expected shares are those given. So that the shares come close after few videos, every
    video's sequence is the best of several draws: the one that brings the shares so far nearest to the target.

    Args:
        shares: the target, which must sum to 100 within rounding.
        max_skip: M.
        frames: T, frames of a video.
        seed: of the draws; the same seed gives the same sequences, in batches or one by one.

    Raises:
        ValueError: shares that T_M cannot make on T frames.
    """

    DRAWS = 16

    def __init__(self, shares: Shares, max_skip: int, frames: int, seed: int = 0) -> None:
        if max_skip < 1 or frames < 2:
            raise ValueError(f"T_{max_skip} on {frames} frames has nothing to choose")
        if abs(shares.skip + shares.prescan + shares.full - 100) > 0.05:
            raise ValueError(f"shares must sum to 100 per cent: {shares}")
        self.shares, self.max_skip, self.frames = shares, max_skip, frames
        self.probabilities = _solve(shares, max_skip, frames)
        self._target = np.array([shares.skip, shares.prescan, shares.full]) / 100 * frames
        self._error = np.zeros(3)
        self._generator = np.random.default_rng(seed)
        self._sequences: list[list[int]] = []

    def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> list[int]:
        """What the videos' sequences hold for frame t; the logits play no part."""
        return [self.sequence(video)[t] for video in videos]

    def sequence(self, video: int) -> list[int]:
        """The choices of one video, one for each frame; -1 where the frame is skipped."""
        while len(self._sequences) <= video:
            drawn = [self._draw() for _ in range(self.DRAWS)]
            misses = [self._error + self._count(sequence) - self._target for sequence in drawn]
            best = min(range(self.DRAWS), key=lambda i: float(np.square(misses[i]).sum()))
            self._error = misses[best]
            self._sequences.append(drawn[best])
        return self._sequences[video]

    def _draw(self) -> list[int]:
        sequence = [0]
        while len(sequence) < self.frames:
            choice = int(self._generator.choice(self.max_skip + 1, p=self.probabilities))
            sequence += [choice] + [-1] * (choice - 1)
        return sequence[: self.frames]

    @staticmethod
    def _count(sequence: list[int]) -> np.ndarray:
        choices = np.array(sequence)
        return np.array([(choices < 0).sum(), (choices > 0).sum(), (choices == 0).sum()])


def _solve(shares: Shares, max_skip: int, frames: int) -> np.ndarray:
    """Probabilities of 0..M whose expected full and skip shares over `frames` frames are those given."""
    full, skip = shares.full / 100 * frames, shares.skip / 100 * frames

    def with_full_share(ratio: float) -> np.ndarray:
        def miss(p_full: float) -> float:
            return _expected(_mixture(p_full, ratio, max_skip), frames)[0] - full

        return _mixture(_root(miss, 0.0, 1.0), ratio, max_skip)

    def miss_of_skips(log_ratio: float) -> float:
        return _expected(with_full_share(np.exp(log_ratio)), frames)[1] - skip

    try:
        if max_skip == 1 or skip == 0:
            if skip > 0.005:
                raise ValueError
            return with_full_share(0.0)
        return with_full_share(np.exp(_root(miss_of_skips, -30.0, 30.0)))
    except ValueError:
        raise ValueError(f"T_{max_skip} cannot make {shares} on {frames} frames, the first of them full") from None


def _root(function: object, low: float, high: float) -> float:
    """Where a rising function crosses zero; its ends may miss by rounding.

    Raises:
        ValueError: it does not cross.
    """
    for end in (low, high):
        if abs(function(end)) < 1e-9:  # type: ignore[operator]
            return end
    return float(brentq(function, low, high, xtol=1e-12))


def _mixture(p_full: float, ratio: float, max_skip: int) -> np.ndarray:
    """p_0 and p_m proportional to ratio^m, where ratio 0 means that m is always 1."""
    weights = np.power(ratio, np.arange(max_skip)) if ratio <= 1 else np.power(1 / ratio, np.arange(max_skip))[::-1]
    return np.concatenate(([p_full], (1 - p_full) * weights / weights.sum()))


def _expected(probabilities: np.ndarray, frames: int) -> tuple[float, float]:
    """Expected numbers of full and of skipped frames of a video whose first frame is full."""
    looked_at = np.zeros(frames + len(probabilities))
    looked_at[1] = 1.0
    for t in range(1, frames):
        looked_at[t + 1] += looked_at[t] * probabilities[0]
        for choice, probability in enumerate(probabilities[1:], start=1):
            looked_at[t + choice] += looked_at[t] * probability
    looks = looked_at[1:frames].sum()
    return 1 + looks * probabilities[0], frames - 1 - looks
