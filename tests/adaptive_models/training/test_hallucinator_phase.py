from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adaptive_models.hallucinator import Hallucinator
from adaptive_models.parts import load_part
from adaptive_models.ssim import ssim
from adaptive_models.training.cache import KEPT, ClipFeatures, FeatureCache
from adaptive_models.training.hallucinator import HallucinatorPhase, foresight, hallucinate_along, start_at_mean

CHANNELS, FRAMES = 2, 8


def moving_spots(clips: int, seed: int, tmp_path: Path) -> FeatureCache:
    """Attention in which a spot moves along a row, one cell a frame and round the edge: foreseeable, bad to copy."""
    random = np.random.default_rng(seed)
    attention = 0.1 + 0.05 * random.random((clips, FRAMES, CHANNELS, 7, 7))
    for clip, (row, column) in enumerate(random.integers(0, 7, (clips, 2))):
        for t in range(FRAMES):
            attention[clip, t, :, row, (column + t) % 7] += 1
    folder = tmp_path / f"spots-{seed}"
    folder.mkdir()
    kept = {
        "attention": attention.astype(np.float32),
        "image": np.zeros((clips, FRAMES, 1), np.float32),
        "crops": np.zeros((clips, FRAMES, 1, 1), np.float32),
        "boxes": np.zeros((clips, FRAMES, 1, 4), np.int16),
        "labels": np.zeros((clips, 1), np.int64),
        "state": np.full(clips, KEPT),
    }
    for name, values in kept.items():
        np.save(folder / f"{name}.npy", values)
    return FeatureCache(folder)


@pytest.fixture
def spots(tmp_path: Path) -> FeatureCache:
    return moving_spots(12, 0, tmp_path)


def test_a_new_hallucinator_says_what_attention_is_on_average(spots: FeatureCache) -> None:
    hallucinator = Hallucinator(CHANNELS, 4)
    start_at_mean(hallucinator, spots, batch=5)
    attention = spots.read(spots.positions).attention
    hallucinations = hallucinate_along(hallucinator.train(), attention, torch.ones(attention.shape[:2]) > 0)
    by_channel = hallucinations.transpose(0, 2).flatten(1)
    assert torch.allclose(by_channel.mean(dim=1), attention.mean(dim=(0, 1, 3, 4)), rtol=0.5)
    norm = hallucinator.decoder[1]
    assert isinstance(norm, torch.nn.BatchNorm2d)
    assert torch.allclose(norm.weight, attention.transpose(0, 2).flatten(1).std(dim=1), rtol=0.02)
    assert torch.allclose(norm.bias, attention.mean(dim=(0, 1, 3, 4)), rtol=0.02)


class Adding(torch.nn.Module):
    """Adds 1 to what it is fed, and counts in its memory how often it was asked."""

    def forward(self, attention: Tensor, memory: Any) -> tuple[Tensor, Any]:
        self.asked = 1 if memory is None else memory + 1
        return attention + 1, self.asked


def test_hallucinations_are_fed_where_attention_is_not_forced() -> None:
    attention = torch.tensor([[0.0, 10, 20, 30, 40], [0.0, 10, 20, 30, 40]])[:, :, None, None, None]
    forced = torch.tensor([[True, False, False, True, True], [False, True, True, True, False]])
    hallucinator = Adding()
    found = hallucinate_along(hallucinator, attention, forced)  # type: ignore[arg-type]
    assert found.flatten(1).tolist() == [[1, 2, 3, 31], [1, 11, 21, 31]]
    assert hallucinator.asked == 4


def phase(spots: FeatureCache, **settings: Any) -> HallucinatorPhase:
    torch.manual_seed(0)
    return HallucinatorPhase(Hallucinator(CHANNELS, 8), spots, None, batch=6, seed=3, **settings)


