"""What frozen networks say of every frame of every clip, computed once and kept on disk.

The later phases of training see each clip many times, and the networks that make its features no longer change.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_models.data.datasets import Dataset, LabelledClip, OpenClip
from adaptive_models.data.loading import ClipBatch, clip_batches
from adaptive_models.system import CROP_SIZE, HIGH_SIZE, LOW_SIZE, AdaptiveSystem

FORMAT = 1
"""To be raised whenever the same networks and clips would give something else to keep."""

MISSING, KEPT, UNREADABLE = range(3)
"""States of a row, which is a view of a clip."""

Layout = dict[str, tuple[tuple[int, ...], type]]


class CacheError(RuntimeError):
    """Features that are not there, or not all of them."""


@dataclass(frozen=True)
class ClipFeatures:
    """All T frames of N clips.

    Attributes:
        attention: (N, T, C, h, w).
        image: (N, T, F).
        audio: (N, T, F), or None without sound.
        crops: (N, T, K, F), in the order of the boxes.
        boxes: (N, T, K, 4) int64, the most salient first; the first k are those of any k up to K.
        labels: (N, groups) int64.
        positions: (N,) int64, numbers of the clips in their data set.
    """

    attention: Tensor
    image: Tensor
    audio: Tensor | None
    crops: Tensor
    boxes: Tensor
    labels: Tensor
    positions: Tensor

    def to(self, device: torch.device) -> ClipFeatures:
        """The same on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: own.to(device) for name, own in tensors.items() if own is not None})


