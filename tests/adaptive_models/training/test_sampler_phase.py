from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from training_material import FRAMES, SmallDataset, make_system, without_dropout

from adaptive_models.parts import load_part, sampler_part
from adaptive_models.policies import Learned
from adaptive_models.training import sampler
from adaptive_models.training.cache import FeatureCache, fill_cache
from adaptive_models.training.decisions import decide
from adaptive_models.training.sampler import Costs, SamplerPhase, start_balanced

COSTS = Costs(prescan=0.5, full=6.0)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(fill_cache(make_system(3, None), SmallDataset(6), FRAMES, tmp_path_factory.mktemp("cache")))


def phase(kept: FeatureCache, max_skip: int = 3, **settings: Any) -> SamplerPhase:
    training = SamplerPhase(make_system(2, max_skip), kept, kept, COSTS, batch=6, seed=0, **settings)
    without_dropout(training.module)
    return training


def test_validation_is_what_the_system_does_by_itself(kept: FeatureCache) -> None:
    dataset = SmallDataset(6)
    results = make_system(2, 3).run([dataset.open(clip, FRAMES) for clip in dataset.clips], Learned())
    decisions = [decision for result in results for decision in result.decisions]
    with torch.no_grad():
        found = phase(kept).validate()
    shares = {name: 100 * decisions.count(name) / len(decisions) for name in ("full", "prescan", "skip")}
    assert {name: found[f"{name} %"] for name in shares} == pytest.approx(shares)
    assert found["gflops per frame"] == pytest.approx((shares["full"] * 6.0 + shares["prescan"] * 0.5) / 100)
    right = [
        (int(result.logits[0].argmax()), int(result.logits[1].argmax())) == clip.labels
        for clip, result in zip(dataset.clips, results, strict=True)
    ]
    assert found["top1 action"] == pytest.approx(100 * sum(right) / len(right))


def test_a_new_sampler_heeds_its_three_inputs_alike(kept: FeatureCache) -> None:
    system = make_system(2, 3, hidden=256)
    assert system.temporal_sampler is not None
    seen: list[torch.Tensor] = []
    system.temporal_sampler.rnn.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][:, 0]))
    weight, bias = (system.temporal_sampler.rnn.get_parameter(name) for name in ("weight_ih_l0", "bias_ih_l0"))
    before = bias.detach().clone()
    start_balanced(system, kept, batch=4)
    with torch.no_grad():
        decide(system, kept.read(range(6)).attention, lambda scores, t: torch.eye(4)[[1] * len(scores)])  # look at all
    inputs = torch.cat(seen)
    cells = (inputs.shape[1] - 1) // 2
    varying = inputs - inputs.mean(dim=0)
    parts = zip(weight.split((cells, cells, 1), dim=1), varying.split((cells, cells, 1), dim=1), strict=True)
    spreads = [(values @ own.T).std().item() for own, values in parts]
    assert max(spreads) < 3 * min(spreads)
    torch.testing.assert_close(bias + weight @ inputs.mean(dim=0), before, rtol=0, atol=1e-3)


def test_halves_of_a_batch_have_its_loss(kept: FeatureCache) -> None:
    training = SamplerPhase(make_system(2, 3), kept, kept, COSTS, batch=6, seed=0)
    training.module.train()  # with dropout
    whole, scalars = training.loss(kept.read(range(6)), 3)
    halves = [training.loss(kept.read(range(start, 6, 2)), 3) for start in range(2)]
    torch.testing.assert_close(torch.stack([loss for loss, _ in halves]).mean(), whole)
    assert scalars["full %"] == pytest.approx((halves[0][1]["full %"] + halves[1][1]["full %"]) / 2)


def test_choices_differ_from_epoch_to_epoch_and_repeat_with_the_seed(kept: FeatureCache) -> None:
    batch = kept.read(range(6))
    losses = [phase(kept).loss(batch, epoch)[0].item() for epoch in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]


def test_the_loss_is_the_weighted_sum_of_its_terms(kept: FeatureCache) -> None:
    batch = kept.read(range(6))
    loss, scalars = phase(kept, theta_efficiency=0.2, theta_usage=3.0).loss(batch, 0)
    terms = scalars["class loss"] + 0.2 * scalars["efficiency loss"] + 3 * scalars["usage loss"]
    assert loss.item() == pytest.approx(terms)
    share = (scalars["full %"] * COSTS.full + scalars["prescan %"] * COSTS.prescan) / 100
    assert scalars["efficiency loss"] == pytest.approx(share * FRAMES)
    _, relative = phase(kept, relative=True).loss(batch, 0)
    assert relative["efficiency loss"] == pytest.approx(share / COSTS.full)


def test_the_temperature_falls_as_published(kept: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def spy(scores: torch.Tensor, noise: torch.Tensor, temperature: float) -> torch.Tensor:
        seen.append(temperature)
        return straight_through(scores, noise, temperature)

    straight_through = sampler.straight_through
    monkeypatch.setattr(sampler, "straight_through", spy)
    phase(kept).loss(kept.read([0]), 10)
    assert set(seen) == {5 * math.exp(-0.045 * 10)}
    assert len(seen) == FRAMES - 1


def test_only_sampler_and_heads_train_and_both_do(kept: FeatureCache) -> None:
    training = phase(kept)
    system = training.system
    before = {name: own.clone() for name, own in system.state_dict().items()}
    parameters = [own for own in training.module.parameters() if own.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    training.module.train()
    training.loss(kept.read(range(6)), 0)[0].backward()
    optimizer.step()
    changed = {name for name, own in system.state_dict().items() if not torch.equal(own, before[name])}
    assert changed == {name for name in before if name.startswith(("temporal_sampler.", "classifier."))}


def test_learns_to_spend_nothing_where_it_is_not_worth_it(kept: FeatureCache, tmp_path: Path) -> None:
    training = phase(kept, max_skip=2, theta_efficiency=1.0, temperature=1.0)
    optimizer = torch.optim.Adam(training.module.parameters(), lr=0.01)
    for epoch in range(25):
        for batch in training.batches(epoch, 0, 1):
            optimizer.zero_grad()
            training.loss(batch, epoch)[0].backward()
            optimizer.step()
    with torch.no_grad():
        found = training.validate()
    assert found["full %"] == pytest.approx(100 / FRAMES)
    assert found["skip %"] > 25  # at most 33
    training.finish(tmp_path)
    loaded, dataset = make_system(2, 2), SmallDataset(6)
    load_part(sampler_part(loaded), tmp_path / "sampler-s2-t2.safetensors")
    results = loaded.run([dataset.open(clip, FRAMES) for clip in dataset.clips], Learned())
    skipped = sum(result.decisions.count("skip") for result in results)
    assert 100 * skipped / (6 * FRAMES) == pytest.approx(found["skip %"])


def test_a_system_without_temporal_sampler_is_refused(kept: FeatureCache) -> None:
    with pytest.raises(ValueError, match="nothing to sample without a temporal sampler"):
        SamplerPhase(make_system(2, None), kept, None, COSTS, batch=1, seed=0)
