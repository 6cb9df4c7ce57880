from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from media_files import number_of, write_images, write_numbered

from adaptive_models.data.datasets import DatasetError
from adaptive_models.data.ucf101 import Ucf101, read_classes, read_split

TRAIN = "Archery/v_Archery_g08_c01.avi 1\nHandstandPushups/v_HandStandPushups_g09_c02.avi 2\n"
TEST = "HandstandPushups/v_HandStandPushups_g01_c01.avi\n"


def write_labels(root: Path, train: str = TRAIN, classes: str = "1 Archery\n2 HandstandPushups\n") -> None:
    folder = root / "ucfTrainTestlist"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classInd.txt").write_text(classes)
    (folder / "trainlist01.txt").write_text(train)
    (folder / "testlist01.txt").write_text(TEST)


def test_the_real_split_files(shared: Path) -> None:
    folder = shared / "annotations" / "ucf101"
    classes = read_classes(folder / "classInd.txt")
    assert (len(classes), classes[0], classes[100]) == (101, "ApplyEyeMakeup", "YoYo")
    train, val = (read_split(folder / name, classes) for name in ("trainlist01.txt", "testlist01.txt"))
    assert (len(train), len(val)) == (9537, 3783)
    assert {clip.labels[0] for clip in train} == {clip.labels[0] for clip in val} == set(range(101))
    assert not {clip.id for clip in train} & {clip.id for clip in val}
    assert val[1375].id == "v_HandStandPushups_g01_c01"
    assert classes[val[1375].labels[0]] == "HandstandPushups"


def test_clips_of_every_form(tmp_path: Path) -> None:
    write_labels(tmp_path)
    pushups = "v_HandStandPushups_g09_c02"
    write_numbered(tmp_path / "UCF-101" / "Archery" / "v_Archery_g08_c01.avi", 40, 25, options={"bf": "2"})
    write_images(tmp_path / "jpegs_256" / pushups, 40, "frame%06d.jpg")
    write_images(tmp_path / "tvl1_flow" / "u" / "v_Archery_g08_c01", 2, "frame%06d.jpg")
    data = Ucf101(tmp_path, "train")
    assert (data.name, data.split, data.audio, data.left_out) == ("ucf101", "train", False, {})
    assert data.classes == (("Archery", "HandstandPushups"),)
    assert [(clip.id, clip.labels) for clip in data.clips] == [("v_Archery_g08_c01", (0,)), (pushups, (1,))]
    for clip in data.clips:
        with data.open(clip, 4) as opened:
            assert [number_of(opened.rgb(t)) for t in range(4)] == [5, 15, 25, 35]
            assert opened.notes == []
        with data.open(clip, 4, seed=1) as opened:
            drawn = [number_of(opened.rgb(t)) for t in range(4)]
            assert drawn == opened.indices
            assert [number // 10 for number in drawn] == [0, 1, 2, 3]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write_labels(tmp_path)
    write_numbered(tmp_path / "Archery" / "v_Archery_g08_c01.avi", 4)
    empty = tmp_path / "HandstandPushups" / "v_HandStandPushups_g09_c02.avi"
    empty.parent.mkdir()
    empty.touch()
    data = Ucf101(tmp_path, "train")
    assert [clip.id for clip in data.clips] == ["v_Archery_g08_c01"]
    assert data.left_out == {"v_HandStandPushups_g09_c02": f"{empty}: is empty"}
    with pytest.raises(DatasetError, match=r"no clip of testlist01\.txt has its files there; the first: v_HandStand"):
        Ucf101(tmp_path, "val")
    shutil.rmtree(tmp_path / "ucfTrainTestlist")
    with pytest.raises(DatasetError, match=r"classInd\.txt is missing, there and in the folders below"):
        Ucf101(tmp_path, "train")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("Archery/v_a.avi 1\nCooking/v_b.avi 3\n", "line 2: Cooking is no class; it must be one of the 2 of classInd"),
        ("Archery/v_a.avi 2\n", "line 1: the number is 2; Archery is 1 in classInd.txt"),
        ("Archery/v_a.avi one\n", "line 1: the number is one; Archery is 1 in classInd.txt"),
        (
            "Archery/v_a.avi 1\nArchery/v_a.avi 1\n",
            "line 2: Archery/v_a.avi was there before, and each line has",
        ),
        ("Archery/v_a.avi 1\n\n", "line 2 is ''; '<class>/<video>.avi', or this and a number, is needed"),
        ("v_a.avi 1\n", "line 1 is 'v_a.avi 1'; '<class>/<video>.avi', or this and a number, is needed"),
        ("Archery/v_a.avi 1 1\n", "line 1 is 'Archery/v_a.avi 1 1'; '<class>/<video>.avi', or"),
        ("", "is empty"),
    ],
)
def test_wrong_labels_are_named_with_what_would_be_right(tmp_path: Path, train: str, message: str) -> None:
    write_labels(tmp_path, train)
    with pytest.raises(DatasetError) as raised:
        Ucf101(tmp_path, "train")
    assert str(raised.value).startswith(f"{tmp_path / 'ucfTrainTestlist' / 'trainlist01.txt'}: {message}")


@pytest.mark.parametrize("classes", ["1 Archery\n3 Cooking\n", "0 Archery\n", "1 Archery Field\n", "Archery\n"])
def test_wrong_classes_are_named(tmp_path: Path, classes: str) -> None:
    write_labels(tmp_path, classes=classes)
    with pytest.raises(DatasetError, match=r"classInd\.txt: line [12] is .*; '[12] <name of the class>' is needed"):
        Ucf101(tmp_path, "train")
