"""`foveabench compare-backbones`: where new systems stand among all that are known."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from bench.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from bench.records.measurement import Record
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
        typer.Option(help="Whose measurements: a folder in OUT/records; the first by name if not given."),
    ] = None,
    setup: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Which of them: cpu, cuda, cuda_float16, ...; else the first that has a new system."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Results go to OUT/compared; measurements are in OUT.")] = Path(
        "results"
    ),
    adapter: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--adapter", help="A system of your own: module:name or path/to/file.py:name. May be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
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
    from bench.evaluating.summary import own_evaluations
    from bench.placing import accuracies
    from bench.placing.figure import draw
    from bench.placing.rows import place, printed, side_by_side
    from bench.placing.show import show, to_latex
    from bench.records.files import write_text
    from bench.reporting.measured import published_points
    from bench.reproduce import counts_of, evaluations_of, records_of
    from bench.systems.builtin import registry
    from bench.systems.workloads import WORKLOADS

    systems = registry(adapter or ())
    new = _new_systems(systems, names or [])
    against = _workload(new, workload)
    known = [system for system in systems if system.workload == against]
    if len(new) > 1 and top1 is not None:
        raise UsageError(f"--top1 {top1:g} is of one system, and {len(new)} are new: name one")
    said = accuracies.given(top1, source, against)

    evaluations = own_evaluations(against, evaluations_of(out))
    ids = [system.id for system in new]
    counts = counts_of(out, known, new)
    described = {system.id: system for system in [*known, *new]}
    rated = {
        id: found
        for id in [*described, *printed(against)]
        if (found := accuracies.published(id, described.get(id), against))
    }
    rated |= accuracies.measured(against, evaluations) | ({ids[0]: said} if said else {})
    everything = [record for record in records_of(out, machine) if record.case.system in described]
    points = published_points(everything)
    chosen = _setup(points, setup, ids)
    frame = side_by_side(counts, against, ids, rated, points.get(chosen, []))
    placements = [place(frame, id) for id in ids]
    title = f"{', '.join(system.title for system in new)} among the systems of {WORKLOADS[against].title}"
    notes = _notes(frame, against, chosen)
    folder, name = out / "compared", "-".join([against, *(id.replace("/", "-").replace(":", "-") for id in ids)])
    files = draw(frame, title, name, folder)
    write_text(folder / f"{name}.tex", to_latex(frame, title, f"compared-{name}", notes))
    files.append(folder / f"{name}.tex")
    if as_json:
        print_json(
            {
                "workload": against,
                "setup": chosen or None,
                "systems": _plain(frame),
                "placements": [asdict(placement) for placement in placements],
                "notes": notes,
                "files": [str(path) for path in files],
            }
        )
        return
    show(frame, placements, notes)
    for path in files:
        print(path)


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


def _setup(points: dict[str, list[Record]], asked: str | None, new: list[str]) -> str:
    """The setup whose measurements are compared; empty if nothing was measured."""
    if asked is not None and asked not in points:
        raise UsageError(f"--setup {asked}: nothing was measured so; there is {', '.join(points) or 'nothing'}")
    having = [name for name, records in points.items() if any(record.case.system in new for record in records)]
    return asked or next(iter([*having, *points]), "")


def _notes(frame: pd.DataFrame, workload: str, setup: str) -> list[str]:
    from bench.published.tables import VALIDATION_CLIPS

    notes = ["GFLOPs are per frame of video, in the paper convention, of systems as they are described"]
    if not (quoted := frame[frame["gflops_kind"] == "published"]).empty:
        notes.append(f"GFLOPs of {', '.join(quoted['system'])} are published and not counted, perhaps of whole clips")
    if workload in VALIDATION_CLIPS:
        notes.append(
            "intervals of published and given accuracies are Wilson's, as if they were of the"
            f" {VALIDATION_CLIPS[workload]} validation clips; of measured ones, over seeds or clips"
        )
    if setup:
        notes.append(
            f"latency, energy and memory are measured with the setup {setup}; intervals cover what happened within one"
            " process: foveabench compare tells two systems apart more finely"
        )
    for _, row in frame[frame["new"] & frame["top1"].notna()].iterrows():
        notes.append(f"top-1 of {row['system']} is {row['top1_kind']}: {row['top1_source']}")
    return notes


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: what is missing is null, and lists are lists."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    for row in rows:
        row |= {name: value.split(";") if value else [] for name, value in row.items() if name.startswith("dominated")}
    return rows
