from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bench.errors import UsageError
from bench.evaluating.metrics import accuracy, difference, executed_flops, flops_per_frame, hits, shares
from bench.evaluating.summary import evaluated, learned_against_others, over_seeds
from bench.records.evaluation import Evaluation

MakeUp = Callable[..., Evaluation]

RIGHT, WRONG = ([2.0, 1.0],), ([1.0, 2.0],)


def of_hits(made_up: MakeUp, pattern: str, **changes: object) -> Evaluation:
    """An evaluation with one group of two classes; a clip for each character, 1 for a hit."""
    return made_up([(0,)] * len(pattern), [RIGHT if hit == "1" else WRONG for hit in pattern], **changes)


# --- accuracy ---


def test_both_rules_for_actions_by_hand(made_up: MakeUp) -> None:
    verbs = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    nouns = [5.0, 4.9, 4.8, 4.7, 4.6, 0.0]
    # best pairs by the sum: verb 0 with nouns 0 to 4, and only then verb 1
    labels = [(0, 0), (0, 4), (1, 0), (1, 1), (5, 0), (0, 5)]
    table = hits(made_up(labels, [(verbs, nouns)] * 6))
    assert table["top1"].tolist() == [True, False, False, False, False, False]
    assert table["top5"].tolist() == [True, True, True, True, False, False]
    assert table["product_top1"].tolist() == [True, False, False, False, False, False]
    assert table["product_top5"].tolist() == [True, True, False, False, False, False]
    assert table["verb_top1"].tolist() == [True, True, False, False, False, True]
    assert table["verb_top5"].tolist() == [True, True, True, True, False, True]
    assert table["noun_top1"].tolist() == [True, False, True, False, True, False]
    assert table["noun_top5"].tolist() == [True, True, True, True, True, False]
    assert table.index.tolist() == [f"clip-{i}" for i in range(6)]


def test_the_rules_are_those_of_all_probabilities(made_up: MakeUp) -> None:
    random = np.random.default_rng(0)
    clips = 300
    labels = [(int(random.integers(7)), int(random.integers(6))) for _ in range(clips)]
    logits = [(random.normal(size=7).tolist(), random.normal(size=6).tolist()) for _ in range(clips)]
    table = hits(made_up(labels, logits))
    for (verb, noun), groups, (_, found) in zip(labels, logits, table.iterrows(), strict=True):
        verbs, nouns = (np.exp(group) / np.exp(group).sum() for group in groups)
        products = np.outer(verbs, nouns)
        rank = int((products > products[verb, noun]).sum())
        verb_rank, noun_rank = int((verbs > verbs[verb]).sum()), int((nouns > nouns[noun]).sum())
        for k in (1, 5):
            assert found[f"product_top{k}"] == (rank < k)
            assert found[f"top{k}"] == (verb_rank < k and noun_rank < k)
    assert table["top1"].equals(table["product_top1"])
    assert (table["product_top5"] <= table["top5"]).all()
    assert table["product_top5"].sum() < table["top5"].sum()


def test_one_group_of_classes(made_up: MakeUp) -> None:
    table = hits(of_hits(made_up, "101"))
    assert list(table) == ["top1", "top5"]
    assert table["top1"].tolist() == [True, False, True]
    assert table["top5"].all()


def test_wilson_interval() -> None:
    # Newcombe (1998), Table I: 81 of 263, method 3 (score without continuity correction): 0.2553 to 0.3662
    found = accuracy(pd.Series([True] * 81 + [False] * 182))
    assert (found.value, found.low, found.high) == pytest.approx((30.798, 25.53, 36.62), abs=0.005)
    none = accuracy(pd.Series([False] * 29))  # the same table: 0 of 29, 0 to 0.1170
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, 11.70), abs=0.005)


# --- cost ---


def test_cost_follows_from_decisions(made_up: MakeUp) -> None:
    evaluation = of_hits(made_up, "11", decisions=["FFPS", "FPSS"])
    # looks: 10 + 3, and 1 for the sampler but at the first frame; 106 more for a full frame
    assert [executed_flops(evaluation, clip, "paper") for clip in evaluation.clips] == [
        3 * 13 + 2 + 212,
        2 * 13 + 1 + 106,
    ]
    assert flops_per_frame(evaluation, "paper") == (253 + 133) / 8
    assert flops_per_frame(evaluation) == 1e9 * (253 + 133) / 8
    assert shares(evaluation) == {"skip": 37.5, "prescan": 25.0, "full": 37.5}


def test_cost_of_calls_that_stand_for_several_frames(made_up: MakeUp) -> None:
    calls = {"exact": {"call": 50}, "paper": {"call": 20}}
    evaluation = of_hits(made_up, "1", decisions="FFFF", policy="fixed", stages=calls, frames_per_call=2)
    assert executed_flops(evaluation, evaluation.clips[0]) == 100
    assert flops_per_frame(evaluation, "paper") == 10


# --- differences ---


def test_differences_are_paired(made_up: MakeUp) -> None:
    a, b = of_hits(made_up, "1" * 70 + "0" * 30), of_hits(made_up, "1" * 60 + "0" * 40)
    found = difference([a], [b])
    assert found.value == pytest.approx(10)
    # ten clips of a hundred differ, all in favour of A: Poisson-like, and never below 0
    assert (found.low, found.high) == pytest.approx((5, 16), abs=1)
    opposed = difference([a], [of_hits(made_up, "0" * 40 + "1" * 60)])
    assert opposed.value == pytest.approx(10)
    assert opposed.low < 0  # the same accuracies, on other clips


