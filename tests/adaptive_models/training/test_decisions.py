from __future__ import annotations

from functools import cache
from itertools import product

import pytest
import torch
from torch import Tensor
from training_material import FRAMES, SmallDataset, make_system

from adaptive_models.data.clips import TensorClip
from adaptive_models.policies import AlwaysFull, Learned
from adaptive_models.system import AdaptiveSystem
from adaptive_models.training.cache import FeatureCache, fill_cache
from adaptive_models.training.decisions import average, best, classify, decide, straight_through
from adaptive_models.training.losses import cross_entropy, efficiency_loss

PRESCAN, FULL = 0.5, 6.0


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(fill_cache(make_system(3, None), SmallDataset(5), FRAMES, tmp_path_factory.mktemp("cache")))


def decisions_of(looked: Tensor, full: Tensor) -> list[list[str]]:
    names = {(0, 0): "skip", (1, 0): "prescan", (1, 1): "full"}
    return [
        [names[pair] for pair in zip(*rows, strict=True)] for rows in zip(looked.tolist(), full.tolist(), strict=True)
    ]


def open_clips(count: int) -> list[TensorClip]:
    dataset = SmallDataset(count)
    return [dataset.open(clip, FRAMES) for clip in dataset.clips]


@pytest.mark.parametrize(("crops", "max_skip"), [(0, 2), (1, 1), (2, 3), (3, 4)])
def test_greedy_choices_are_those_of_the_system_itself(kept: FeatureCache, crops: int, max_skip: int) -> None:
    system = make_system(crops, max_skip)
    expected = system.run(open_clips(5), Learned())
    features = kept.read(range(5))
    with torch.inference_mode():
        decisions = decide(system, features.attention, best)
        logits = average(classify(system, features, decisions.full))
    assert decisions_of(decisions.looked, decisions.full) == [result.decisions for result in expected]
    for group, own in enumerate(logits):
        torch.testing.assert_close(
            own, torch.stack([result.logits[group] for result in expected]), rtol=1e-4, atol=1e-4
        )
    made = {decision for result in expected for decision in result.decisions}
    assert made == ({"full", "prescan"} if max_skip == 1 else {"full", "prescan", "skip"})


@pytest.mark.parametrize("crops", [0, 3])
def test_logits_of_full_frames_are_those_of_the_system_itself(kept: FeatureCache, crops: int) -> None:
    system = make_system(crops, None)
    expected = system.run(open_clips(3), AlwaysFull())
    with torch.inference_mode():
        logits = average(classify(system, kept.read(range(3)), torch.ones(3, FRAMES)))
    for group, own in enumerate(logits):
        torch.testing.assert_close(
            own, torch.stack([result.logits[group] for result in expected]), rtol=1e-4, atol=1e-4
        )


