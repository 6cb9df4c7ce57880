"""The page of a machine's measurements: every record, failed ones too, with what must be known to trust it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from bench.measuring.energy import keeps_up, watt_hours_per_hour
from bench.measuring.metrics import DECISIONS, PERCENTILES
from bench.records.files import write_forms
from bench.records.measurement import Record
from bench.reporting.explanations import BATCHES, IDLE, MEMORY, SPEED_UPS, TIMES, explain_energy, explain_pace
from bench.reporting.layout import bullets, markdown_table, significant, with_bounds
from bench.reporting.measured import Setup, details, operating_points, setup_of

FRAME_RATE = 1.0
"""Of always-on video, in frames per second."""

SCENARIOS = {"single-stream": "One video, frame after frame", "offline": "Batches of clips"}


def write_measured(records: Sequence[Record], out: Path, frame_rate: float = FRAME_RATE) -> list[Path]:
    """Write measured.csv, a row per record with all digits, and measured.md, for people.

    Args:
        records: of one machine; where their environments differ, the page warns.
        out: folder.
        frame_rate: of the video for which watt-hours per hour are told, in frames per second.

    Raises:
        RunError: the folder cannot be written to.
        ValueError: a frame rate that is not positive.
    """
    frame = operating_points(records).join(details(records))
    frame["frame_rate"] = frame_rate
    frame["watt_hours_per_hour"] = [each.energy and watt_hours_per_hour(each.energy, frame_rate) for each in records]
    frame["notes"] = ["; ".join(record.notes) for record in records]
    texts = {"csv": frame.round(9).to_csv(index=False, lineterminator="\n"), "md": _page(records, frame, frame_rate)}
    return write_forms(out, "measured", texts)


def _page(records: Sequence[Record], frame: pd.DataFrame, frame_rate: float) -> str:
    failed = frame[frame["state"] != "ok"]
    parts = [f"# Measurements\n\n{len(frame)} cases, {len(failed)} of them failed. {_settings(records)}"]
    parts += [_environment(records), *_sections(records, frame, frame_rate)]
    if len(failed):
        columns = ["system", "scenario", "device", "dtype", "backend", "policy", "state", "cause"]
        texts = failed[columns].set_axis(pd.MultiIndex.from_product([[""], columns]), axis="columns")
        parts.append(f"## Failed\n\n{markdown_table(texts)}")
    told = [f"{record.case.name}: {words}" for record, words in zip(records, frame["warnings"], strict=True) if words]
    notes = Counter(note for record in records for note in record.notes)
    told += [f"{note} ({count} of {len(records)} cases)" for note, count in sorted(notes.items())]
    if told:
        parts.append(f"## Warnings and notes\n\n{bullets(told)}")
    hours = f"Wh per hour: of always-on video at {frame_rate:g} frames per second, each processed as it arrives. {IDLE}"
    parts.append(f"## Columns\n\n{bullets([TIMES, BATCHES, SPEED_UPS, MEMORY, hours])}")
    return "\n\n".join(parts) + "\n"


def _sections(records: Sequence[Record], frame: pd.DataFrame, frame_rate: float) -> Iterator[str]:
    """A table for each setup and scenario."""
    setups: dict[Setup, list[int]] = {}
    for index, record in enumerate(records):
        if record.status.state == "ok":
            setups.setdefault(setup_of(record), []).append(index)
    for setup, rows in setups.items():
        ours = [records[row] for row in rows]
        told = [*explain_energy(setup.name, ours), *explain_pace(ours)]
        yield f"## {setup.words}\n\n{bullets(told)}"
        for scenario, title in SCENARIOS.items():
            chosen = [row for row in rows if records[row].case.scenario == scenario]
            slow = [_is_slow(records[row], frame_rate) for row in chosen]
            if chosen:
                yield f"### {title}\n\n{markdown_table(_texts(frame.loc[chosen], slow, frame_rate))}"


def _texts(cases: pd.DataFrame, slow: Sequence[bool], frame_rate: float) -> pd.DataFrame:
    """The cases of a scenario as people read them, without columns that are empty throughout."""

    def number(column: str) -> list[str]:
        return list(map(significant, cases[column]))

    def bounded(column: str) -> list[str]:
        return list(map(with_bounds, cases[column], cases[f"{column}_low"], cases[f"{column}_high"]))

    texts = {("", "System"): list(cases["system"]), ("", "Policy"): list(cases["policy"])}
    if (cases["scenario"] == "offline").all():
        texts["Batch", "clips"] = [str(batch) for batch in cases["batch"]]
    texts["ms per frame", "all"] = bounded("ms_per_frame")
    for decision in DECISIONS:
        for q in PERCENTILES:
            texts["ms per frame", f"{decision} p{q}"] = number(f"{decision}_ms_p{q}")
    for q in PERCENTILES:
        texts["ms per clip", f"p{q}"] = number(f"clip_ms_p{q}")
    texts["ms per frame", "decoding"] = number("decode_ms_per_frame")
    texts["Throughput", "frames per s"] = bounded("frames_per_second")
    texts["Throughput", "clips per s"] = bounded("clips_per_second")
    for kind in ("measured", "estimated"):
        own = cases["energy_label"].astype(str).str.startswith(kind)
        texts["J per frame", kind] = [significant(each) for each in cases["joules_per_frame"].where(own)]
        hours = [significant(each) for each in cases["watt_hours_per_hour"].where(own)]
        hours = ["too slow" if late and is_own else text for late, is_own, text in zip(slow, own, hours, strict=True)]
        texts[f"Wh per hour at {frame_rate:g} fps", kind] = hours
    texts["Calibration", "ms"] = number("calibration_ms")
    texts["Memory", "peak MB"] = number("peak_mb")
    texts["Speed-up", "counted"] = number("flop_speed_up")
    texts["Speed-up", "measured"] = bounded("speed_up")
    texts["Speed-up", "realised"] = number("realised")
    return pd.DataFrame({heading: column for heading, column in texts.items() if any(column)})


def _is_slow(record: Record, frame_rate: float) -> bool:
    return record.energy is not None and bool(record.energy.frames) and not keeps_up(record.energy, frame_rate)


def _settings(records: Sequence[Record]) -> str:
    settings = {
        f"medians wanted to ±{each.width:.1%}, {each.budget:g} s of sampling and {each.warmup:g} s of warm-up at most,"
        f" {each.energy:g} s of energy"
        for each in (record.settings for record in records)
    }
    return f"Settings: {'; or '.join(sorted(settings))}." if settings else ""


def _environment(records: Sequence[Record]) -> str:
    """A table of what the records say about their machine, and a warning where they say different things."""
    told: dict[str, Counter[str]] = {}
    loads = []
    for record in records:
        values = asdict(record.environment) if record.environment else {}
        if (load := values.pop("load", None)) is not None:
            loads.append(load)
        for name, value in values.items():
            if value not in ("", None, {}):
                told.setdefault(name, Counter())[environment_value(name, value)] += 1
    rows = {
        name: "; ".join(
            f"{text} ({count} of {len(records)} cases)" if len(texts) > 1 else text
            for text, count in sorted(texts.items())
        )
        for name, texts in told.items()
    }
    if loads:
        rows["load at the start"] = f"{min(loads):.2f} to {max(loads):.2f}"
    names = [name.removesuffix("_bytes").replace("_", " ") for name in rows]
    table = markdown_table(pd.DataFrame({("", "Environment"): names, ("", "Value"): list(rows.values())}))
    different = [name for name, texts in told.items() if len(texts) > 1]
    if not different:
        return table
    return f"**Warning: these cases differ in {', '.join(different)}: not all can be compared.**\n\n{table}"


def environment_value(name: str, value: Any) -> str:
    """What an environment says under a name, in words."""
    if name.endswith("_bytes"):
        return f"{value / 1e9:.1f} GB"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text}" for key, text in value.items())
    if isinstance(value, (tuple, list)):
        return ", ".join(f"{each:g}" for each in value)
    return str(value)
