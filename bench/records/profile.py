"""Where the time of a step went: what was observed; figures are made of it in `bench.measuring.breakdown`.

A step is what every frame would cost if it were processed fully: one full frame of an adaptive system that its temporal
sampler is asked about, else one call. It runs in three ways, in turns: untouched, with stages and their parts timed,
and with layers timed too. Times of stages, parts and layers are *measured* and their own: without what is timed within
them, so that all of a step add up to it. Operations are *counted* (`exact` convention), bytes *estimated*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Seconds = Annotated[float, Field(ge=0)]
Own = float
"""Seconds without those of what is timed within; a little below 0 where the clock's own steps show."""


@dataclass(frozen=True)
class PartTimes:
    """What a part of a stage took itself.

    Attributes:
        stage: of the system, "call" of one that is not adaptive; empty for what runs between stages.
        part: what it does, as "rest"; empty for what the stage does beside its parts.
        seconds: in each step.
    """

    __pydantic_config__ = STRICT

    stage: str
    part: str
    seconds: list[Own]


@dataclass(frozen=True)
class LayerTimes:
    """What a layer took itself, all its calls in a step together.

    Attributes:
        stage, part: in which it runs, as of `PartTimes`.
        layer: name of its module; of layers that run fused, their names; empty for what the part does itself.
        type: of the module; "fused" for layers that run as one.
        calls: in a step.
        macs, flops: its operations.
        bytes: that it must move: inputs, weights and outputs; of what has layers within, what its own operators read
            and write one by one.
        seconds: in each step.
    """

    __pydantic_config__ = STRICT

    stage: str
    part: str
    layer: str
    type: str
    calls: int
    macs: int
    flops: int
    bytes: int
    seconds: list[Own]


@dataclass(frozen=True)
class StepProfile:
    """A step in three ways, in turns.

    Attributes:
        step_seconds: of untouched steps.
        timed_by_parts: of steps whose stages and parts were timed.
        timed_by_layers: of steps whose layers were timed, too.
        parts: in the order in which they began.
        layers: likewise.
        mark_seconds: what timing something that does nothing took, several times.
    """

    __pydantic_config__ = STRICT

    step_seconds: list[Seconds]
    timed_by_parts: list[Seconds]
    timed_by_layers: list[Seconds]
    parts: list[PartTimes]
    layers: list[LayerTimes]
    mark_seconds: list[Seconds]

    def __post_init__(self) -> None:
        for name, entries, steps in (
            ("parts", self.parts, self.timed_by_parts),
            ("layers", self.layers, self.timed_by_layers),
        ):
            lengths = {len(entry.seconds) for entry in entries} - {len(steps)}
            if lengths:
                raise ValueError(f"{name}: {sorted(lengths)} times, of {len(steps)} steps")
