from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import number_of, sweep, write_numbered

from adaptive_models.data import video
from adaptive_models.data.clips import ClipError, VideoClip
from adaptive_models.data.spectrogram import WINDOW, log_spectrogram
from adaptive_models.data.video import VideoFrames

CLOSED, OPEN = "keyint=25:bframes=3:scenecut=0", "keyint=5:bframes=3:scenecut=0:open-gop=1:b-pyramid=normal"
ENCODINGS = {
    "h264.mp4": ("libx264", {"x264-params": CLOSED}),
    "h264-open-gop.mp4": ("libx264", {"x264-params": OPEN}),
    "h264.mkv": ("libx264", {"x264-params": CLOSED}),
    "h264.ts": ("libx264", {"x264-params": CLOSED}),
    "mpeg4.mp4": ("mpeg4", {"g": "25", "bf": "2"}),
    "mpeg4.avi": ("mpeg4", {"g": "25", "bf": "2"}),
    "mpeg2.mpg": ("mpeg2video", {"g": "25", "bf": "2"}),
    "vp9.webm": ("libvpx-vp9", {"g": "25", "cpu-used": "8", "deadline": "realtime"}),
}
FRAMES, RATE = 150, 30


@pytest.fixture(scope="module", params=ENCODINGS)
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """A video, and all its frames as decoded from the start."""
    codec, options = ENCODINGS[request.param]
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV is built without {codec}")
    path = write_numbered(tmp_path_factory.mktemp("videos") / request.param, FRAMES, RATE, codec, options)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [number_of(frame) for frame in frames] == list(range(FRAMES))
    return path, frames


@pytest.mark.parametrize(("start", "stop"), [(0, 150), (0, 20), (24, 26), (60, 100), (131, 150)])
def test_frames_of_a_segment_are_those_of_decoding_from_the_start(
    encoded: tuple[Path, list[np.ndarray]], start: int, stop: int
) -> None:
    path, truth = encoded
    notes: list[str] = []
    frames = VideoFrames(path, (start / RATE, stop / RATE), notes)
    assert len(frames) == stop - start
    assert frames.times == pytest.approx([number / RATE for number in range(start, stop)], abs=2e-3)
    random = np.random.default_rng(start)
    for number in (0, *random.integers(0, len(frames), 8).tolist(), len(frames) - 1, 0):
        assert np.array_equal(frames[number].to_ndarray(format="rgb24"), truth[start + number])
    assert notes == []
    frames.close()


def test_the_frames_of_a_whole_file_in_any_order(encoded: tuple[Path, list[np.ndarray]]) -> None:
    path, truth = encoded
    frames = VideoFrames(path, None, [])
    assert len(frames) == FRAMES
    for number in np.random.default_rng(0).integers(0, FRAMES, 15).tolist():
        assert np.array_equal(frames[number].to_ndarray(format="rgb24"), truth[number])
    frames.close()


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "video.mp4"
    return write_numbered(path, 600, 60, options={"g": "30", "bf": "2"}, sound=sweep(10))


def test_a_segment_holds_the_frame_shown_at_its_start_and_those_over_by_its_stop(mp4: Path) -> None:
    for start, stop, first, last in [
        (3.0, 3.5, 180, 209),
        (3.01, 3.5, 180, 209),  # frame 180 is shown until 3.0167
        (3.02, 3.51, 181, 209),  # frame 210 is shown until 3.5167
        (0.14, 3.37, 8, 201),  # the first line of EPIC-KITCHENS, which counts frames 8 to 202
        (0.0, 0.02, 0, 0),
    ]:
        with VideoClip(mp4, 2, audio=False, segment=(start, stop), sample=lambda n, _: [0, n - 1]) as clip:
            assert [number_of(clip.rgb(t)) for t in range(2)] == [first, last]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 950), st.integers(2, 300), st.integers(1, 8))
def test_any_segment_is_sampled_inside_it(mp4: Path, start: int, length: int, frames: int) -> None:
    with VideoClip(mp4, frames, audio=False, segment=(start / 100, (start + length) / 100)) as clip:
        shown = [number_of(clip.rgb(t)) for t in range(frames)]
    assert shown == sorted(shown)
    assert shown[0] >= int(start / 100 * 60)
    assert shown[-1] + 1 <= (start + length) / 100 * 60 + 0.2
    assert [number / 60 for number in shown] == pytest.approx(clip.times, abs=1e-4)


