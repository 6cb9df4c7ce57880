"""Batches of clips, loaded by worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from adaptive_models.data.datasets import Dataset
from adaptive_models.data.media import ClipError

SHAPES = {"rgb": (3, 224, 224), "spectrogram": (1, 256, 256)}
"""Of one frame, by modality."""


@dataclass(frozen=True)
class ClipBatch:
    """N clips of T frames.

    Attributes:
        rgb: (N, T, 3, 224, 224), or None if not asked for.
        spectrogram: (N, T, 1, 256, 256), or None if not asked for, or if the data set has no sound.
        labels: (N, groups) int64.
        positions: (N,) int64, of the clips in `dataset.clips`.
        notes: what stands for missing parts of a clip, and why clips are left out of the batch that could not be read;
            each begins with the id of the clip.
    """

    rgb: Tensor | None
    spectrogram: Tensor | None
    labels: Tensor
    positions: Tensor
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.positions)


def clip_batches(
    dataset: Dataset,
    frames: int,
    batch: int,
    *,
    seed: int | None,
    epoch: int,
    shuffle: bool,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    modalities: Sequence[str] = ("rgb", "spectrogram"),
) -> Iterator[ClipBatch]:
    """All clips of a data set, once, in batches.

    The order of the clips and the frames that are drawn depend on (seed, epoch) alone, not on the ranks, the workers or
    torch's generators. The last batch may be smaller. Every rank gets equally many batches, some of which may be empty
    (N = 0): of a small last batch, or where no clip could be read. At most 2 batches a worker are in memory beside the
    one in use.

    Args:
        dataset: which.
        frames: T.
        batch: clips of a batch, over all ranks together.
        seed: of the order and of the frames that are drawn; None for the frames of evaluation.
        epoch: number of the epoch.
        shuffle: whether to change the order, which needs a seed; else it is that of `dataset.clips`.
        rank: which part of each batch to load: clips `rank`, `rank + world`, ... of it.
        world: number of parts.
        workers: processes that load; 0 to load in this one.
        modalities: "rgb", "spectrogram" or both; what is not asked for is not decoded.

    Raises:
        ValueError: a batch below 1, a rank that there is not, an unknown modality, or a shuffle without a seed.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; at least 1 is needed")
    if not 0 <= rank < world:
        raise ValueError(f"rank is {rank}; it must be between 0 and {world - 1}")
    if unknown := set(modalities) - set(SHAPES):
        raise ValueError(f"unknown modality {unknown.pop()!r}: use {' or '.join(SHAPES)}")
    order = np.arange(len(dataset.clips))
    if shuffle:
        if seed is None:
            raise ValueError("to shuffle, a seed is needed")
        order = np.random.default_rng((seed, epoch)).permutation(order)
    wanted = [name for name in SHAPES if name in modalities and (dataset.audio or name != "spectrogram")]
    loading = _Loading(dataset, frames, seed, epoch, wanted)
    loader: DataLoader[ClipBatch] = DataLoader(
        loading,  # type: ignore[arg-type]  # indexing by positions is all that is asked of it
        batch_sampler=[order[start : start + batch][rank::world].tolist() for start in range(0, len(order), batch)],
        num_workers=workers,
        collate_fn=loading.collate,
        generator=torch.Generator(),  # else the default generator is drawn from, whose state is part of a training
    )
    return iter(loader)


@dataclass(frozen=True)
class _Loaded:
    """One clip: of each modality (T, ...), or nothing if it could not be read."""

    position: int
    modalities: dict[str, Tensor] | None
    notes: list[str]


@dataclass(frozen=True)
class _Loading:
    """Loads clips by position, in whatever process."""

    dataset: Dataset
    frames: int
    seed: int | None
    epoch: int
    modalities: list[str]

    def __getitem__(self, position: int) -> _Loaded:
        labelled = self.dataset.clips[position]
        seed = self.seed
        if seed is not None:
            seed = int(np.random.SeedSequence((seed, self.epoch, position)).generate_state(1)[0])
        try:
            with self.dataset.open(labelled, self.frames, seed) as clip:
                make = {"rgb": clip.image, "spectrogram": clip.spectrogram}
                loaded = {name: torch.stack([make[name](t) for t in range(self.frames)]) for name in self.modalities}
                return _Loaded(position, loaded, [f"{labelled.id}: {note}" for note in clip.notes])
        except ClipError as error:
            return _Loaded(position, None, [f"{labelled.id}: left out ({error})"])

    def collate(self, clips: list[_Loaded]) -> ClipBatch:
        """One batch of those that could be read."""
        read = [clip for clip in clips if clip.modalities is not None]
        tensors = {
            name: torch.stack([clip.modalities[name] for clip in read if clip.modalities is not None])
            if read
            else torch.empty(0, self.frames, *SHAPES[name])
            for name in self.modalities
        }
        positions = [clip.position for clip in read]
        labels = [self.dataset.clips[position].labels for position in positions]
        return ClipBatch(
            tensors.get("rgb"),
            tensors.get("spectrogram"),
            torch.tensor(labels, dtype=torch.int64).reshape(len(labels), len(self.dataset.classes)),
            torch.tensor(positions, dtype=torch.int64),
            tuple(note for clip in clips for note in clip.notes),
        )
