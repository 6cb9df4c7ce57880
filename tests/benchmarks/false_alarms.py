"""How often the timing guard alarms for no reason, and how often it sees a true slow-down; pytest-benchmark beside it.

Run with `python tests/benchmarks/false_alarms.py --out results`: about 50 minutes. What was interrupted goes on where
it stopped; to begin anew, remove false_alarms.csv from the folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import convolutions
import pandas as pd
import pytest_benchmark
import torch
import typer
from pytest_benchmark.utils import parse_compare_fail
from scipy.stats import binomtest

from bench.display import progress
from bench.measuring.comparison import THRESHOLD, compare_calls
from bench.measuring.machine import environment
from bench.records.files import write_text

SLOW_DOWNS = (0, 3, 5)
"""Per cent by which the candidate truly is slower."""

CALL_SECONDS = 0.005
GUARD = "timing guard"
CRITERIA = ("mean:5%", "median:5%", "min:5%")
"""Of pytest-benchmark's --benchmark-compare-fail."""

Row = dict[Hashable, Any]


def calibrate() -> int:
    """How many convolutions take nearest to 5 ms, in hundreds, of which 3 and 5 % are whole numbers."""
    convolutions.warm_up(100)
    seconds = median(timeit.repeat(partial(convolutions.convolve, 100), number=1, repeat=50))
    return 100 * max(1, round(CALL_SECONDS / seconds))


@contextmanager
def busy_process() -> Iterator[subprocess.Popen[bytes]]:
    """Another process that never rests."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def compare_by_guard(baseline: int, candidate: int, seconds: float, seed: int) -> list[Row]:
    """Both numbers of convolutions in turns, in this process."""
    convolutions.warm_up(baseline)
    calls = [partial(convolutions.convolve, count) for count in (baseline, candidate)]
    start = time.perf_counter()
    verdict = compare_calls(*calls, seconds, seed=seed)
    elapsed = time.perf_counter() - start
    return [
        {
            "method": GUARD,
            "seconds": elapsed,
            "clock": verdict.clock,
            "ratio": verdict.ratio.value,
            "low": verdict.ratio.low,
            "high": verdict.ratio.high,
            "outcome": verdict.outcome,
            "alarm": verdict.outcome == "slower",
        }
    ]


def compare_by_pytest_benchmark(baseline: int, candidate: int, seconds: float) -> list[Row]:
    """The baseline in a process of pytest, saved, and the candidate in the next, compared with what was saved.

    Both processes judge nothing but their own statistics, so one pair serves all criteria.

    Raises:
        RuntimeError: pytest ended otherwise than the statistics it saved would have it.
    """
    with tempfile.TemporaryDirectory() as storage:
        time_by_pytest_benchmark(baseline, seconds / 2, storage).check_returncode()
        compare = ["--benchmark-compare=0001", "--benchmark-compare-fail", *CRITERIA]
        result = time_by_pytest_benchmark(candidate, seconds / 2, storage, *compare)
        saved = [json.loads(path.read_text()) for path in sorted(Path(storage).rglob("*.json"))]
    before, after = (session["benchmarks"][0]["stats"] for session in saved)
    checks = {criterion: parse_compare_fail(criterion) for criterion in CRITERIA}
    rows: list[Row] = [
        {
            "method": criterion,
            "seconds": before["total"] + after["total"],
            "ratio": after[check.field] / before[check.field],
            "alarm": check.fails(after, before) is not None,
        }
        for criterion, check in checks.items()
    ]
    if result.returncode != any(row["alarm"] for row in rows):
        raise RuntimeError(f"pytest ended with {result.returncode}, which {rows} do not explain:\n{result.stdout}")
    return rows


def time_by_pytest_benchmark(
    repetitions: int, seconds: float, storage: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """A process of pytest that times convolutions for about those seconds, and saves their statistics."""
    command = [
        *(sys.executable, "-m", "pytest", convolutions.__file__, "-p", "no:cacheprovider"),
        *("--benchmark-only", f"--benchmark-max-time={seconds}"),
        *(f"--benchmark-storage={storage}", "--benchmark-autosave"),
        *options,
    ]
    environ = os.environ | {convolutions.REPETITIONS: str(repetitions)}
    return subprocess.run(command, env=environ, capture_output=True, text=True)


def experiment(path: Path, comparisons: int, pytest_comparisons: int, seconds: float) -> pd.DataFrame:
    """Make the comparisons that the file does not hold yet, method by method in turn, and add each to the file.

    Returns:
        A row per comparison and method.
    """
    rows: list[Row] = pd.read_csv(path).to_dict("records") if path.exists() else []
    baseline = int(rows[0]["repetitions"]) if rows else calibrate()
    done = {(row["comparison"], row["slow_down_percent"], row["method"]) for row in rows}
    units = [
        (number, slow_down, method)
        for number in range(max(comparisons, pytest_comparisons))
        for slow_down in SLOW_DOWNS
        for method, wanted in ((GUARD, comparisons), (CRITERIA[0], pytest_comparisons))
        if number < wanted and (number, slow_down, method) not in done
    ]
    with busy_process(), progress(len(units)) as advance:
        for number, slow_down, method in units:
            advance(f"comparison {number}, {slow_down} % slower")
            candidate = round(baseline * (1 + slow_down / 100))
            if method == GUARD:
                compared = compare_by_guard(baseline, candidate, seconds, seed=number)
            else:
                compared = compare_by_pytest_benchmark(baseline, candidate, seconds)
            known: Row = {
                "comparison": number,
                "slow_down_percent": slow_down,
                "repetitions": baseline,
                "true_ratio": candidate / baseline,
            }
            rows += [known | row for row in compared]
            write_text(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Alarms of each method by true slow-down, with Wilson's 95 % intervals."""
    shares = rows.groupby(["method", "slow_down_percent"])["alarm"].agg(_share).unstack().loc[rows["method"].unique()]
    shares.columns = pd.Index(
        [f"caught at {percent} %" if percent else "false alarms at 0 %" for percent in shares.columns]
    )
    seconds = rows.groupby("method")["seconds"].median()
    return shares.assign(**{"seconds sampled": seconds.map("{:.2f}".format)}).reset_index()


