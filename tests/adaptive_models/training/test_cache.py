from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from training_material import FRAMES, OpenClip, SmallDataset, make_system

from adaptive_models.data.datasets import LabelledClip
from adaptive_models.data.media import ClipError
from adaptive_models.spatial_sampler import salient_boxes
from adaptive_models.training import cache
from adaptive_models.training.cache import CacheError, FeatureCache, fill_cache, generators


class Interrupted(Exception):
    pass


def stop_after(clips: int) -> Callable[[int, int], None]:
    def on_clip(done: int, _: int) -> None:
        if done == clips:
            raise Interrupted

    return on_clip


def contents(kept: FeatureCache) -> dict[str, torch.Tensor]:
    return {name: own for name, own in vars(kept.read(range(len(kept)))).items() if own is not None}


@pytest.mark.parametrize("audio", [True, False])
def test_keeps_what_the_system_computes(tmp_path: Path, audio: bool) -> None:
    dataset, system = SmallDataset(2), make_system(3, None, audio=audio)
    kept = FeatureCache(fill_cache(system, dataset, FRAMES, tmp_path))
    found = kept.read([1, 0])
    assert found.positions.tolist() == [1, 0]
    assert found.labels.tolist() == [list(dataset.clips[1].labels), list(dataset.clips[0].labels)]
    assert (found.audio is not None) == audio
    for row, position in enumerate((1, 0)):
        clip = dataset.open(dataset.clips[position], FRAMES)
        for t, frame in enumerate(system.stream(clip)):
            assert frame.features is not None
            torch.testing.assert_close(found.attention[row, t], frame.attention, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found.image[row, t], frame.features.image[0], rtol=1e-4, atol=1e-4)
            if audio:
                assert found.audio is not None
                torch.testing.assert_close(found.audio[row, t], frame.features.audio[0], rtol=1e-4, atol=1e-4)
            assert frame.boxes is not None
            assert sorted(found.boxes[row, t].tolist()) == sorted(frame.boxes.tolist())


@settings(max_examples=60, deadline=None)
@given(attention=arrays(np.float64, (1, 2, 7, 7), elements=st.floats(0, 5, width=16)), k=st.integers(0, 3))
def test_boxes_for_fewer_crops_are_the_first_of_those_for_more(attention: np.ndarray, k: int) -> None:
    maps = torch.from_numpy(attention)
    assert torch.equal(salient_boxes(maps, k), salient_boxes(maps, 3)[:, :k])


def test_an_interrupted_run_goes_on_with_the_clips_that_are_missing(tmp_path: Path) -> None:
    system = make_system(3, None)
    whole = contents(FeatureCache(fill_cache(system, SmallDataset(4), FRAMES, tmp_path / "whole")))
    with pytest.raises(Interrupted):
        fill_cache(system, SmallDataset(4), FRAMES, tmp_path / "part", on_clip=stop_after(2))
    (folder,) = (tmp_path / "part").iterdir()
    with pytest.raises(CacheError, match="features of 2 clips are missing"):
        FeatureCache(folder)
    again = SmallDataset(4)
    assert fill_cache(system, again, FRAMES, tmp_path / "part") == folder
    assert again.opened[1:] == ["2", "3"]  # the first is looked at to recognise the data
    resumed = contents(FeatureCache(folder))
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], own) for name, own in whole.items())


def test_processes_share_the_clips(tmp_path: Path) -> None:
    system, shares = make_system(3, None), [SmallDataset(5), SmallDataset(5)]
    folders = {fill_cache(system, own, FRAMES, tmp_path, rank=rank, world=2) for rank, own in enumerate(shares)}
    assert [own.opened[1:] for own in shares] == [["0", "2", "4"], ["1", "3"]]
    alone = contents(FeatureCache(fill_cache(system, SmallDataset(5), FRAMES, tmp_path / "alone")))
    together = contents(FeatureCache(folders.pop()))
    assert not folders
    assert all(torch.equal(together[name], own) for name, own in alone.items())


def test_other_weights_clips_frames_or_files_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, dataset = make_system(3, None), SmallDataset(1)
    folders = [fill_cache(system, dataset, FRAMES, tmp_path)]
    folders += [fill_cache(system, dataset, FRAMES - 1, tmp_path)]
    folders += [fill_cache(system, SmallDataset(2), FRAMES, tmp_path)]
    folders += [fill_cache(make_system(2, None), dataset, FRAMES, tmp_path)]
    with torch.no_grad():
        system.high_rgb.bn_in.running_mean[3] += 0.01  # type: ignore[union-attr, index]
    folders += [fill_cache(system, dataset, FRAMES, tmp_path)]
    monkeypatch.setattr(dataset, "open", lambda clip, frames, seed=None: SmallDataset(1, 9).open(clip, frames, seed=5))
    folders += [fill_cache(system, dataset, FRAMES, tmp_path)]
    assert len(set(folders)) == len(folders)
    assert {folder.name[:12] for folder in folders} == {"small-train-"}


