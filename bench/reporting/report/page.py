"""The report: one HTML file with everything that lies in a folder of results, which opens without a network."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment as Jinja
from jinja2 import PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from bench.published.audit import Finding
from bench.records.files import write_text
from bench.reporting.report.cells import KINDS, Column, Table, typeset, with_subscripts
from bench.reporting.report.evaluated import evaluated_tables
from bench.reporting.report.measurements import environments, measured_table
from bench.reporting.report.paper_tables import paper_table
from bench.reporting.report.plots import accuracy_plot, speed_up_plot
from bench.reporting.report.results import Results
from bench.reporting.report.strips import strips

PACKAGE = "bench.reporting.report"
STYLES = ("colours", "page", "tables", "plots")
SCRIPTS = ("elements", "theme", "tables", "tooltip", "scatter", "plots", "layers", "strips", "start")
"""In the order in which they are joined."""

REPRODUCED = {"yes": "yes", "average": "yes", "circular": "circular", "no": "no"}


def write_report(results: Results, path: Path) -> Path:
    """Write the page; the same results give the same bytes.

    Raises:
        RunError: the file cannot be written.
    """
    write_text(path, report(results))
    return path


def report(results: Results) -> str:
    """The page as HTML."""
    own = next(iter(results.machines.values()), ())
    everything = [record for records in results.machines.values() for record in records]
    tables = [paper_table(number, results.counts, own, results.evaluations) for number in range(1, 6)]
    speed_ups = speed_up_plot(everything)
    data = {
        "accuracy": accuracy_plot(results.counts, everything, results.evaluations),
        "speedUps": speed_ups,
        "layers": {
            "systems": results.layers.systems,
            "layers": results.layers.layers,
            "titles": {count.system: count.title for count in results.counts},
            "sizes": [each._asdict() for each in results.sizes],
        },
        "strips": strips(results.counts, results.evaluations),
    }
    script = _joined("scripts", SCRIPTS, "js")
    return (
        _jinja()
        .get_template("page.html")
        .render(
            kinds=KINDS,
            facts=_facts(results, tables, speed_ups),
            tables=tables,
            measured=[measured_table(name, records) for name, records in results.machines.items() if records],
            environments=[each for name, records in results.machines.items() for each in environments(name, records)],
            evaluated=list(evaluated_tables(results)),
            audit=_audit(results.findings),
            unknown={count.system: count.unknown for count in results.counts if count.unknown},
            data=htmlsafe_json_dumps(data, separators=(",", ":"), allow_nan=False),
            style=Markup(_joined("styles", STYLES, "css")),
            script=Markup(script),
            script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
        + "\n"
    )


def _jinja() -> Jinja:
    jinja = Jinja(
        loader=PackageLoader(PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    jinja.filters |= {"typeset": typeset, "with_subscripts": with_subscripts}
    return jinja


def _joined(folder: str, names: Sequence[str], suffix: str) -> str:
    """Our own files, one after another, as one text."""
    parts = [(files(PACKAGE) / folder / f"{name}.{suffix}").read_text(encoding="utf-8") for name in names]
    text = "\n".join(parts)
    return f'"use strict";\n{{\n{text}}}\n' if suffix == "js" else text


def _facts(results: Results, tables: Sequence[Table], speed_ups: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The figures at the top, and what they are."""
    judged = [verdict for table in tables for verdict in _judged(table)]
    cases = [record for records in results.machines.values() for record in records]
    facts = [
        (str(len(results.counts)), "systems, counted layer by layer"),
        (
            f"{judged.count('yes')} of {len(judged)}",
            "published costs that our counts reproduce"
            + (f"; {judged.count('circular')} more by construction" if "circular" in judged else ""),
        ),
    ]
    if cases:
        machines = sum(1 for records in results.machines.values() if records)
        facts.append((str(len(cases)), f"cases measured, on {machines} machine{'s' if machines > 1 else ''}"))
    if speed_ups:
        realised = [each["realised"][0] for each in speed_ups]
        facts.append((f"{min(realised):.2f}–{max(realised):.2f}", "of the speed-up by operations, measured as time"))
    if results.evaluations:
        facts.append((str(len(results.evaluations)), "evaluations on held-out clips"))
    facts.append((str(len(results.findings)), "printed values that no rounding explains"))
    return facts


def _judged(table: Table) -> list[str]:
    words = [column.words for column in table.columns]
    if "Reproduced" not in words:
        return []
    place = words.index("Reproduced")
    return [REPRODUCED[row[place]] for row in table.rows if row[place]]


def _audit(findings: Sequence[Finding]) -> Table:
    columns = [Column("", words) for words in ("System", "Table", "Check", "Column")]
    columns += [Column("", "Published", "published"), Column("", "Recomputed", "counted"), Column("", "Explanation")]
    rows = []
    for each in findings:
        words = (text.replace("_", " ") for text in (each.check, each.column))
        rows.append([each.system, each.table, *words, each.published, each.recomputed, each.explanation])
    return Table("audit-table", "Printed values that contradict each other, or our counts", columns, rows)
