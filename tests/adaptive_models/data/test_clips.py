from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from adaptive_models.data import clips
from adaptive_models.data.clips import ClipError, TensorClip, VideoClip
from adaptive_models.data.demo import write_demo_clip
from adaptive_models.data.log_mel import log_mel
from adaptive_models.data.spectrogram import silence
from adaptive_models.data.transforms import prepare_frame


def write_video(
    path: Path,
    frames: int = 20,
    codec: str = "ffv1",
    pixels: str = "bgr0",
    sound: np.ndarray | None = None,
    stamp: Callable[[int], int] = lambda frame: frame,
) -> Path:
    """A 64 x 48 video at 10 frames per second, frame n of one grey, 10 n modulo 256; 48 kHz stereo sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, pixels
        audio = container.add_stream("pcm_s16le", rate=48000, layout="stereo") if sound is not None else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * number % 256, np.uint8), format="rgb24")
            frame.pts = stamp(number)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None and sound is not None:
            samples = np.repeat((sound * 32767).astype(np.int16), 2)[None]
            block = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            block.sample_rate, block.pts = 48000, 0
            container.mux(audio.encode(block))
            container.mux(audio.encode())
    return path


def values(clip: VideoClip) -> list[int]:
    return [clip.rgb(t)[20, 20, 0].item() for t in range(clip.frames)]


def blank_packets(path: Path, first: int, kind: str = "video") -> Path:
    """Overwrite a track's packets from the given one on, so that no decoder takes them."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(**{kind: 0}) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in packets[first:]:
        content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    return path


def test_frames_are_the_middles_of_the_segments(tmp_path: Path) -> None:
    with VideoClip(write_video(tmp_path / "video.mkv"), 4, audio=False) as clip:
        assert (clip.source_frames, clip.fps, clip.size) == (20, 10.0, (64, 48))
        assert clip.indices == [2, 7, 12, 17]
        assert values(clip) == [20, 70, 120, 170]
        assert clip.times == pytest.approx([0.2, 0.7, 1.2, 1.7])
        assert clip.notes == []
        expected = prepare_frame(np.full((48, 64, 3), 120, np.uint8))
        assert torch.equal(clip.image(2), expected)


