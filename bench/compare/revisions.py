"""Two revisions of a working tree."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from scipy.stats import ttest_ind

from bench.compare.result import Comparison
from bench.errors import RunError, UsageError
from bench.measuring.campaign import Worker
from bench.measuring.comparison import outcome_of
from bench.measuring.metrics import seconds_per_frame
from bench.measuring.statistics import CONFIDENCE, Interval
from bench.measuring.worker import Request


def compare_revisions(
    trees: tuple[Path, Path], request: Request, restarts: int, advance: Callable[[str], None] = lambda _: None
) -> Comparison:
    """Compare a system in two working trees, by restarting it in each in random order.

    In each tree, modules are imported from there first: a changed model, or a changed foveabench. Within one process
    of each, no number of samples would tell a difference between revisions from one between processes; the interval is
    that of Welch's t over restarts.

    Args:
        trees: folders.
        request: what to measure in each; paths of adapters are relative to the tree.
        restarts: of each, three or more.
        advance: told what is being done.

    Raises:
        UsageError: too few restarts.
        RunError: the case failed in a tree.
    """
    if restarts < 3:
        raise UsageError(f"--restarts {restarts}: at least 3 of each revision are needed for an interval")
    logs: tuple[list[float], list[float]] = ([], [])
    order = [0, 1]
    shuffle = random.Random(0).shuffle
    for restart in range(restarts):
        shuffle(order)
        for side in order:
            advance(f"start {restart + 1} of {restarts}, {trees[side]}")
            logs[side].append(math.log(_start_once(trees[side], request)))
    interval = ttest_ind(logs[1], logs[0], equal_var=False).confidence_interval(CONFIDENCE)
    ratio = Interval(*(math.exp(log) for log in (fmean(logs[1]) - fmean(logs[0]), interval.low, interval.high)))
    how = f"times per frame of {request.case.system}, over {restarts} restarts of each"
    return Comparison(str(trees[0]), str(trees[1]), outcome_of(ratio), ratio, how)


def _start_once(tree: Path, request: Request) -> float:
    record = Worker(request, tree).wait(lambda _: None)
    if record.status.state != "ok":
        raise RunError(f"{request.case.system} in {tree}: {record.status.state}, {record.status.cause}")
    per_frame = seconds_per_frame(record)
    if per_frame is None:
        raise RunError(f"{request.case.system} in {tree}: no samples")
    return per_frame.value
