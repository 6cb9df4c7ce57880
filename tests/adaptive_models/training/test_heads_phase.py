from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_material import FRAMES, SmallDataset, make_system, without_dropout

from adaptive_models.parts import load_part
from adaptive_models.policies import AlwaysFull
from adaptive_models.training.cache import FeatureCache, fill_cache
from adaptive_models.training.decisions import average
from adaptive_models.training.heads import HeadsPhase
from adaptive_models.training.losses import accuracy, cross_entropy

CLIPS, HIDDEN = 5, 48


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(fill_cache(make_system(3, None), SmallDataset(CLIPS), FRAMES, tmp_path_factory.mktemp("cache")))


def phase(kept: FeatureCache, crops: int = 2) -> HeadsPhase:
    training = HeadsPhase(make_system(crops, None, hidden=HIDDEN), kept, kept, batch=CLIPS, seed=0)
    without_dropout(training.module)
    return training


@pytest.mark.parametrize("crops", [0, 2])
def test_learns_clips_by_heart(kept: FeatureCache, crops: int, tmp_path: Path) -> None:
    training = phase(kept, crops)
    optimizer = torch.optim.Adam(training.module.parameters(), lr=0.01)
    before = training.validate()
    for epoch in range(25):
        for batch in training.batches(epoch, 0, 1):
            optimizer.zero_grad()
            training.loss(batch, epoch)[0].backward()
            optimizer.step()
    with torch.no_grad():
        after = training.validate()
    assert after["loss"] < before["loss"] / 4
    assert after["top1 action"] == 100
    training.finish(tmp_path)
    system, dataset = make_system(crops, None, hidden=HIDDEN), SmallDataset(CLIPS)
    load_part(system.classifier, tmp_path / f"heads-s{crops}.safetensors")
    results = system.run([dataset.open(clip, FRAMES) for clip in dataset.clips], AlwaysFull())
    predictions = [tuple(int(group.argmax()) for group in result.logits) for result in results]
    assert predictions == [clip.labels for clip in dataset.clips]


def test_each_head_learns_from_its_own_mistakes_by_its_weight(kept: FeatureCache) -> None:
    training = phase(kept)
    batch = kept.read(range(4))
    heads, labels = training._classify(batch)
    loss, scalars = training.loss(batch, 0)
    expected = sum(theta * cross_entropy(head, labels) for theta, head in zip((0.3, 0.3, 0.4), heads, strict=True))
    torch.testing.assert_close(loss, expected)
    assert scalars == accuracy(average(heads), labels)


def test_halves_of_a_batch_have_its_loss(kept: FeatureCache) -> None:
    training = HeadsPhase(make_system(2, None, hidden=HIDDEN), kept, None, batch=4, seed=0)
    training.module.train()  # with dropout
    whole, _ = training.loss(kept.read(range(4)), 0)
    halves = [training.loss(kept.read(range(start, 4, 2)), 0)[0] for start in range(2)]
    torch.testing.assert_close(torch.stack(halves).mean(), whole)
    assert training.loss(kept.read(range(4)), 1)[0] != whole