def test_times_are_those_of_the_frames_when_the_rate_varies(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mkv", frames=6, stamp=lambda number: number**2)
    assert VideoClip(path, 3, audio=False).times == pytest.approx([0.1, 0.9, 2.5])


def test_going_back_gives_the_same_images(shared: Path) -> None:
    with VideoClip(shared / "clips" / "clip_with_audio.avi", 6, audio=False) as clip:
        forward = [clip.image(t) for t in range(6)]
        for t in (5, 2, 0, 4, 4, 1, 3):
            assert torch.equal(clip.image(t), forward[t])


def test_skipped_frames_are_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[int] = []
    monkeypatch.setattr(clips, "prepare_frame", lambda rgb: converted.append(int(rgb[0, 0, 0])))
    clip = VideoClip(write_video(tmp_path / "video.mkv"), 10, audio=False)
    clip.image(1)
    clip.image(8)
    assert converted == [30, 170]


@pytest.mark.parametrize("name", ["clip_with_audio.avi", "clip_silent.mp4"])
def test_real_clips_agree_with_decoding_everything(shared: Path, name: str) -> None:
    path = shared / "clips" / name
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    clip = VideoClip(path, 5, audio=True)
    assert clip.source_frames == len(decoded)
    for t, index in enumerate(clip.indices):
        assert np.array_equal(clip.rgb(t), decoded[index])
    assert clip.image(4).shape == (3, 224, 224)
    assert clip.spectrogram(4).shape == (1, 256, 256)
    if name == "clip_silent.mp4":
        assert torch.equal(clip.spectrogram(0), silence())
        assert torch.equal(clip.log_mel(0), log_mel(np.zeros(0), 0.0))
        assert clip.notes == ["the file has no audio track: silence stands for it"]
    else:
        assert clip.spectrogram(0).std() > 1
        assert clip.log_mel(0).std() > 0.2
        assert clip.notes == []


def test_sound_is_that_of_the_frame(tmp_path: Path) -> None:
    time = np.arange(4 * 48000) / 48000
    tone = 0.5 * np.sin(2 * np.pi * 3000 * time) * (time >= 2.0)
    clip = VideoClip(write_video(tmp_path / "video.mkv", frames=40, sound=tone), 40, audio=True)
    assert clip.times[20] == pytest.approx(2.0)
    spectrogram = clip.spectrogram(20)[0]
    assert (spectrogram[:, :120] < -13).all()  # silent until the frame, which is the middle
    assert (spectrogram[:, 136:].argmax(0) == round(3000 / 24000 * 511)).all()
    assert spectrogram[64, 200].item() == pytest.approx(math.log(30.0**2), abs=0.1)
    mel = clip.log_mel(20)[0]
    assert (mel[:, :60] == mel.min()).all()
    band = 81 * math.log(1 + 3000 / 700) / math.log(1 + 8000 / 700) - 1
    assert (abs(mel[:, 68:].argmax(0) - band) <= 1).all()
    assert clip.notes == []


def test_sound_that_is_missing_or_short_is_reported(tmp_path: Path) -> None:
    silent = VideoClip(write_video(tmp_path / "silent.mkv"), 4, audio=True)
    assert torch.equal(silent.spectrogram(3), silence())
    assert silent.notes == ["the file has no audio track: silence stands for it"]

    noise = np.random.default_rng(0).uniform(-1, 1, 120000)
    short = VideoClip(write_video(tmp_path / "short.mkv", sound=noise[:24000]), 4, audio=True)
    assert torch.equal(short.spectrogram(0)[..., 110:], silence()[..., 110:])
    assert short.notes == ["the audio track lasts 0.50 s, a spectrogram 1.28 s: silence follows the track"]
    assert short.log_mel(0)[..., 40:].unique().numel() == 1

    shorter = VideoClip(write_video(tmp_path / "shorter.mkv", sound=noise[:72000]), 1, audio=True)
    shorter.spectrogram(0)
    assert shorter.notes == []
    shorter.log_mel(0)
    assert shorter.notes == ["the audio track lasts 1.50 s, a spectrogram 2.06 s: silence follows the track"]

    early = VideoClip(write_video(tmp_path / "early.mkv", frames=25, sound=noise[:72000]), 5, audio=True)
    assert torch.equal(early.spectrogram(4), early.spectrogram(3))
    assert early.notes == [
        "the audio track ends at 1.50 s, the last frame is at 2.20 s: frames beyond the track get its end"
    ]


def test_sound_that_cannot_be_decoded_is_reported(tmp_path: Path) -> None:
    write_demo_clip(tmp_path / "demo.mp4", seconds=2)
    clip = VideoClip(blank_packets(tmp_path / "demo.mp4", first=0, kind="audio"), 4, audio=True)
    assert torch.equal(clip.spectrogram(1), silence())
    assert clip.notes[0].startswith("parts of the audio stream cannot be decoded")
    assert clip.notes[-1] == "the audio track cannot be decoded: silence stands for it"


def test_sound_is_an_error_where_it_was_not_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="opened without audio"):
        VideoClip(write_video(tmp_path / "video.mkv"), 4, audio=False).spectrogram(0)


def test_three_frames_for_ten(tmp_path: Path) -> None:
    clip = VideoClip(write_video(tmp_path / "video.mkv", frames=3), 10, audio=False)
    assert values(clip) == [0, 0, 0, 10, 10, 10, 10, 20, 20, 20]
    assert clip.notes == ["10 frames were asked for, the file has 3: frames repeat"]


