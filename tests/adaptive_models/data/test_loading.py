from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import write_numbered
from test_ucf101 import write_labels

from adaptive_models.data.clips import TensorClip
from adaptive_models.data.datasets import Dataset, LabelledClip, open_dataset
from adaptive_models.data.loading import ClipBatch, clip_batches
from adaptive_models.data.media import ClipError
from adaptive_models.data.transforms import displayable

VIDEOS = 7


class NumberedClip(TensorClip):
    """Frames that say which clip they are of, and with which seed it was opened."""

    def __init__(self, number: int, frames: int, seed: int | None) -> None:
        images = torch.zeros(frames, 3, 224, 224)
        images[:, 0], images[:, 1] = number, -1 if seed is None else seed % 1000
        super().__init__(images, torch.full((frames, 1, 256, 256), float(number)))

    def __enter__(self) -> NumberedClip:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Numbered:
    """A data set in memory, some clips of which cannot be read."""

    name, split, audio, classes = "mini", "train", True, (("a", "b"), ("c",))
    left_out: Mapping[str, str] = {}

    def __init__(self, count: int, unreadable: Sequence[int] = ()) -> None:
        self.clips = [LabelledClip(f"clip {number}", (number % 2, 0)) for number in range(count)]
        self.unreadable = unreadable

    def open(self, clip: LabelledClip, frames: int, seed: int | None = None) -> NumberedClip:
        number = int(clip.id.split()[1])
        if number in self.unreadable:
            raise ClipError(f"{clip.id}.mp4: cut short")
        return NumberedClip(number, frames, seed)


def batches(dataset: Dataset, batch: int = 4, frames: int = 1, **options: object) -> list[ClipBatch]:
    given = {"seed": 0, "epoch": 0, "shuffle": True, **options}
    return list(clip_batches(dataset, frames, batch, **given))  # type: ignore[arg-type]


def positions(found: Sequence[ClipBatch]) -> list[list[int]]:
    return [batch.positions.tolist() for batch in found]


def same(a: ClipBatch, b: ClipBatch) -> bool:
    return (
        torch.equal(a.positions, b.positions)
        and torch.equal(a.labels, b.labels)
        and all(
            (x is None and y is None) or (x is not None and y is not None and torch.equal(x, y))
            for x, y in ((a.rgb, b.rgb), (a.spectrogram, b.spectrogram))
        )
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """UCF-101 with seven short videos, of which one is no video."""
    root = tmp_path_factory.mktemp("ucf101")
    names = [f"v_Archery_g{number:02d}_c01" for number in range(VIDEOS)]
    write_labels(root, "".join(f"Archery/{name}.avi 1\n" for name in names))
    for name in names:
        write_numbered(root / f"{name}.avi", 30)
    (root / f"{names[4]}.avi").write_text("no video")
    return open_dataset("ucf101", root, "train")


def test_a_batch_holds_what_its_clips_hold(videos: Dataset) -> None:
    found = batches(videos, 3, frames=2, seed=None, shuffle=False)
    assert positions(found) == [[0, 1, 2], [3, 5], [6]]
    first = found[0]
    assert first.rgb is not None
    assert first.rgb.shape == (3, 2, 3, 224, 224)
    assert first.spectrogram is None  # UCF-101 has no sound
    assert first.labels.tolist() == [[0], [0], [0]]
    assert len(first) == 3
    with videos.open(videos.clips[1], 2) as clip:
        assert torch.equal(first.rgb[1], torch.stack([clip.image(0), clip.image(1)]))


def test_clips_that_cannot_be_read_are_left_out_and_named(videos: Dataset) -> None:
    found = batches(videos, 3, frames=2, seed=None, shuffle=False)
    assert [len(batch.notes) for batch in found] == [0, 1, 0]
    assert found[1].notes[0].startswith(f"{videos.clips[4].id}: left out (")
    assert f"{videos.clips[4].id}.avi: cannot be read as a video" in found[1].notes[0]


def test_worker_processes_make_no_difference(videos: Dataset) -> None:
    state = torch.get_rng_state()
    alone, together = (batches(videos, 2, frames=3, epoch=5, workers=count) for count in (0, 2))
    assert len(alone) == len(together) == 4
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    assert [batch.notes for batch in alone] == [batch.notes for batch in together]
    assert torch.equal(torch.get_rng_state(), state)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 8), st.integers(1, 4), st.integers(0, 3))