def test_the_first_epoch_is_the_negative_mean_ssim_of_every_frame_but_the_first(spots: FeatureCache) -> None:
    training = phase(spots)
    batch = spots.read(range(6))
    loss, scalars = training.loss(batch, epoch=0)
    memory, similarities = None, []
    for t in range(FRAMES - 1):
        hallucination, memory = training.module(batch.attention[:, t], memory)
        similarities.append(ssim(hallucination, batch.attention[:, t + 1]))
    torch.testing.assert_close(loss, -torch.stack(similarities).mean())
    assert scalars["teacher forcing"] == 1
    late, _ = phase(spots, loss_in_warm_up=False).loss(batch, epoch=0)
    torch.testing.assert_close(late, -torch.stack(similarities[4:]).mean())


def forced_in(training: HallucinatorPhase, batch: ClipFeatures, epoch: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    seen: list[Tensor] = []

    def spy(hallucinator: Hallucinator, attention: Tensor, forced: Tensor) -> Tensor:
        seen.append(forced)
        return hallucinate_along(hallucinator, attention, forced)

    monkeypatch.setattr("adaptive_models.training.hallucinator.hallucinate_along", spy)
    training.loss(batch, epoch)
    return seen[0]


def test_attention_is_forced_less_and_less_once_the_warm_up_is_over(
    spots: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, batch = phase(spots, warm_up=2, forcing_decay=0.95), spots.read(range(12))
    shares = []
    for epoch in (0, 20, 200):
        forced = forced_in(training, batch, epoch, monkeypatch)
        assert forced[:, :2].all()
        shares.append(forced[:, 2:].double().mean().item())
    assert shares[0] == 1
    assert shares[1] == pytest.approx(0.95**20, abs=0.15)
    assert shares[2] == 0
    assert torch.equal(
        forced_in(training, spots.read([4]), 20, monkeypatch)[0], forced_in(training, batch, 20, monkeypatch)[4]
    )


def test_halves_of_a_batch_have_its_loss(spots: FeatureCache) -> None:
    training = phase(spots, warm_up=1)
    training.module.eval()  # so that batch normalisation, which the loop synchronises, plays no part
    whole, _ = training.loss(spots.read(range(6)), epoch=9)
    halves = [training.loss(spots.read(range(start, 6, 2)), epoch=9)[0] for start in range(2)]
    torch.testing.assert_close(torch.stack(halves).mean(), whole)


def test_learns_to_foresee_better_than_a_copy_on_clips_that_it_has_not_seen(
    spots: FeatureCache, tmp_path: Path
) -> None:
    unseen = moving_spots(10, 1, tmp_path)
    torch.manual_seed(0)
    training = HallucinatorPhase(Hallucinator(CHANNELS, 16), spots, unseen, batch=12, seed=3)
    optimizer = torch.optim.Adam(training.module.parameters(), lr=0.01)
    for epoch in range(60):
        training.module.train()
        for batch in training.batches(epoch, 0, 1):
            optimizer.zero_grad()
            training.loss(batch, epoch)[0].backward()
            optimizer.step()
    found = training.validate()
    assert found["ssim"] > found["ssim copy"] + 0.05
    copied = unseen.read(range(10)).attention
    assert found["ssim copy"] == pytest.approx(
        ssim(copied[:, :-1].flatten(0, 1), copied[:, 1:].flatten(0, 1)).mean().item()
    )
    training.finish(tmp_path)
    loaded = Hallucinator(CHANNELS, 16)
    load_part(loaded, tmp_path / "hallucinator.safetensors")
    assert foresight(loaded, unseen, 4)["ssim"].mean().item() == pytest.approx(found["ssim"], abs=1e-5)


def test_hallucinations_run_freely_once_the_warm_up_is_over(spots: FeatureCache) -> None:
    torch.manual_seed(0)
    hallucinator = Hallucinator(CHANNELS, 8).eval()
    found = foresight(hallucinator, spots, 5, warm_up=5)
    same = (found["ssim"] == found["ssim free"]).all(dim=0).tolist()
    assert same == [True] * 5 + [False] * 2
    assert all(values.shape == (12, FRAMES - 1) for values in found.values())


def test_clips_that_are_all_warm_up_are_refused(spots: FeatureCache) -> None:
    with pytest.raises(ValueError, match="clips of 8 frames have none to hallucinate from frame 9 on"):
        phase(spots, warm_up=9, loss_in_warm_up=False)
