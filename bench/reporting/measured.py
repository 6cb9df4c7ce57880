"""Records as a table: a row per measured case, with the speed-ups that take two of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.measuring.energy import joules_per_frame
from bench.measuring.metrics import (
    DECISIONS,
    PERCENTILES,
    calibration_seconds,
    clip_seconds,
    decode_seconds,
    frame_seconds,
    operating_shares,
    peak_bytes,
    seconds_per_frame,
    speed_up,
    tells,
    warnings,
)
from bench.measuring.statistics import Interval
from bench.records.measurement import Case, Record
from bench.records.once import once_per_record
from bench.systems.registry import PRESCAN_STAGES, spatial_sampler

MEGABYTE = 10**6

PUBLISHED_POINT = ("published", "fixed")
"""Policies under which a system does what the published tables have it do; those of other systems are "fixed"."""

CASE = [
    *("system", "scenario", "batch", "policy", "machine", "device", "dtype", "backend", "threads", "clip"),
    *("frames", "seed"),
]
ENDING = ["state", "cause"]
FIGURES = [
    *("ms_per_frame", "ms_per_frame_low", "ms_per_frame_high", "decode_ms_per_frame"),
    *("frames_per_second", "frames_per_second_low", "frames_per_second_high"),
    *("clips_per_second", "clips_per_second_low", "clips_per_second_high"),
    *("flop_speed_up", "speed_up", "speed_up_low", "speed_up_high", "realised"),
    *("peak_mb", "joules_per_frame", "calibration_ms"),
]
LATENCIES = [f"{name}_ms_p{q}" for name in (*DECISIONS, "clip") for q in PERCENTILES]


class Setup(NamedTuple):
    """What two records must share for their times to be comparable."""

    machine: str
    device: str
    dtype: str
    threads: int
    clip: str
    backend: str

    @property
    def name(self) -> str:
        """For columns: "cpu", or "cuda_float16" where it is not float32, and "cpu_openvino" where it is not eager."""
        usual = ("float32", "eager")
        parts = [part for part in (self.dtype, self.backend) if part not in usual]
        return "_".join([self.device.partition(":")[0], *parts])

    @property
    def words(self) -> str:
        """For people."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        words = [self.machine or "unknown machine", f"device {self.device}", threads, self.dtype]
        return ", ".join([*words, *([] if self.backend == "eager" else [self.backend]), f"clip {self.clip}"])


def setup_of(record: Record) -> Setup:
    """Where and with what a record was measured; of one that failed early the machine may be unknown."""
    case, environment = record.case, record.environment
    machine = (environment.gpu or environment.cpu) if environment else ""
    return Setup(machine, case.device, case.dtype, case.threads, case.clip, case.backend)


def at_published_point(case: Case) -> bool:
    """Whether a case is what the published tables have; of an S_k, which has nothing to decide, any is."""
    return _follows(case, PUBLISHED_POINT)


def _follows(case: Case, policies: Collection[str]) -> bool:
    return case.policy in policies or spatial_sampler(case.system) is None


def flops_per_frame(record: Record) -> float | None:
    """Operations per frame of video, in the `exact` convention, weighed by the shares that weigh its time.

    Everything that is executed is in them, so that a speed-up by time differs from one by operations in speed alone.
    """
    counts, shares = record.counts, operating_shares(record)
    if counts is None or not shares:
        return None
    prescan = sum(stage.flops for stage in counts.stages if stage.name in PRESCAN_STAGES)
    return (shares["prescan"] * prescan + shares["full"] * counts.flops) / 100 / counts.frames


def operating_points(records: Sequence[Record]) -> pd.DataFrame:
    """What each case costs at the operating point of its policy, a row per record; failed ones have no figures.

    Returns:
        `CASE`, what tells cases apart; `ENDING`; `FIGURES`, and the `energy_label` of `joules_per_frame`. Milliseconds
        are per frame of video, decoding is no part of them, and megabytes are 1e6 bytes. Speed-ups are those of an
        (S_k, T_M) over its S_k, which ran in turns with it: `flop_speed_up` by operations executed, `speed_up` by time;
        `realised` is the second over the first, 1 where all the saved arithmetic became saved time.
        `calibration_ms` is the time of a small workload in the same minute: where it differs, so did the machine.
        Columns in _low and _high are bounds of 95 % intervals.
    """
    rows = [_point(record) for record in records]
    return pd.DataFrame(rows, columns=[*CASE, *ENDING, *FIGURES, "energy_label"]).astype(dict.fromkeys(FIGURES, float))


