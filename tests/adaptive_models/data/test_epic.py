from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from media_files import number_of, sweep, write_images, write_numbered, write_wav

from adaptive_models.data import frames as frames_module
from adaptive_models.data.datasets import DatasetError
from adaptive_models.data.epic import Epic, read_classes, read_segments

RATE = 60
ROWS = [
    # uid, video, start, stop, frames at 60 per second as the official files round them, verb, noun
    ("7", "P01_01", "00:00:00.00", "00:00:01.00", 1, 60, 0, 2),
    ("3", "P01_01", "00:00:01.01", "00:00:02.51", 60, 150, 1, 0),
    ("12", "P02_04", "00:00:00.50", "00:00:02.99", 30, 179, 2, 1),
]
FRAMES = {"P01_01": 180, "P02_04": 180}


def label_table() -> pd.DataFrame:
    columns = ["uid", "video_id", "start_timestamp", "stop_timestamp", "start_frame", "stop_frame"]
    return pd.DataFrame(ROWS, columns=[*columns, "verb_class", "noun_class"])


def write_labels(root: Path, split: str = "train", table: pd.DataFrame | None = None) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for kind in ("verb", "noun"):
        lines = "".join(f"{number},{kind} {number},\"['{kind}', 'a']\"\n" for number in range(3))
        (root / f"EPIC_{kind}_classes.csv").write_text(f"{kind}_id,class_key,{kind}s\n{lines}")
    path = root / f"EPIC_{split}_action_labels.csv"
    (label_table() if table is None else table).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos and their frames, to be linked into data sets."""
    root = tmp_path_factory.mktemp("media")
    for video, frames in FRAMES.items():
        write_numbered(root / f"{video}.MP4", frames, RATE, options={"g": "24", "bf": "2"}, sound=sweep(frames / RATE))
        write_images(root / video, frames)
        write_wav(root / f"{video}.wav", sweep(frames / RATE))
        with tarfile.open(root / f"{video}.tar", "w") as tar:
            tar.add(root / video, arcname=video)
    return root


def lay_out(media: Path, root: Path, form: str) -> Path:
    """The data set in one of the forms that people have."""
    write_labels(root if form == "videos" else root / "annotations")
    for video in FRAMES:
        participant = video[:3]
        if form == "videos":
            place = root / "videos" / participant / f"{video}.MP4"
        elif form == "archives":
            place = root / "frames_rgb_flow" / "rgb" / "train" / participant / f"{video}.tar"
            flow = root / "frames_rgb_flow" / "flow" / "train" / participant
            flow.mkdir(parents=True)
            (flow / f"{video}.tar").write_bytes(b"optical flow")
        else:
            place = root / "frames" / participant / video
        place.parent.mkdir(parents=True, exist_ok=True)
        if form == "linked anew":
            place.mkdir()
            for number in range(FRAMES[video]):
                (place / f"img_{number:010d}.jpg").symlink_to(media / video / f"frame_{number + 1:010d}.jpg")
        else:
            place.symlink_to(media / place.name)
        if form != "videos":
            os.symlink(media / f"{video}.wav", place.parent / f"{video}.wav")
    return root


def test_the_real_label_files(shared: Path) -> None:
    folder = shared / "annotations" / "epic"
    verbs, nouns = (read_classes(folder / f"EPIC_{kind}_classes.csv", kind) for kind in ("verb", "noun"))
    assert (len(verbs), len(nouns)) == (125, 352)
    assert (verbs[0], nouns[1], nouns[351]) == ("take", "pan", "trouser")
    for split, count in (("train", 26074), ("val", 2398)):
        path = folder / f"EPIC_{split}_action_labels.csv"
        segments = read_segments(path, len(verbs), len(nouns))
        assert len(segments) == count
        counted = pd.read_csv(path, dtype={"uid": str}).set_index("uid")["rgb_frame_count"]
        assert {uid: len(segment.numbers) for uid, segment in segments.items()} == counted.to_dict()
    first = segments["3170"]
    assert (first.video, first.labels, first.start, first.stop) == ("P01_18", (2, 10), 3.17, 5.42)
    assert first.numbers == range(189, 324)  # frame_0000000190.jpg and on, to the one before 325


@pytest.mark.parametrize("form", ["videos", "frames", "linked anew", "archives"])
def test_clips_of_every_form(media: Path, tmp_path: Path, form: str) -> None:
    data = Epic(lay_out(media, tmp_path / "epic", form), "train")
    assert (data.name, data.split, data.audio, data.left_out) == ("epic", "train", True, {})
    assert data.classes == (("verb 0", "verb 1", "verb 2"), ("noun 0", "noun 1", "noun 2"))
    assert [(clip.id, clip.labels) for clip in data.clips] == [("7", (0, 2)), ("3", (1, 0)), ("12", (2, 1))]
    for clip, (_, _, _, _, start, stop, _, _) in zip(data.clips, ROWS, strict=True):
        with data.open(clip, 4) as opened:
            segment = (stop - start) / 4
            expected = [int(start + segment / 2 + segment * t) for t in range(4)]
            assert [number_of(opened.rgb(t)) for t in range(4)] == pytest.approx(expected, abs=2)
            assert opened.times == pytest.approx([number / RATE for number in expected], abs=0.04)
            for t in range(4):
                spectrogram = opened.spectrogram(t)
                assert spectrogram.shape == (1, 256, 256)
                if 0.64 < opened.times[t] < 2.36:  # elsewhere the window shifts
                    frequency = spectrogram[0, :, 128].argmax().item() * 24000 / 511
                    assert frequency == pytest.approx(500 + 1000 * opened.times[t], abs=100)
            assert opened.notes == []


@pytest.mark.parametrize("form", ["videos", "frames"])
def test_training_draws_frames_from_a_seed_in_each_segment(media: Path, tmp_path: Path, form: str) -> None:
    data = Epic(lay_out(media, tmp_path / "epic", form), "train")
    drawn = []
    for seed in (0, 0, 1, 2):
        with data.open(data.clips[1], 5, seed) as clip:
            drawn.append([number_of(clip.rgb(t)) for t in range(5)])
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2] != drawn[3]
    for numbers in drawn:
        assert all(59 + 18 * t - 1 <= number <= 59 + 18 * (t + 1) + 1 for t, number in enumerate(numbers))


def test_extra_columns_of_the_papers_files_make_no_difference(media: Path, tmp_path: Path) -> None:
    root = lay_out(media, tmp_path / "epic", "videos")
    plain = Epic(root, "train").clips
    write_labels(root, table=label_table().assign(rgb_frame_count=1, narration="put, then 'take'", all_nouns="['a']"))
    assert Epic(root, "train").clips == plain


def test_what_is_missing_is_named(media: Path, tmp_path: Path) -> None:
    root = lay_out(media, tmp_path / "epic", "videos")
    (root / "videos" / "P02" / "P02_04.MP4").unlink()
    data = Epic(root, "train")
    assert [clip.id for clip in data.clips] == ["7", "3"]
    assert data.left_out == {"12": "P02_04: no folder or .tar archive of frames, and no video, has this name"}
    empty = root / "videos" / "P02_04.mp4"
    empty.touch()
    assert Epic(root, "train").left_out == {"12": f"{empty}: is empty"}
    shutil.rmtree(root / "videos")
    with pytest.raises(
        DatasetError, match=r"no clip of EPIC_train_action_labels\.csv has its files there; .*P01_01: no"
    ):
        Epic(root, "train")


def test_frames_and_sound_that_are_missing_are_named(media: Path, tmp_path: Path) -> None:
    root = lay_out(media, tmp_path / "epic", "linked anew")
    last = root / "frames" / "P01" / "P01_01" / "img_0000000148.jpg"
    last.unlink()
    (root / "frames" / "P02" / "P02_04.wav").unlink()
    assert Epic(root, "train").left_out == {
        "3": f"{last.parent}: {last.name}, the last of the segment, is missing or empty",
        "12": "P02_04.wav: missing, and so is a video with the sound",
    }
    (root / "frames" / "P01" / "P01_01.wav").unlink()
    silent = Epic(root, "train")
    assert not silent.audio
    assert [clip.id for clip in silent.clips] == ["7", "12"]


def test_a_limit_takes_clips_from_all_over(media: Path, tmp_path: Path) -> None:
    root = lay_out(media, tmp_path / "epic", "videos")
    assert [clip.id for clip in Epic(root, "train", limit=2).clips] == ["7", "3"]
    assert [clip.id for clip in Epic(root, "train", limit=9).clips] == ["7", "3", "12"]


def changed(column: str, row: int, value: object) -> pd.DataFrame:
    table = label_table().astype(object)
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (label_table().drop(columns="stop_frame"), "has no column stop_frame; it needs uid, video_id, start_timestamp"),
        (label_table().iloc[:0], "has no lines below its header"),
        (changed("verb_class", 1, 3), "line 3: verb_class is '3'; classes are 0 to 2"),
        (changed("noun_class", 2, -1), "line 4: noun_class is '-1'; classes are 0 to 2"),
        (changed("noun_class", 0, "fridge"), "line 2: noun_class is 'fridge'; classes are 0 to 2"),
        (changed("start_frame", 2, "3.5"), "line 4: start_frame is '3.5'; a whole number is needed"),
        (changed("stop_frame", 0, ""), "line 2: stop_frame is ''; a whole number is needed"),
        (changed("stop_frame", 1, 60), "line 3: stop_frame is '60'; it must be after start_frame"),
        (changed("start_timestamp", 1, "61.5"), "line 3: start_timestamp is '61.5'; a time such as 00:01:02.34 is"),
        (changed("stop_timestamp", 1, "0:00:01.0"), "line 3: stop_timestamp is '0:00:01.0'; it must be after start_"),
        (changed("uid", 2, "7"), "line 4: uid is '7'; it was there before, and each line has its own"),
    ],
)
def test_wrong_labels_are_named_with_what_would_be_right(tmp_path: Path, table: pd.DataFrame, message: str) -> None:
    path = write_labels(tmp_path, "val", table)
    with pytest.raises(DatasetError) as raised:
        Epic(tmp_path, "val")
    assert str(raised.value).startswith(f"{path}: {message}")
    assert "\n" not in str(raised.value)


def test_files_that_are_no_labels_are_named(tmp_path: Path) -> None:
    path = write_labels(tmp_path)
    with pytest.raises(DatasetError, match=r"EPIC_val_action_labels\.csv is missing, there and in the folders below"):
        Epic(tmp_path, "val")
    for content in (b"", b'uid,video_id\n1,2,3\n"', b"\xff\xfe\x00\x01"):
        path.write_bytes(content)
        with pytest.raises(
            DatasetError, match=r"train_action_labels\.csv: (cannot be read as a table|has no column)"
        ) as e:
            Epic(tmp_path, "train")
        assert "\n" not in str(e.value)
    write_labels(tmp_path)
    classes = tmp_path / "EPIC_noun_classes.csv"
    classes.write_text("noun_id,class_key\n0,pan\n2,tap\n")
    with pytest.raises(DatasetError, match="line 3: noun_id is '2'; ids count from 0, one a line"):
        Epic(tmp_path, "train")


def test_frames_that_are_skipped_are_not_decoded(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    original = frames_module.decode_image
    monkeypatch.setattr(frames_module, "decode_image", lambda data: decoded.append(len(data)) or original(data))
    data = Epic(lay_out(media, tmp_path / "epic", "frames"), "train")
    with data.open(data.clips[0], 10) as clip:
        assert torch.equal(clip.image(3), clip.image(3))
    assert len(decoded) == 2
