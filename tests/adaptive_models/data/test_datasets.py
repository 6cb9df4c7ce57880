from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import write_images, write_numbered
from test_ucf101 import write_labels

from adaptive_models.data.clips import VideoClip
from adaptive_models.data.datasets import Dataset, DatasetError, check, open_dataset, spread
from adaptive_models.data.epic import Epic
from adaptive_models.data.frames import FrameClip
from adaptive_models.data.mini import Mini
from adaptive_models.data.mini_files import write_mini
from adaptive_models.data.ucf101 import Ucf101


def assert_shows_mini(data: Dataset, split: str) -> None:
    rendered = Mini(split, 1)
    assert (len(data.clips), data.left_out, data.split) == (1, {}, split)
    with data.open(data.clips[0], 2) as clip:
        for t in range(2):
            expected = rendered.open(rendered.clips[0], 2).image(t)
            assert (clip.image(t) - expected).abs().mean() < 6
            if data.audio:
                assert clip.spectrogram(t).shape == (1, 256, 256)
        assert clip.notes == []
    assert check(data) == {}


def test_mini_in_the_forms_of_epic(tmp_path: Path) -> None:
    write_mini(tmp_path / "mini", "epic-frames", clips=1)
    for source in ("frames", "videos"):
        for split in ("train", "val"):
            data = open_dataset("mini", tmp_path / "mini", split)
            assert isinstance(data, Epic)
            assert (data.name, data.audio, data.classes) == ("mini", True, Mini(split).classes)
            assert data.clips[0].labels == Mini(split).clips[0].labels
            with data.open(data.clips[0], 2) as clip:
                assert isinstance(clip, FrameClip if source == "frames" else VideoClip)
            assert_shows_mini(data, split)
        shutil.rmtree(tmp_path / "mini" / "frames", ignore_errors=True)


def test_mini_in_the_form_of_ucf101(tmp_path: Path) -> None:
    write_mini(tmp_path / "mini", "ucf101", clips=1)
    for split in ("train", "val"):
        data = open_dataset("ucf101", tmp_path / "mini", split)
        assert isinstance(data, Ucf101)
        assert data.classes[0][data.clips[0].labels[0]] in data.clips[0].id
        assert_shows_mini(data, split)


def test_mini_without_a_folder_is_rendered() -> None:
    data = open_dataset("mini", None, "val", limit=3)
    assert isinstance(data, Mini)
    assert (data.name, data.split, len(data.clips)) == ("mini", "val", 3)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for arguments, message in [
        (("kinetics", tmp_path, "train"), "no data set 'kinetics': use epic, ucf101, mini"),
        (("epic", tmp_path, "test"), "no split 'test': use train or val"),
        (("epic", None, "train"), "epic is read from files: the folder that holds them is needed"),
        (("epic", tmp_path / "nowhere", "train"), f"{tmp_path / 'nowhere'}: no such folder"),
        (("mini", None, "train", 0), "a limit of 0 clips: at least 1 is needed"),
        (("epic", tmp_path, "train"), f"{tmp_path}: EPIC_verb_classes.csv is missing, there and in the folders below"),
    ]:
        with pytest.raises(DatasetError) as raised:
            open_dataset(*arguments)  # type: ignore[arg-type]
        assert str(raised.value) == message


def test_checking_finds_damage_that_names_and_sizes_do_not_tell(tmp_path: Path) -> None:
    names = [f"v_Archery_g{number:02d}_c01" for number in range(4)]
    write_labels(tmp_path, "".join(f"Archery/{name}.avi 1\n" for name in names))
    write_numbered(tmp_path / f"{names[0]}.avi", 60)
    cut = write_numbered(tmp_path / f"{names[1]}.avi", 60)
    cut.write_bytes(cut.read_bytes()[:60000])
    (tmp_path / f"{names[2]}.avi").write_text("no video")
    image = write_images(tmp_path / names[3], 3) / "frame_0000000002.jpg"
    image.write_bytes(image.read_bytes()[:-500])
    data = open_dataset("ucf101", tmp_path, "train")
    assert data.left_out == {}
    wrong = check(data)
    assert list(wrong) == names[1:]
    assert wrong[names[1]].startswith("the header promises 60 frames, the file shows ")
    assert wrong[names[2]].startswith(f"{tmp_path / names[2]}.avi: cannot be read as a video")
    assert wrong[names[3]].startswith("frame_0000000002.jpg is missing or cannot be decoded: ")


@given(st.integers(1, 500), st.integers(1, 600))
def test_a_limit_is_spread_evenly(count: int, limit: int) -> None:
    chosen = spread(range(count), limit)
    assert len(chosen) == min(count, limit)
    assert chosen[0] == 0
    gaps = {after - before for before, after in zip(chosen, [*chosen[1:], count], strict=True)}
    assert max(gaps) - min(gaps) <= 1
    assert spread(range(count), None) == list(range(count))
