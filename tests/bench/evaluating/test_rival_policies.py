from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from bench.evaluating.policies import Shuffled, Uniform

LOGITS = torch.zeros(1, 5)


@st.composite
def decisions_of_t4(draw: st.DrawFn, frames: int = 10) -> str:
    made = "F"
    while len(made) < frames:
        choice = draw(st.integers(0, 4))
        made += "F" if choice == 0 else "P" + "S" * (choice - 1)
    return made[:frames]


def followed(policy: Shuffled, video: int, frames: int) -> str:
    """What a system does that follows the policy."""
    made = "F"
    while len(made) < frames:
        (choice,) = policy.choose([video], len(made), LOGITS)
        made += "F" if choice == 0 else "P" + "S" * (choice - 1)
    return made


@given(st.lists(decisions_of_t4(), min_size=1, max_size=12), st.integers(0, 5))
def test_random_decisions_cost_exactly_what_learned_ones_do(learned: list[str], seed: int) -> None:
    policy = Shuffled(learned, seed)
    drawn = [followed(policy, video, 10) for video in range(len(learned))]
    # clip by clip the counts are those of another clip; none is used twice
    assert Counter(map(str, map(sorted, drawn))) == Counter(map(str, map(sorted, learned)))
    # and so are the lengths of what is skipped, each pre-scan with all that follows it
    assert sorted(run for string in drawn for run in string.split("F") for run in run.split("P")) == sorted(
        run for string in learned for run in string.split("F") for run in run.split("P")
    )


def test_random_decisions_depend_on_the_seed_alone() -> None:
    learned = ["FPSPFPPSSF"] * 30
    first, again, other = ([followed(Shuffled(learned, seed), video, 10) for video in range(30)] for seed in (1, 1, 2))
    assert first == again != other


def test_a_random_full_frame_may_come_anywhere_and_in_any_clip() -> None:
    learned = ["FFPPPPPPPP"] * 900 + ["FPPPPPPPPP"] * 900
    policy = Shuffled(learned, 0)
    drawn = [followed(policy, video, 10) for video in range(1800)]
    places = Counter(string.find("F", 1) for string in drawn)
    assert chisquare([places[t] for t in range(1, 10)]).pvalue > 0.001
    assert abs(sum("F" in string[1:] for string in drawn[:900]) - 450) < 75  # five standard deviations


@given(st.integers(1, 60), st.integers(2, 16), st.integers(10, 1000), st.data())
def test_uniform_frames_cost_the_budget_to_within_one_full_frame(
    clips: int, frames: int, full: int, data: st.DataObject
) -> None:
    budget = data.draw(st.integers(full * clips, full * clips * frames))
    uniform = Uniform(budget, full, clips, frames)
    chosen = [uniform.frames_of(video) for video in range(clips)]
    assert 0 <= budget - full * sum(map(len, chosen)) < full
    counts = {len(own) for own in chosen}
    assert max(counts) - min(counts) <= 1
    for own in chosen:
        assert own[0] == 0
        steps = np.diff([*own, frames])
        assert steps.min() >= 1
        assert steps.max() - steps.min() <= 1


def test_uniform_frames_by_hand() -> None:
    # 2.5 full frames a clip: two of ten, then three of ten
    uniform = Uniform(budget=1000, full=100, clips=4, frames=10)
    assert [uniform.frames_of(video) for video in range(4)] == [[0, 5], [0, 3, 6], [0, 5], [0, 3, 6]]
