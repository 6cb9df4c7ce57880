"""How long and how much memory counting takes, beside a forward pass and beside other counters.

Run with `pytest tests/benchmarks/test_counting_speed.py --benchmark-only -s`.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import pytest
import thop
import torch
from fvcore.nn import FlopCountAnalysis
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adaptive_models import build_backbone
from bench import count_flops

ROUNDS = 3
LIMIT_MB = 20


def count_with_torch(model: nn.Module, x: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops()


def count_with_torch_on_meta(model: nn.Module, x: Tensor) -> int:
    return count_with_torch(copy.deepcopy(model).to("meta"), x.to("meta"))


def count_with_fvcore(model: nn.Module, x: Tensor) -> int:
    with torch.no_grad():
        return FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def count_with_thop(model: nn.Module, x: Tensor) -> float:
    return thop.profile(model, (x,), verbose=False)[0]


def forward(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(x)


CONTENDERS: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "count_flops": count_flops,
    "forward pass": forward,
    "fvcore": count_with_fvcore,
    "thop": count_with_thop,
    "FlopCounterMode": count_with_torch,
    "FlopCounterMode on meta": count_with_torch_on_meta,
}


def interleaved_medians(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Seconds of each contender, in turn, so that what disturbs the machine disturbs all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(ROUNDS + 1):
        for name, run in CONTENDERS.items():
            start = time.perf_counter()
            run(model, x)
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values[1:]) for name, values in seconds.items()}  # the first round warms up


def test_counting_takes_less_than_a_forward_pass_and_half_of_the_best_other_counter(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    model, x = build_backbone("san19").eval(), torch.randn(1, 3, 224, 224)
    medians = interleaved_medians(model, x)
    benchmark.pedantic(count_flops, (model, x), rounds=ROUNDS)
    benchmark.extra_info.update(medians)
    with capsys.disabled():
        print(f"\n\nSAN19 at 224 x 224, {torch.get_num_threads()} threads, median of {ROUNDS}")
        for name, seconds in sorted(medians.items(), key=lambda item: item[1]):
            print(f"{name:24s} {1e3 * seconds:9.1f} ms {seconds / medians['count_flops']:7.1f} x")
    others = [medians[name] for name in CONTENDERS if name not in ("count_flops", "forward pass")]
    assert medians["count_flops"] < medians["forward pass"]
    assert medians["count_flops"] < min(others) / 2


# A small network is counted first, so that imports are not taken for the count's.
MEMORY = """
import psutil, threading, torch
from torch import nn
from adaptive_models import build_backbone
from bench import count_flops
count_flops(nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)), torch.zeros(1, 3, 9, 9))
model, x = build_backbone("san19").eval(), torch.zeros(1, 3, 224, 224)
resident, done, peaks = psutil.Process().memory_info, threading.Event(), []
before = resident().rss
def watch():
    while not done.wait(0.001):
        peaks.append(resident().rss)
watcher = threading.Thread(target=watch)
watcher.start()
RUN
done.set()
watcher.join()
print(max(peaks) - before)
"""
RUNS = {
    "count_flops": "count_flops(model, x)",
    "forward pass": "\nwith torch.inference_mode(): model(x)",
}


def extra_memory(run: str) -> float:
    """Megabytes of the peak over what a fresh process held before."""
    script = MEMORY.replace("RUN", run)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return int(result.stdout) / 1e6


def test_counting_takes_little_memory(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]) -> None:
    megabytes = {name: extra_memory(run) for name, run in RUNS.items()}
    benchmark.extra_info.update(megabytes)
    benchmark.pedantic(extra_memory, (RUNS["count_flops"],), rounds=1)
    with capsys.disabled():
        print("\n\nPeak memory over that of model and input")
        for name, extra in megabytes.items():
            print(f"{name:24s} {extra:9.1f} MB")
    assert megabytes["count_flops"] < LIMIT_MB < megabytes["forward pass"]
