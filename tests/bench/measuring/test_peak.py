from __future__ import annotations

import gc
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from bench.measuring.memory import PeakMemory, resident_bytes
from bench.measuring.peak import measure_peak

CPU = torch.device("cpu")


def fastest(step: Callable[[], object], repetitions: int) -> float:
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def test_peak_agrees_with_a_product_and_a_copy_of_ones_own() -> None:
    a = torch.rand(1024, 1024)
    own_flops = 2 * 1024**3 / fastest(lambda: a @ a, 5)
    source, target = np.ones(64 << 20, dtype=np.uint8), np.ones(64 << 20, dtype=np.uint8)
    own_bytes = 2 * source.nbytes / fastest(lambda: np.copyto(target, source), 5)
    peak = measure_peak(CPU, torch.float32)
    assert 0.4 * own_flops < peak.flops_per_second < 4 * own_flops
    assert 0.3 * own_bytes < peak.bytes_per_second < 4 * own_bytes


def test_peak_takes_at_most_300_mb() -> None:
    gc.collect()
    memory, before = PeakMemory(), resident_bytes()
    if memory.how != "VmHWM":
        pytest.skip("the peak of this process cannot be set back")
    measure_peak(CPU, torch.float32, seconds=0.05)
    assert 200e6 < memory.peak_bytes - before < 300e6


def test_slow_types_take_no_minutes() -> None:
    start = time.perf_counter()
    assert measure_peak(CPU, torch.float16, seconds=0.1).flops_per_second > 0  # without instructions of its own
    assert time.perf_counter() - start < 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_peak_of_a_gpu() -> None:
    device = torch.device("cuda")
    single, half = (measure_peak(device, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert half.flops_per_second > 1.5 * single.flops_per_second > 1.5e12
    assert single.bytes_per_second == pytest.approx(half.bytes_per_second, rel=0.1)
