"""The main job: count every system, and rebuild the paper's complexity figures, its tables and the audit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.display import note, progress
from bench.errors import UsageError
from bench.published.audit import Finding, StageCosts, audit
from bench.records.counts import Count, count_of, read_counts, write_counts
from bench.records.files import write_text
from bench.records.layers import layer_file, write_layers
from bench.records.measurement import Record, read_records

if TYPE_CHECKING:
    from bench.records.evaluation import Evaluation
    from bench.systems.registry import System

COUNTS = "counts.json"
LAYERS = "layers.json"
RECORDS = "records"
EVALUATIONS = "evaluations"
AUDIT = "audit.json"
REPORT = "report.html"
ALL_TABLES = (1, 2, 3, 4, 5)


def reproduce_all(out: Path, systems: Iterable[System], machine: str | None = None) -> list[Path]:
    """Everything, into a folder; the same bytes every time.

    Args:
        out: the folder. What was measured there, in "records", goes into the tables and figures; what was evaluated, in
            "evaluations", into tables of each data set.
        systems: to count and to put into the tables; those without a workload, bare backbones, are left out.
        machine: whose measurements; those of the machine with most if not given.

    Raises:
        UsageError: no measurements of that machine.
        RunError: the folder cannot be written to, or a system cannot be counted.
    """
    from bench.evaluating.precision import in_float32
    from bench.reporting.others_table import write_others  # counts, with torch

    measured = all_records(out, machine)
    records = next(iter(measured.values()), [])
    evaluations = all_evaluations(out)
    counts = make_counts(out, systems)
    files = [out / COUNTS, out / LAYERS, *make_figures(out, [], records, counts)]
    files += make_tables(out, ALL_TABLES, records, in_float32(evaluations), counts)
    files += write_others(out)
    files += [*make_evaluated(out, counts, evaluations, records), *write_audit(out), *write_pages(out, measured)]
    files.append(make_report(out, out / REPORT, machine, measured))
    write_text(out / "README.md", _index(out, files))
    return [*files, out / "README.md"]


def make_counts(out: Path, systems: Iterable[System]) -> list[Count]:
    """Count systems, with progress, and keep in the folder the counts of those of a workload, and the layers of all."""
    from bench.systems.costs import count_system

    chosen, counts, profiles = list(systems), [], []
    with progress(len(chosen)) as advance:
        for system in chosen:
            advance(f"counting {system.id}")
            cost = count_system(system, "paper")
            profiles.append((system.id, cost.profile))
            if system.workload:
                counts.append(count_of(cost))
    write_counts(counts, out / COUNTS)
    write_layers(layer_file(profiles), out / LAYERS)
    return counts


def machines_of(out: Path, wanted: str | None = None) -> list[str]:
    """Names of the machines that have measurements: the wanted one, then those with more records, then by name.

    Raises:
        UsageError: no measurements of the wanted one.
    """
    records = {folder.name: len(list(folder.glob("[!.]*.json"))) for folder in (out / RECORDS).glob("*/")}
    machines = sorted(records)
    if wanted is not None and wanted not in machines:
        known = ", ".join(machines) or "none"
        raise UsageError(f"no measurements of the machine {wanted!r} in {out / RECORDS}: there are {known}")
    return sorted(machines, key=lambda name: (name != wanted, -records[name]))


def records_of(out: Path, machine: str | None = None) -> list[Record]:
    """What was measured on a machine, the one with most records if none is given; nothing if nothing was measured.

    Raises:
        UsageError: no measurements of that machine.
    """
    chosen = next(iter(machines_of(out, machine)), None)
    return read_records(out / RECORDS / chosen, lambda problem: note(f"warning: {problem}")) if chosen else []


def all_records(out: Path, machine: str | None = None) -> dict[str, list[Record]]:
    """What was measured on each machine, the wanted one first.

    Raises:
        UsageError: no measurements of that machine.
    """
    return {name: records_of(out, name) for name in machines_of(out, machine)}


def all_evaluations(out: Path) -> list[Evaluation]:
    """What was evaluated, in any type; nothing if nothing was."""
    from bench.records.evaluation import read_evaluations

    return read_evaluations(out / EVALUATIONS, lambda problem: note(f"warning: {problem}"))


def evaluations_of(out: Path) -> list[Evaluation]:
    """What was evaluated in float32: see `all_evaluations`."""
    from bench.evaluating.precision import in_float32

    return in_float32(all_evaluations(out))


def make_evaluated(
    out: Path, counts: Sequence[Count], evaluations: Sequence[Evaluation], records: Sequence[Record] = ()
) -> list[Path]:
    """Write the tables of each data set on which systems were evaluated, in a folder of its name, and their figures.

    All are in float32, but for a table of other types beside it. Columns of times come from the records.
    """
    if not evaluations:
        return []
    from bench.evaluating.precision import in_float32
    from bench.evaluating.summary import learned_against_others
    from bench.records.evaluation import AT_COST_OF_LEARNED
    from bench.reporting.accuracy_figure import accuracy, decisions
    from bench.reporting.evaluated_tables import write_evaluated_tables
    from bench.reporting.foresight_table import write_foresight_table
    from bench.reporting.precision_table import write_precision_table

    files: list[Path] = []
    plain = in_float32(evaluations)
    for data in sorted({each.data for each in plain}):
        files += write_evaluated_tables(data, counts, plain, out / data, records)
        files += write_foresight_table(data, out / EVALUATIONS, out / data)
        files += write_precision_table(data, evaluations, out / data)
    whole = [each for each in plain if each.trained and each.limit is None]
    files += accuracy(out, plain) if whole else []
    files += decisions(out, plain) if learned_against_others(whole)["rival"].isin(AT_COST_OF_LEARNED).any() else []
    return files


def make_report(
    folder: Path, out: Path, machine: str | None = None, records: Mapping[str, Sequence[Record]] | None = None
) -> Path:
    """Write the report on what lies in a folder of results, without running a model.

    Args:
        folder: what `reproduce_all` made, with records and evaluations, if there are any.
        out: the HTML file.
        machine: whose measurements go into Tables I to V; those of the machine with most if not given.
        records: of each machine, if they were read before.

    Raises:
        UsageError: no measurements of that machine.
        RunError: counts, layers, Fig. 3 or the audit are missing or damaged, or the file cannot be written.
    """
    from bench.evaluating.foresight import foresight_over_seeds
    from bench.evaluating.precision import against_float32, in_float32
    from bench.records.layers import read_layers
    from bench.reporting.report.page import write_report
    from bench.reporting.report.results import Results, read_audit, read_sizes

    records = all_records(folder, machine) if records is None else records
    evaluations = all_evaluations(folder)
    data_sets = {each.data for each in evaluations}
    foresight = {data: foresight_over_seeds(folder / EVALUATIONS / data) for data in data_sets}
    results = Results(
        read_counts(folder / COUNTS),
        read_layers(folder / LAYERS),
        read_sizes(folder / "fig3.csv"),
        read_audit(folder / AUDIT),
        records,
        in_float32(evaluations),
        {data: frame for data, frame in foresight.items() if len(frame)},
        against_float32(evaluations),
    )
    return write_report(results, out)


def write_pages(out: Path, records: Mapping[str, Sequence[Record]]) -> list[Path]:
    """Write a page of measurements, and profiles, beside the records of every machine."""
    from bench.reporting.measured_page import write_measured
    from bench.reporting.profiles import write_profiles

    files = []
    for machine, own in sorted(records.items()):
        folder = out / RECORDS / machine
        files += [*write_measured(own, folder), *write_profiles(own, folder)]
    return files


def make_tables(
    out: Path,
    numbers: Sequence[int],
    records: Sequence[Record] = (),
    evaluations: Sequence[Evaluation] = (),
    counts: Sequence[Count] | None = None,
) -> list[Path]:
    """Write tables from counts, those of the folder if none are given, which are made if it has none.

    Measured columns come from records and evaluations.

    Raises:
        UsageError: a table that the paper does not have.
    """
    from bench.reporting.tables import write_table

    for number in numbers:
        if number not in ALL_TABLES:
            raise UsageError(f"no table {number}: the paper's are 1 to 5")
    counts = _counts_of(out) if counts is None else counts
    with progress(len(numbers)) as advance:
        files = []
        for number in numbers:
            advance(f"table {number}")
            files += write_table(number, counts, out, records, evaluations)
    return files


def _counts_of(out: Path) -> list[Count]:
    from bench.systems.builtin import registry

    return read_counts(out / COUNTS) if (out / COUNTS).exists() else make_counts(out, registry())


def counts_of(out: Path, known: Iterable[System], new: Iterable[System]) -> list[Count]:
    """Counts of known systems, those of the folder where it has them, and of new ones, which are always made.

    Raises:
        UsageError, RunError: a system that cannot be counted.
    """
    kept = {count.system: count for count in (read_counts(out / COUNTS) if (out / COUNTS).exists() else [])}
    fresh = {system.id: system for system in new}
    missing = {system.id: system for system in known if system.id not in kept} | fresh
    from bench.systems.costs import count_system

    with progress(len(missing)) as advance:
        for system in missing.values():
            advance(f"counting {system.id}")
            kept[system.id] = count_of(count_system(system, "paper"))
    return [kept[id] for id in dict.fromkeys([*(system.id for system in known), *fresh])]


def make_figures(
    out: Path, names: Sequence[str], records: Sequence[Record] = (), counts: Sequence[Count] | None = None
) -> list[Path]:
    """Draw figures by name; if none is named, all for which there are measurements.

    Raises:
        UsageError: a figure that there is not.
        RunError: a named figure lacks the measurements that it shows.
    """
    from bench.reporting.figures import FIGURES
    from bench.reporting.lost_figure import lost
    from bench.reporting.measured_figures import MEASURED_FIGURES

    of_records = {**MEASURED_FIGURES, "lost": lost}
    for name in names:
        if name not in FIGURES | of_records:
            raise UsageError(f"no figure {name!r}: use {', '.join([*FIGURES, *of_records])}")
    chosen = [*(names or [*FIGURES, *(MEASURED_FIGURES if records else ())])]
    if not names and any(record.reference_profile for record in records):
        chosen.append("lost")
    with progress(len(chosen)) as advance:
        files: list[Path] = []
        for name in chosen:
            advance(f"drawing {name}")
            if name in FIGURES:
                files += FIGURES[name](out)
            else:
                files += of_records[name](out, records, _counts_of(out) if counts is None else counts)
    return files


def audit_published() -> list[Finding]:
    """Audit the published tables, against each other and against the counted costs of the stages."""
    from bench.published.tables import FRAMES
    from bench.systems.accounting import published_stages
    from bench.systems.builtin import CROPS

    costs = {}
    for workload in FRAMES:
        for crops in CROPS:
            stages = published_stages(workload, crops)
            costs[f"{workload}/s{crops}"] = StageCosts(stages.prescan / 1e9, stages.full / 1e9)
    return audit(costs)


def write_audit(out: Path) -> list[Path]:
    """Write the audit's findings as JSON, CSV and Markdown."""
    import pandas as pd

    findings = audit_published()
    note(f"audit: {len(findings)} published values that no rounding explains")
    write_text(out / AUDIT, json.dumps({"findings": [asdict(f) for f in findings]}, indent=1) + "\n")
    frame = pd.DataFrame(findings)
    write_text(out / "audit.csv", frame.to_csv(index=False, lineterminator="\n"))
    shown = frame[["table", "system", "check", "column", "published", "recomputed", "explanation"]]
    write_text(
        out / "audit.md",
        f"# Audit of the published tables\n\n{len(findings)} printed values that no rounding explains. "
        f"`recomputed` is what should be printed.\n\n{shown.to_markdown(index=False)}\n",
    )
    return [out / AUDIT, out / "audit.csv", out / "audit.md"]