def test_the_ranks_batches_together_are_those_of_one(count: int, batch: int, world: int, epoch: int) -> None:
    dataset = Numbered(count, unreadable=[2, 3])
    whole = batches(dataset, batch, epoch=epoch)
    ranks = [batches(dataset, batch, epoch=epoch, rank=rank, world=world) for rank in range(world)]
    assert {len(found) for found in ranks} == {len(whole)} == {-(-count // batch)}
    assert sorted(chain(*positions(whole))) == sorted(set(range(count)) - {2, 3})
    for together, *shares in zip(whole, *ranks, strict=True):
        assert sorted(together.positions.tolist()) == sorted(chain(*positions(shares)))
        assert together.rgb is not None
        assert all(share.rgb is not None and share.rgb.shape == (len(share), 1, 3, 224, 224) for share in shares)
        assert all(share.labels.shape == (len(share), 2) for share in shares)
        # The same clip is opened with the same seed, whatever the rank.
        seeds = dict(zip(together.positions.tolist(), together.rgb[:, 0, 1, 0, 0].tolist(), strict=True))
        for share in shares:
            assert share.rgb is not None
            for position, seed in zip(share.positions.tolist(), share.rgb[:, 0, 1, 0, 0].tolist(), strict=True):
                assert seeds[position] == seed
        assert sorted(together.notes) == sorted(note for share in shares for note in share.notes)


def test_order_and_seeds_depend_on_seed_and_epoch_alone() -> None:
    dataset = Numbered(40)

    def drawn(**options: object) -> tuple[list[int], list[float]]:
        (batch,) = batches(dataset, 40, **options)
        assert batch.rgb is not None
        by_position = batch.rgb[batch.positions.argsort(), 0, 1, 0, 0]
        return batch.positions.tolist(), by_position.tolist()

    order, seeds = drawn()
    assert drawn() == (order, seeds)
    for other in ({"seed": 1}, {"epoch": 1}):
        other_order, other_seeds = drawn(**other)
        assert other_order != order
        assert sum(a == b for a, b in zip(seeds, other_seeds, strict=True)) < 4
    assert len(set(seeds)) > 30
    assert drawn(shuffle=False) == (list(range(40)), seeds)
    assert drawn(seed=None, shuffle=False) == (list(range(40)), [-1] * 40)


@pytest.mark.parametrize("modality", ["rgb", "spectrogram"])
def test_what_is_not_asked_for_is_not_decoded(modality: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: TensorClip, t: int) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(NumberedClip, "image" if modality == "spectrogram" else "spectrogram", never)
    for batch in batches(Numbered(3), modalities=[modality]):
        made = {"rgb": batch.rgb, "spectrogram": batch.spectrogram}
        assert made.pop(modality) is not None
        assert list(made.values()) == [None]


def test_frames_of_training_are_drawn_anew_each_epoch(videos: Dataset) -> None:
    shown = []
    for epoch in range(3):
        (batch,) = batches(videos, 8, frames=1, epoch=epoch)
        assert batch.rgb is not None
        clip = batch.positions.tolist().index(0)
        shown.append(displayable(batch.rgb[clip, 0]).tobytes())
    assert len(set(shown)) == 3


def test_wrong_numbers_are_named() -> None:
    for options, message in [
        ({"batch": 0}, "batch is 0; at least 1 is needed"),
        ({"rank": 2, "world": 2}, "rank is 2; it must be between 0 and 1"),
        ({"modalities": ["flow"]}, "unknown modality 'flow': use rgb or spectrogram"),
        ({"seed": None}, "to shuffle, a seed is needed"),
    ]:
        with pytest.raises(ValueError, match=message):
            batches(Numbered(3), **options)  # type: ignore[arg-type]