def test_differences_by_drawing_clips_one_by_one(made_up: MakeUp) -> None:
    random = np.random.default_rng(1)
    patterns = ["".join(random.choice(["0", "1"], 80, p=[1 - p, p])) for p in (0.7, 0.65, 0.5, 0.45)]
    a = [of_hits(made_up, patterns[seed], seed=seed) for seed in (0, 1)]
    b = [of_hits(made_up, patterns[2 + seed], seed=seed, policy="random") for seed in (0, 1)]
    hit = np.array([[int(character) for character in pattern] for pattern in patterns])
    gains = (hit[:2] - hit[2:]).mean(axis=0)
    drawn = gains[random.integers(0, 80, (20000, 80))].mean(axis=1)
    found = difference(a, b[::-1])  # in whatever order
    assert found.value == pytest.approx(100 * gains.mean())
    assert (found.low, found.high) == pytest.approx(tuple(100 * np.percentile(drawn, [2.5, 97.5])), abs=0.7)


def test_what_cannot_be_paired_is_refused(made_up: MakeUp) -> None:
    three, four = of_hits(made_up, "101"), of_hits(made_up, "1010")
    with pytest.raises(UsageError, match=r"3 clips and the seeds \[0\], the other 4 and \[0\]"):
        difference([three], [four])
    with pytest.raises(UsageError, match=r"the other 3 and \[1\]"):
        difference([three], [replace(three, seed=1)])
    with pytest.raises(UsageError, match="one for each seed, on the same clips"):
        difference([three, replace(four, seed=1)], [three, replace(four, seed=1)])
    with pytest.raises(UsageError, match="no accuracy 'verb_top1' of mini/s3-t2 \\(learned\\)"):
        difference([three], [three], "verb_top1")


# --- tables ---


def test_a_row_for_each_evaluation_and_one_over_seeds(made_up: MakeUp) -> None:
    evaluations = [of_hits(made_up, pattern, seed=seed) for seed, pattern in enumerate(["1100", "1000", "1110"])]
    other = of_hits(made_up, "11", system="mini/s0", policy="always-full", decisions="FFFF", trained=False)
    table = evaluated([*evaluations, other])
    assert table["top1"].tolist() == [50, 25, 75, 100]
    assert table["clips"].tolist() == [4, 4, 4, 2]
    assert table["trained"].tolist() == [True, True, True, False]
    assert table["verb_top1"].isna().all()
    # FPSF by hand: 3 looks, of which 2 decide, and 2 full frames
    assert table["gflops"][0] == pytest.approx((3 * 13 + 2 + 2 * 106) / 4)
    assert table["gflops_paper"][0] == pytest.approx(253 / 4 / 1e9)
    assert table["trade_off"][0] == pytest.approx(253 / 4 / 1e9 / 50)
    assert table[["skip_pct", "prescan_pct", "full_pct"]].to_numpy()[0].tolist() == [25, 25, 50]
    means = over_seeds(table).set_index("system")
    assert means["seeds"].to_dict() == {"mini/s3-t2": 3, "mini/s0": 1}
    assert means.loc["mini/s3-t2", ["top1", "top1_spread", "gflops_spread"]].tolist() == pytest.approx([50, 25, 0])
    assert np.isnan(means.loc["mini/s0", "top1_spread"])


def test_nothing_right_has_no_trade_off(made_up: MakeUp) -> None:
    assert evaluated([of_hits(made_up, "000")])["trade_off"].isna().all()


def test_learned_decisions_against_those_that_do_not_look(made_up: MakeUp) -> None:
    evaluations = []
    for seed in (0, 1):
        evaluations += [
            of_hits(made_up, "1" * 60 + "0" * 40, seed=seed),
            of_hits(made_up, "1" * 40 + "0" * 60, seed=seed, policy="random"),
            of_hits(made_up, "0" * 39 + "1" * 61, seed=seed, policy="uniform", decisions="FSSF"),
        ]
    evaluations.append(of_hits(made_up, "0" * 100, seed=2, policy="random"))  # there is no learned one of this seed
    evaluations.append(of_hits(made_up, "1", system="mini/s0-t1"))
    full = of_hits(made_up, "1" * 85 + "0" * 15, system="mini/s3", policy="always-full", decisions="FFFF")
    evaluations.append(full)
    table = learned_against_others(evaluations)
    assert table["system"].tolist() == ["mini/s3-t2"] * 3
    assert table["rival"].tolist() == ["random", "uniform", "mini/s3"]
    assert table["seeds"].tolist() == [2, 2, 1]
    assert table["accuracy"].tolist() == pytest.approx([60, 60, 60])
    assert table["rival_accuracy"].tolist() == pytest.approx([40, 61, 85])
    assert table["gain"].tolist() == pytest.approx([20, -1, -25])
    assert table["gain_spread"].tolist() == pytest.approx([0, 0, np.nan], nan_ok=True)
    assert table["verdict"].tolist() == ["better", "no difference shown", "worse"]
    costs = np.array([253, 2 * 13 + 1 + 212, 4 * 119 + 3]) / 4
    assert table["gflops"].tolist() == pytest.approx([costs[0]] * 3)
    assert table["rival_gflops"].tolist() == pytest.approx([costs[0], costs[1], costs[2]])
    assert table["saved_pct"].tolist() == pytest.approx(list(100 * (1 - costs[0] / [costs[0], costs[1], costs[2]])))
