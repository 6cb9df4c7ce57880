"""How much of the measured phase the harness takes for itself, beside the samples' own time.

Run with `pytest tests/benchmarks/test_measuring_overhead.py --benchmark-only -s`.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from adaptive_models.data.clips import TensorClip
from bench.measuring.metrics import overhead
from bench.measuring.scenarios import measure_times
from bench.measuring.subject import Footage, Subject
from bench.measuring.worker import _teller
from bench.records.measurement import Settings, Timing
from bench.systems.registry import System

LIMIT = 0.02
STEPS = {"1 ms": 0.001, "5 ms": 0.005, "100 ms": 0.1}
BUDGET = 3.0
REPEATS = 3  # of which the median counts: a halt of the machine is nobody's fault


class Work(nn.Module):
    """Computes for a given time, whatever the speed of the machine."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: Tensor) -> None:
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            x = x.relu()


def measured(seconds: float, width: float) -> Timing:
    system = System("work", lambda: Work(seconds), {"rgb": (3, 8, 8)})
    footage = Footage([TensorClip(torch.zeros(4, 3, 8, 8), None)], [], [])
    subject = Subject(system, footage, "fixed", torch.device("cpu"), "float32")
    settings = Settings(width, BUDGET, warmup=0.5, energy=0, time_limit=60, memory_limit=1 << 40)
    return measure_times(subject, None, settings, [], _teller(lambda _: None))


def rows() -> dict[tuple[str, str], list[Timing]]:
    torch.set_num_threads(1)
    return {
        (step, end): [measured(seconds, width) for _ in range(REPEATS)]
        for step, seconds in STEPS.items()
        for end, width in (("the budget", 1e-9), ("its interval", 0.02))
    }


def test_the_harness_takes_less_than_2_percent_of_the_measured_phase(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a fresh process, as each case has, since system calls of one whose memory is much used take longer."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
        timings_of = benchmark.pedantic(worker.submit(rows).result, rounds=1)
    medians = {row: median(map(overhead, timings)) for row, timings in timings_of.items()}
    with capsys.disabled():
        print(f"\n\n{'step':8s} {'ended by':14s} {'samples':>8s} {'phase':>9s} {'overhead':>9s}")
        for (step, end), timings in timings_of.items():
            samples = median(len(timing.frames.seconds) for timing in timings if timing.frames)
            phase = median(timing.phase_seconds for timing in timings)
            print(f"{step:8s} {end:14s} {samples:8d} {phase:7.2f} s {medians[step, end]:9.3%}")
    assert max(medians.values()) < LIMIT
