"""What a profile says in figures: of every stage, part and layer, what it computed and moved, how long, and how fast.

Pure functions of records. Operations are *counted* and times *measured*; bytes are *estimated*: of a layer, its inputs,
weights and outputs, once each, as if they came from memory; what stays in a cache moves faster than that.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from statistics import median
from typing import Literal

from bench.records.measurement import Peak
from bench.records.profile import LayerTimes, StepProfile

BETWEEN = "between stages"
"""What people call the code that is in no stage."""


@dataclass(frozen=True)
class Line:
    """A stage with all that is in it, a part of it with its layers, or a layer alone.

    Attributes:
        level: of these; stages and parts are timed without their layers being looked at, so that layers in a part do
            not add up to it exactly.
        stage, part, layer, type, calls: as of `LayerTimes`; the code of a stage or part itself is a line of its own
            name in the level below.
        flops: counted.
        estimated_bytes: that it must move.
        seconds: measured, the median of those in each step.
        share_of_time: of the untouched step.
        flops_per_second, estimated_bytes_per_second: None if nothing was counted or moved, or no time was seen.
        share_of_peak_flops, share_of_peak_bytes: of the machine's matrix product and large copy in the same process.
    """

    level: Literal["stage", "part", "layer"]
    stage: str
    part: str
    layer: str
    type: str
    calls: int
    flops: int
    estimated_bytes: int
    seconds: float
    share_of_time: float
    flops_per_second: float | None
    estimated_bytes_per_second: float | None
    share_of_peak_flops: float | None
    share_of_peak_bytes: float | None


LINE = [field.name for field in fields(Line)]


@dataclass(frozen=True)
class Looking:
    """What looking at a step cost, and what it does not explain; seconds of a step, medians.

    Attributes:
        step: untouched.
        timed_by_parts, timed_by_layers: whole, with that looked at.
        parts: sum of the times of stages and parts.
        unexplained: what is left of the untouched step; below 0 where looking took more than there is.
        mark: what timing one thing that does nothing takes.
        marks: things that are timed in a step, by layers.
    """

    step: float
    timed_by_parts: float
    timed_by_layers: float
    parts: float
    unexplained: float
    mark: float
    marks: int


def looking(profile: StepProfile) -> Looking:
    """What looking cost."""
    step, parts = median(profile.step_seconds), sum(median(part.seconds) for part in profile.parts)
    return Looking(
        step,
        median(profile.timed_by_parts),
        median(profile.timed_by_layers),
        parts,
        step - parts,
        median(profile.mark_seconds),
        sum(layer.calls for layer in profile.layers),
    )


def lines(profile: StepProfile, peak: Peak | None) -> list[Line]:
    """A profile line by line: each stage, followed by its parts, each followed by its layers."""
    step = median(profile.step_seconds)

    def line(level: Literal["stage", "part", "layer"], seconds: float, layers: list[LayerTimes]) -> Line:
        first = layers[0]
        flops, moved = sum(each.flops for each in layers), sum(each.bytes for each in layers)
        rates = [amount / seconds if amount and seconds > 0 else None for amount in (flops, moved)]
        peaks = (peak.flops_per_second, peak.bytes_per_second) if peak else (None, None)
        alone = level == "layer"
        return Line(
            level,
            first.stage or BETWEEN,
            "" if level == "stage" else first.part or f"{first.stage or BETWEEN} itself",
            (first.layer or f"{first.part or first.stage or BETWEEN} itself") if alone else "",
            first.type if alone else "",
            first.calls if alone else 1,
            flops,
            moved,
            seconds,
            seconds / step,
            *rates,
            *(rate / most if rate and most else None for rate, most in zip(rates, peaks, strict=True)),
        )

    found: list[Line] = []
    for stage in dict.fromkeys(part.stage for part in profile.parts):
        parts = [part for part in profile.parts if part.stage == stage]
        found.append(line("stage", sum(median(part.seconds) for part in parts), _layers(profile, stage)))
        for part in parts:
            layers = _layers(profile, stage, part.part)
            found.append(line("part", median(part.seconds), layers))
            found += [line("layer", median(layer.seconds), [layer]) for layer in layers]
    return found


def _layers(profile: StepProfile, stage: str, part: str | None = None) -> list[LayerTimes]:
    return [each for each in profile.layers if each.stage == stage and part in (None, each.part)]
