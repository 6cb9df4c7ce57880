"""Evaluating several systems with several policies, and keeping what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile

import pandas as pd

from adaptive_models.data.datasets import Dataset
from adaptive_models.system import AdaptiveSystem
from adaptive_models.training.cache import FeatureCache, fill_cache
from bench.display import note, progress
from bench.errors import UsageError
from bench.evaluating.evaluate import check, evaluate
from bench.evaluating.foresight import foresight_path, write_foresight
from bench.evaluating.models import frozen_networks
from bench.evaluating.runner import ClipRun, Task
from bench.records.evaluation import (
    AT_COST_OF_LEARNED,
    Evaluation,
    evaluation_path,
    read_evaluation,
    write_evaluation,
)
from bench.records.files import write_text
from bench.streaming import policy_of, usable_device
from bench.systems.builtin import registry
from bench.systems.registry import System
from bench.systems.weights import load_model


def evaluate_all(
    systems: Sequence[System], policies: Sequence[str], common: Task, dataset: Dataset, workers: int, out: Path
) -> list[Evaluation]:
    """Evaluate every system with every policy that makes a difference to it; each is written as soon as it is made.

    Args:
        systems: which.
        policies: names; "random" and "uniform" come after "learned", or find what it did in `out`.
        common: the task but for system and policy; its `features` is the folder of all kept features.
        dataset: on what, opened as the task says.
        workers: processes.
        out: folder of results.

    Raises:
        OSError: `out` cannot be written to.
        UsageError: "random" or "uniform" without evaluations of the learned decisions; or as `evaluate`.
        RunError: as `evaluate`, or a file cannot be written.
    """
    ordered = sorted(policies, key=lambda policy: policy in AT_COST_OF_LEARNED)
    tasks = [
        replace(common, system=system.id, policy=policy, features=None)
        for system in systems
        for policy in dict.fromkeys(policy_of(system, each) for each in ordered)
    ]

    def path_of(task: Task, policy: str = "") -> Path:
        policy = policy or task.policy
        what = task.limit, task.system, policy, task.seed, task.dtype
        return evaluation_path(out, dataset.name, dataset.split, *what)

    to_come = {path_of(task) for task in tasks}
    for task in tasks:
        check(task, dataset)
        needed = path_of(task, "learned")
        if task.policy in AT_COST_OF_LEARNED and needed not in to_come and not needed.exists():
            raise UsageError(f"policy {task.policy} of {task.system}: evaluate the policy learned too, for its cost")
    folder = path_of(common).parent
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass  # else it would be found out after the work that nothing can be written
    if common.features is not None:
        tasks = _with_features(tasks, common.features, dataset)
    evaluations = []
    with progress(len(tasks) * len(dataset.clips)) as advance:
        for task in tasks:

            def on_clips(count: int, name: str = f"{task.system} {task.policy}") -> None:
                for _ in range(count):
                    advance(name)

            learned = read_evaluation(path_of(task, "learned")) if task.policy in AT_COST_OF_LEARNED else None
            evaluation, runs = evaluate(task, dataset, workers, learned, on_clips)
            write_evaluation(evaluation, path_of(task))
            _write_times(runs, path_of(task).with_suffix(".times.csv"))
            evaluations.append(evaluation)
    _keep_foresight(tasks, dataset, out)
    return evaluations


def _keep_foresight(tasks: Sequence[Task], dataset: Dataset, out: Path) -> None:
    """Where features of all held-out clips are kept, keep how well the hallucinator foresees attention, too."""
    for task in tasks:
        system = task.find()
        if task.features and system.max_skip is not None and (dataset.split, task.limit) == ("val", None):
            model = load_model(system, task.weights, task.seed).to(usable_device(task.device))
            assert isinstance(model, AdaptiveSystem)
            assert model.hallucinator is not None
            path = foresight_path(out, dataset.name, task.seed)
            write_foresight(model.hallucinator, FeatureCache(task.features), task.batch, path)
            return


def _with_features(tasks: Sequence[Task], root: Path, dataset: Dataset) -> list[Task]:
    """Tasks of adaptive systems with the folder of features, which are computed where they are not kept yet.

    Raises:
        UsageError: a type in which they are others; of GRUs' weights alone, int8 leaves them as they are.
    """
    for task in tasks:
        if task.dtype not in ("float32", "int8"):
            raise UsageError(f"--features: they are kept in float32, and are other ones in {task.dtype}")
    folders: dict[str, Path] = {}
    done = []
    for task in tasks:
        system = task.find()
        if system.crops is not None and system.workload not in folders:
            networks = frozen_networks(system, registry(task.adapters), task.weights).to(usable_device(task.device))
            with progress(len(dataset.clips)) as advance:

                def on_clip(done: int, to_do: int, advance: Callable[[str], None] = advance) -> None:
                    advance("features of frozen networks")

                folders[system.workload] = fill_cache(networks, dataset, task.frames, root, on_clip=on_clip, note=note)
        done.append(replace(task, features=None if system.crops is None else folders[system.workload]))
    return done


def _write_times(runs: Sequence[ClipRun], path: Path) -> None:
    """Seconds of each clip; they hold for the load under which they were taken: `foveabench measure` is for that."""
    table = pd.DataFrame(
        [(run.id, run.seconds, run.decode_seconds) for run in runs if run.outcome is not None],
        columns=["id", "seconds", "decode_seconds"],
    )
    write_text(path, table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
