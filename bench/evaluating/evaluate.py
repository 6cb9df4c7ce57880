"""Evaluating a system on a data set."""

from __future__ import annotations

from collections.abc import Callable

import torch

from adaptive_models.data.datasets import Dataset
from bench.counting.profile import Profile
from bench.errors import RunError, UsageError
from bench.evaluating.models import digest, in_precision, spatial_system
from bench.evaluating.processes import run_clips
from bench.evaluating.runner import ClipRun, Job, Task
from bench.measuring.machine import environment
from bench.records.evaluation import AT_COST_OF_LEARNED, SCHEMA, Evaluation
from bench.streaming import make_policy, usable_device
from bench.systems.costs import count_system
from bench.systems.inputs import SOUNDS, fits
from bench.systems.registry import System
from bench.systems.weights import load_model, weights_of


def evaluate(
    task: Task,
    dataset: Dataset,
    workers: int = 1,
    learned: Evaluation | None = None,
    on_clips: Callable[[int], None] = lambda _: None,
) -> tuple[Evaluation, list[ClipRun]]:
    """Run a system on all clips of a data set.

    On a CPU the evaluation is the same, bit for bit, for any number of processes: clips run in batches that do not
    depend on it, with a single thread each.

    Args:
        task: what.
        dataset: on what, opened as the task says.
        workers: processes.
        learned: for "random" and "uniform": an evaluation of the learned decisions on the same clips.
        on_clips: called with the number of clips that were finished since the last call.

    Returns:
        The evaluation, and what came of each clip with its time, in the order of the data set.

    Raises:
        UsageError: a policy that the system cannot follow, or a system that does not fit the data set.
        RunError: weights that cannot be loaded, a model that fails, or no clip that can be read.
    """
    system = task.find()
    check(task, dataset)
    stages = _stages(spatial_system(system) if task.policy == "uniform" else system)
    model = load_model(system, task.weights, task.seed)
    weights = digest(model)
    if task.dtype == "int8":  # which not every model can be of: else processes would find out
        in_precision(system, model, task.device, task.dtype)
    learned = _checked(learned, task, weights, dataset) if task.policy in AT_COST_OF_LEARNED else None
    clips = [clip for clip in dataset.clips if learned is None or clip.id not in learned.left_out]
    runs: list[ClipRun] = []
    for done in run_clips(Job(task, dataset, clips, stages["exact"], learned), workers):
        runs += done
        on_clips(len(done))
    outcomes = [run.outcome for run in runs if run.outcome is not None]
    left_out = {**dataset.left_out, **(learned.left_out if learned else {})}
    left_out |= {run.id: run.why for run in runs if run.outcome is None}
    if not outcomes:
        reason = next((f": {name}: {why}" for name, why in left_out.items()), "")
        raise RunError(f"no clip of {dataset.name} {dataset.split} can be evaluated{reason}")
    facts = environment(torch.device("cpu"))
    evaluation = Evaluation(
        schema=SCHEMA,
        data=dataset.name,
        split=dataset.split,
        limit=task.limit,
        system=system.id,
        policy=task.policy,
        seed=task.seed,
        trained=weights_of(system, task.weights) is not None,
        weights=weights,
        frames=task.frames,
        batch=task.batch,
        device=torch.device(task.device).type,
        replayed=task.features is not None,
        versions={"foveabench": facts.foveabench, "torch": facts.torch, "python": facts.python},
        stages=stages,
        frames_per_call=system.frames,
        clips=outcomes,
        left_out=left_out,
        notes={run.id: run.notes for run in runs if run.notes},
        dtype=task.dtype,
    )
    return evaluation, runs


def takes_clips(system: System) -> bool:
    """Whether all inputs of a system are frames of a clip: images, or pictures of its sound."""
    return all((name == "rgb" or name in SOUNDS) and fits(name, shape) for name, shape in system.inputs.items())


def check(task: Task, dataset: Dataset) -> None:
    """Refuse what cannot be run, before anything is.

    Raises:
        UsageError: a system that there is not or that the data set does not fit, or a policy that it cannot follow.
    """
    system = task.find()
    usable_device(task.device)
    if not takes_clips(system):
        raise UsageError(f"{system.id} takes {system.shapes}: a clip gives rgb and {' and '.join(SOUNDS)}")
    if any(sound in system.inputs for sound in SOUNDS) and not dataset.audio:
        raise UsageError(f"{system.id} listens, and {dataset.name} is without sound")
    if task.features is not None and system.crops is None:
        raise UsageError(f"--features: they are kept for S_k and S_k,T_M systems, and {system.id} is none")
    if task.policy in AT_COST_OF_LEARNED and system.max_skip is None:
        raise UsageError(f"policy {task.policy}: {system.id} has no temporal sampler at whose cost to decide")
    if task.policy not in AT_COST_OF_LEARNED and system.adaptive:
        make_policy(task.policy, system, task.frames)


def _checked(learned: Evaluation | None, task: Task, weights: str, dataset: Dataset) -> Evaluation:
    """Refuse learned decisions of something else."""
    if learned is None:
        raise UsageError(f"policy {task.policy}: evaluate {task.system} with the policy learned first, for its cost")
    ids = [clip.id for clip in dataset.clips if clip.id not in learned.left_out]
    theirs = learned.system, learned.policy, learned.weights, learned.dtype, learned.frames
    wanted = task.system, "learned", weights, task.dtype, task.frames
    if (theirs, [clip.id for clip in learned.clips]) != (wanted, ids):
        raise UsageError(
            f"policy {task.policy}: the learned decisions at hand are of {learned.system} with weights"
            f" {learned.weights} on {len(learned.clips)} clips, not of {task.system} with {weights} on these"
            f" {len(ids)}: evaluate the policy learned again"
        )
    return learned


def _stages(system: System) -> dict[str, dict[str, int]]:
    """Operations of each stage of a full frame, or of "call", in both conventions."""
    paper = count_system(system, "paper", "always-full")

    def of(profile: Profile) -> dict[str, int]:
        if not system.adaptive:
            return {"call": profile.flops}
        return {stage["name"]: stage["flops"] for stage in profile.stages()}

    return {"exact": of(paper.exact.profile), "paper": of(paper.profile)}
