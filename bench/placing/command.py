"""`foveabench compare-backbones`: where new systems stand among all that are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from bench.errors import UsageError
from bench.options import writable

if TYPE_CHECKING:
    from bench.systems.registry import Registry, System


def command(
    names: Annotated[
        Optional[list[str]],  # noqa: UP045  (typer reads annotations when the program runs)
        typer.Argument(metavar="[NEW]...", help="Systems, backbones or models of libraries; else those of --adapter."),
    ] = None,
    workload: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Against whose systems: epic, ucf101 or mini; else that of the new systems' ids."),
    ] = None,
    top1: Annotated[Optional[float], typer.Option(help="Accuracy of the new system, in per cent.")] = None,  # noqa: UP045
    source: Annotated[Optional[str], typer.Option(help="Where that is from.")] = None,  # noqa: UP045
    machine: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Whose measurements: a folder in OUT/records; that of most records if not given."),
    ] = None,
    setup: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Which of them: cpu, cuda, cuda_float16, ...; else the first that has a new system."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", callback=writable, help="Results go to OUT/compared; measurements are in OUT.")
    ] = Path("results"),
    adapter: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--adapter", help="A system of your own: module:name or path/to/file.py:name. May be repeated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say where new systems stand among all known ones of a workload.

    Compared are operations, latency, energy and memory, each against top-1 accuracy: the trade-off (GFLOPs per point
    of top-1), the Pareto front, who dominates whom, and what the intervals leave open. Latency, energy and memory
    are those that `foveabench measure` left in OUT/records, accuracies those of `foveabench evaluate` in
    OUT/evaluations, published ones, or the one that is given here. Where there is none, none is made up.

    Examples: foveabench compare-backbones --adapter my_net.py:my_net ·
    foveabench compare-backbones timm:resnet50 --workload ucf101 --top1 82.5 --source "our training, split 1"
    """
    from bench.display import print_json
    from bench.placing.accuracies import given
    from bench.placing.compared import compare
    from bench.placing.show import show, to_json
    from bench.systems.builtin import registry

    systems = registry(adapter or ())
    new = _new_systems(systems, names or [])
    against = _workload(new, workload)
    if len(new) > 1 and top1 is not None:
        raise UsageError(f"--top1 {top1:g} is of one system, and {len(new)} are new: name one")
    said = given(top1, source, against)
    known = [system for system in systems if system.workload == against]
    compared = compare(new, known, against, {new[0].id: said} if said else {}, out, machine, setup)
    files = compared.write(out)
    print_json(to_json(compared, files)) if json else show(compared, files)


def _new_systems(systems: Registry, names: list[str]) -> list[System]:
    new = {system.id: system for system in ([systems.find(name) for name in names] or systems.adapted)}
    if not new:
        raise UsageError("name a new system, such as timm:resnet50, or give one with --adapter file.py:name")
    return [*new.values()]


def _workload(new: list[System], asked: str | None) -> str:
    from bench.systems.workloads import WORKLOADS

    own = {system.workload for system in new if system.workload}
    if asked is None and not own:
        raise UsageError(f"--workload is needed: {new[0].id} is of none; use {', '.join(WORKLOADS)}")
    found = own | ({asked} if asked is not None else set())
    if len(found) > 1:
        raise UsageError(
            f"systems of {' and '.join(sorted(found))} cannot be compared: their accuracies differ in kind"
        )
    (workload,) = found
    if workload not in WORKLOADS:
        raise UsageError(f"no known systems of {workload!r}: workloads are {', '.join(WORKLOADS)}")
    return workload
