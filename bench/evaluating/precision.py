"""What smaller numbers cost: trained systems in other types than float32, beside themselves in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from bench.evaluating.metrics import difference, verdict
from bench.evaluating.summary import by_own_decisions, evaluated
from bench.records.evaluation import Evaluation

COLUMNS = [
    *("data", "system", "policy", "dtype", "seeds", "clips", "top1_float32", "top1", "gain", "gain_low", "gain_high"),
    *("verdict", "predictions_changed_pct", "decisions_changed_pct", "gflops_float32", "gflops"),
]


def in_float32(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Those that other tables and figures are made of."""
    return [each for each in evaluations if each.dtype == "float32"]


def against_float32(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """A row for each system and other type in which it was evaluated on the clips, and with the weights, of float32.

    Args:
        evaluations: of all types; of a system, those of whole validation splits under its own decisions count.

    Returns:
        `COLUMNS`: means over seeds of top-1 in per cent and of operations executed per frame; what the type gains over
        float32 in points, with its 95 % interval by the paired bootstrap over clips, and the verdict on it; and in per
        cent, clips whose likeliest class of a group is another, and frames about which something else was decided.
    """
    plain = {(each.data, each.system, each.seed): each for each in by_own_decisions(in_float32(evaluations))}
    pairs: dict[tuple[str, str, str, str], list[tuple[Evaluation, Evaluation]]] = {}
    for each in evaluations:
        other = plain.get((each.data, each.system, each.seed))
        if each.dtype != "float32" and other is not None and _are_alike(each, other):
            pairs.setdefault((each.data, each.system, each.policy, each.dtype), []).append((each, other))
    rows = []
    for case, group in pairs.items():
        own, others = ([pair[i] for pair in group] for i in range(2))
        gain = difference(own, others)
        means, plain_means = (evaluated(each)[["top1", "gflops"]].mean() for each in (own, others))
        changed = [_changed(*pair) for pair in group]
        rows.append(
            (
                *(*case, len(group), len(own[0].clips), plain_means["top1"], means["top1"]),
                *(gain.value, gain.low, gain.high, verdict(gain)),
                *(100 * sum(each) / len(changed) for each in zip(*changed, strict=True)),
                *(plain_means["gflops"], means["gflops"]),
            )
        )
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["data", "dtype", "system"], ignore_index=True)


def _are_alike(a: Evaluation, b: Evaluation) -> bool:
    """Whether two evaluations differ in the type alone."""
    first, second = (
        (each.split, each.limit, each.policy, each.trained, each.weights, each.frames, [clip.id for clip in each.clips])
        for each in (a, b)
    )
    return first == second


def _changed(a: Evaluation, b: Evaluation) -> tuple[float, float]:
    """Shares of clips of which something else is said, and of frames about which something else is decided."""
    clips = list(zip(a.clips, b.clips, strict=True))
    said = sum(any(p[0] != q[0] for p, q in zip(x.top, y.top, strict=True)) for x, y in clips)
    frames = [p != q for x, y in clips for p, q in zip(x.decisions, y.decisions, strict=True)]
    return said / len(clips), sum(frames) / len(frames)
