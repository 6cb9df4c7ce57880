"""Saved FLOPs, lost where? The gap between a speed-up by operations and that by time, in parts that add up to it.

An (S_k, T_M) executes a part f of the operations that its S_k executes for a frame. If it took f of the time, too, its
speed-up by time, V, would be that by operations, F = 1/f. What it takes beyond that, in units of the time of S_k, is
lost:

    lost = 1/V - 1/F,    and so    F - V = F V lost.

The profiles of both, taken in turns, say where. The time t of every part of a stage (pre-scan, rest, crops, ...) is
split by what limits it, with P and B the machine's peaks of operations and bytes per second:

- *arithmetic*: operations / P of each layer, but no more than the layer takes;
- *memory*: what bytes / B is beyond that, but no more than the layer takes;
- *low utilisation*: what else its layers take; at full speed they would take nothing more;
- *overhead*: what the part takes beside layers that compute: Python between them, boxes, decisions.

Layers that compute take their own times where they were timed; if these exceed the part's, whose time was taken without
looking at layers, they are scaled down to it. So the four add up to t.

Let x_p be the time for a frame that a part of (S_k, T_M) takes by one of the four, weighed by the share of frames in
which it runs, and n_p its operations, likewise; X the time by the same, and N the operations, of a full frame of S_k.
If operations that are saved saved it in proportion, the part would take n_p X / N. What is lost is the rest,
x_p - n_p X / N: above 0 where the part is slower per operation than S_k is on average, below 0 where it is faster.
Summed over the four and all parts that is all of the time that is lost; for an (S_k, T_M) that processes every frame
fully, and asks nobody, each of the four is 0. The parts of the gap are

- `NEVER_SAVED`: of all four, what stages lose that S_k does not have, and that run for every frame that is looked at:
  temporal sampler and hallucinator, without which nothing could be skipped;
- `OVERHEAD`: overhead of all other stages, of the code between stages, and of frames that are skipped;
- `MEMORY`: memory of the other stages; above 0 where what is not skipped moves more for its operations than S_k does,
  below 0 where what moves most, as the GRU heads, is skipped;
- `LOW_UTILISATION`: arithmetic and low utilisation of the other stages, as of pre-scans that run below the speed of
  S_k as a whole. Arithmetic is in proportion to operations and drops out, but for layers faster than the peak;
- `UNEXPLAINED`: what the measured speed-up lost beyond what profiles say: frames at the operating point are not quite
  those that were profiled, and both are noisy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import pandas as pd

from bench.errors import RunError
from bench.measuring.metrics import operating_shares, samples_by_kind
from bench.records.measurement import Peak, Record
from bench.records.profile import LayerTimes, PartTimes, StepProfile
from bench.reporting.measured import operating_points, published_points
from bench.systems.registry import PRESCAN_STAGES

OVERHEAD = "overhead"
MEMORY = "memory traffic"
LOW_UTILISATION = "low utilisation"
NEVER_SAVED = "stages that no skipping saves"
UNEXPLAINED = "unexplained"
CATEGORIES = (OVERHEAD, LOW_UTILISATION, MEMORY, NEVER_SAVED, UNEXPLAINED)

ARITHMETIC = "arithmetic"


@dataclass(frozen=True)
class Limits:
    """Seconds of something by what limits it; they add up to all that it takes."""

    arithmetic: float = 0.0
    memory: float = 0.0
    low_utilisation: float = 0.0
    overhead: float = 0.0

    @property
    def seconds(self) -> float:
        """All that it takes."""
        return self.arithmetic + self.memory + self.low_utilisation + self.overhead

    def __add__(self, other: Limits) -> Limits:
        return Limits(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def scaled(self, factor: float) -> Limits:
        """So many times as much."""
        return Limits(*(factor * each for each in vars(self).values()))


@dataclass(frozen=True)
class PartCost:
    """What a part of a stage costs in a full frame: operations, and its seconds by what limits it."""

    stage: str
    part: str
    flops: int
    limits: Limits


def part_costs(profile: StepProfile, peak: Peak) -> list[PartCost]:
    """The parts of a profile, each with its time by what limits it (see above)."""
    return [_part_cost(part, profile.layers, peak) for part in profile.parts]


def _part_cost(part: PartTimes, layers: Iterable[LayerTimes], peak: Peak) -> PartCost:
    own = [layer for layer in layers if (layer.stage, layer.part) == (part.stage, part.part)]
    seconds = max(median(part.seconds), 0.0)
    times = {layer.layer: max(median(layer.seconds), 0.0) for layer in own if layer.layer and layer.flops}
    scale = min(1.0, seconds / sum(times.values())) if sum(times.values()) else 0.0
    limits, left = Limits(), seconds
    others = [layer for layer in own if layer.layer not in times]
    for layer in own:
        if layer.layer in times:
            arithmetic, memory, rest = _limited(layer.flops, layer.bytes, scale * times[layer.layer], peak)
            limits += Limits(arithmetic, memory, low_utilisation=rest)
            left -= scale * times[layer.layer]
    flops, moved = sum(layer.flops for layer in others), sum(layer.bytes for layer in others)
    arithmetic, memory, rest = _limited(flops, moved, max(left, 0.0), peak)
    limits += Limits(arithmetic, memory, overhead=rest)
    return PartCost(part.stage, part.part, sum(layer.flops for layer in own), limits)


def _limited(flops: int, moved: int, seconds: float, peak: Peak) -> tuple[float, float, float]:
    """Seconds of arithmetic, of memory beyond it, and of neither."""
    arithmetic = min(flops / peak.flops_per_second, seconds)
    memory = min(max(moved / peak.bytes_per_second - arithmetic, 0.0), seconds - arithmetic)
    return arithmetic, memory, seconds - arithmetic - memory


@dataclass(frozen=True)
class Loss:
    """A part of what is lost, in units of the time of a frame of S_k; in all it is 1/V - 1/F.

    Attributes:
        category: one of `CATEGORIES`.
        limit: which of the four limits it, or the category again.
        stage, part: where, as of the profile; "skip" for skipped frames; empty if it is nowhere in particular.
        lost: below 0 if it was gained.
    """

    category: str
    limit: str
    stage: str
    part: str
    lost: float


def losses(record: Record, flop_speed_up: float, speed_up: float) -> list[Loss]:
    """Where an (S_k, T_M) loses time against its S_k.

    Args:
        record: with profiles of both.
        flop_speed_up, speed_up: F and V, as in `operating_points`.

    Raises:
        ValueError: a record without profiles of both, or without peaks.
    """
    if record.profile is None or record.reference_profile is None or record.peak is None:
        raise ValueError(f"{record.case.name}: no profiles of the system and of its S_k, or no peak")
    reference = part_costs(record.reference_profile, record.peak)
    whole = sum((part.limits for part in reference), Limits())
    per_flop = whole.scaled(1 / sum(part.flops for part in reference))
    shared = {part.stage for part in reference}
    found = []
    for part in part_costs(record.profile, record.peak):
        weight = _weight(record, part.stage)
        lost = part.limits.scaled(weight) + per_flop.scaled(-weight * part.flops)
        for category, limit, seconds in (
            (LOW_UTILISATION, ARITHMETIC, lost.arithmetic),
            (LOW_UTILISATION, LOW_UTILISATION, lost.low_utilisation),
            (MEMORY, MEMORY, lost.memory),
            (OVERHEAD, OVERHEAD, lost.overhead),
        ):
            known = category if part.stage in shared else NEVER_SAVED
            found.append(Loss(known, limit, part.stage, part.part, seconds / whole.seconds))
    skipped = _share(record, "skip") * _skip_seconds(record)
    found.append(Loss(OVERHEAD, OVERHEAD, "skip", "", skipped / whole.seconds))
    explained = sum(loss.lost for loss in found)
    return [*found, Loss(UNEXPLAINED, UNEXPLAINED, "", "", 1 / speed_up - 1 / flop_speed_up - explained)]


def _weight(record: Record, stage: str) -> float:
    """Share of frames in which a stage runs; the code between stages runs in every frame that is looked at."""
    full = _share(record, "full")
    return full + _share(record, "prescan") if not stage or stage in PRESCAN_STAGES else full


def _share(record: Record, decision: str) -> float:
    return operating_shares(record).get(decision, 0.0) / 100


def _skip_seconds(record: Record) -> float:
    samples = samples_by_kind(record).get("skip")
    return median(samples) if samples else 0.0


def lost_times(records: Iterable[Record]) -> pd.DataFrame:
    """The parts of the gap of every (S_k, T_M) that was profiled at its published operating point.

    Returns:
        A row for each part of it: `setup`, `machine`, `workload`, `system`, `crops` and `max_skip`; `flop_speed_up`,
        counted, and `speed_up`, measured; the `category`, `limit`, `stage` and `part`; `lost_time`, in units of the
        time of a frame of S_k; `lost_speed_up`, which adds up to `flop_speed_up` - `speed_up`. Below 0 is gained.

    Raises:
        RunError: no (S_k, T_M) was profiled together with its S_k.
    """
    rows: list[dict[str, Any]] = []
    for setup, group in published_points(records).items():
        profiled = [each for each in group if each.profile and each.reference_profile and each.peak]
        points = operating_points(profiled)
        for record, point in zip(profiled, points.to_dict("records"), strict=True):
            counted, measured = point["flop_speed_up"], point["speed_up"]
            if pd.isna(measured):
                continue
            workload, _, name = record.case.system.rpartition("/")
            crops, max_skip = (int(part[1:]) for part in name.split("-"))
            same = dict(
                zip(KEYS, (setup, point["machine"], workload, record.case.system, crops, max_skip), strict=True)
            )
            same |= {"flop_speed_up": counted, "speed_up": measured}
            for loss in losses(record, counted, measured):
                rows.append(
                    {**same, **vars(loss), "lost_time": loss.lost, "lost_speed_up": counted * measured * loss.lost}
                )
    if not rows:
        raise RunError(
            "lost: no record of an (S_k, T_M) with profiles of it and its S_k;"
            " `foveabench measure epic/s3-t4 --profile` makes one"
        )
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["setup", "system"], kind="stable", ignore_index=True)


KEYS = ["setup", "machine", "workload", "system", "crops", "max_skip"]
COLUMNS = [*KEYS, "flop_speed_up", "speed_up", "category", "limit", "stage", "part", "lost_time", "lost_speed_up"]
