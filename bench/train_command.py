"""`foveabench train`: the phases of training, one after another."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from bench.errors import RunError, UsageError

if TYPE_CHECKING:
    from bench.training import Phases, Run
    from bench.training_progress import TrainingProgress


class PhaseName(str, Enum):
    """What is trained."""

    features = "features"
    hallucinator = "hallucinator"
    heads = "heads"
    sampler = "sampler"
    all = "all"


class AmpName(str, Enum):
    """Precision of autocasting."""

    bf16 = "bf16"
    fp16 = "fp16"


def command(
    config: Annotated[
        str,
        typer.Option(help="A TOML file, or one of epic-paper, epic-code, ucf101-paper, ucf101-code, mini, mini-test."),
    ],
    phase: Annotated[PhaseName, typer.Option(help="What to train; a later phase needs the parts of the earlier.")] = (
        PhaseName.all
    ),
    out: Annotated[Path, typer.Option("--out", help="Folder for parts, checkpoints and kept features.")] = Path(
        "trained"
    ),
    data: Annotated[Optional[Path], typer.Option(help="Folder of the data set; else the configuration's.")] = None,  # noqa: UP045
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last epoch that was written.")] = False,
    init: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="PART=FILE: start a part from a published checkpoint or a trained part. May be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to train, as torch names it.")] = "cpu",
    amp: Annotated[Optional[AmpName], typer.Option(help="Autocast to this precision.")] = None,  # noqa: UP045
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode clips, for each that trains.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order, frames and choices.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Train the adaptive system in the paper's phases: features, hallucinator, heads, temporal sampler.

    After each epoch a checkpoint, its numbers as JSON lines and TensorBoard scalars are in OUT/training; what is
    trained is in OUT, a file for each part. For several GPUs or machines, start it with torchrun.

    Examples: foveabench train --config mini --out trained ·
    foveabench train --phase features --config epic-code --data EPIC --init rgb-112=san19.pth --device cuda --amp bf16 ·
    torchrun --nproc-per-node 4 -m bench train --config epic-paper --data EPIC --device cuda --resume
    """
    from adaptive_models.training.allocator import keep_freed_memory
    from adaptive_models.training.config import ConfigError, read_config
    from adaptive_models.training.distributed import own_device, processes
    from bench.display import print_json
    from bench.streaming import usable_device
    from bench.systems.builtin import registry
    from bench.training import Phases, Run, part_names
    from bench.training_progress import TrainingProgress

    keep_freed_memory()
    try:
        settings = read_config(config)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    starts = _starts(init or [], part_names(settings))
    own = usable_device(own_device(device))
    with processes(own) as group, TrainingProgress().shown(group.first) as progress:
        run = Run(settings, out, data, starts, seed, own, workers, group, progress.on_clip, progress.note)
        results = _train(run, Phases(run, registry()), phase.value, amp.value if amp else None, resume, progress)
    if group.first:
        print_json({"out": str(out), "phases": results}) if json else _show(results)


def _starts(given: list[str], known: list[str]) -> dict[str, Path]:
    """Files of --init by the name of the part."""
    starts = {}
    for each in given:
        name, equals, file = each.partition("=")
        if not equals or name not in known:
            raise UsageError(f"--init {each}: give PART=FILE, where PART is one of {', '.join(known)}")
        if not Path(file).is_file():
            raise UsageError(f"--init {each}: there is no file {file}")
        starts[name] = Path(file)
    return starts


def _train(
    run: Run, phases: Phases, which: str, amp: Literal["bf16", "fp16"] | None, resume: bool, progress: TrainingProgress
) -> list[dict[str, Any]]:
    """Train phases one after another; returns what came out of each."""
    from adaptive_models.training.cache import CacheError
    from adaptive_models.training.loop import Reports, TrainingError, train

    reports = Reports(progress.on_step, progress.on_epoch, progress.note)
    results = []
    try:
        for phase, schedule in phases.of(which):
            history = train(
                phase,
                schedule,
                run.out,
                settings=phases.settings,
                seed=run.seed,
                device=run.device,
                amp=amp,
                processes=run.processes,
                resume=resume,
                reports=reports,
            )
            seconds = sum(epoch.seconds for epoch in history)
            last = {"training": history[-1].training, "validation": history[-1].validation}
            results.append({"phase": phase.name, "epochs": len(history), "seconds": seconds, **last})
    except (ValueError, CacheError, TrainingError) as error:
        raise RunError(str(error)) from error
    except OSError as error:
        where = error.filename or run.out
        raise RunError(f"{where}: {error.strerror}; go on with --resume when that is mended") from error
    except KeyboardInterrupt:
        progress.note("stopped: go on after the last epoch with --resume")
        raise
    return results


def _show(results: list[dict[str, Any]]) -> None:
    from bench.display import print_table
    from bench.training_progress import in_words

    columns = ("phase", "epochs", "minutes", "training", "validation")
    rows = [
        (name, epochs, f"{seconds / 60:.1f}", in_words(training), in_words(validation))
        for name, epochs, seconds, training, validation in (each.values() for each in results)
    ]
    print_table(columns, rows)
