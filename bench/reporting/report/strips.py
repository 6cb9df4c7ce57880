"""Decisions on clips, a letter for each frame: those of evaluations, or else those of the seeded published policy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from adaptive_models.policies import GivenShares, Shares
from bench.evaluating.metrics import executed_flops
from bench.evaluating.summary import by_own_decisions
from bench.records.counts import Count
from bench.records.evaluation import LETTERS, Evaluation
from bench.reporting.measured import workload_of
from bench.systems.registry import spatial_sampler
from bench.systems.workloads import WORKLOADS

CLIPS = 12
"""Of each system."""

SEEDED = (
    "Not of real clips: sequences that T_M could have made, drawn by the seeded policy published, whose shares of"
    " frames over many clips are those of the published table. Operations are counted (exact convention)."
)
EVALUATED = (
    "Decisions of the temporal sampler, seed {seed}, on the first {clips} of {all} held-out clips of {data} with"
    " trained weights. Operations are counted, those that were executed (exact convention)."
)


def strips(counts: Sequence[Count], evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Strips of every system with a temporal sampler.

    Returns:
        Of each: `system`, `title`, `source` ("evaluated" or "published"), `note`, and `clips`, each with `name`,
        `decisions` (F, P and S), `gflops` per frame, and `right`, whether the prediction was, if there was one.
    """
    best: dict[str, Evaluation] = {}
    for each in by_own_decisions(evaluations):
        rival = best.get(each.system)
        if spatial_sampler(each.system) and (rival is None or each.seed < rival.seed):
            best[each.system] = each
    found = []
    for count in counts:
        if count.system in best:
            found.append(_evaluated(count.title, best[count.system]))
        elif spatial_sampler(count.system) and count.shares and workload_of(count.system) in WORKLOADS:
            found.append(_seeded(count))
    return found


def _evaluated(title: str, evaluation: Evaluation) -> dict[str, Any]:
    clips = [
        {
            "name": clip.id,
            "decisions": clip.decisions,
            "gflops": round(executed_flops(evaluation, clip) / len(clip.decisions) / 1e9, 4),
            "right": all(top[0] == label for top, label in zip(clip.top, clip.labels, strict=True)),
        }
        for clip in evaluation.clips[:CLIPS]
    ]
    note = EVALUATED.format(seed=evaluation.seed, clips=len(clips), all=len(evaluation.clips), data=evaluation.data)
    return {"system": evaluation.system, "title": title, "source": "evaluated", "note": note, "clips": clips}


def _seeded(count: Count) -> dict[str, Any]:
    clips = [
        {"name": f"sequence {number + 1}", "decisions": letters, "gflops": round(_gflops(count, letters), 4)}
        for number, letters in enumerate(_sequences(count))
    ]
    note = f"{SEEDED} Shares: {count.shares_source}."
    return {"system": count.system, "title": count.title, "source": "published", "note": note, "clips": clips}


def _sequences(count: Count) -> Iterator[str]:
    found = re.search(r"-t(\d+)$", count.system)
    assert found
    assert count.shares
    policy = GivenShares(Shares(**count.shares), int(found[1]), WORKLOADS[workload_of(count.system)].frames)
    for number in range(CLIPS):
        yield "".join(
            LETTERS["full" if choice == 0 else "skip" if choice < 0 else "prescan"]
            for choice in policy.sequence(number)
        )


def _gflops(count: Count, decisions: str) -> float:
    stages = count.exact_stages
    assert stages
    total = decisions.count("F") * stages.full + decisions.count("P") * stages.prescan
    return total / len(decisions) / 1e9