class FeatureCache:
    """Features of a whole data set, memory-mapped: a batch is read when it is asked for.

    Args:
        folder: as `fill_cache` returned it.

    Attributes:
        frames: T.
        views: how often each clip was sampled: first at the frames of evaluation, else at random.
        positions: of the clips in their data set, without those that could not be read.

    Raises:
        CacheError: there is nothing, or it was not filled to its end.
    """

    def __init__(self, folder: Path) -> None:
        self._arrays = _open(folder)
        missing = int((self._arrays["state"] == MISSING).sum())
        if missing:
            raise CacheError(f"{folder}: features of {missing} clips are missing: fill the cache first")
        self.frames = self._arrays["image"].shape[1]
        states = self._arrays["state"].reshape(len(self._arrays["labels"]), -1)
        self.views = states.shape[1]
        self.positions = np.flatnonzero((states == KEPT).all(axis=1))

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, positions: Sequence[int] | np.ndarray, views: int | np.ndarray = 0) -> ClipFeatures:
        """Features of the clips at these positions in the data set, in one view or in a view for each."""
        clips = np.asarray(positions, np.int64)
        rows = clips * self.views + views
        found = {
            name: torch.from_numpy(np.array(array[clips if name == "labels" else rows]))
            for name, array in self._arrays.items()
        }
        return ClipFeatures(
            attention=found["attention"],
            image=found["image"],
            audio=found.get("audio"),
            crops=found["crops"],
            boxes=found["boxes"].long(),
            labels=found["labels"],
            positions=torch.from_numpy(clips),
        )

    def batches(
        self, batch: int, seed: int | None = None, epoch: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[ClipFeatures]:
        """Every clip once, in a view by chance; without a seed, at the frames of evaluation.

        Args:
            batch: clips of a batch, of all processes together.
            seed: of the order and the views, which are others in every epoch; None for the order of the data set.
            epoch: number of the epoch.
            rank: number of this process, which gets its share of each batch.
            world: number of processes; of a batch with fewer clips than processes, some get nothing.
        """
        order, views = self.positions, np.zeros_like(self.positions)
        if seed is not None:
            random = np.random.default_rng((seed, epoch))
            order, views = random.permutation(order), random.integers(self.views, size=len(order))
        for start in range(0, len(order), batch):
            share = slice(start + rank, start + batch, world)
            if len(order[share]):
                yield self.read(order[share], views[share])


def generators(seed: int, epoch: int, positions: Tensor) -> list[np.random.Generator]:
    """A source of random numbers for each clip, the same in whatever batch and process the clip comes up."""
    return [np.random.default_rng((seed, epoch, position)) for position in positions.tolist()]


def fill_cache(
    system: AdaptiveSystem,
    dataset: Dataset,
    frames: int,
    root: Path,
    *,
    views: int = 1,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    on_clip: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = warnings.warn,
) -> Path:
    """Compute what is not yet kept of the features of a data set.

    The folder's name holds a digest of the weights, the clips and the settings, so that what is kept of others is
    never taken for it. A clip counts as kept once all of it is written; an interrupted run goes on where it was.

    Args:
        system: its networks make the features; with K >= 1 crops.
        dataset: the clips.
        frames: T.
        root: folder of all caches.
        views: how often each clip is sampled: once at the frames of evaluation, else at random frames of its segments,
            so that training does not see the same frames in every epoch.
        workers: processes that decode clips.
        rank: number of this process; each computes a share of the clips.
        world: number of processes. They must wait for each other before they read.
        on_clip: called with the numbers of views done and to do by this process, at the start and after each.
        note: called with what a clip lacks, or why it is left out because it cannot be read; that is tried again when
            the cache is next filled.

    Returns:
        The folder to open as a `FeatureCache`.

    Raises:
        ValueError: no clips, no views, or a system without crops.
        OSError: what is computed cannot be written.
    """
    rows = len(dataset.clips) * views
    if not system.crops or rows < 1:
        raise ValueError(f"features to keep need views of clips, and crops: got {rows}, and k = {system.crops}")
    folder = root / f"{dataset.name}-{dataset.split}-{_digest(system, dataset, frames, views)}"
    if not folder.is_dir():
        _create(folder, _layout(system, rows, frames), dataset)
    arrays = _open(folder)
    to_do = [row for row in range(rank, rows, world) if arrays["state"][row] != KEPT]
    modalities = ("rgb", "spectrogram") if system.audio else ("rgb",)
    clips = clip_batches(
        _Views(dataset, to_do, views),
        frames,
        1,
        seed=None,
        epoch=0,
        shuffle=False,
        workers=workers,
        modalities=modalities,
    )
    system.eval()
    if on_clip is not None:
        on_clip(0, len(to_do))
    for done, (row, clip) in enumerate(zip(to_do, clips, strict=True), start=1):
        for name, values in _look(system, clip).items() if len(clip) else ():
            _write(arrays[name], row, values)
        _write(arrays["state"], row, np.array(KEPT if len(clip) else UNREADABLE))
        for text in clip.notes:
            note(text)
        if on_clip is not None:
            on_clip(done, len(to_do))
    return folder


@dataclass(frozen=True)
class _View(LabelledClip):
    """A clip as it is sampled for one row of a cache."""

    seed: int | None


class _Views:
    """The views of the clips of a data set that belong into some rows of a cache, as a data set."""

    def __init__(self, dataset: Dataset, rows: Sequence[int], views: int) -> None:
        self.dataset, self.left_out = dataset, dataset.left_out
        self.name, self.split, self.classes, self.audio = dataset.name, dataset.split, dataset.classes, dataset.audio
        clips = [dataset.clips[row // views] for row in rows]
        self.clips = [
            _View(clip.id, clip.labels, row if row % views else None) for row, clip in zip(rows, clips, strict=True)
        ]

    def open(self, clip: LabelledClip, frames: int, seed: int | None = None) -> OpenClip:
        assert isinstance(clip, _View)
        return self.dataset.open(clip, frames, clip.seed)


@torch.inference_mode()
def _look(system: AdaptiveSystem, clip: ClipBatch) -> dict[str, np.ndarray]:
    """Features of all frames of the one clip of a batch."""
    weight = next(system.parameters())
    assert clip.rgb is not None
    images = clip.rgb[0].to(weight.device, weight.dtype)
    spectrograms = None if clip.spectrogram is None else clip.spectrogram[0].to(weight.device, weight.dtype)
    state, attention = system.scan(images)
    features, boxes = system.look(state, attention, images, spectrograms, None)
    found = {"attention": attention, "boxes": boxes} | vars(features)
    return {name: own.cpu().numpy() for name, own in found.items() if own is not None}


def _layout(system: AdaptiveSystem, rows: int, frames: int) -> Layout:
    width, count = system.low_rgb.features, (rows, frames)
    layout: Layout = {
        "attention": ((*count, *system.low_rgb.attention_shape(LOW_SIZE, LOW_SIZE)), np.float32),
        "image": ((*count, width), np.float32),
        "crops": ((*count, system.crops, width), np.float32),
        "boxes": ((*count, system.crops, 4), np.int16),
        "state": ((rows,), np.uint8),
    }
    return layout | ({"audio": ((*count, width), np.float32)} if system.audio else {})


def _create(folder: Path, layout: Layout, dataset: Dataset) -> None:
    """Make files in which every row is missing; they take no room on disk before they are filled."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    for name, (shape, dtype) in layout.items():
        np.lib.format.open_memmap(temporary / f"{name}.npy", "w+", dtype, shape)
    np.save(temporary / "labels.npy", np.array([clip.labels for clip in dataset.clips], np.int64))
    try:
        temporary.rename(folder)
    except OSError:
        shutil.rmtree(temporary)
        if not folder.is_dir():  # else another process was faster
            raise


def _open(folder: Path) -> dict[str, np.memmap]:
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    if not arrays:
        raise CacheError(f"{folder}: no features are kept here")
    return arrays


def _write(array: np.memmap, row: int, values: np.ndarray) -> None:
    # Not through the mapping: where the disk is full, that kills the process, and this raises an error.
    with open(str(array.filename), "r+b") as file:
        file.seek(array.offset + row * array.strides[0])
        file.write(np.ascontiguousarray(values, array.dtype).tobytes())


def _digest(system: AdaptiveSystem, dataset: Dataset, frames: int, views: int) -> str:
    settings = [FORMAT, frames, views, system.crops, HIGH_SIZE, LOW_SIZE, CROP_SIZE, dataset.name, dataset.split]
    clips = [(clip.id, clip.labels) for clip in dataset.clips]
    digest = hashlib.sha256(json.dumps([settings, clips]).encode())
    with dataset.open(dataset.clips[0], frames) as clip:  # so that other files or another way of preparing them show
        digest.update(clip.image(0).numpy().tobytes())
    for network in (system.low_rgb, system.high_rgb, system.spectrogram):
        for name, tensor in network.state_dict().items() if isinstance(network, nn.Module) else ():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
