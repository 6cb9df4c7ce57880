"""Whether the operations that are saved are saved as time: every (S_k, T_M) beside its S_k, and S_0 beside SAN19-base.

Systems of one k run in turns in one process: a clip frame by frame, where a speed-up is that at the published operating
point, and 16 clips side by side, where it is that of the decisions that were executed. Operations are of the `exact`
convention.
Run with `python tests/benchmarks/skipping_speed.py --out results`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import get_args

import pandas as pd
import torch

from bench.compare.systems import Turns
from bench.measuring.clock import Clock
from bench.measuring.comparison import Verdict, interleave, judge, judge_mixtures
from bench.measuring.peak import measure_peak
from bench.measuring.subject import Subject, footage_for
from bench.records.measurement import Dtype
from bench.systems.builtin import registry
from bench.systems.costs import count_system
from bench.systems.registry import System

WORKLOADS = ("ucf101", "epic")
KEYS = ["scenario", "dtype", "against", "system"]
CROPS, MAX_SKIPS = range(4), range(1, 5)
BATCH = 16
SCENARIOS = ("single-stream", "offline")
CLIP, STREAMED, FRAMES = "demo", 10, 6
"""The clip, how many of its frames are streamed, and how many of each clip run in a batch: enough for T_4 to skip."""


def systems_of(workload: str, crops: int, dtype: Dtype) -> list[System]:
    """S_k, its (S_k, T_M), and SAN19-base with S_0, unless GRUs alone are of another type: it has none."""
    base = ["san19-base"] if crops == 0 and dtype != "int8" else []
    names = [f"s{crops}", *(f"s{crops}-t{max_skip}" for max_skip in MAX_SKIPS), *base]
    return [registry().find(f"{workload}/{name}") for name in names]


def single_stream(
    systems: Sequence[System], seconds: float, device: str = "cpu", dtype: Dtype = "float32"
) -> list[dict[str, object]]:
    """Clips in turns, frame by frame: the first system is that which the others are held against."""
    subjects = prepared(systems, STREAMED, device, dtype)
    turns = {name: Turns(subject, Clock(subject.device)) for name, subject in subjects.items()}
    for turn in turns.values():
        turn.warm_up()
        turn.warm_up()
    interleave(turns, seconds, timer=lambda turn: turn())
    costs = {system.id: count_system(system) for system in systems}
    shares = {
        name: vars(cost.shares) if cost.shares else {"full": 100.0}  # of a system that is not adaptive
        for name, cost in costs.items()
    }
    first, *others = turns
    return [
        row(
            ("single-stream", dtype),
            first,
            other,
            judge_mixtures(
                *(turns[name].kinds for name in (other, first)),
                shares=(turns[other].shares(shares[other]), turns[first].shares(shares[first])),
            ),
            costs[first].exact.per_frame / costs[other].exact.per_frame,
            shares[other],
        )
        for other in others
    ]


def offline(
    systems: Sequence[System], frames: int, seconds: float, device: str = "cpu", dtype: Dtype = "float32"
) -> list[dict[str, object]]:
    """Batches of clips in turns."""
    subjects = prepared(systems, frames, device, dtype)
    clocks = {name: Clock(subject.device) for name, subject in subjects.items()}
    batches: dict[str, Callable[[], float]] = {
        name: lambda name=name: clocks[name].time(lambda: subjects[name].batch(0, BATCH))[0] for name in subjects
    }
    for batch in batches.values():
        batch()
    samples = interleave(batches, seconds, timer=lambda batch: batch())
    decided = {name: shares_of(subject) for name, subject in subjects.items()}
    stages = {system.id: count_system(system).exact.stages for system in systems}
    flops = {name: stages.per_frame(decided[name]) for name, stages in stages.items() if stages}
    first, *others = subjects
    return [
        row(
            (f"offline, batch {BATCH}", dtype),
            first,
            other,
            judge(samples[other], samples[first]),
            flops[first] / flops[other],
            decided[other],
        )
        for other in others
    ]


def prepared(systems: Sequence[System], frames: int, device: str, dtype: Dtype) -> dict[str, Subject]:
    """Systems of one workload under their published operating points, on the built-in clip."""
    footage = footage_for(systems[0], CLIP, frames)
    place = torch.device(device)
    return {system.id: Subject(system, footage, "published", place, dtype) for system in systems}


def shares_of(subject: Subject) -> dict[str, float]:
    """Of decisions in a batch, in per cent."""
    decisions = [frame.decision for frame in subject.batch(0, BATCH)]
    return {kind: 100 * decisions.count(kind) / len(decisions) for kind in ("skip", "prescan", "full")}


def row(
    how: tuple[str, Dtype], slow: str, fast: str, verdict: Verdict, saved: float, shares: dict[str, float]
) -> dict[str, object]:
    """One comparison, by scenario and type; against SAN19-base, S_0 is the faster one."""
    speedup = verdict.ratio
    if fast.endswith("san19-base"):
        slow, fast, saved = fast, slow, 1 / saved
        low, value, high = 1 / speedup.high, 1 / speedup.value, 1 / speedup.low
    else:
        low, value, high = speedup.low, speedup.value, speedup.high
    return {
        "scenario": how[0],
        "dtype": how[1],
        "system": fast,
        "against": slow,
        "full %": shares["full"],
        "saved by operations": saved,
        "saved in time": value,
        "low": low,
        "high": high,
        "of what was promised": value / saved,
        "rounds": verdict.rounds,
    }


def table(
    scenarios: Iterable[str],
    workloads: Iterable[str],
    crops: Iterable[int],
    seconds: float,
    device: str = "cpu",
    dtype: Dtype = "float32",
) -> pd.DataFrame:
    """Comparisons of these scenarios; systems of each k run for so many seconds, or ten rounds."""
    rows: list[dict[str, object]] = []
    for scenario in scenarios:
        for workload in workloads:
            for k in crops:
                systems = systems_of(workload, k, dtype)
                pace = copied_per_second(device)
                if scenario == "single-stream":
                    made = single_stream(systems, seconds, device, dtype)
                else:
                    made = offline([each for each in systems if each.adaptive], FRAMES, seconds, device, dtype)
                pace = (pace + copied_per_second(device)) / 2
                rows += [{**each, "memory GB/s": pace / 1e9} for each in made]
    return pd.DataFrame(rows)


def copied_per_second(device: str) -> float:
    """Bytes of a large copy, which waits for memory as GRUs do."""
    return measure_peak(torch.device(device), torch.float32).bytes_per_second


def merged(known: Path, made: pd.DataFrame) -> pd.DataFrame:
    """What is made anew, and what else a file has."""
    frames = [pd.read_csv(known), made] if known.is_file() else [made]
    kept = pd.concat(frames).drop_duplicates(KEYS, keep="last")
    return kept.sort_values(KEYS, ascending=[False, True, True, True], ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for skipping_speed.csv and .md")
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS))
    parser.add_argument("--crops", nargs="+", type=int, default=list(CROPS))
    parser.add_argument("--seconds", type=float, default=60, help="for each k and scenario; ten rounds are made anyway")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=get_args(Dtype), help="of both systems")
    arguments = parser.parse_args()
    asked = (arguments.scenarios, arguments.workloads, arguments.crops, arguments.seconds)
    made = merged(arguments.out / "skipping_speed.csv", table(*asked, arguments.device, arguments.dtype))
    made.to_csv(arguments.out / "skipping_speed.csv", index=False, float_format="%.6g")
    text = "\n".join(
        (
            "# What skipping saves, measured",
            "",
            f"Made by `python tests/benchmarks/skipping_speed.py --out results` on {arguments.device}, with"
            f" {torch.get_num_threads()} threads and torch {torch.__version__}.",
            "Systems of one k run in turns of a clip in one process. Frame by frame, speed-ups are of 10th percentiles"
            " of each kind of frame (first of a clip, full, pre-scanned, skipped), weighed by the shares of the"
            " published operating point; with batches of clips, the median"
            f" of ratios within rounds, and operations those that were executed for {FRAMES} frames a clip.",
            "Low and high: the 99 % bootstrap interval. int8: weights of GRUs, of both systems; all else is float32.",
            "Memory: bytes read and written by a large copy before and after, in the same process; empty if not asked.",
            "",
            made.astype(object).where(made.notna(), None).to_markdown(index=False, floatfmt=".3g"),
            "",
        )
    )
    (arguments.out / "skipping_speed.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
