"""The third phase: the three GRU heads of S_k learn on features of all frames (sections III.B, IV.A)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from adaptive_models.parts import SUFFIX, save_part
from adaptive_models.system import AdaptiveSystem
from adaptive_models.training.cache import ClipFeatures, FeatureCache, generators
from adaptive_models.training.decisions import average, classify
from adaptive_models.training.dropout import dropout_by_clip
from adaptive_models.training.losses import THETA, Logits, accuracy, cross_entropy, heads_loss


class HeadsPhase:
    """Trains the classifier of S_k, with every frame full.

    Heads share no weights: that the published code trains each alone first, and then all three with theta, is training
    all three at two learning rates, as Adam does not heed the scale of a loss.

    Args:
        system: its classifier trains.
        train: features of the clips to train on.
        validation: those of the clips to validate on, or None.
        batch: clips of a batch, of all processes together.
        seed: of the order of the clips and of dropout.
        theta: weights of the losses of the global and the local head, and of both together.
    """

    def __init__(
        self,
        system: AdaptiveSystem,
        train: FeatureCache,
        validation: FeatureCache | None,
        *,
        batch: int,
        seed: int,
        theta: Sequence[float] = THETA,
    ) -> None:
        self.name = f"heads-s{system.crops}"
        self.system, self.module = system, system.classifier
        self.train, self.validation = train, validation
        self.batch, self.seed, self.theta = batch, seed, theta

    def batches(self, epoch: int, rank: int, world: int) -> Iterator[ClipFeatures]:
        """Features of every training clip."""
        return self.train.batches(self.batch, self.seed, epoch, rank, world)

    def size(self, batch: ClipFeatures) -> int:
        """Clips in a batch."""
        return len(batch.labels)

    def loss(self, batch: ClipFeatures, epoch: int) -> tuple[Tensor, dict[str, float]]:
        """L_class."""
        with dropout_by_clip(self.module, generators(self.seed, epoch, batch.positions)):
            heads, labels = self._classify(batch)
        return heads_loss(heads, labels, self.theta), accuracy(average(heads), labels)

    def validate(self) -> dict[str, float]:
        """Loss, and top-1 accuracy in per cent, of the averaged heads."""
        if self.validation is None:
            return {}
        found = [self._classify(batch) for batch in self.validation.batches(self.batch)]
        logits = tuple(torch.cat(group) for group in zip(*(average(heads) for heads, _ in found), strict=True))
        labels = torch.cat([own for _, own in found])
        return {"loss": cross_entropy(logits, labels).item(), **accuracy(logits, labels)}

    def finish(self, folder: Path) -> None:
        """Write the heads."""
        save_part(self.module, folder / f"{self.name}{SUFFIX}")

    def _classify(self, batch: ClipFeatures) -> tuple[list[Logits], Tensor]:
        batch = batch.to(next(self.module.parameters()).device)
        return classify(self.system, batch, torch.ones(batch.image.shape[:2], device=batch.image.device)), batch.labels
