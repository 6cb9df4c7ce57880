"""Evaluations as tables: accuracy beside cost, over seeds, and learned decisions against those that do not look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from bench.evaluating.metrics import TWO_GROUPS, accuracy, difference, flops_per_frame, hits, shares, verdict
from bench.records.evaluation import AT_COST_OF_LEARNED, Evaluation
from bench.records.once import once_per_record
from bench.systems.registry import spatial_sampler

CASE = ["data", "split", "limit", "system", "policy"]
"""What tells evaluations apart, but for the seed."""

OWN_POLICIES = ("learned", "always-full", "fixed")
"""Policies under which a system does what it was trained for, the first that it has: of S_k the second, of baselines
the third."""

SHARES = ["skip_pct", "prescan_pct", "full_pct"]
FIGURES = [*TWO_GROUPS, "gflops", "gflops_paper", "trade_off", *SHARES]


def own_evaluations(data: str, evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Those that tell how good systems are: of a data set's whole validation split, with trained weights, by their own
    decisions.
    """
    return by_own_decisions(each for each in evaluations if each.data == data)


def by_own_decisions(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Those of whole validation splits, with trained weights, under the first of `OWN_POLICIES` that a system has.

    So an (S_k, T_M) that was evaluated with every frame full as well, for comparison, is not taken for another of it.
    """
    found: dict[tuple[str, str], dict[str, list[Evaluation]]] = {}
    for each in evaluations:
        if each.trained and (each.split, each.limit) == ("val", None):
            found.setdefault((each.data, each.system), {}).setdefault(each.policy, []).append(each)
    own = (next((groups[policy] for policy in OWN_POLICIES if policy in groups), []) for groups in found.values())
    return [each for group in own for each in group]


def evaluated(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """A row for each evaluation.

    Returns:
        `CASE`, `seed`, `dtype`, `trained`, `clips` (how many) and `left_out`; accuracies in per cent as `metrics.hits`
        names them, empty where a data set has no such classes, `top1` with its Wilson interval in `top1_low` and
        `top1_high`; `gflops` per frame as executed (`exact` convention), `gflops_paper` in the `paper` convention;
        `trade_off`, the latter over `top1`, as the published tables have it; and shares of frames in per cent.
    """
    rows = [_row(each) for each in evaluations]
    columns = [*CASE, "seed", "dtype", "trained", "clips", "left_out", *FIGURES, "top1_low", "top1_high"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(FIGURES, float) | {"limit": "Int64"})


@once_per_record
def _row(evaluation: Evaluation) -> dict[str, Any]:
    found = {str(name): accuracy(hit) for name, hit in hits(evaluation).items()}
    paper = flops_per_frame(evaluation, "paper") / 1e9
    top1 = found["top1"]
    return {
        **{name: getattr(evaluation, name) for name in (*CASE, "seed", "dtype", "trained")},
        "clips": len(evaluation.clips),
        "left_out": len(evaluation.left_out),
        **{name: each.value for name, each in found.items()},
        "top1_low": top1.low,
        "top1_high": top1.high,
        "gflops": flops_per_frame(evaluation) / 1e9,
        "gflops_paper": paper,
        "trade_off": paper / top1.value if top1.value else None,
        **{f"{name}_pct": share for name, share in shares(evaluation).items()},
    }


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `evaluated` that differ in the seed alone, as one.

    Returns:
        `CASE`; `seeds`, how many; the mean of each figure, and its standard deviation between seeds (n - 1 in the
        denominator, so empty for a single one) under the name with "_spread".
    """
    groups = table.groupby(CASE, sort=False, dropna=False)
    means, spreads = groups[FIGURES].mean(), groups[FIGURES].std().add_suffix("_spread")
    columns = [name for figure in FIGURES for name in (figure, f"{figure}_spread")]
    return groups.size().rename("seeds").to_frame().join(means.join(spreads)[columns]).reset_index()


def learned_against_others(evaluations: Iterable[Evaluation], column: str = "top1") -> pd.DataFrame:
    """Learned decisions against random and uniform ones at their cost (the comparison that the paper left out), and
    against the S_k of the system, which processes every frame fully.

    Args:
        evaluations: of all policies; those are compared of which there are the same seeds and clips.
        column: accuracy, of `metrics.hits`.

    Returns:
        A row for each system and rival: `data`, `split`, `limit`, `system`, `rival` ("random", "uniform" or the id of
        S_k), `seeds`; `gflops` per frame and `accuracy` of the learned decisions, `rival_gflops` and `rival_accuracy`,
        means over seeds; `saved_pct`, per cent of the rival's operations; `gain` in points with its interval in
        `gain_low` and `gain_high` (see `metrics.difference`) and its standard deviation between seeds in
        `gain_spread`; and the `verdict`: "better" or "worse" where the interval leaves 0 out, else "no difference
        shown".
    """
    cases: dict[tuple[Any, ...], list[Evaluation]] = {}
    for each in evaluations:
        cases.setdefault((each.data, each.split, each.limit, each.system, each.policy), []).append(each)
    rows = []
    for (*place, system, policy), group in cases.items():
        spatial = spatial_sampler(system)
        rivals = {name: (system, name) for name in AT_COST_OF_LEARNED} | {spatial: (spatial, "always-full")}
        for rival, case in rivals.items() if policy == "learned" else ():
            learned, others = _of_same_seeds(group, cases.get((*place, *case), []))
            if learned:
                rows.append((*place, system, rival, len(learned), *_compared(learned, others, column)))
    figures = ["gflops", "rival_gflops", "accuracy", "rival_accuracy", "saved_pct"]
    gains = ["gain", "gain_low", "gain_high", "gain_spread", "verdict"]
    return pd.DataFrame(rows, columns=[*CASE[:-1], "rival", "seeds", *figures, *gains])


def _of_same_seeds(a: Sequence[Evaluation], b: Sequence[Evaluation]) -> tuple[list[Evaluation], list[Evaluation]]:
    both = {each.seed for each in a} & {each.seed for each in b}
    return [each for each in a if each.seed in both], [each for each in b if each.seed in both]


def _compared(learned: Sequence[Evaluation], others: Sequence[Evaluation], column: str) -> tuple[Any, ...]:
    gain = difference(learned, others, column)
    own, rivals = (evaluated(group).set_index("seed")[["gflops", column]] for group in (learned, others))
    means = pd.concat([own.mean(), rivals.mean()], axis=1).to_numpy().ravel()  # both costs, then both accuracies
    saved = 100 * (1 - means[0] / means[1])
    spread = (own - rivals)[column].std()
    return (*means, saved, gain.value, gain.low, gain.high, spread, verdict(gain))
