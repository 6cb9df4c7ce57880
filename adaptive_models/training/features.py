"""The first phase: feature networks learn to classify single frames, with three segments of a clip at a time.

The recipe is that of TSN (Wang et al. 2016): the clip's logits are the mean of its segments', and batch normalisation
may be partial. Nothing is augmented but the choice of frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_models.data.datasets import Dataset
from adaptive_models.data.loading import ClipBatch, clip_batches
from adaptive_models.parts import SUFFIX, save_part
from adaptive_models.training.losses import Logits, accuracy, cross_entropy


class FeaturesPhase:
    """Trains a network on the frames of segments.

    Args:
        name: of the phase, e.g. "features-rgb-112".
        module: maps `rgb` (N, S, 3, H, W) and, where it takes it, `spectrogram` (N, S, 1, 256, 256) to logits
            (N, classes), averaged over segments: one tensor, or one for each group.
        parts: what to write in the end: names of parts, and the modules inside `module` whose weights they hold.
        train: clips to train on.
        validation: clips to validate on, or None.
        batch: clips of a batch, of all processes together.
        seed: of the order of the clips and of the frames.
        modalities: what the module takes.
        segments: S.
        image_size: side to which the images are reduced, as the system reduces them; None to leave them at 224.
        partial_bn: whether batch normalisation is frozen in all layers of each part but the first; for training that
            starts from published weights.
        workers: processes that decode clips.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        parts: Mapping[str, nn.Module],
        train: Dataset,
        validation: Dataset | None,
        *,
        batch: int,
        seed: int,
        modalities: Sequence[str] = ("rgb",),
        segments: int = 3,
        image_size: int | None = None,
        partial_bn: bool = False,
        workers: int = 0,
    ) -> None:
        self.name, self.module, self.parts = name, module, parts
        self.train, self.validation = train, validation
        self.batch, self.seed, self.modalities, self.segments = batch, seed, modalities, segments
        self.image_size, self.workers = image_size, workers
        self._frozen = [norm for part in parts.values() for norm in _norms(part)[1:]] if partial_bn else []
        for norm in self._frozen:
            norm.requires_grad_(False)

    def batches(self, epoch: int, rank: int, world: int) -> Iterator[ClipBatch]:
        """Random frames of every training clip."""
        return self._batches(self.train, self.seed, epoch, rank, world)

    def size(self, batch: ClipBatch) -> int:
        """Clips in a batch."""
        return len(batch.labels)

    def loss(self, batch: ClipBatch, epoch: int) -> tuple[Tensor, dict[str, float]]:
        """Cross entropy of the clips."""
        for norm in self._frozen:
            norm.eval()
        logits, labels = self._classify(batch)
        return cross_entropy(logits, labels), accuracy(logits, labels)

    def validate(self) -> dict[str, float]:
        """Loss, and top-1 accuracy in per cent, at the segments' centres."""
        if self.validation is None:
            return {}
        batches = self._batches(self.validation)
        groups, labels = zip(*(self._classify(batch) for batch in batches if len(batch)), strict=True)
        logits = tuple(torch.cat(group) for group in zip(*groups, strict=True))
        return {"loss": cross_entropy(logits, torch.cat(labels)).item(), **accuracy(logits, torch.cat(labels))}

    def finish(self, folder: Path) -> None:
        """Write the parts."""
        for name, part in self.parts.items():
            save_part(part, folder / f"{name}{SUFFIX}")

    def _batches(
        self, dataset: Dataset, seed: int | None = None, epoch: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[ClipBatch]:
        return clip_batches(
            dataset,
            self.segments,
            self.batch,
            seed=seed,
            epoch=epoch,
            shuffle=seed is not None,
            rank=rank,
            world=world,
            workers=self.workers,
            modalities=self.modalities,
        )

    def _classify(self, batch: ClipBatch) -> tuple[Logits, Tensor]:
        device = next(self.module.parameters()).device
        clips = {name: getattr(batch, name).to(device) for name in self.modalities}
        if self.image_size is not None:
            clips["rgb"] = reduce_images(clips["rgb"], self.image_size)
        logits = self.module(**clips)
        return (logits,) if isinstance(logits, Tensor) else logits, batch.labels.to(device)


def reduce_images(rgb: Tensor, size: int) -> Tensor:
    """Images (N, S, 3, H, W) to (N, S, 3, size, size), as `AdaptiveSystem.scan` reduces them."""
    small = F.interpolate(rgb.flatten(0, 1), size=(size, size), mode="bilinear", align_corners=False)
    return small.unflatten(0, rgb.shape[:2])


def _norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
