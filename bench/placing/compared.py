"""New systems among all known ones of a workload, from what lies in a folder of results."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.errors import UsageError
from bench.placing.accuracies import Accuracy, measured, published
from bench.placing.figure import draw
from bench.placing.rows import Placement, place, printed, side_by_side
from bench.placing.show import to_latex
from bench.published.tables import VALIDATION_CLIPS
from bench.records.files import write_forms
from bench.records.measurement import Record
from bench.reporting.measured import published_points
from bench.reproduce import counts_of, evaluations_of, records_of
from bench.systems.registry import System
from bench.systems.workloads import WORKLOADS

FOLDER = "compared"
"""Of a folder of results, for what is written here."""


@dataclass(frozen=True)
class Compared:
    """A comparison.

    Attributes:
        workload: whose systems are compared.
        new: the new ones.
        setup: whose measurements they are, as in "cpu"; empty if nothing was measured.
        frame: see `side_by_side`.
        placements: of the new systems.
        notes: what is to be known of the numbers.
    """

    workload: str
    new: Sequence[System]
    setup: str
    frame: pd.DataFrame
    placements: list[Placement]
    notes: list[str]

    def write(self, out: Path) -> list[Path]:
        """Write the table as CSV and LaTeX and, if any accuracy is known, the figure as PNG and SVG.

        Raises:
            RunError: the folder cannot be written to.
        """
        title = (
            f"{', '.join(system.title for system in self.new)} among the systems of {WORKLOADS[self.workload].title}"
        )
        name = re.sub("[/:]", "-", "-".join([self.workload, *(system.id for system in self.new)]))
        texts = {
            "csv": self.frame.to_csv(index=False, lineterminator="\n"),
            "tex": to_latex(self.frame, title, f"compared-{name}", self.notes),
        }
        pictures = draw(self.frame, title, name, out / FOLDER) if self.frame["top1"].notna().any() else []
        return [*dict.fromkeys([*pictures, *write_forms(out / FOLDER, name, texts)])]


def compare(
    new: Sequence[System],
    known: Sequence[System],
    workload: str,
    given: Mapping[str, Accuracy],
    out: Path,
    machine: str | None = None,
    setup: str | None = None,
) -> Compared:
    """Put new systems beside the known ones, with what was counted, measured and evaluated in a folder of results.

    Args:
        new: the new systems, which are counted; they may be among the known ones.
        known: all systems of the workload; those that are not counted in the folder are counted.
        workload: one of `WORKLOADS`.
        given: accuracies of new systems that go before all others.
        out: the folder, with "counts.json", "records" and "evaluations", as far as there are any.
        machine: whose measurements; those of the machine with most if not given.
        setup: which of them, as in "cpu"; the first that has a new system if not given.

    Raises:
        UsageError: no such measurements, or inputs that a model rejects.
        RunError: a system that cannot be built or counted.
    """
    described = {system.id: system for system in [*known, *new]}
    ids = [system.id for system in new]
    points = published_points(record for record in records_of(out, machine) if record.case.system in described)
    chosen = _setup(points, setup, ids)
    accuracies = {id: published(id, described.get(id), workload) for id in [*described, *printed(workload)]}
    accuracies |= measured(workload, evaluations_of(out)) | dict(given)
    rated = {id: accuracy for id, accuracy in accuracies.items() if accuracy}
    frame = side_by_side(counts_of(out, known, new), workload, ids, rated, points.get(chosen, []))
    placements = [place(frame, id) for id in ids]
    return Compared(workload, new, chosen, frame, placements, _notes(frame, workload, chosen))


def _setup(points: Mapping[str, Sequence[Record]], asked: str | None, new: Sequence[str]) -> str:
    if asked is not None and asked not in points:
        raise UsageError(f"--setup {asked}: nothing was measured so; there is {', '.join(points) or 'nothing'}")
    having = [name for name, records in points.items() if any(record.case.system in new for record in records)]
    return asked or next(iter([*having, *points]), "")


def _notes(frame: pd.DataFrame, workload: str, setup: str) -> list[str]:
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