def test_a_clip_counts_only_once_all_of_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(array: np.memmap, row: int, values: np.ndarray) -> None:
        if row == 1 and str(array.filename).endswith("boxes.npy"):
            raise OSError(28, "No space left on device")
        write(array, row, values)

    write = cache._write
    monkeypatch.setattr(cache, "_write", full_disk)
    with pytest.raises(OSError, match="No space left"):
        fill_cache(make_system(3, None), SmallDataset(3), FRAMES, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert np.load(folder / "state.npy").tolist() == [cache.KEPT, cache.MISSING, cache.MISSING]


def test_views_are_of_the_frames_of_evaluation_and_of_random_ones(tmp_path: Path) -> None:
    system = make_system(3, None)
    once = FeatureCache(fill_cache(system, SmallDataset(4), 2, tmp_path))
    folder = fill_cache(system, SmallDataset(4), 2, tmp_path, views=3)
    kept = FeatureCache(folder)
    assert len(kept) == 4
    assert torch.equal(kept.read([2]).image, once.read([2]).image)
    views = kept.read([2, 2, 2], np.arange(3))
    assert len(views.image.unique(dim=0)) == 3
    assert views.labels.tolist() == [list(SmallDataset(4).clips[2].labels)] * 3
    assert views.positions.tolist() == [2, 2, 2]
    seen = {tuple(batch.image.flatten().tolist()) for epoch in range(20) for batch in kept.batches(1, 0, epoch)}
    assert len(seen) == 4 * 3
    assert {tuple(batch.image.flatten().tolist()) for batch in kept.batches(1)} == {
        tuple(batch.image.flatten().tolist()) for batch in once.batches(1)
    }


def test_views_do_not_depend_on_where_a_run_was_interrupted(tmp_path: Path) -> None:
    system = make_system(3, None)
    with pytest.raises(Interrupted):
        fill_cache(system, SmallDataset(2), 1, tmp_path / "part", views=2, on_clip=stop_after(1))
    folders = [fill_cache(system, SmallDataset(2), 1, tmp_path / name, views=2) for name in ("part", "whole")]
    resumed, whole = (FeatureCache(folder).read([0, 0, 1, 1], np.array([0, 1, 0, 1])) for folder in folders)
    assert torch.equal(resumed.image, whole.image)


class OneUnreadable(SmallDataset):
    def open(self, clip: LabelledClip, frames: int, seed: int | None = None) -> OpenClip:
        if clip.id == "1":
            raise ClipError("b.mp4: no such file")
        return super().open(clip, frames, seed)


def test_clips_that_cannot_be_read_are_left_out_and_tried_again(tmp_path: Path) -> None:
    notes: list[str] = []
    system = make_system(3, None)
    folder = fill_cache(system, OneUnreadable(3), 1, tmp_path, note=notes.append)
    assert notes == ["1: left out (b.mp4: no such file)"]
    assert [batch.positions.tolist() for batch in FeatureCache(folder).batches(2)] == [[0, 2]]
    fill_cache(system, SmallDataset(3), 1, tmp_path)
    assert FeatureCache(folder).positions.tolist() == [0, 1, 2]


def test_every_process_gets_its_share_of_every_batch(tmp_path: Path) -> None:
    kept = FeatureCache(fill_cache(make_system(3, None), SmallDataset(7), 1, tmp_path))

    def order(**kwargs: int) -> list[list[int]]:
        return [batch.positions.tolist() for batch in kept.batches(4, **kwargs)]

    assert order() == [[0, 1, 2, 3], [4, 5, 6]]
    first = order(seed=3, epoch=1)
    assert sorted(clip for batch in first for clip in batch) == list(range(7))
    assert first == order(seed=3, epoch=1)
    assert first != order(seed=3, epoch=2)
    assert first != order(seed=4, epoch=1)
    shares = [order(seed=3, epoch=1, rank=rank, world=2) for rank in range(2)]
    assert [sorted(one + other) for one, other in zip(*shares, strict=True)] == [sorted(batch) for batch in first]


def test_random_numbers_of_a_clip_do_not_depend_on_its_batch() -> None:
    together = [source.random() for source in generators(1, 2, torch.tensor([5, 6]))]
    assert together == [generators(1, 2, torch.tensor([clip]))[0].random() for clip in (5, 6)]
    assert (
        len(
            {
                *together,
                generators(1, 3, torch.tensor([5]))[0].random(),
                generators(2, 2, torch.tensor([5]))[0].random(),
            }
        )
        == 4
    )


def test_nothing_to_keep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 0, and k = 3"):
        fill_cache(make_system(3, None), SmallDataset(0), FRAMES, tmp_path)
    with pytest.raises(ValueError, match="got 1, and k = 0"):
        fill_cache(make_system(0, None), SmallDataset(1), FRAMES, tmp_path)
    with pytest.raises(CacheError, match="no features are kept here"):
        FeatureCache(tmp_path / "nowhere")
