"""`foveabench evaluate`: accuracy and executed operations of systems on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from bench.errors import RunError, UsageError
from bench.options import DtypeName

if TYPE_CHECKING:
    from adaptive_models.data.datasets import Dataset
    from bench.systems.registry import System


def command(
    names: Annotated[
        Optional[list[str]],  # noqa: UP045  (typer reads annotations when the program runs)
        typer.Argument(metavar="[SYSTEM]...", help="Systems; patterns such as 'mini/*' will do."),
    ] = None,
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME[=FOLDER]", help="mini, epic or ucf101, and where it lies."),
    ] = None,
    split: Annotated[str, typer.Option(help="val or train.")] = "val",
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder of trained parts; else those that come with a system, or random ones."),
    ] = None,
    policy: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="Who decides: learned, published, always-full, random or uniform (at the cost of the learned"
            " decisions), module:name or file.py:name. May be repeated."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the training run, random decisions and random weights.")] = 0,
    frames: Annotated[Optional[int], typer.Option(min=1, help="Frames of a clip; else the workload's.")] = None,  # noqa: UP045
    limit: Annotated[Optional[int], typer.Option(min=1, help="Evaluate so many clips alone.")] = None,  # noqa: UP045
    batch: Annotated[int, typer.Option(min=1, help="Clips that run side by side.")] = 4,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Processes; if not given, as many as cores on a CPU, and one with --features."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to run, as torch names it.")] = "cpu",
    dtype: Annotated[DtypeName, typer.Option(help="Of weights and inputs; int8 of weights.")] = DtypeName.float32,
    features: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder in which features of frozen networks are kept, so that they run once for all."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Results go to OUT/evaluations/<data>.")] = Path("results"),
    compare: Annotated[
        Optional[tuple[str, str]],  # noqa: UP045
        typer.Option(metavar="A B", help="Two results: files, or their names before .seed, for all seeds."),
    ] = None,
    adapter: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--adapter", help="A system of your own: module:name or path/to/file.py:name. May be repeated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Run systems on the clips of a data set: accuracy beside the operations that were executed.

    What came of every clip is kept in a file for each system, policy and seed; the number of processes does not change
    it. The policies random and uniform spend what the learned one did on the same clips, and so come after it.

    Examples: foveabench evaluate 'mini/*' --data mini --weights runs/mini ·
    foveabench evaluate mini/s3-t2 --data mini --weights runs/mini --policy learned --policy random ·
    foveabench evaluate mini/s3-t2 --data mini --dtype int8 ·
    foveabench evaluate --compare results/evaluations/mini/mini--s3.always-full
    results/evaluations/mini/mini--s0.always-full
    """
    from bench.display import print_json
    from bench.evaluating.show import compare_results, show_comparison, show_evaluations, to_json

    if compare is not None:
        if names:
            raise UsageError("--compare takes two results and no systems: evaluate these first")
        compared = compare_results(*compare)
        print_json(compared) if json else show_comparison(compared)
        return
    if not names or data is None:
        raise UsageError("name systems and, with --data, a data set: mini, epic=FOLDER or ucf101=FOLDER")

    from bench.evaluating.campaign import evaluate_all
    from bench.evaluating.runner import Task
    from bench.measuring.cases import chosen_systems, default_threads
    from bench.systems.builtin import registry

    systems = _fitting(chosen_systems(registry(adapter or ()), names), names)
    dataset = _open(data, split, limit)
    common = Task(
        system="",
        adapters=tuple(adapter or ()),
        policy="",
        weights=weights,
        seed=seed,
        frames=frames or _frames_of(dataset.name),
        batch=batch,
        device=device,
        limit=limit,
        features=features,
        dtype=dtype.value,
    )
    if workers is None:
        workers = default_threads() if device == "cpu" and features is None else 1
    evaluations = evaluate_all(systems, policy or ["learned"], common, dataset, workers, out)
    print_json(to_json(evaluations)) if json else show_evaluations(evaluations)


def _fitting(systems: list[System], names: list[str]) -> list[System]:
    """Those that take the frames of a clip, and those that were asked for by their very names."""
    from bench.display import note
    from bench.evaluating.evaluate import takes_clips

    fitting = [system for system in systems if system.id in names or takes_clips(system)]
    for system in systems:
        if system not in fitting:
            note(f"warning: {system.id} is left out: it takes {system.shapes}")
    if not fitting:
        raise UsageError(f"{' '.join(names)}: no system that takes the frames of a clip")
    return fitting


def _open(data: str, split: str, limit: int | None) -> Dataset:
    from adaptive_models.data.datasets import NAMES, SPLITS, DatasetError, open_dataset

    name, _, root = data.partition("=")
    if name not in NAMES or split not in SPLITS:
        raise UsageError(f"no {split!r} of {name!r}: --data is {', '.join(NAMES)}, --split {' or '.join(SPLITS)}")
    try:
        return open_dataset(name, Path(root) if root else None, split, limit)
    except DatasetError as error:
        raise RunError(str(error)) from error


def _frames_of(data: str) -> int:
    from bench.systems.workloads import WORKLOADS

    if data not in WORKLOADS:
        raise UsageError(f"--frames is needed: {data} is none of the workloads {', '.join(WORKLOADS)}")
    return WORKLOADS[data].frames
