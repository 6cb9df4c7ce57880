"""The time of a call in units of a calibration workload, so that a machine's mood of the day cancels out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.measuring.calibration import calibration_workload
from bench.measuring.comparison import interleave, judge
from bench.measuring.machine import environment
from bench.measuring.statistics import Interval
from bench.records.counts import STRICT

SECONDS = 2.0
"""Of turns of the call and the calibration workload."""

BAND = 0.25
"""Ratios from two sessions differ by this part before it means something: every process has a bias of its own."""


@dataclass(frozen=True)
class TimeRatio:
    """A ratio of times on one thread, and where it was found; on another machine it means nothing.

    Attributes:
        ratio: of the call's time to that of the calibration workload, as `judge` finds it.
        cpu: model of the processor.
        torch: version and build.
    """

    __pydantic_config__ = STRICT

    ratio: float
    cpu: str
    torch: str

    def is_of_machine(self, other: TimeRatio) -> bool:
        """Whether both were found on the same kind of machine, as far as it tells."""
        return bool(self.cpu) and (self.cpu, self.torch) == (other.cpu, other.torch)


def time_ratio(call: Callable[[], object]) -> tuple[TimeRatio, Interval]:
    """Run a call in turns with the calibration workload, and find the ratio of their times with its interval."""
    calibration = calibration_workload()
    for _ in range(3):
        calibration()
        call()
    seconds = interleave({"calibration": calibration, "call": call}, SECONDS)
    ratio = judge(seconds["calibration"], seconds["call"]).ratio
    here = environment(torch.device("cpu"))
    return TimeRatio(ratio.value, here.cpu, here.torch), ratio
