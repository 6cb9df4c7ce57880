"""What was measured on a machine, and what the machine was, as the report shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from bench.measuring.metrics import DECISIONS
from bench.records.measurement import Record
from bench.reporting.explanations import BATCHES, MEMORY, SPEED_UPS, TIMES, explain_energy, explain_pace
from bench.reporting.layout import significant, with_bounds
from bench.reporting.measured import details, operating_points, setup_of
from bench.reporting.measured_page import environment_value
from bench.reporting.report.cells import Column, Table

PLACE = {"system": "System", "scenario": "Scenario", "batch": "Batch", "policy": "Policy", "device": "Device"}
WORDS = {**PLACE, "dtype": "Type", "backend": "Backend", "threads": "Threads", "clip": "Clip"}
BOUNDED = {
    "ms_per_frame": ("ms per frame", "all", "measured"),
    "frames_per_second": ("Throughput", "frames per s", "measured"),
    "speed_up": ("Speed-up", "measured", "measured"),
}
FIGURES = {
    **{f"{name}_ms_p50": ("ms per frame", f"{name} p50", "measured") for name in DECISIONS},
    "decode_ms_per_frame": ("ms per frame", "decoding", "measured"),
    "joules_measured": ("J per frame", "measured", "measured"),
    "joules_estimated": ("J per frame", "estimated", "estimated"),
    "peak_mb": ("Memory", "peak MB", "measured"),
    "flop_speed_up": ("Speed-up", "counted", "counted"),
    "realised": ("Speed-up", "realised", "measured"),
    "calibration_ms": ("Calibration", "ms", "measured"),
}
ORDER = [
    *("ms_per_frame", *(f"{name}_ms_p50" for name in DECISIONS), "decode_ms_per_frame", "frames_per_second"),
    *("joules_measured", "joules_estimated", "peak_mb", "flop_speed_up", "speed_up", "realised", "calibration_ms"),
]


@dataclass(frozen=True)
class Environment:
    """Where cases were measured: what the machine said of itself, and the cases with what was said of each."""

    title: str
    values: dict[str, str]
    cases: Table


def measured_table(machine: str, records: Sequence[Record]) -> Table:
    """Every case of a machine, failed ones too.

    Args:
        machine: its name, that of the folder.
        records: of that machine.
    """
    frame = operating_points(records).join(details(records))
    for kind in ("measured", "estimated"):
        own = frame["energy_label"].astype(str).str.startswith(f"{kind}:")
        frame[f"joules_{kind}"] = frame["joules_per_frame"].where(own)
    words, common = _told_once(frame)
    columns = [Column("", WORDS[name]) for name in words]
    texts = [[str(value) for value in frame[name]] for name in words]
    for name in ORDER:
        if name in BOUNDED:
            columns.append(Column(*BOUNDED[name]))
            texts.append(list(map(with_bounds, frame[name], frame[f"{name}_low"], frame[f"{name}_high"])))
        else:
            columns.append(Column(*FIGURES[name]))
            texts.append(list(map(significant, frame[name])))
    columns.append(Column("", "Ended"))
    ended = zip(frame["state"], frame["cause"], strict=True)
    texts.append([state + (f": {cause}" if cause else "") for state, cause in ended])
    kept = [index for index, column in enumerate(texts) if any(column)]
    rows = [list(row) for row in zip(*(texts[index] for index in kept), strict=True)]
    shown = [columns[index] for index in kept]
    notes = [*([common] if common else []), TIMES, BATCHES, SPEED_UPS, MEMORY]
    for setup in dict.fromkeys(map(setup_of, records)):
        own = [record for record in records if setup_of(record) == setup]
        notes += [*explain_energy(setup.name, own), *explain_pace(own)]
    return Table(f"measured-{machine}", f"Measured on {machine}", shown, rows, notes)


def _told_once(cases: pd.DataFrame) -> tuple[list[str], str]:
    """Which words tell cases apart, the system first, and a sentence of those that are the same in all."""
    same = [name for name in WORDS if name != "system" and len(cases) > 1 and cases[name].nunique() == 1]
    told = ", ".join(f"{WORDS[name].lower()} {cases[name].iloc[0]}" for name in same)
    return [name for name in WORDS if name not in same], f"The same in all cases: {told}." if told else ""


def environments(machine: str, records: Sequence[Record]) -> list[Environment]:
    """The places of a machine's measurements: those that say the same of themselves but for their load are one."""
    groups: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in records:
        values = asdict(record.environment) if record.environment else {}
        values.pop("load", None)
        told = {name: value for name, value in values.items() if value not in ("", None, {})}
        key = tuple((name, environment_value(name, value)) for name, value in told.items())
        groups.setdefault(key, []).append(record)
    found = []
    for number, (said, own) in enumerate(groups.items(), start=1):
        named = {name.removesuffix("_bytes").replace("_", " "): text for name, text in said}
        title = f"{machine}: {named.get('gpu') or named.get('cpu', 'unknown machine')}, torch {named.get('torch', '?')}"
        cases = _cases(f"environment-{machine}-{number}", f"Cases measured there ({len(own)})", own)
        found.append(Environment(title, named, cases))
    return found


def _cases(id: str, title: str, records: Sequence[Record]) -> Table:
    frame = pd.DataFrame([asdict(record.case) for record in records]).join(details(records))
    words, common = _told_once(frame)
    columns = [Column("", text) for text in (*(WORDS[name] for name in words), "Started (UTC)")]
    columns += [Column("At the start", "load", "measured"), Column("", "Said of it")]
    rows = []
    for record, warnings in zip(records, frame["warnings"], strict=True):
        load = record.environment.load if record.environment else None
        told = "; ".join([*filter(None, [warnings]), *record.notes])
        case = asdict(record.case)
        started = record.started.partition("+")[0].replace("T", " ")
        rows.append([*(str(case[name]) for name in words), started, "" if pd.isna(load) else f"{load:.2f}", told])
    return Table(id, title, columns, rows, [common] if common else [])