def _share(alarms: pd.Series) -> str:
    count = int(alarms.sum())
    bounds = binomtest(count, len(alarms)).proportion_ci(method="wilson")
    return f"{count} of {len(alarms)} ({100 * bounds.low:.1f} to {100 * bounds.high:.1f} %)"


def page(rows: pd.DataFrame, seconds: float) -> str:
    """The summary as a Markdown page that says how it was made."""
    here = environment(torch.device("cpu"))
    guard = rows[rows["method"] == GUARD]
    outcomes = pd.crosstab(guard["true_ratio"], guard["outcome"]).rename_axis(index="true ratio", columns=None)
    repetitions = rows["repetitions"].iloc[0]
    return f"""# False alarms

How often two timings of the same work are called a slow-down, and how often a true slow-down is.

{summary(rows).to_markdown(index=False)}

In brackets Wilson's 95 % interval of the share; seconds are the median, of both sides together, for the guard with the
time in which it judges. Verdicts, {(guard["clock"] == "CPU").sum()} of them by CPU time where wall time was too noisy:

{outcomes.to_markdown()}

- Work: {repetitions} convolutions of 8 channels of 8 x 8 pixels, about {1e3 * CALL_SECONDS:g} ms, on one thread; the
  slower side makes 3 or 5 % more of them, so true ratios are exact.
- `{GUARD}`: `bench.measuring.comparison`, both sides in turns in one process, {seconds:g} s in all, threshold
  {THRESHOLD:.1%}; the order of comparison n has seed n, the bootstrap seed 0.
- `mean:5%`, `median:5%`, `min:5%`: `--benchmark-compare-fail` of pytest-benchmark {pytest_benchmark.__version__}, each
  side in a process of its own, one after the other, for {seconds / 2:g} s each; the three judge the same processes.
- Not counted in the seconds: {convolutions.WARM_UP_CALLS} calls of warm-up before each, imports, starts of processes.
- Another process was busy without a rest, on no particular core. Methods took turns, so that they shared conditions.
- Machine: {here.cpu}, {here.usable_cores} cores{f", virtual ({here.virtual})" if here.virtual else ""},
  {here.platform}, Python {here.python}, torch {here.torch}.

Made by `python tests/benchmarks/false_alarms.py`; every comparison is in [false_alarms.csv](false_alarms.csv).
"""


def main(
    out: Annotated[Path, typer.Option(help="Folder for false_alarms.csv and false_alarms.md.")],
    comparisons: Annotated[int, typer.Option(help="By the guard, at each true slow-down.")] = 100,
    pytest_comparisons: Annotated[int | None, typer.Option(help="By pytest-benchmark.", show_default="as many")] = None,
    seconds: Annotated[float, typer.Option(help="Of timing in a comparison, both sides together.")] = 2.0,
) -> None:
    """Compare a workload with itself and with slower ones, again and again, and write how often that alarms."""
    wanted = comparisons if pytest_comparisons is None else pytest_comparisons
    rows = experiment(out / "false_alarms.csv", comparisons, wanted, seconds)
    write_text(out / "false_alarms.md", page(rows, seconds))


if __name__ == "__main__":
    typer.run(main)
