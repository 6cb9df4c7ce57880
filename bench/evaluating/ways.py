"""The ways in which a clip goes through a system: frame by frame as decided, every n-th frame, or in segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adaptive_models.data.clips import Clip
from adaptive_models.policies import Policy
from adaptive_models.stepwise import Stepwise
from adaptive_models.system import AdaptiveSystem
from bench.evaluating.policies import Uniform
from bench.records.evaluation import LETTERS
from bench.streaming import frame_flops
from bench.systems.inputs import input_of
from bench.systems.registry import System


@dataclass(frozen=True)
class Prediction:
    """Of one clip.

    Attributes:
        logits: of each group of classes.
        decisions: a letter for each frame.
        flops: operations that were executed.
    """

    logits: tuple[Tensor, ...]
    decisions: str
    flops: int


Way = Callable[[int, Sequence[Clip]], list[Prediction]]
"""Predicts several clips at once; the first argument is the position of the first of them in the data set."""


class AsDecided:
    """An adaptive system and the policy that decides in it.

    Args:
        model: in evaluation mode.
        policy: knows clips by their positions in the data set.
        costs: operations of each stage of a step in which every frame is full.
    """

    def __init__(self, model: Stepwise, policy: Policy, costs: Mapping[str, int]) -> None:
        self._model, self._policy, self._costs = model, policy, dict(costs)

    def __call__(self, first: int, clips: Sequence[Clip]) -> list[Prediction]:
        """Run the clips side by side; frames that are skipped are not asked of them."""
        return [
            Prediction(
                result.logits,
                "".join(LETTERS[decision] for decision in result.decisions),
                sum(frame_flops(self._costs, frame) for frame in result.frames) // self._model.window,
            )
            for result in self._model.run(clips, self._policy, first_video=first)
        ]


class EveryNth:
    """An adaptive system without a temporal sampler, S_k, on some frames of a clip, of which the others are not seen.

    Args:
        model: in evaluation mode.
        uniform: says which frames.
        costs: operations of each stage of a full frame.
    """

    def __init__(self, model: AdaptiveSystem, uniform: Uniform, costs: Mapping[str, int]) -> None:
        self._model, self._uniform, self._cost = model, uniform, sum(costs.values())

    def __call__(self, first: int, clips: Sequence[Clip]) -> list[Prediction]:
        """Run the clips one by one, for one may have a frame more than another."""
        return [self._predict(self._uniform.frames_of(first + i), clip) for i, clip in enumerate(clips)]

    def _predict(self, chosen: list[int], clip: Clip) -> Prediction:
        (result,) = self._model.run([_Excerpt(clip, chosen)])
        decisions = "".join("F" if t in chosen else "S" for t in range(clip.frames))
        return Prediction(result.logits, decisions, len(chosen) * self._cost)


class _Excerpt:
    """Some frames of a clip, as a clip."""

    def __init__(self, clip: Clip, chosen: Sequence[int]) -> None:
        self.frames, self.notes = len(chosen), clip.notes
        self._clip, self._chosen = clip, chosen

    def image(self, t: int) -> Tensor:
        """As the clip's."""
        return self._clip.image(self._chosen[t])

    def spectrogram(self, t: int) -> Tensor:
        """As the clip's."""
        return self._clip.spectrogram(self._chosen[t])

    def log_mel(self, t: int) -> Tensor:
        """As the clip's."""
        return self._clip.log_mel(self._chosen[t])


class InSegments:
    """Any other system: called for one segment of a clip after another, its logits averaged over them.

    Args:
        model: in evaluation mode; returns logits (N, classes), or a tuple of them.
        system: whose inputs clips give (see `bench.systems.inputs`).
        cost: operations of a call.
        frames: T, for which a clip stands; it has `system.sampled(T)` frames.
    """

    def __init__(self, model: nn.Module, system: System, cost: int, frames: int) -> None:
        self._model, self._system, self._cost, self._frames = model, system, cost, frames
        self._place = next(iter(model.parameters()))

    @torch.inference_mode()
    def __call__(self, first: int, clips: Sequence[Clip]) -> list[Prediction]:
        """Run the clips side by side."""
        given = self._system.clip_frames
        outputs = [self._call(range(start, start + given), clips) for start in range(0, clips[0].frames, given)]
        logits = [torch.stack(group).mean(dim=0) for group in zip(*outputs, strict=True)]
        return [
            Prediction(tuple(group[i] for group in logits), "F" * self._frames, len(outputs) * self._cost)
            for i in range(len(clips))
        ]

    def _call(self, span: range, clips: Sequence[Clip]) -> tuple[Tensor, ...]:
        inputs = {}
        for name, shape in self._system.inputs.items():
            inputs[name] = torch.cat([input_of(clip, name, shape, span) for clip in clips]).to(self._place)
        output = self._model(*inputs.values()) if len(inputs) == 1 else self._model(**inputs)
        return (output,) if isinstance(output, Tensor) else tuple(output)
