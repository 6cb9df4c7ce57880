"""Timing a step, and a warm-up and a measured phase that end by what they see."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import torch

from bench.measuring.statistics import is_steady

T = TypeVar("T")

Mark: TypeAlias = Any
"""A moment of a `Clock`: seconds, or a CUDA event."""

SHORTEST = 1.0
"""Seconds of a phase at least, if the budget has them."""

ASKING = 0.0015
"""Part of a phase that may have gone into asking whether its samples suffice before that is asked again."""


class Clock:
    """Times steps on a device: with the wall clock on a CPU, with events on a GPU, where host time does not count.

    Args:
        device: where the steps run.

    Attributes:
        name: "perf_counter" or "cuda events".
    """

    name: Literal["perf_counter", "cuda events"]

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.name = "cuda events" if device.type == "cuda" else "perf_counter"

    def time(self, step: Callable[[], T]) -> tuple[float, T]:
        """Run a step; its seconds, and what it returns."""
        start = self.mark()
        result = step()
        return self.between(start, self.mark()), result

    def mark(self) -> Mark:
        """This moment; on a GPU, the moment when it has done all that it was given so far, which nobody waits for."""
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                event = torch.cuda.Event(enable_timing=True)
                event.record()
            return event
        return time.perf_counter()

    def between(self, start: Mark, end: Mark) -> float:
        """Seconds from one mark to another; on a GPU, once it has come to the later one."""
        if self.device.type != "cuda":
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1e3


@dataclass
class WarmUp:
    """Steps before the measured phase.

    Attributes:
        seconds: of each.
        steady: whether the phase ended because times no longer fell, not because its time was over.
    """

    seconds: list[float] = field(default_factory=list)
    steady: bool = False


def warm_up(step: Callable[[], float], budget: float) -> WarmUp:
    """Repeat a step, which returns its seconds, until times no longer fall or the budget of seconds is over."""
    done = WarmUp()
    end = time.perf_counter() + budget
    while not done.steady and (not done.seconds or time.perf_counter() < end):
        done.seconds.append(step())
        done.steady = is_steady(done.seconds)
    return done


def repeat_until(step: Callable[[], object], converged: Callable[[], bool], budget: float) -> float:
    """Repeat a step until its samples have converged or the budget of seconds is over; returns the phase's seconds.

    Asking whether they have converged takes time too, in proportion to the samples, and is done rarely; and not before
    a second is over, or nobody would see a drift or a disturbance.
    """
    start = time.perf_counter()
    asking = 0.0
    while True:
        step()
        now = time.perf_counter()
        if now - start >= budget:
            return now - start
        if now - start >= SHORTEST and asking <= ASKING * (now - start):
            if converged():
                return now - start
            asking += time.perf_counter() - now
