"""Accuracy, cost and differences: pure functions of evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from math import ceil

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from bench.errors import UsageError
from bench.measuring.statistics import Interval, bounds
from bench.records.evaluation import LETTERS, ClipOutcome, Evaluation
from bench.records.once import once_per_record

RANKS = (1, 5)
RESAMPLES = 10_000

ONE_GROUP = ["top1", "top5"]
TWO_GROUPS = [*ONE_GROUP, "product_top1", "product_top5", "verb_top1", "verb_top5", "noun_top1", "noun_top5"]
"""Columns of `hits`."""


@once_per_record
def hits(evaluation: Evaluation) -> pd.DataFrame:
    """Whether the true classes are among the best k, by clip.

    Of verbs and nouns, `top1` and `top5` are of actions by the *independent* rule, that of the paper: the verb is among
    the best k verbs and the noun among the best k nouns. `product_top1` and `product_top5` are by the rule of the
    leaderboard of EPIC-KITCHENS: the action is among the best k pairs, ranked by the product of the two probabilities.
    For k = 1 the rules agree; for k = 5 the second is stricter, for there are 25 pairs of the best five of each. The
    best five pairs are among these 25.

    Returns:
        Booleans, a row per clip by its id, with columns `TWO_GROUPS`, or `ONE_GROUP` for a single group of classes.
    """
    columns = TWO_GROUPS if len(evaluation.groups) == 2 else ONE_GROUP
    rows = {}
    for clip in evaluation.clips:
        found = {}
        ranks = [top.index(label) if label in top else None for top, label in zip(clip.top, clip.labels, strict=True)]
        for k in RANKS:
            own = [rank is not None and rank < k for rank in ranks]
            found[f"top{k}"] = all(own)
            found |= {f"{group}_top{k}": hit for group, hit in zip(evaluation.groups, own, strict=True)}
            if len(ranks) == 2:
                found[f"product_top{k}"] = tuple(ranks) in _best_pairs(clip)[:k]
        rows[clip.id] = found
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _best_pairs(clip: ClipOutcome) -> list[tuple[int, int]]:
    """Ranks of verb and noun, by the falling sum of their logits: the order of the product of probabilities."""
    verbs, nouns = clip.logits
    pairs = product(range(len(verbs)), range(len(nouns)))
    return sorted(pairs, key=lambda pair: (-(verbs[pair[0]] + nouns[pair[1]]), pair))


def accuracy(hit: pd.Series) -> Interval:
    """Per cent of hits, with the 95 % score interval of Wilson (1927)."""
    return wilson(int(hit.sum()), len(hit))


def wilson(hits: int, clips: int) -> Interval:
    """Per cent of hits among so many clips, with the same interval."""
    found = binomtest(hits, clips)
    ends = found.proportion_ci(0.95, method="wilson")
    return Interval(found.statistic, ends.low, ends.high).scaled(100)


def executed_flops(evaluation: Evaluation, clip: ClipOutcome, convention: str = "exact") -> int:
    """Operations that the decisions on a clip cost; in the convention "exact", those that it says were executed."""
    stages = evaluation.stages[convention]
    if "call" in stages:
        return ceil(len(clip.decisions) / evaluation.frames_per_call) * stages["call"]
    full = clip.decisions.count(LETTERS["full"])
    looked = full + clip.decisions.count(LETTERS["prescan"])
    frames = evaluation.frames_per_call  # of a step, over which what it costs is spread
    unasked = 1 if frames == 1 else 0  # the temporal sampler is not asked at the first; who chooses among frames is
    times = {"decide": looked - unasked, "look": full, "classify": full}
    return sum(times.get(stage, looked) * flops for stage, flops in stages.items()) // frames


def flops_per_frame(evaluation: Evaluation, convention: str = "exact") -> float:
    """Mean operations per frame of video, by the decisions."""
    clips = evaluation.clips
    total = sum(executed_flops(evaluation, clip, convention) for clip in clips)
    return total / sum(len(clip.decisions) for clip in clips)


def shares(evaluation: Evaluation) -> dict[str, float]:
    """Per cent of frames by decision: skip, prescan and full."""
    letters = Counter("".join(clip.decisions for clip in evaluation.clips))
    return {name: 100 * letters[LETTERS[name]] / letters.total() for name in ("skip", "prescan", "full")}


def difference(a: Sequence[Evaluation], b: Sequence[Evaluation], column: str = "top1") -> Interval:
    """Accuracy of A less that of B on the same clips, in points, with its 95 % interval by the paired bootstrap.

    Clips are drawn again, each with what A and B made of it in every seed, so that the interval tells how far the
    difference may be due to the choice of clips; how far to the seeds is told by their spread.

    Args:
        a, b: evaluations, one for each seed.
        column: of `hits`.

    Raises:
        UsageError: other clips or seeds, or evaluations without that column.
    """
    first, second = _by_seed(a, column), _by_seed(b, column)
    if not (first.columns.equals(second.columns) and first.index.equals(second.index)):
        raise UsageError(
            f"{_name(a)} and {_name(b)} cannot be paired: the one has {len(first)} clips and the seeds"
            f" {list(first.columns)}, the other {len(second)} and {list(second.columns)}, which must be the same"
        )
    return mean_gain((first - second).mean(axis=1)).scaled(100)


def mean_gain(gains: pd.Series) -> Interval:
    """Mean of what was gained by clip, with its 95 % interval by the bootstrap over clips."""
    values, counts = np.unique(gains, return_counts=True)
    # To draw n clips again is to draw how many there are with each gain.
    drawn = np.random.default_rng(0).multinomial(len(gains), counts / len(gains), RESAMPLES)
    return Interval(float(gains.mean()), *bounds(drawn @ values / len(gains)))


def verdict(gain: Interval) -> str:
    """ "better" or "worse" where the interval leaves 0 out, else "no difference shown"."""
    return "better" if gain.low > 0 else "worse" if gain.high < 0 else "no difference shown"


def _by_seed(evaluations: Sequence[Evaluation], column: str) -> pd.DataFrame:
    """1 for a hit and 0 for a miss, a row for each clip and a column for each seed."""
    found = {}
    for each in evaluations:
        hit = hits(each)
        if column not in hit:
            raise UsageError(f"no accuracy {column!r} of {_name([each])}: there are {', '.join(hit.columns)}")
        found[each.seed] = hit[column].astype(float)
    table = pd.DataFrame(found).sort_index(axis=1)
    if len(found) < len(evaluations) or table.isna().any(axis=None):
        raise UsageError(f"evaluations of {_name(evaluations)} must be one for each seed, on the same clips")
    return table


def _name(evaluations: Sequence[Evaluation]) -> str:
    return f"{evaluations[0].system} ({evaluations[0].policy})"
