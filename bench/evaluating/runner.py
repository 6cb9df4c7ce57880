"""A system ready to be run on the clips of a data set, in batches that do not depend on who runs them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from adaptive_models.data.clips import Clip
from adaptive_models.data.datasets import Dataset, LabelledClip
from adaptive_models.data.media import ClipError
from adaptive_models.policies import AlwaysFull
from adaptive_models.stepwise import Stepwise
from adaptive_models.system import AdaptiveSystem
from adaptive_models.training.cache import FeatureCache
from bench.errors import RunError, UsageError
from bench.evaluating.models import in_precision, without_sampler
from bench.evaluating.policies import Shuffled, Uniform
from bench.evaluating.replay import FeatureClip, Replay
from bench.evaluating.ways import AsDecided, EveryNth, InSegments, Prediction, Way
from bench.records.evaluation import ClipOutcome, Evaluation
from bench.records.measurement import Dtype
from bench.streaming import TimedClip, make_policy
from bench.systems.builtin import registry
from bench.systems.registry import System
from bench.systems.weights import load_model

TOP = 5
"""Classes of a group that are kept: enough for the best five actions too (see `metrics.hits`)."""


@dataclass(frozen=True)
class Task:
    """What is evaluated.

    Attributes:
        system: id.
        adapters: for the registry.
        policy: "learned", "published", "always-full", "random", "uniform", one's own as for `make_policy`; or "fixed".
        weights: folder of parts; if not given, those that come with the system, or random ones from the seed.
        seed: of the training run, of random decisions, and of random weights.
        frames: T.
        batch: clips that run side by side.
        device: as torch names it.
        limit: how many clips the data set was opened with; None for all.
        features: folder of kept features of the data set; None to run the frozen networks.
        dtype: of weights and inputs.
    """

    system: str
    adapters: tuple[str, ...]
    policy: str
    weights: Path | None
    seed: int
    frames: int
    batch: int = 4
    device: str = "cpu"
    limit: int | None = None
    features: Path | None = None
    dtype: Dtype = "float32"

    def find(self) -> System:
        """The system.

        Raises:
            UsageError: there is none.
        """
        return registry(self.adapters).find(self.system)


@dataclass(frozen=True)
class Job:
    """A task with all that a process needs for it.

    Attributes:
        task: what is evaluated.
        dataset: on what.
        clips: which of the data set.
        costs: operations of each stage of a full frame, or of a call, in the `exact` convention.
        learned: an evaluation of the learned decisions on these clips, where the policy is at their cost.
    """

    task: Task
    dataset: Dataset
    clips: Sequence[LabelledClip]
    costs: dict[str, int]
    learned: Evaluation | None

    @property
    def blocks(self) -> list[range]:
        """Positions of clips that run side by side."""
        size, count = self.task.batch, len(self.clips)
        return [range(start, min(start + size, count)) for start in range(0, count, size)]


@dataclass
class ClipRun:
    """One clip, run or left out.

    Attributes:
        id: of the clip.
        outcome: None if it was left out.
        why: it was left out.
        notes: what was put in place of something missing in it.
        seconds: its part of the time of the clips that ran side by side, decoding apart.
        decode_seconds: for decoding and preparing what was asked of it.
    """

    id: str
    outcome: ClipOutcome | None = None
    why: str = ""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    decode_seconds: float = 0.0


class Runner:
    """A system with its weights and its policy, on its device.

    Args:
        job: what is to be done.

    Raises:
        RunError: weights that cannot be loaded, or that cannot be of the type.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._cache = None if job.task.features is None else FeatureCache(job.task.features)
        self._rows = {clip.id: row for row, clip in enumerate(job.dataset.clips)}
        self._system = job.task.find()
        self._way = self._make_way(self._system)

    def _make_way(self, system: System) -> Way:
        task, costs, learned = self._job.task, self._job.costs, self._job.learned
        model = in_precision(system, load_model(system, task.weights, task.seed), task.device, task.dtype)
        if not isinstance(model, Stepwise):
            return InSegments(model, system, costs["call"], task.frames)
        if not isinstance(model, AdaptiveSystem):
            return AsDecided(model, make_policy(task.policy, system, task.frames)[0], costs)
        if self._cache is not None:
            model = Replay(model, self._cache.read([0]).boxes.shape[2])
        if learned is not None and task.policy == "uniform":
            budget = sum(clip.flops for clip in learned.clips)
            uniform = Uniform(budget, sum(costs.values()), len(learned.clips), task.frames)
            return EveryNth(without_sampler(model), uniform, costs)
        if learned is not None:
            return AsDecided(model, Shuffled([clip.decisions for clip in learned.clips], task.seed), costs)
        policy = AlwaysFull() if system.max_skip is None else make_policy(task.policy, system, task.frames)[0]
        return AsDecided(model, policy, costs)

    def run(self, block: range) -> list[ClipRun]:
        """Run the clips at these positions side by side; where one cannot be read, each on its own.

        Raises:
            UsageError: a model that tells other classes apart than the data set has.
            RunError: the model or the policy fails.
        """
        try:
            return self._run(block)
        except ClipError as error:
            if len(block) == 1:
                return [ClipRun(self._job.clips[block.start].id, why=str(error))]
            return [run for position in block for run in self.run(range(position, position + 1))]

    def _run(self, block: range) -> list[ClipRun]:
        labelled = [self._job.clips[position] for position in block]
        with ExitStack() as stack:
            clips = [TimedClip(self._open(clip, stack)) for clip in labelled]
            start = time.perf_counter()
            try:
                predictions = self._way(block.start, clips)
            except ClipError:
                raise
            except ValueError as error:
                raise RunError(f"{self._job.task.system} on {labelled[0].id}: {error}") from error
            outcomes = [self._outcome(*pair) for pair in zip(labelled, predictions, strict=True)]
            seconds = time.perf_counter() - start - sum(clip.seconds for clip in clips)
        return [
            ClipRun(outcome.id, outcome, "", list(clip.notes), seconds / len(clips), clip.seconds)
            for outcome, clip in zip(outcomes, clips, strict=True)
        ]

    def _open(self, clip: LabelledClip, stack: ExitStack) -> Clip:
        if self._cache is not None:
            row = self._rows[clip.id]
            if row not in self._cache.positions:
                raise ClipError(f"{clip.id}: it could not be read when features were computed")
            return FeatureClip(self._cache.read([row]))
        frames = self._system.sampled(self._job.task.frames)
        return stack.enter_context(self._job.dataset.open(clip, frames))

    def _outcome(self, clip: LabelledClip, prediction: Prediction) -> ClipOutcome:
        name, dataset = self._job.task.system, self._job.dataset
        logits = [group.float().cpu() for group in prediction.logits]
        told, wanted = [len(group) for group in logits], [len(names) for names in dataset.classes]
        if told != wanted:
            raise UsageError(f"{name} tells {told} classes apart, {dataset.name} has {wanted}")
        if not all(bool(group.isfinite().all()) for group in logits):
            raise RunError(f"{name} on {clip.id}: logits that are not finite")
        best = [_best(group) for group in logits]
        return ClipOutcome(
            clip.id,
            tuple(clip.labels),
            tuple(classes for classes, _ in best),
            tuple(values for _, values in best),
            prediction.decisions,
            prediction.flops,
        )


def _best(logits: Tensor) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The classes of the largest logits (classes,), of equal ones the first, and these with all digits that count."""
    order = logits.argsort(descending=True, stable=True)[:TOP]
    return tuple(order.tolist()), tuple(float(f"{value:.9g}") for value in logits[order].tolist())
