from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from adaptive_models.data import mini_files
from adaptive_models.data.clips import VideoClip
from adaptive_models.data.mini import Mini
from adaptive_models.data.mini_files import files_to_write, write_mini
from adaptive_models.data.mini_scene import FPS, OBJECT_SIZE, SOURCE_FRAMES, VERBS, Scene
from adaptive_models.data.spectrogram import log_spectrogram


@pytest.fixture(scope="module")
def epic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("files") / "mini"
    write_mini(out, "epic-frames", clips=2)
    return out


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("files") / "mini"
    write_mini(out, "ucf101", clips=2)
    return out


def roughness(picture: np.ndarray, scene: Scene) -> float:
    """How much max-pooling lifts the object's surface, in grey levels."""
    top, left = scene.centre - OBJECT_SIZE // 2 + 8
    surface = torch.from_numpy(picture[top : top + 40, left : left + 40].astype(np.float32).mean(axis=2))[None, None]
    return (F.max_pool2d(surface, 2) - F.avg_pool2d(surface, 2)).mean().item()


def jpeg(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def check_against_rendered(path: Path, split: str, numbers: list[int]) -> None:
    data = Mini(split)
    scenes = [data.scene(data.clips[number]) for number in numbers]
    count = SOURCE_FRAMES * len(scenes)
    with VideoClip(path, count, audio=True) as clip:
        assert (clip.source_frames, clip.fps, clip.size, clip.notes) == (count, 12.0, (256, 256), [])
        for number, scene in zip(numbers, scenes, strict=True):
            position = numbers.index(number) * SOURCE_FRAMES
            rendered = data.open(data.clips[number], SOURCE_FRAMES)
            for index in (0, 50, 95):
                decoded = clip.rgb(position + index)
                assert np.abs(decoded.astype(int) - rendered.rgb(index)).mean() < 4
                texture = roughness(rendered.rgb(index), scene)
                assert roughness(decoded, scene) == pytest.approx(texture, rel=0.25, abs=2)  # encoding takes noise away


def test_videos_of_epic_show_and_sound_what_is_rendered(epic: Path) -> None:
    check_against_rendered(epic / "videos/P01/P01_01.MP4", "train", [0, 1])
    check_against_rendered(epic / "videos/P02/P02_01.MP4", "val", [0, 1])


@pytest.mark.parametrize(("container_format", "codec"), [("mp4", "aac"), ("avi", "pcm_s16le")])
def test_sound_survives_encoding_in_its_place(tmp_path: Path, container_format: str, codec: str) -> None:
    data = Mini("val")
    quiet, ring = (data.scene(data.clips[number]) for number in (1, VERBS.index("ring")))
    path = tmp_path / "clip"
    mini_files._write_video(path, [quiet, ring], container_format, codec)
    with VideoClip(path, 2 * SOURCE_FRAMES, audio=True) as clip:
        for time in (ring.begin, (ring.begin + ring.end) / 2, ring.end):
            heard = clip.spectrogram(SOURCE_FRAMES + round(time * FPS))[0, :160]
            made = log_spectrogram(ring.sound, round(time * FPS) / FPS)[0, :160]
            assert torch.corrcoef(torch.stack([heard.flatten(), made.flatten()]))[0, 1] > 0.8


def test_frames_of_epic_count_from_one_and_show_what_is_rendered(epic: Path) -> None:
    files = sorted(path.name for path in (epic / "frames/P02/P02_01").iterdir())
    assert files == [f"frame_{number:010d}.jpg" for number in range(1, 2 * SOURCE_FRAMES + 1)]
    data = Mini("val")
    second = data.open(data.clips[1], SOURCE_FRAMES)
    for index in (0, 95):
        decoded = jpeg(epic / "frames/P02/P02_01" / files[SOURCE_FRAMES + index])
        assert np.abs(decoded.astype(int) - second.rgb(index)).mean() < 3


def test_label_files_of_epic_have_the_official_columns(epic: Path, shared: Path) -> None:
    for official in (shared / "annotations/epic").iterdir():
        columns = [column for column in pd.read_csv(official, nrows=0).columns if "frame_count" not in column]
        assert list(pd.read_csv(epic / official.name).columns) == columns


def test_actions_of_epic_lie_one_behind_the_other(epic: Path) -> None:
    rows = pd.read_csv(epic / "EPIC_train_action_labels.csv").to_dict("records")
    assert [(row["start_timestamp"], row["stop_timestamp"]) for row in rows] == [
        ("00:00:00.00", "00:00:08.00"),
        ("00:00:08.00", "00:00:16.00"),
    ]
    assert [(row["start_frame"], row["stop_frame"]) for row in rows] == [(1, 97), (97, 193)]
    assert [(row["verb_class"], row["noun_class"]) for row in rows] == [clip.labels for clip in Mini("train", 2).clips]
    verbs = pd.read_csv(epic / "EPIC_verb_classes.csv").set_index("verb_id")["class_key"]
    assert all(verbs[row["verb_class"]] == row["verb"] for row in rows)


def test_ucf101_has_its_lists_and_videos(ucf101: Path) -> None:
    classes = dict(line.split() for line in (ucf101 / "classInd.txt").read_text().splitlines())
    assert list(classes) == [str(number) for number in range(1, 73)]
    assert (ucf101 / "trainlist01.txt").read_text().splitlines() == [
        f"{name}/v_{name}_g02_c01.avi {number}"
        for name in ("TakePotPlain", "PutPotChequered")
        for number, found in classes.items()
        if found == name
    ]
    tests = (ucf101 / "testlist01.txt").read_text().splitlines()
    assert tests == [f"{name}/v_{name}_g01_c01.avi" for name in ("TakePotPlain", "PutPotChequered")]
    check_against_rendered(ucf101 / "videos" / tests[1], "val", [1])


def test_an_interrupted_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Scene, index: int) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(Scene, "picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_mini(tmp_path / "mini")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        write_mini(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_progress_names_as_many_files_as_are_written(tmp_path: Path) -> None:
    names: list[str] = []
    write_mini(tmp_path / "mini", "ucf101", clips=1, advance=names.append)
    assert len(names) == files_to_write("ucf101", 1) == len(list((tmp_path / "mini").rglob("*.avi"))) == 2
    assert files_to_write("epic") == 36