def details(records: Sequence[Record]) -> pd.DataFrame:
    """`LATENCIES`, percentiles of milliseconds by decision and of a clip, and `warnings`, a row per record.

    A percentile of too few samples is empty, and all of a failed case are.
    """
    rows = [_detail(record) for record in records]
    return pd.DataFrame(rows, columns=[*LATENCIES, "warnings"]).astype(dict.fromkeys(LATENCIES, float))


def measured(records: Iterable[Record]) -> pd.DataFrame:
    """`operating_points` and `details` of the single-stream records that ended well."""
    chosen = [each for each in records if each.case.scenario == "single-stream" and each.status.state == "ok"]
    return operating_points(chosen).drop(columns=ENDING).join(details(chosen))


def workload_of(system: str) -> str:
    """The first part of a system's id; empty for a bare backbone."""
    return system.rpartition("/")[0]


def published_points(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Single-stream records at published operating points; see `single_stream_points`."""
    return single_stream_points(records, PUBLISHED_POINT)


def single_stream_points(records: Iterable[Record], policies: Collection[str]) -> dict[str, list[Record]]:
    """Single-stream records of eager under some policies, also of failed cases, by the name of their setup.

    Where setups of a workload have the same name, as those of two machines, the one with the most records is taken.
    """
    rivals: dict[tuple[str, str], dict[Setup, list[Record]]] = {}
    for record in records:
        eager = record.case.backend == "eager"  # the tables and figures have no other
        if record.case.scenario == "single-stream" and eager and _follows(record.case, policies):
            setup = setup_of(record)
            rivals.setdefault((setup.name, workload_of(record.case.system)), {}).setdefault(setup, []).append(record)
    points: dict[str, list[Record]] = {}
    for (name, _), groups in sorted(rivals.items()):
        best = max(groups, key=lambda setup: (len(groups[setup]), setup))
        early = best._replace(machine="")  # cases that failed before they knew their machine
        points.setdefault(name, []).extend(groups[best] + (groups.get(early, []) if early != best else []))
    return points


@once_per_record
def _point(record: Record) -> dict[str, Any]:
    """A row of `operating_points`."""
    row: dict[str, Any] = {**asdict(record.case), **setup_of(record)._asdict(), **asdict(record.status)}
    return row | _figures(record) | _speed_ups(record) if record.status.state == "ok" else row


@once_per_record
def _detail(record: Record) -> dict[str, Any]:
    """A row of `details`."""
    if record.status.state != "ok":
        return {"warnings": ""}
    samples = {name: frame_seconds(record, name) for name in DECISIONS} | {"clip": clip_seconds(record)}
    latencies = {
        f"{name}_ms_p{q}": value * 1e3 if tells(seconds, q) else None
        for name, seconds in samples.items()
        for q, value in zip(PERCENTILES, np.percentile(seconds or [np.nan], PERCENTILES).tolist(), strict=True)
    }
    return {**latencies, "warnings": "; ".join(warnings(record))}


def _figures(record: Record) -> dict[str, Any]:
    energy, memory, per_frame = record.energy, peak_bytes(record), seconds_per_frame(record)
    decoding, calibration = decode_seconds(record), calibration_seconds(record)
    rate = per_frame and Interval(1 / per_frame.value, 1 / per_frame.high, 1 / per_frame.low)
    return {
        **_bounded("ms_per_frame", per_frame, 1e3),
        "decode_ms_per_frame": decoding and decoding * 1e3,
        **_bounded("frames_per_second", rate),
        **_bounded("clips_per_second", rate, 1 / record.case.frames),
        "joules_per_frame": energy and joules_per_frame(energy),
        "energy_label": energy and energy.label,
        "peak_mb": memory and memory / MEGABYTE,
        "calibration_ms": calibration and calibration * 1e3,
    }


def _speed_ups(record: Record) -> dict[str, float]:
    measured, reference, own = speed_up(record), record.reference_counts, flops_per_frame(record)
    if measured is None or reference is None or not own:
        return {}
    counted = reference.flops / reference.frames / own
    return {"flop_speed_up": counted, **_bounded("speed_up", measured), "realised": measured.value / counted}


def _bounded(name: str, found: Interval | None, factor: float = 1.0) -> dict[str, float]:
    if found is None:
        return {}
    scaled = found.scaled(factor)
    return {name: scaled.value, f"{name}_low": scaled.low, f"{name}_high": scaled.high}
