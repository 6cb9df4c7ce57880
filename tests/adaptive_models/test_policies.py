from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_models.policies import AlwaysFull, GivenShares, Learned, Shares
from bench.published.tables import published_shares

ROWS = [(f"epic/s{k}-t{m}", m) for k in range(4) for m in (1, 2, 3, 4)]
LOGITS = torch.zeros(1, 5)


def pooled_shares(policy: GivenShares, videos: int) -> Shares:
    kinds = Counter(
        "skip" if choice < 0 else "prescan" if choice else "full"
        for video in range(videos)
        for choice in policy.sequence(video)
    )
    return Shares(**{kind: 100 * kinds[kind] / kinds.total() for kind in ("skip", "prescan", "full")})


def could_be_made(sequence: list[int], max_skip: int, frames: int) -> bool:
    """Replays a sequence: full first, choices of 0..M where a frame is looked at, and m - 1 skips after each m."""
    if len(sequence) != frames or sequence[0] != 0:
        return False
    to_skip = 0
    for choice in sequence[1:]:
        if to_skip:
            if choice != -1:
                return False
            to_skip -= 1
        elif choice in range(max_skip + 1):
            to_skip = max(choice - 1, 0)
        else:
            return False
    return True


def enumerated(probabilities: list[float], frames: int) -> Shares:
    """Expected shares, as the sum over all sequences there are."""

    def sequences(length: int) -> Iterator[tuple[float, int, int]]:
        """Probability, full frames and pre-scanned ones of everything that can happen in so many frames."""
        if length <= 0:
            yield 1.0, 0, 0
            return
        for choice, probability in enumerate(probabilities):
            for p, full, prescan in sequences(length - max(choice, 1)):
                yield probability * p, full + (choice == 0), prescan + (choice > 0)

    everything = list(sequences(frames - 1))
    assert sum(p for p, _, _ in everything) == pytest.approx(1)
    full = 1 + sum(p * full for p, full, _ in everything)
    prescan = sum(p * prescan for p, _, prescan in everything)
    return Shares(100 * (frames - full - prescan) / frames, 100 * prescan / frames, 100 * full / frames)


def assert_close(shares: Shares, expected: Shares, tolerance: float) -> None:
    for kind in ("skip", "prescan", "full"):
        assert getattr(shares, kind) == pytest.approx(getattr(expected, kind), abs=tolerance), kind


@pytest.mark.parametrize(("system", "max_skip"), ROWS)
def test_every_row_of_table_2(system: str, max_skip: int) -> None:
    shares = Shares(**published_shares(system))
    policy = GivenShares(shares, max_skip, frames=10)
    assert_close(pooled_shares(policy, 300), shares, 0.1)
    sequences = [policy.sequence(video) for video in range(300)]
    assert all(could_be_made(sequence, max_skip, 10) for sequence in sequences)
    assert {choice for sequence in sequences for choice in sequence if choice >= 0} == set(range(max_skip + 1))
    assert len({tuple(sequence) for sequence in sequences}) > 50


@pytest.mark.parametrize(("system", "max_skip"), ROWS[1::2])
def test_the_same_shares_on_the_16_frames_of_ucf101(system: str, max_skip: int) -> None:
    shares = Shares(**published_shares(system))
    policy = GivenShares(shares, max_skip, frames=16)
    assert_close(pooled_shares(policy, 300), shares, 0.1)
    assert all(could_be_made(policy.sequence(video), max_skip, 16) for video in range(300))


def test_replaying_knows_what_cannot_be() -> None:
    assert could_be_made([0, 2, -1, 3, -1], 3, 5)
    for sequence in ([0, 2, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 4, -1, -1], [0, 1, -1, 0, 0], [0, 0, 0, 0]):
        assert not could_be_made(sequence, 3, 5)


def test_seeds_and_order_of_asking() -> None:
    shares = Shares(34.80, 44.65, 20.55)
    forward, backward, other = (GivenShares(shares, 4, 10, seed) for seed in (7, 7, 8))
    sequences = [forward.sequence(video) for video in range(20)]
    assert [backward.sequence(video) for video in reversed(range(20))] == sequences[::-1]
    assert [other.sequence(video) for video in range(20)] != sequences


def test_decisions_are_those_of_the_sequences_in_any_batch() -> None:
    policy = GivenShares(Shares(0, 50, 50), 1, 10)
    expected = [policy.sequence(video) for video in range(4)]
    together = [policy.choose([3, 0, 2], t, torch.zeros(3, 2)) for t in range(10)]
    assert together == [[expected[video][t] for video in (3, 0, 2)] for t in range(10)]
    assert [policy.choose([1], t, torch.ones(1, 2)) for t in range(10)] == [[expected[1][t]] for t in range(10)]