def test_only_what_lies_between_the_keyframe_and_the_frame_is_decoded(
    mp4: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def counting(*arguments):  # type: ignore[no-untyped-def]
        for frame in original(*arguments):
            decoded.append(frame.pts)
            yield frame

    original = video.decoded
    monkeypatch.setattr(video, "decoded", counting)
    with VideoClip(mp4, 4, audio=True, segment=(6.0, 8.0)) as clip:
        assert decoded == []
        clip.spectrogram(0)
        assert decoded == []
        assert number_of(clip.rgb(2)) == 360 + 75
        assert len(decoded) <= 30
        clip.rgb(2)
        assert len(decoded) <= 30
        assert number_of(clip.rgb(0)) == 360 + 15
        assert len(decoded) <= 30 + 30


def test_sound_of_a_segment_is_that_of_the_whole_track(mp4: Path) -> None:
    with VideoClip(mp4, 600, audio=True) as whole:
        for start, stop in [(0, 1), (0.5, 1.5), (4, 5), (6, 9.99), (9.5, 10)]:
            with VideoClip(
                mp4, 5, audio=True, segment=(start, stop), sample=lambda n, _: [0, 1, n // 2, n - 2, n - 1]
            ) as part:
                for t, time in enumerate(part.times):
                    expected = whole.spectrogram(round(time * 60))
                    assert part.spectrogram(t).shape == (1, 256, 256)
                    loud = expected > 0
                    assert torch.allclose(part.spectrogram(t)[loud], expected[loud], atol=0.05)
                assert part.notes == []


def test_only_the_sound_of_the_segment_is_decoded(mp4: Path) -> None:
    with VideoClip(mp4, 3, audio=True, segment=(4, 5)) as clip:
        clip.spectrogram(1)
        samples, start = clip._sound._track(WINDOW)
        assert 1.8 < start < 3
        assert start + len(samples) / 24000 < 7.2
        # The tone rises by 1000 Hz a second from 500 Hz.
        row = clip.spectrogram(1)[0, :, 128].argmax().item()
        assert row * 24000 / 511 == pytest.approx(500 + 1000 * clip.times[1], abs=60)
        assert torch.equal(clip.spectrogram(1), log_spectrogram(samples, clip.times[1] - start))


def test_segments_beyond_the_end(mp4: Path) -> None:
    with VideoClip(mp4, 3, audio=False, segment=(9.5, 12)) as clip:
        assert clip.source_frames == 30
        assert clip.notes == ["the video ends at 10.00 s, before the segment's 12.00 s"]
    with pytest.raises(ClipError, match=r"video\.mp4: shows no frame between 11\.00 s and 12\.00 s"):
        VideoClip(mp4, 3, audio=False, segment=(11, 12))


def test_a_segment_of_a_file_whose_start_is_hidden(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "video.mp4", 90, options={"g": "12", "bf": "2"}, first_stamp=-5)
    for start, stop in [(0, 5), (10, 40), (60, 85)]:
        with VideoClip(path, stop - start, audio=False, segment=(start / 30, stop / 30)) as clip:
            assert [number_of(clip.rgb(t)) for t in range(stop - start)] == list(range(start + 5, stop + 5))
            assert number_of(clip.rgb(0)) == start + 5
            assert clip.notes == []


def test_a_broken_frame_is_replaced_by_the_one_before(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "video.mp4", 40, codec="mjpeg", pixels="yuvj420p")
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for broken in (10, 17, 18):
        position, size = packets[broken]
        content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    for order in (range(31), range(30, -1, -1)):
        with VideoClip(path, 31, audio=False, segment=(0.2, 1.234), sample=lambda n, T: list(range(n))) as clip:
            shown = {number: number_of(clip.rgb(number - 6)) for number in (6 + t for t in order)}
        assert shown == {number: number - (number in (10, 17)) - 2 * (number == 18) for number in shown}
        assert "frame 4 cannot be decoded: the nearest that can be stands for it" in clip.notes


def test_a_faststart_file_cut_short_is_told_by_its_segments(tmp_path: Path) -> None:
    whole = write_numbered(tmp_path / "video.mkv", 300, 30, options={"g": "30"})
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with VideoClip(cut, 3, audio=False, segment=(1, 2)) as clip:
        assert [number_of(clip.rgb(t)) for t in range(3)] == [35, 45, 55]
        assert clip.notes == []
    with pytest.raises(ClipError, match="shows no frame"):
        VideoClip(cut, 3, audio=False, segment=(9, 10))
