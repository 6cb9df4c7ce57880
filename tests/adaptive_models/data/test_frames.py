from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import HEIGHT, WIDTH, number_of, picture, sweep, write_images, write_numbered, write_wav

from adaptive_models.data.clips import ClipError, VideoClip
from adaptive_models.data.frames import FrameClip, open_any_clip
from adaptive_models.data.images import ImageArchive, ImageFolder, decode_image
from adaptive_models.data.log_mel import log_mel
from adaptive_models.data.spectrogram import silence
from adaptive_models.data.transforms import prepare_frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("frames") / "P01_01", 40)


def archive(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=".")
    return path


def shown(clip: FrameClip) -> list[int]:
    return [number_of(clip.rgb(t)) for t in range(clip.frames)]


@pytest.mark.parametrize("form", ["official", "linked anew", "archive"])
def test_frames_of_a_segment_in_every_form(folder: Path, tmp_path: Path, form: str) -> None:
    path = folder
    if form == "linked anew":
        path = tmp_path / "P01_01"
        path.mkdir()
        for number in range(40):
            (path / f"img_{number:010d}.jpg").symlink_to(folder / f"frame_{number + 1:010d}.jpg")
    elif form == "archive":
        path = archive(folder, tmp_path / "P01_01.tar")
    with FrameClip(path, 3, audio=False, numbers=range(10, 40), start=1.5, fps=20) as clip:
        assert (clip.source_frames, clip.indices, clip.size) == (30, [5, 15, 25], (WIDTH, HEIGHT))
        assert shown(clip) == [15, 25, 35]
        assert clip.times == [1.75, 2.25, 2.75]
        assert torch.equal(clip.image(1), prepare_frame(clip.rgb(1)))
        assert clip.notes == []
    with FrameClip(path, 4, audio=False, sample=lambda n, _: [0, 1, 2, n - 1]) as clip:
        assert shown(clip) == [0, 1, 2, 39]


def test_images_are_in_the_order_of_their_numbers_without_optical_flow(folder: Path, tmp_path: Path) -> None:
    source = ImageFolder(folder)
    for number in range(12):
        (tmp_path / f"v_Archery_g01_c01_{number}.jpg").write_bytes(source.read(f"frame_{number + 1:010d}.jpg"))
    for other in ("flow_x_00001.jpg", "x_00001.jpg", "v_00001.jpg", "labels.txt"):
        (tmp_path / other).write_bytes(b"no frame")
    with FrameClip(tmp_path, 12, audio=False) as clip:
        assert clip.source_frames == 12
        assert shown(clip) == list(range(12))


def test_only_images_that_are_asked_for_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = ImageFolder.read
    monkeypatch.setattr(ImageFolder, "read", lambda self, name: read.append(name) or original(self, name))
    clip = FrameClip(folder, 10, audio=False, numbers=range(5, 35))
    assert read == []
    clip.image(7)
    assert read == ["frame_0000000028.jpg"]  # frame 5 + 22 from zero


def test_missing_and_truncated_images_are_replaced_and_named(tmp_path: Path) -> None:
    write_images(tmp_path, 10)
    (tmp_path / "frame_0000000004.jpg").unlink()
    broken = tmp_path / "frame_0000000005.jpg"
    broken.write_bytes(broken.read_bytes()[:1000])
    (tmp_path / "frame_0000000006.jpg").write_bytes(b"")
    clip = FrameClip(tmp_path, 10, audio=False, numbers=range(10))
    assert shown(clip) == [0, 1, 2, 2, 2, 2, 6, 7, 8, 9]
    assert [note.split(" ")[0] for note in clip.notes] == [f"frame_000000000{number}.jpg" for number in (4, 5, 6)]
    assert clip.notes[1].endswith("is missing or cannot be decoded: frame_0000000003.jpg stands for it")
    for image in tmp_path.iterdir():
        image.write_bytes(b"\xff\xd8 no longer an image")
    with pytest.raises(ClipError, match="none of its images can be decoded"):
        clip.image(0)


def test_segments_that_the_images_do_not_cover_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"frame_0000000061\.jpg nor img_0000000060\.jpg, the first of the segment"):
        FrameClip(folder, 3, audio=False, numbers=range(60, 70))
    with pytest.raises(ClipError, match=r"frame_0000000041\.jpg, the last of the segment, is missing or empty"):
        FrameClip(folder, 3, audio=False, numbers=range(30, 41))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ClipError, match="holds no images"):
        FrameClip(tmp_path, 3, audio=False)
    with pytest.raises(ClipError, match="no such folder or archive"):
        FrameClip(tmp_path / "missing", 3, audio=False)
    with pytest.raises(ClipError, match="0 frames asked for"):
        FrameClip(folder, 0, audio=False)
    with pytest.raises(IndexError, match="frame 3 of a clip of 3"):
        FrameClip(folder, 3, audio=False).image(3)


def test_an_archive_cut_short_gives_its_whole_images(folder: Path, tmp_path: Path) -> None:
    whole = archive(folder, tmp_path / "whole.tar")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    images, all_images = ImageArchive(cut), ImageArchive(whole)
    names = images.names()
    assert 5 < len(names) < 40
    assert all(images.read(name) == all_images.read(name) for name in names)
    images.close()
    all_images.close()
    with pytest.raises(ClipError, match="the last of the segment, is missing"):
        FrameClip(cut, 3, audio=False, numbers=range(40))
    cut.write_bytes(b"this is no archive" * 100)
    with pytest.raises(ClipError, match=r"cut\.tar: cannot be read as a tar archive"):
        FrameClip(cut, 3, audio=False)


def test_sound_of_another_file_is_that_of_the_frames_times(folder: Path, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "P01_01.wav", sweep(12))
    with FrameClip(folder, 2, audio=True, numbers=range(10, 40), start=8.0, fps=30, sound=wav) as clip:
        for t in range(2):
            row = clip.spectrogram(t)[0, :, 128].argmax().item()
            assert row * 24000 / 511 == pytest.approx(500 + 1000 * clip.times[t], abs=60)
        assert clip.notes == []


def test_without_sound_there_is_silence(folder: Path) -> None:
    clip = FrameClip(folder, 2, audio=True)
    assert torch.equal(clip.spectrogram(1), silence())
    assert torch.equal(clip.log_mel(1), log_mel(np.zeros(0), 0.0))
    assert clip.notes == ["there is no sound to these images: silence stands for it"]
    with pytest.raises(ValueError, match="opened without audio"):
        FrameClip(folder, 2, audio=False).spectrogram(0)


def test_pixels_are_those_of_an_image_library(folder: Path) -> None:
    image_library = pytest.importorskip("PIL.Image")
    path = folder / "frame_0000000008.jpg"
    expected = np.asarray(image_library.open(path)).astype(int)
    decoded = decode_image(path.read_bytes()).astype(int)
    assert np.abs(decoded - expected).max() <= 3
    assert np.abs(decoded - picture(7)).mean() < 12


def test_any_clip(folder: Path, tmp_path: Path) -> None:
    assert shown(open_any_clip(folder, 2, audio=False)) == [10, 30]  # type: ignore[arg-type]
    assert isinstance(open_any_clip(archive(folder, tmp_path / "frames.tar"), 2, audio=False), FrameClip)
    video = write_numbered(tmp_path / "video.mp4", 10)
    assert isinstance(open_any_clip(str(video), 2, audio=False), VideoClip)
    with pytest.raises(ClipError, match="no such file"):
        open_any_clip(tmp_path / "missing", 2, audio=False)