def outcome(choices: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Which frames are looked at and which are full, for a choice at every frame from the second on."""
    looked, full = [1] + [0] * len(choices), [1] + [0] * len(choices)
    t = 1
    while t <= len(choices):
        looked[t], full[t] = 1, int(choices[t - 1] == 0)
        t += max(choices[t - 1], 1)
    return looked, full


@pytest.mark.parametrize("max_skip", [1, 2, 3])
def test_soft_choices_give_the_expected_numbers_of_looks(max_skip: int) -> None:
    frames = 5
    system = make_system(0, max_skip)
    torch.manual_seed(0)
    shares = torch.randn(frames, max_skip + 1).softmax(dim=1)
    found = decide(system, torch.rand(1, frames, 2, 7, 7), lambda scores, t: shares[t][None])
    looked, full = torch.zeros(frames), torch.zeros(frames)
    for choices in product(range(max_skip + 1), repeat=frames - 1):
        probability = torch.stack([shares[t, choice] for t, choice in enumerate(choices, start=1)]).prod()
        for total, own in zip((looked, full), outcome(choices), strict=True):
            total += probability * torch.tensor(own)
    torch.testing.assert_close(found.looked[0], looked)
    torch.testing.assert_close(found.full[0], full)


def test_samples_are_exactly_one_hot_and_have_the_gradient_of_the_softmax() -> None:
    torch.manual_seed(0)
    scores, noise, direction = torch.randn(64, 4), torch.randn(64, 4), torch.randn(64, 4)
    scores.requires_grad_()
    sample = straight_through(scores, noise, 0.7)
    assert set(sample.unique().tolist()) == {0, 1}
    assert torch.equal(sample.argmax(dim=1), (scores + noise).argmax(dim=1))
    (gradient,) = torch.autograd.grad((sample * direction).sum(), scores)
    (expected,) = torch.autograd.grad((((scores + noise) / 0.7).softmax(dim=1) * direction).sum(), scores)
    torch.testing.assert_close(gradient, expected)


@cache
def double_system() -> AdaptiveSystem:
    return make_system(0, 3).double()


def efficiency_of(scores: Tensor, noise: Tensor | None) -> Tensor:
    """L_e of one clip whose sampler gives these scores (T, M + 1): of samples, or without noise of soft choices."""

    def choose(_: Tensor, t: int) -> Tensor:
        row = scores[t][None]
        return row.softmax(dim=1) if noise is None else straight_through(row, noise[t][None], 1.0)

    decisions = decide(double_system(), torch.ones(1, len(scores), 2, 7, 7, dtype=torch.float64), choose)
    return efficiency_loss(decisions.looked, decisions.full, PRESCAN, FULL)


def test_efficiency_of_soft_choices_has_the_gradient_of_finite_differences() -> None:
    torch.manual_seed(0)
    scores = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda own: efficiency_of(own, None), scores)


@pytest.mark.parametrize("seed", range(4))
def test_efficiency_of_samples_falls_with_the_score_of_skipping_and_rises_with_that_of_looking(seed: int) -> None:
    torch.manual_seed(seed)
    scores = torch.zeros(6, 4, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(6, 4, dtype=torch.float64)
    loss = efficiency_of(scores, noise)
    looked, full = outcome(tuple(noise[1:].argmax(dim=1).tolist()))
    assert loss.item() == pytest.approx(sum(full) * FULL + (sum(looked) - sum(full)) * PRESCAN)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert not gradient[0].any()  # it is not asked there
    for t in range(1, 6):
        if looked[t]:
            assert gradient[t, 0] > 0
            assert gradient[t, 1:].sum() < 0
        else:
            assert not gradient[t].any()


def test_gradient_of_a_sample_is_what_the_loss_would_change_by() -> None:
    """Choices enter looks and full frames linearly each, so a difference of one choice is exact."""
    chosen = torch.eye(4, dtype=torch.float64)[torch.tensor([0, 2, 0, 0, 3, 1, 0])]
    chosen.requires_grad_()
    attention = torch.ones(1, 7, 2, 7, 7, dtype=torch.float64)

    def cost(choices: Tensor) -> Tensor:
        decisions = decide(double_system(), attention, lambda _, t: choices[t][None])
        return efficiency_loss(decisions.looked, decisions.full, PRESCAN, FULL)

    (gradient,) = torch.autograd.grad(cost(chosen), chosen)
    for t in range(1, 7):
        before = int(chosen[t].argmax())
        for other in range(4):
            changed = chosen.detach().clone()
            changed[t] = torch.eye(4, dtype=torch.float64)[other]
            torch.testing.assert_close(gradient[t, other] - gradient[t, before], cost(changed) - cost(chosen.detach()))


def test_classification_tells_the_sampler_which_frames_matter(kept: FeatureCache) -> None:
    system = make_system(2, 3)
    features = kept.read(range(5))
    assert system.temporal_sampler is not None
    torch.manual_seed(0)
    decisions = decide(
        system, features.attention, lambda scores, t: straight_through(scores, torch.randn_like(scores), 1.0)
    )
    loss = cross_entropy(average(classify(system, features, decisions.full)), features.labels)
    loss.backward()
    for parameter in system.temporal_sampler.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_cost_alone_teaches_the_sampler_to_skip_as_much_as_it_can(kept: FeatureCache) -> None:
    system = make_system(0, 3)
    assert system.temporal_sampler is not None
    features = kept.read(range(5))
    optimizer = torch.optim.Adam(system.temporal_sampler.parameters(), lr=0.01)
    torch.manual_seed(0)
    for _ in range(30):
        decisions = decide(
            system,
            features.attention,
            lambda scores, t: straight_through(scores, torch.distributions.Gumbel(0, 1).sample(scores.shape), 1.0),
        )
        optimizer.zero_grad()
        efficiency_loss(decisions.looked, decisions.full, PRESCAN, FULL).backward()
        optimizer.step()
    with torch.inference_mode():
        decisions = decide(system, features.attention, best)
    # A full frame and two looks are the least that six frames need, be the second at frame 3 or at frame 4.
    assert decisions.full.sum(dim=1).tolist() == [1] * 5
    assert decisions.looked.sum(dim=1).tolist() == [3] * 5


def test_features_of_frames_that_are_not_looked_at_play_no_part(kept: FeatureCache) -> None:
    system = make_system(2, 3)
    features = kept.read(range(5))
    with torch.inference_mode():
        before = decide(system, features.attention, best)
        skipped = before.looked == 0
        assert skipped.any()
        features.attention[skipped] = 7.0
        features.image[before.full == 0] = 7.0
        after = decide(system, features.attention, best)
        changed = classify(system, features, after.full)
        unchanged = classify(system, kept.read(range(5)), before.full)
    assert torch.equal(before.full, after.full)
    for one, other in zip(average(changed), average(unchanged), strict=True):
        assert torch.equal(one, other)