@given(st.integers(1, 4), st.integers(3, 7), st.floats(0.05, 0.95), st.floats(-2, 2))
@settings(max_examples=30, deadline=None)
def test_expected_shares_are_those_asked_for(max_skip: int, frames: int, p_full: float, slope: float) -> None:
    weights = [np.exp(slope * m) for m in range(1, max_skip + 1)]
    shares = enumerated([p_full, *((1 - p_full) * w / sum(weights) for w in weights)], frames)
    policy = GivenShares(shares, max_skip, frames)
    assert policy.probabilities.shape == (max_skip + 1,)
    assert_close(enumerated(policy.probabilities.tolist(), frames), shares, 1e-6)


@pytest.mark.parametrize(
    ("shares", "max_skip", "sequences"),
    [
        (Shares(0, 0, 100), 4, {(0,) * 5}),
        (Shares(0, 80, 20), 4, {(0, 1, 1, 1, 1)}),
        (Shares(40, 40, 20), 2, {(0, 2, -1, 2, -1)}),
    ],
)
def test_shares_at_the_edge_of_what_is_possible(shares: Shares, max_skip: int, sequences: set[tuple[int, ...]]) -> None:
    policy = GivenShares(shares, max_skip, frames=5)
    assert {tuple(policy.sequence(video)) for video in range(50)} == sequences


@pytest.mark.parametrize(
    ("shares", "max_skip"),
    [
        (Shares(10, 40, 50), 1),  # T_1 never skips
        (Shares(0, 95, 5), 4),  # the first of ten frames is full
        (Shares(60, 20, 20), 2),  # T_2 skips one frame for each that it pre-scans
        (Shares(10, 0, 90), 4),  # nothing is skipped without a pre-scan
    ],
)
def test_shares_that_cannot_be(shares: Shares, max_skip: int) -> None:
    with pytest.raises(ValueError, match=rf"T_{max_skip} cannot make Shares\(.*\) on 10 frames"):
        GivenShares(shares, max_skip, 10)


@pytest.mark.parametrize(
    "shares", [Shares(0, 50, 51), Shares(0, 0, 0), Shares(-10, 60, 50), Shares(float("nan"), 50, 50), Shares(0, 0, 1)]
)
def test_shares_that_are_none(shares: Shares) -> None:
    with pytest.raises(ValueError, match=r"shares are parts of 100 per cent, got Shares\("):
        GivenShares(shares, 1, 10)


@pytest.mark.parametrize(("max_skip", "frames"), [(0, 10), (1, 1)])
def test_nothing_to_choose(max_skip: int, frames: int) -> None:
    with pytest.raises(ValueError, match=f"T_{max_skip} on {frames} frames has nothing to choose"):
        GivenShares(Shares(0, 0, 100), max_skip, frames)


def test_a_longer_video_than_was_planned_for() -> None:
    policy = GivenShares(Shares(0, 50, 50), 1, frames=10)
    with pytest.raises(ValueError, match="videos of 10 frames, there is none for frame 10"):
        policy.choose([0], 10, LOGITS)


def test_always_full() -> None:
    assert AlwaysFull().choose([4, 2, 7], 3, torch.ones(3, 5)) == [0, 0, 0]


def test_learned_is_greedy_without_a_seed() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 1.0, 0.0], [0.0, 1.0, 1.5]])
    assert Learned().choose([0, 1, 2], 1, logits) == [1, 0, 2]


def test_learned_draws_the_same_in_any_batch_and_however_often() -> None:
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    policy = Learned(seed=3)
    together = policy.choose(range(6), 2, logits)
    singly = [Learned(seed=3).choose([video], 2, logits[video : video + 1])[0] for video in range(6)]
    assert together == singly == policy.choose(range(6), 2, logits)


def test_learned_draws_from_the_softmax_anew_for_each_video_frame_and_seed() -> None:
    probabilities = torch.tensor([0.4, 0.3, 0.2, 0.1])
    logits = probabilities.log().expand(50, 4)
    drawn = torch.tensor([Learned(seed).choose(range(50), t, logits) for seed in range(5) for t in range(1, 10)])
    shares = drawn.flatten().bincount(minlength=4) / drawn.numel()
    # Standard errors of the shares of 2250 draws are about 0.01.
    torch.testing.assert_close(shares, probabilities, rtol=0, atol=0.04)
    # Neither frames and seeds, nor videos, repeat each other.
    assert drawn.unique(dim=0).shape == drawn.unique(dim=1).shape == drawn.shape
