"""How fast SAN runs with fused attention, beside its layers one by one, and beside the machine's matrix products.

Fused attention is the compiled operator, and the strided views are what runs in its place where there is no compiler.
All run in turns in one process, and so does the matrix product. Memory is that of a fresh process each.
Run with `python tests/benchmarks/attention_speed.py --out results`, or `--backbone san10-patchwise` and the like.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor

from adaptive_models import build_backbone, fused, native
from bench import count_flops

CASES = [(1, 64), (1, 112), (1, 224), (8, 112), (8, 224)]
MATRIX = 1024
MEMORY = """
import ctypes, sys, torch
from adaptive_models import build_backbone, fused, native
from bench.measuring.memory import PeakMemory, resident_bytes
way, backbone, batch, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
network, x = build_backbone(backbone).eval(), torch.zeros(batch, 3, size, size)
with torch.inference_mode():
    torch.zeros(64, 64) @ torch.zeros(64, 64)
    if way == "plain":
        fused.suits = lambda *_: False
    else:
        if way == "strided":
            native.operators = lambda: None
        network(torch.zeros(1, 3, 32, 32))  # folds the weights, which stay
    ctypes.CDLL(None).malloc_trim(0)  # else the pass takes, unseen, what folding has given back
    peak, before = PeakMemory(), resident_bytes()
    network(x)
    print(peak.peak_bytes - before)
"""
WAYS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "fused": nullcontext,
    "strided": lambda: patch.object(native, "operators", lambda: None),
    "plain": lambda: patch.object(fused, "suits", lambda *_: False),
}


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compared(backbone: str, batch: int, size: int, rounds: int) -> dict[str, float]:
    """One case: medians over rounds of the times, and of the ratio within each round."""
    torch.manual_seed(0)
    network, x = build_backbone(backbone).eval(), torch.randn(batch, 3, size, size)
    a, b = torch.randn(MATRIX, MATRIX), torch.randn(MATRIX, MATRIX)

    def run(call: Callable[[Tensor], Any], way: str) -> Any:
        with torch.inference_mode(), WAYS[way]():
            return call(x)

    def error(call: Callable[[Tensor], Tensor], way: str = "fused") -> float:
        plain = run(call, "plain")
        return float((run(call, way) - plain).abs().max() / plain.abs().max())

    works: dict[str, Callable[[], object]] = {way: partial(run, network, way) for way in WAYS}
    works["product"] = lambda: a @ b
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            taken = seconds_of(work)
            if turn:  # the first round warms up
                seconds[name].append(taken)
    rate = [2 * MATRIX**3 / each / 1e9 for each in seconds["product"]]
    macs = count_flops(network, x).macs
    achieved = [2 * macs / each / 1e9 for each in seconds["fused"]]
    return {
        "batch": batch,
        "pixels": size,
        "plain_ms": 1e3 * median(seconds["plain"]),
        "strided_ms": 1e3 * median(seconds["strided"]),
        "fused_ms": 1e3 * median(seconds["fused"]),
        "strided_speedup": median(p / s for p, s in zip(seconds["plain"], seconds["strided"], strict=True)),
        "speedup": median(p / f for p, f in zip(seconds["plain"], seconds["fused"], strict=True)),
        "matrix_product_gflops_per_s": median(rate),
        "share_of_matrix_product_pct": 100 * median(own / best for own, best in zip(achieved, rate, strict=True)),
        "feature_error": error(network),
        "attention_error": error(lambda x: network.prescan(x)[1]),
        "strided_error": error(network, "strided"),
        **{f"{way}_mb": extra_megabytes(way, backbone, batch, size) for way in ("plain", "strided", "fused")},
    }


def extra_megabytes(way: str, backbone: str, batch: int, size: int) -> float:
    """Peak memory of a forward pass over what a fresh process held before."""
    command = [sys.executable, "-c", MEMORY, way, backbone, str(batch), str(size)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1e6


def table(rounds: int, backbone: str = "san19") -> pd.DataFrame:
    """All cases."""
    return pd.DataFrame([compared(backbone, batch, size, rounds) for batch, size in CASES])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for attention_speed.csv and .md")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--backbone", default="san19")
    arguments = parser.parse_args()
    found = table(arguments.rounds, arguments.backbone)
    found.to_csv(arguments.out / "attention_speed.csv", index=False, float_format="%.6g")
    text = "\n".join(
        (
            f"# {arguments.backbone} with fused attention, measured",
            "",
            "Made by `python tests/benchmarks/attention_speed.py --out results`, in float32 with"
            f" {torch.get_num_threads()} threads and torch {torch.__version__}.",
            f"All ways and a matrix product ({MATRIX} x {MATRIX}) run in turns in one process; medians of"
            f" {arguments.rounds} rounds.",
            "The share is that of two operations for each counted multiply-accumulate. Errors are the largest over the"
            " largest value.",
            "Memory: the peak of one pass over what a fresh process held before.",
            "",
            found.to_markdown(index=False, floatfmt=".3g"),
            "",
        )
    )
    (arguments.out / "attention_speed.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