def test_a_file_cut_short_gives_the_frames_it_holds(shared: Path, tmp_path: Path) -> None:
    content = (shared / "clips" / "clip_with_audio.avi").read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(content[: len(content) // 2])
    clip = VideoClip(path, 10, audio=True)
    assert clip.source_frames < 100
    assert all(clip.image(t).isfinite().all() for t in range(10))
    assert clip.spectrogram(9).std() > 1
    assert clip.notes[0].startswith("the header promises 164 frames, the file shows ")


def test_the_last_good_frame_stands_for_those_that_cannot_be_decoded(tmp_path: Path) -> None:
    path = blank_packets(write_video(tmp_path / "video.mp4", codec="mjpeg", pixels="yuvj420p"), first=12)
    clip = VideoClip(path, 10, audio=False)
    assert clip.source_frames == 20
    assert values(clip) == pytest.approx([10, 30, 50, 70, 90, 110, 110, 110, 110, 110], abs=3)
    assert values(clip) == pytest.approx([10, 30, 50, 70, 90, 110, 110, 110, 110, 110], abs=3)
    assert len(clip.notes) == 2
    assert clip.notes[0].startswith("parts of the video stream cannot be decoded")
    assert clip.notes[1] == "only 12 of 20 frames can be decoded: frame 11 stands for those from 12 on"


def test_frames_that_an_edit_list_hides_do_not_count(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", codec="mpeg4", pixels="yuv420p", stamp=lambda number: number - 5)
    clip = VideoClip(path, 3, audio=False)
    assert clip.source_frames == 15
    assert values(clip) == pytest.approx([70, 120, 170], abs=4)
    assert clip.times == pytest.approx([0.2, 0.7, 1.2])
    assert clip.notes == [
        "the header promises 20 frames, the file shows 15 (cut short, or trimmed without encoding anew): "
        "the clip is sampled from those"
    ]


def test_files_that_are_no_video(tmp_path: Path, shared: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("this is no video\n" * 100)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes((shared / "clips" / "clip_silent.mp4").read_bytes()[:200_000])
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        block.sample_rate, block.pts = 8000, 0
        container.mux(stream.encode(block))
    blank = blank_packets(write_video(tmp_path / "blank.mp4", codec="mjpeg", pixels="yuvj420p"), first=0)
    for path, reason in [
        (tmp_path / "missing.mp4", "no such file"),
        (tmp_path, "no such file"),
        (text, "cannot be read as a video"),
        (empty, "cannot be read as a video"),
        (cut, "cannot be read as a video"),
        (sound, "has no video stream"),
        (blank, "no frame of its video can be decoded"),
    ]:
        with pytest.raises(ClipError, match=reason) as raised:
            VideoClip(path, 10, audio=True).image(0)
        assert str(raised.value).startswith(str(path))
        assert "\n" not in str(raised.value)


def test_frames_are_counted_from_zero_and_at_least_one_is_needed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mkv", frames=3)
    with pytest.raises(ClipError, match=r"video\.mkv: 0 frames asked for"):
        VideoClip(path, 0, audio=False)
    for t in (-1, 3):
        with pytest.raises(IndexError, match=f"frame {t} of a clip of 3"):
            VideoClip(path, 3, audio=False).image(t)


def test_tensors_in_memory() -> None:
    images, spectrograms = torch.rand(4, 3, 224, 224), torch.rand(4, 1, 256, 256)
    clip = TensorClip(images, spectrograms)
    assert (clip.frames, clip.notes) == (4, [])
    assert torch.equal(clip.image(3), images[3])
    assert torch.equal(clip.spectrogram(2), spectrograms[2])
    with pytest.raises(IndexError, match="frame 4 of a clip of 4"):
        clip.image(4)
    with pytest.raises(ValueError, match="made without spectrograms"):
        TensorClip(images).spectrogram(0)
    with pytest.raises(ValueError, match=r"images has shape \(3, 224, 224\)"):
        TensorClip(images[0])
    with pytest.raises(ValueError, match=r"spectrograms has shape \(3, 1, 256, 256\)"):
        TensorClip(images, spectrograms[:3])
