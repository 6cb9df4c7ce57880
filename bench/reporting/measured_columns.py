"""Columns of tables that come from measurements, for each setup, and from evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.records.measurement import Record
from bench.reporting.measured import operating_points


def measured_columns(
    frame: pd.DataFrame, points: Mapping[str, Sequence[Record]], accuracies: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What was measured of the systems of a table, with its rows.

    Args:
        frame: the table, with `system` and `model`.
        points: records by the name of their setup; see `operating_points`.
        accuracies: `top1` and `top1_spread` by system.

    Returns:
        Columns under (setup, name), as in ("cpu", "ms_per_frame_measured"), and under ("", name): `system`, `model`,
        `top1_measured` with `top1_spread_measured`, and `note_measured`, why there are no figures of records. None at
        all if nothing was measured.
    """
    rated = accuracies is not None and accuracies.index.isin(frame["system"]).any()
    anything = bool(points) or rated
    columns: dict[tuple[str, str], Any] = {("", name): list(frame[name]) for name in ("system", "model") if anything}
    if accuracies is not None and rated:
        found = accuracies.reindex(frame["system"])
        columns |= {("", f"{name}_measured"): list(found[name].round(9)) for name in ("top1", "top1_spread")}
    for setup, records in points.items():
        rows = operating_points(records).drop_duplicates("system").set_index("system").reindex(frame["system"])
        for name, values in _columns_of_setup(rows).items():
            if values.notna().any():
                columns[setup, name] = list(values.round(9))
    if anything:
        columns["", "note_measured"] = [_measured_note(system, points) for system in frame["system"]]
    return pd.DataFrame(columns, index=frame.index)


def _columns_of_setup(rows: pd.DataFrame) -> dict[str, pd.Series]:
    labels = rows["energy_label"].astype(str)
    return {
        **{f"ms_per_frame{bound}_measured": rows[f"ms_per_frame{bound}"] for bound in ("", "_low", "_high")},
        "clips_per_s_measured": rows["clips_per_second"],
        **{
            f"joules_per_frame_{kind}": rows["joules_per_frame"].where(labels.str.startswith(f"{kind}:"))
            for kind in ("measured", "estimated")
        },
        "peak_mb_measured": rows["peak_mb"],
        "speed_up_counted": rows["flop_speed_up"],
        **{f"speed_up{bound}_measured": rows[f"speed_up{bound}"] for bound in ("", "_low", "_high")},
        "speed_up_realised": rows["realised"],
    }


def _measured_note(system: str, points: Mapping[str, Sequence[Record]]) -> str:
    """Why there are no figures."""
    failed = {
        f"{setup}: {record.status.state}" + (f", {record.status.cause}" if record.status.cause else "")
        for setup, records in points.items()
        for record in records
        if record.case.system == system and record.status.state != "ok"
    }
    return "; ".join(sorted(failed))


def was_measured(columns: pd.DataFrame) -> pd.Series:
    """Rows of `measured_columns` that have something to tell: figures, or why there are none."""
    told = columns.drop(columns=[("", "system"), ("", "model")])
    return (told.notna() & (told != "")).any(axis="columns")


def joined(frame: pd.DataFrame, columns: pd.DataFrame) -> pd.DataFrame:
    """Measured columns after those of the table, under names of their own."""
    flat = columns.set_axis(["_".join(filter(None, name)) for name in columns.columns], axis="columns")
    return frame.join(flat.drop(columns=["system", "model"], errors="ignore"))
