from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_material import CLASSES, SmallDataset, make_system, narrow

from adaptive_models.parts import load_part
from adaptive_models.san import SAN
from adaptive_models.system import LOW_SIZE
from adaptive_models.training.features import FeaturesPhase, reduce_images
from adaptive_models.training.losses import cross_entropy


class Classifier(nn.Module):
    """A network on the frames of segments and, if wanted, one on their spectrograms."""

    def __init__(self, modalities: tuple[str, ...]) -> None:
        super().__init__()
        channels = {"rgb": 3, "spectrogram": 1}
        self.backbones = nn.ModuleDict({name: narrow(channels[name]) for name in modalities})
        self.classifiers = nn.ModuleList(nn.Linear(64 * len(modalities), count) for count in CLASSES)

    def forward(self, **clips: Tensor) -> tuple[Tensor, ...]:
        segments = clips["rgb"].shape[:2]
        features = [net(clips[name].flatten(0, 1)) for name, net in self.backbones.items()]
        hidden = torch.cat(features, dim=1).unflatten(0, segments)
        return tuple(classifier(hidden).mean(dim=1) for classifier in self.classifiers)


def phase(*modalities: str, size: int | None = None, partial_bn: bool = False) -> FeaturesPhase:
    torch.manual_seed(0)
    module = Classifier(modalities)
    parts: dict[str, nn.Module] = {"rgb-112": module.backbones["rgb"], "classifiers": module.classifiers}
    return FeaturesPhase(
        "features-rgb-112",
        module,
        parts,
        SmallDataset(4),
        SmallDataset(3, first=4, split="val"),
        batch=2,
        seed=0,
        modalities=modalities,
        segments=2,
        image_size=size,
        partial_bn=partial_bn,
    )


def test_the_loss_is_that_of_the_mean_of_the_segments() -> None:
    training = phase("rgb", "spectrogram")
    training.module.eval()
    batch = next(iter(training.batches(0, 0, 1)))
    assert batch.rgb is not None
    assert batch.spectrogram is not None
    assert batch.rgb.shape == (2, 2, 3, 224, 224)
    segments = [training.module(rgb=batch.rgb[:, [s]], spectrogram=batch.spectrogram[:, [s]]) for s in range(2)]
    logits = tuple((one + other) / 2 for one, other in zip(*segments, strict=True))
    loss, scalars = training.loss(batch, 0)
    torch.testing.assert_close(loss, cross_entropy(logits, batch.labels))
    assert scalars.keys() == {"top1 verb", "top1 noun", "top1 action"}
    assert training.size(batch) == 2


def test_images_are_reduced_as_the_system_reduces_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def spy(self: SAN, x: Tensor) -> Tensor:
        seen.append(x)
        return x.new_zeros(len(x), 64)

    monkeypatch.setattr(SAN, "forward", spy)
    training = phase("rgb", size=LOW_SIZE)
    batch = next(iter(training.batches(0, 0, 1)))
    training.loss(batch, 0)
    assert batch.rgb is not None
    state, _ = make_system(0, None).scan(batch.rgb.flatten(0, 1))
    assert torch.equal(seen[0], state)


def test_an_epoch_sees_every_clip_at_frames_of_its_own() -> None:
    training = phase("rgb", size=32)

    def frames(epoch: int) -> dict[int, Tensor]:
        found = {}
        for batch in training.batches(epoch, 0, 1):
            assert batch.rgb is not None
            found |= dict(zip(batch.positions.tolist(), batch.rgb, strict=True))
        return found

    first, again, second = frames(0), frames(0), frames(1)
    assert first.keys() == set(range(4))
    assert all(torch.equal(first[clip], again[clip]) for clip in first)
    assert not any(torch.equal(first[clip], second[clip]) for clip in first)


def test_partial_batch_normalisation_freezes_all_but_the_first_layer() -> None:
    training = phase("rgb", size=64, partial_bn=True)
    norms = {name: own for name, own in training.module.named_modules() if isinstance(own, nn.BatchNorm2d)}
    first = "backbones.rgb.bn_in"
    before = {name: own.running_mean.clone() for name, own in norms.items() if own.running_mean is not None}
    training.module.train()
    training.loss(next(iter(training.batches(0, 0, 1))), 0)[0].backward()
    assert len(norms) > 3
    for name, own in norms.items():
        assert own.running_mean is not None
        assert torch.equal(own.running_mean, before[name]) == (name != first)
        assert (own.weight.grad is not None) == (name == first)


def test_training_validation_and_parts(tmp_path: Path) -> None:
    training = phase("rgb", size=64)
    optimizer = torch.optim.SGD(training.module.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for epoch in range(4):
        training.module.train()
        for batch in training.batches(epoch, 0, 1):
            optimizer.zero_grad()
            loss, _ = training.loss(batch, epoch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]
    training.module.eval()
    with torch.no_grad():
        found = training.validate()
        dataset = training.validation
        assert dataset is not None
        clips = [dataset.open(clip, 2) for clip in dataset.clips]
        images = torch.stack([torch.stack([clip.image(0), clip.image(1)]) for clip in clips])
        logits = training.module(rgb=reduce_images(images, 64))
    assert found["loss"] == pytest.approx(cross_entropy(logits, torch.tensor([c.labels for c in dataset.clips])).item())
    training.finish(tmp_path)
    system = make_system(0, None)
    load_part(system.low_rgb, tmp_path / "rgb-112.safetensors")
    trained = training.module.backbones["rgb"].state_dict()  # type: ignore[union-attr, index, operator]
    assert all(torch.equal(own, trained[name]) for name, own in system.low_rgb.state_dict().items())


def test_reducing_keeps_videos_and_segments_apart() -> None:
    rgb = torch.arange(6.0).view(2, 3, 1, 1, 1).expand(2, 3, 3, 8, 8)
    small = reduce_images(rgb, 4)
    assert torch.equal(small, rgb[..., :4, :4])
