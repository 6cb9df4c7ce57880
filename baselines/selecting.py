"""Systems that look cheaply at all frames, and give only the ones they choose to an expensive network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adaptive_models.data.clips import Clip
from adaptive_models.policies import AlwaysFull, Policy
from adaptive_models.stepwise import Stepwise, ask
from adaptive_models.system import ClipResult, FrameResult, mean_logits


class Selecting(Stepwise):
    """A step looks at several *units*, frames or short clips, scores them together, and processes those kept.

    Units that are not kept are never given to the expensive network. The policy is asked about each unit, with t its
    number in the video: 0 keeps it, 1 does not; the logits say which ones the network itself keeps, those with the best
    scores. The prediction is the mean of the logits of the kept ones.

    Args:
        units: that a step chooses among.
        unit_frames: consecutive sampled frames of a unit.
        kept: units that the network itself keeps.

    Raises:
        ValueError: a number kept that is none of 1..`units`.
    """

    stages = ("scan", "decide", "look")

    def __init__(self, units: int, unit_frames: int, kept: int) -> None:
        super().__init__()
        if not 1 <= kept <= units:
            raise ValueError(f"{kept} of {units} cannot be kept")
        self.units, self.unit_frames, self.kept = units, unit_frames, kept
        self.window = units * unit_frames

    @property
    def networks(self) -> tuple[str, ...]:
        """See `Stepwise`."""
        return self.stages

    @abstractmethod
    def scan(self, frames: Tensor) -> Tensor:
        """Cheap features (N, F) of units (N, unit_frames, 3, 224, 224)."""

    @abstractmethod
    def decide(self, features: Tensor) -> Tensor:
        """Scores (N, units) of the units of a step, from their features (N, units, F); more is better."""

    @abstractmethod
    def look(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Logits (N, classes) of each group, by the expensive network, of units (N, unit_frames, 3, 224, 224)."""

    def trace(self, call: Callable[..., Any], inputs: Mapping[str, Tensor]) -> None:
        """Go once through all stages of a step that keeps every unit; input "rgb", (1, window, 3, 224, 224)."""
        units = inputs["rgb"].unflatten(1, (self.units, self.unit_frames)).flatten(0, 1)
        features = call("scan", units)
        call("decide", features[None])
        call("look", units)

    @torch.inference_mode()
    def stream(self, clip: Clip, policy: Policy | None = None, video: int = 0) -> Iterator[FrameResult]:
        """Run one video, a step after another; see `Stepwise.stream`.

        Raises:
            ValueError: a clip whose frames do not fill its steps, a choice that is neither 0 nor 1, or nothing kept in
                a step.
        """
        for results in self._steps([clip], policy, video):
            yield from results[0]

    @torch.inference_mode()
    def run(self, clips: Sequence[Clip], policy: Policy | None = None, *, first_video: int = 0) -> list[ClipResult]:
        """Run several videos at once; see `Stepwise.run`.

        Raises:
            ValueError: as `stream`, or clips of different lengths.
        """
        steps = list(self._steps(clips, policy, first_video))
        videos = [[frame for results in steps for frame in results[position]] for position in range(len(clips))]
        return [ClipResult(mean_logits(frames), frames) for frames in videos]

    def _steps(
        self, clips: Sequence[Clip], policy: Policy | None, first_video: int
    ) -> Iterator[list[list[FrameResult]]]:
        """Of each step in turn, the results of its frames in every video."""
        lengths = sorted({clip.frames for clip in clips})
        if len(lengths) != 1:
            raise ValueError(f"videos of one run must have equally many frames, got {lengths}")
        if lengths[0] % self.window:
            raise ValueError(f"{lengths[0]} frames, and {self.window} are decided about at a time: use a multiple")
        videos = range(first_video, first_video + len(clips))
        for first in range(0, lengths[0], self.window):
            yield self._step(clips, videos, first, AlwaysFull() if policy is None else policy)

    def _step(self, clips: Sequence[Clip], videos: range, first: int, policy: Policy) -> list[list[FrameResult]]:
        starts = range(first, first + self.window, self.unit_frames)
        place = next(self.parameters())
        units, features = [], []
        for start in starts:
            span = range(start, start + self.unit_frames)
            images = torch.stack([torch.stack([clip.image(t) for t in span]) for clip in clips]).to(place)
            units.append(images)
            features.append(self.scan(images))
        logits = self._own_choice(self.decide(torch.stack(features, dim=1)))
        numbers = range(first // self.unit_frames, first // self.unit_frames + self.units)
        choices = [ask(policy, videos, number, own) for number, own in zip(numbers, logits.unbind(1), strict=True)]
        results: list[list[FrameResult]] = [[] for _ in videos]
        for start, images, chosen in zip(starts, units, choices, strict=True):
            kept = [position for position, choice in enumerate(chosen) if choice == 0]
            said = self.look(images[kept]) if kept else ()
            for position, video in enumerate(videos):
                results[position] += self._results(video, start, kept, position, said)
        for video, frames in zip(videos, results, strict=True):
            if not any(frame.decision == "full" for frame in frames):
                raise ValueError(
                    f"policy {type(policy).__name__} kept nothing of frames {first} to {first + self.window - 1} of"
                    f" video {video}: something must be kept"
                )
        return results

    def _own_choice(self, scores: Tensor) -> Tensor:
        """Logits (N, units, 2) for keeping and not keeping each, 1 for what the scores say; of equals the first."""
        best = [sorted(range(self.units), key=row.__getitem__, reverse=True)[: self.kept] for row in scores.tolist()]
        logits = [[(1.0, 0.0) if unit in kept else (0.0, 1.0) for unit in range(self.units)] for kept in best]
        return torch.tensor(logits, device=scores.device)

    def _results(
        self, video: int, start: int, kept: list[int], position: int, said: tuple[Tensor, ...]
    ) -> list[FrameResult]:
        """Of the frames of a unit of one video; if it is kept, with the logits that were said of it."""
        span = range(start, start + self.unit_frames)
        if position not in kept:
            return [FrameResult(video, t, "prescan", ran=("scan", "decide")) for t in span]
        logits = tuple(group[kept.index(position)] for group in said)
        return [FrameResult(video, t, "full", logits=logits, ran=self.stages) for t in span]
