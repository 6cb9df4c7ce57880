"""Policies: who decides whether a frame is skipped, pre-scanned or processed fully.

A policy is asked at every frame that is looked at, except the first of a video, which is always full. It answers with
m in 0..M (paper, section III.D): 0 processes the frame fully; m > 0 leaves it pre-scanned and skips the next m - 1.
Systems that look at all frames before they choose some ask about each of them, 0 or 1, as if M were 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from adaptive_models.temporal_sampler import greedy, gumbel

STEEPEST = 50.0
"""Logarithm of the ratio beyond which only the smallest, or only the largest, of the choices 1..M is ever made."""


class Policy(Protocol):
    """What a system asks; anything with this method will do.

    Decisions should depend on the number of the video and the frame, not on which videos are asked about together.
    """

    def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> Sequence[int]:
        """Decide for several videos at frame t.

        Args:
            videos: numbers of the videos that are asked about; in a single run, their positions.
            t: index of the frame, or of the clip of frames, where a system chooses among clips.
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
    """The temporal sampler's own choice.

    Args:
        seed: None for its best; a seed for a Gumbel sample, with noise that depends on seed, video and frame alone.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> list[int]:
        """The largest logit, or a sample of the softmax."""
        if self.seed is None:
            return greedy(logits).tolist()
        generators = [_generator(self.seed, video, t) for video in videos]
        rows = logits.cpu().split(1)
        return [int(gumbel(row, generator)) for row, generator in zip(rows, generators, strict=True)]


def _generator(*key: int) -> torch.Generator:
    (seed,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed))


@dataclass(frozen=True)
class Shares:
    """Per cent of a video's frames that are skipped, only pre-scanned, and fully processed."""

    skip: float
    prescan: float
    full: float


class GivenShares:
    """Decisions that T_M could have made, whose shares over many videos are the ones given.

    Each choice is drawn with fixed probabilities: p_0 for a full frame, and p_m proportional to r^m for m = 1..M, with
    p_0 and r solved so that the expected shares are those given. So that the shares come close after few videos, every
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
        parts = (shares.skip, shares.prescan, shares.full)
        if not (min(parts) >= -1e-9 and abs(sum(parts) - 100) <= 0.05):
            raise ValueError(f"shares are parts of 100 per cent, got {shares}")
        self.shares, self.max_skip, self.frames = shares, max_skip, frames
        self.probabilities = _solve(shares, max_skip, frames)
        self._target = np.array(parts) / 100 * frames
        self._error = np.zeros(3)
        self._generator = np.random.default_rng(seed)
        self._sequences: list[list[int]] = []

    def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> list[int]:
        """What the videos' sequences hold for frame t; the logits play no part."""
        if t >= self.frames:
            raise ValueError(f"decisions were made for videos of {self.frames} frames, there is none for frame {t}")
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
        for choice in self._generator.choice(self.max_skip + 1, size=self.frames, p=self.probabilities).tolist():
            sequence += [choice] + [-1] * (choice - 1)
        return sequence[: self.frames]

    @staticmethod
    def _count(sequence: list[int]) -> np.ndarray:
        choices = np.array(sequence)
        return np.array([(choices < 0).sum(), (choices > 0).sum(), (choices == 0).sum()])


class GivenNumber:
    """Of every so many choices of a video, as many full ones as given, each set of them as likely as another.

    Args:
        kept: full ones.
        of: choices among which they are.
        seed: of the draws, which depend on the seed, the video and the place in it alone.

    Raises:
        ValueError: a number kept that is none of 1..`of`.
    """

    def __init__(self, kept: int, of: int, seed: int = 0) -> None:
        if not 1 <= kept <= of:
            raise ValueError(f"{kept} of {of} cannot be kept")
        self.kept, self.of, self.seed = kept, of, seed

    def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> list[int]:
        """0 where the draw keeps number t of the video, else 1; the logits play no part."""
        group, place = divmod(t, self.of)
        return [int(place not in self._draw(video, group)) for video in videos]

    def _draw(self, video: int, group: int) -> list[int]:
        generator = np.random.default_rng((self.seed, video, group))
        return generator.choice(self.of, self.kept, replace=False).tolist()


def _solve(shares: Shares, max_skip: int, frames: int) -> np.ndarray:
    """Probabilities of 0..M whose expected full and skip shares over `frames` frames are those given."""
    full, skip = shares.full / 100 * frames, shares.skip / 100 * frames

    def with_full_share(log_ratio: float) -> np.ndarray:
        def missing(p_full: float) -> float:
            return _expected(_mixture(p_full, log_ratio, max_skip), frames)[0] - full

        return _mixture(_root(missing, 0.0, 1.0), log_ratio, max_skip)

    def missing(log_ratio: float) -> float:
        return _expected(with_full_share(log_ratio), frames)[1] - skip

    try:
        return with_full_share(_root(missing, -STEEPEST, STEEPEST))
    except ValueError:
        raise ValueError(f"T_{max_skip} cannot make {shares} on {frames} frames, the first of them full") from None


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses zero; its ends may miss by rounding.

    Raises:
        ValueError: it does not cross.
    """
    from scipy.optimize import brentq  # half a second, and few need it

    for end in (low, high):
        if abs(function(end)) < 1e-9:
            return end
    return float(brentq(function, low, high, xtol=1e-12))


def _mixture(p_full: float, log_ratio: float, max_skip: int) -> np.ndarray:
    """p_0, and p_m proportional to ratio^m for m = 1..M, as (M + 1,)."""
    return np.concatenate(([p_full], (1 - p_full) * softmax(log_ratio * np.arange(max_skip))))


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
