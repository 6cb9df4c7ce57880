"""Profiles as a table: a row per stage, part and layer of every case that was profiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from bench.measuring.breakdown import LINE, lines, looking
from bench.records.files import write_text
from bench.records.measurement import Record
from bench.reporting.measured import CASE, setup_of

LOOKING = ["step_seconds", "unexplained_seconds"]
PEAK = ["peak_flops_per_second", "peak_bytes_per_second"]


def profiles(records: Sequence[Record]) -> pd.DataFrame:
    """Where the time of steps goes, a row per line of a profile (see `bench.measuring.breakdown`).

    Returns:
        `CASE`, what tells cases apart; the line; `LOOKING`, seconds of the untouched step, and what is left of it when
        all stages are taken away; `PEAK`, of the machine in the same process. Operations are counted, times measured.
    """
    rows = []
    for record in records:
        if record.profile is None:
            continue
        case = {**asdict(record.case), **setup_of(record)._asdict()}
        cost = looking(record.profile)
        same = dict(zip(LOOKING, (cost.step, cost.unexplained), strict=True))
        if record.peak:
            same |= {f"peak_{name}": value for name, value in asdict(record.peak).items()}
        rows += [{**case, **vars(line), **same} for line in lines(record.profile, record.peak)]
    return pd.DataFrame(rows, columns=[*CASE, *LINE, *LOOKING, *PEAK])


def write_profiles(records: Sequence[Record], out: Path) -> list[Path]:
    """Write profile.csv beside the records of a machine, if any of them was profiled.

    Raises:
        RunError: the folder cannot be written to.
    """
    frame = profiles(records)
    if frame.empty:
        return []
    write_text(out / "profile.csv", frame.to_csv(index=False, lineterminator="\n", float_format="%.9g"))
    return [out / "profile.csv"]
