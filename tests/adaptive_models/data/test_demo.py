from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from adaptive_models.data import demo
from adaptive_models.data.clips import VideoClip
from adaptive_models.data.demo import write_demo_clip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo.mp4"
    write_demo_clip(path)
    return path


def test_it_is_a_video_with_sound(path: Path) -> None:
    with VideoClip(path, 100, audio=True) as clip:
        assert (clip.source_frames, clip.fps, clip.size) == (100, 25.0, (320, 240))
        assert clip.times[-1] == pytest.approx(3.96)
        clip.spectrogram(0)
        assert clip.notes == []


def test_picture_and_sound_move_together_and_are_still_otherwise(path: Path) -> None:
    with VideoClip(path, 20, audio=True) as clip:
        pictures = [clip.rgb(t).astype(int) for t in range(20)]
        change = np.array([np.abs(b - a).mean() for a, b in pairwise(pictures)])
        moving = np.array([1.6 <= (a + b) / 2 < 2.8 for a, b in pairwise(clip.times)])
        assert change[moving].min() > 2 * change[~moving].max()
        hum = [clip.spectrogram(t)[0, round(440 / 24000 * 511), 128].item() for t in range(20)]
        loud = np.array([1.62 < time < 2.78 for time in clip.times])
        assert np.array(hum)[loud].min() > 3 > np.array(hum)[[time < 1.6 for time in clip.times]].max()


def test_same_arguments_same_bytes_and_another_seed_another_clip(tmp_path: Path) -> None:
    clips = [tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c.mp4"]
    for path, seed in zip(clips, (0, 0, 1), strict=True):
        write_demo_clip(path, seconds=0.4, seed=seed)
    first, same, other = (path.read_bytes() for path in clips)
    assert first == same != other


def test_a_failed_writing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "demo.mp4"
    path.write_text("before")

    def interrupted(count: int, seed: int):  # type: ignore[no-untyped-def]
        yield np.zeros((240, 320, 3), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_pictures", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_demo_clip(path)
    assert [file.name for file in tmp_path.iterdir()] == ["demo.mp4"]
    assert path.read_text() == "before"


def test_a_clip_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hold no frame"):
        write_demo_clip(tmp_path / "demo.mp4", seconds=0.01)
