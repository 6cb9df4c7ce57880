"""The most that a device does: the two limits of a roofline."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from bench.measuring.clock import Clock
from bench.records.measurement import Peak

SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (1024, 2048, 4096, 8192)}
"""Rows of the matrices that are multiplied."""

COPIED_BYTES = {"cpu": 128 << 20, "cuda": 1 << 30}
"""Read, and written elsewhere: more than most caches of a last level hold, and 256 MiB of memory on a CPU."""


def measure_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> Peak:
    """Operations per second of the fastest matrix product, bytes per second of the fastest large copy.

    With torch's current threads and settings. A multiplication with its addition is two operations; a byte that is
    copied is two, one read and one written, as STREAM counts. Larger matrices give higher rates, so they grow until a
    product takes a good part of the time.

    Args:
        device: a CPU or a CUDA device.
        dtype: of the matrices.
        seconds: in all, about; a slow machine takes longer, for it does each thing three times at least.
    """
    clock = Clock(device)
    flops_per_second = 0.0
    sizes = SIZES[device.type]
    for size in sizes:
        a, b, product = (torch.rand(size, size, device=device, dtype=dtype) for _ in range(3))
        best = _best(clock, partial(torch.mm, a, b, out=product), seconds / 2 / len(sizes))
        flops_per_second = max(flops_per_second, 2 * size**3 / best)
        if best > seconds / 20:
            break
    return Peak(flops_per_second, _copy_rate(clock, seconds / 2))


def _copy_rate(clock: Clock, seconds: float) -> float:
    size = COPIED_BYTES[clock.device.type]
    source = torch.ones(size // 4, device=clock.device)
    target = torch.ones_like(source)
    return 2 * size / _best(clock, lambda: target.copy_(source), seconds)


def _best(clock: Clock, step: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest run of several, after one that does not count."""
    step()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        times.append(clock.time(step)[0])
    return min(times)