def _index(out: Path, files: Sequence[Path]) -> str:
    what = {
        COUNTS: "what every system costs, *counted*, from which the tables are made",
        LAYERS: "what every layer of every system and backbone costs, *counted*",
        "fig3": "GFLOPs of SAN19 against the side of its input, *counted*",
        "fig13": "GFLOPs of SAN19 accumulated over its layers at 112 pixels, *counted*",
        "table1": "Table I, EPIC-KITCHENS: baselines and spatial samplers; *published* and *counted*",
        "table2": "Table II, EPIC-KITCHENS: spatial and temporal samplers; *published* and *counted*",
        "table3": "Table III, accuracy and speed-up, derived from Table II",
        "table4": "Table IV, UCF-101: baselines and spatial samplers; *published* and *counted*",
        "table5": "Table V, UCF-101: spatial and temporal samplers; *published* and *counted*",
        "others": "newer adaptive systems, AR-Net, AdaFocus, FrameExit; *published*, and bounds of what is *counted*",
        REPORT: "everything here as one page that opens without a network: tables, plots, layers, decisions",
        "audit": "published values that contradict each other",
        "speedup": "operations saved against time saved, of every S_k, T_M; *counted* and *measured*",
        "latency": "latency of frames by decision, *measured*",
        "energy": "energy per frame, *measured* or *estimated* as its axis says, against *published* top-1",
        "lost": "where saved operations did not become saved time, of every S_k, T_M that was profiled",
        "roofline": "operations per byte, *counted*, and per second, *measured*, of each stage",
        "accuracy": "accuracy, *measured*, against operations executed, with the Pareto front",
        "decisions": "learned decisions against random and uniform ones at equal cost; accuracy *measured*",
    }
    lines = ["# Results", "", "Made by `foveabench reproduce`; a second run changes no byte.", ""]
    named = {path.relative_to(out).as_posix(): path for path in files}
    groups = {text: [file for file in named if name in (file, file.rpartition(".")[0])] for name, text in what.items()}
    groups["everything that was measured on a machine; from the records beside it"] = [
        file for file, path in named.items() if path.stem == "measured"
    ]
    groups["where the time of steps goes, by stage and layer: *counted*, *estimated* and *measured*"] = [
        file for file, path in named.items() if path.stem == "profile"
    ]
    for data in sorted({path.parent for path in files if path.stem == "table1"} - {out}):
        others = {
            "foresight": f"how well attention is foreseen on {data.name}, against copying it; *measured*",
            "precision": f"what smaller numbers than float32 do to accuracy and decisions on {data.name}; *measured*",
        }
        groups[f"the same tables of systems trained and evaluated on {data.name}; all *measured* or *counted*"] = [
            file for file, path in named.items() if path.parent == data and path.stem not in others
        ]
        for stem, words in others.items():
            groups[words] = [file for file, path in named.items() if path.parent == data and path.stem == stem]
    for text, own in groups.items():
        if own:
            lines.append(f"- {', '.join(f'[{file}]({file})' for file in own)}: {text}")
    return "\n".join(lines) + "\n"
