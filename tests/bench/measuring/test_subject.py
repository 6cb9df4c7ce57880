from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adaptive_models.data.clips import TensorClip, VideoClip
from adaptive_models.data.demo import write_demo_clip
from adaptive_models.policies import AlwaysFull, GivenShares, Shares
from bench.errors import RunError, UsageError
from bench.measuring.subject import Footage, Frame, Subject, footage_for, load_footage
from bench.systems.builtin import registry
from bench.systems.registry import System

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two videos, and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    write_demo_clip(folder / "b.mp4", seconds=2, fps=5, seed=1)
    write_demo_clip(folder / "a.mp4", seconds=2, fps=5, seed=2)
    (folder / "notes.txt").write_text("no video")
    return folder


class Listener(nn.Module):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[dict[str, Tensor]] = []

    def forward(self, x: Tensor | None = None, **inputs: Tensor) -> None:
        self.heard.append(inputs if x is None else {"": x})


def listen(
    inputs: Mapping[str, Sequence[int]], footage: Footage, calls: int, frames: int = 1
) -> tuple[Subject, list[Frame], list[dict[str, Tensor]]]:
    """A fixed system of these inputs, its first calls, and what it was given in them."""
    system = System("small/listener", Listener, inputs, frames)
    subject = Subject(system, footage, "fixed", CPU, "float32")
    made = list(islice(subject.stream(), calls))
    assert isinstance(subject.model, Listener)
    return subject, made, subject.model.heard


def footage_of(*starts: int, frames: int = 3, size: int = 8) -> Footage:
    """Clips whose pictures are of one value each: the start of their clip and the number of the frame."""
    clips = [
        TensorClip(torch.stack([torch.full((3, size, size), float(start + t)) for t in range(frames)]))
        for start in starts
    ]
    return Footage(clips, [], [])


# --- footage ---


def test_frames_are_those_of_the_video(videos: Path) -> None:
    footage = load_footage(str(videos / "a.mp4"), 4, audio=True)
    (clip,) = footage.clips
    with VideoClip(videos / "a.mp4", 4, audio=True) as video:
        for t in range(4):
            assert torch.equal(clip.image(t), video.image(t))
            assert torch.equal(clip.spectrogram(t), video.spectrogram(t))
    assert len(footage.decode_seconds) == 4
    assert all(seconds > 0 for seconds in footage.decode_seconds)
    assert footage.notes == []


def test_videos_of_a_folder_come_in_the_order_of_their_names(videos: Path) -> None:
    footage = load_footage(str(videos), 3, audio=False)
    assert len(footage.decode_seconds) == 6
    for clip, name in zip(footage.clips, ("a.mp4", "b.mp4"), strict=True):
        with VideoClip(videos / name, 3, audio=False) as video:
            assert torch.equal(clip.image(2), video.image(2))
        with pytest.raises(ValueError, match="without spectrograms"):
            clip.spectrogram(0)


def test_frames_in_folders_are_clips_too(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        for number in range(1, 7):
            picture = av.VideoFrame.from_ndarray(np.full((40, 50, 3), 30 * number, np.uint8), format="rgb24")
            picture.save(tmp_path / name / f"frame_{number:010d}.png")
    one, both = load_footage(str(tmp_path / "first"), 3, False), load_footage(str(tmp_path), 3, False)
    assert (len(one.clips), len(both.clips)) == (1, 2)
    # by hand: ticks of two frames, whose middles are the second, fourth and sixth frame
    assert [float(one.clips[0].image(t)[0].mean()) + 104 for t in range(3)] == [60, 120, 180]


def test_of_many_videos_some_are_used_and_that_is_noted(tmp_path: Path) -> None:
    write_demo_clip(tmp_path / "0.mp4", seconds=1, fps=1)
    for number in range(1, 9):
        (tmp_path / f"{number}.mp4").write_bytes((tmp_path / "0.mp4").read_bytes())
    footage = load_footage(str(tmp_path), 1, audio=False)
    assert len(footage.clips) == 8
    assert footage.notes == [f"the first 8 of 9 clips in {tmp_path.name} were used"]


def test_the_built_in_clip_has_sound() -> None:
    (clip,) = load_footage("demo", 2, audio=True).clips
    assert clip.spectrogram(1).std() > 0


def test_what_stands_in_for_missing_sound_is_noted(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "silent.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    footage = load_footage(str(tmp_path / "silent.mp4"), 2, audio=True)
    assert footage.notes == ["silent.mp4: the file has no audio track: silence stands for it"]


def test_what_cannot_serve_as_a_clip_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    for name, problem in (("none.mp4", "no such file"), ("broken.mp4", "cannot be read"), ("empty", "without videos")):
        with pytest.raises(RunError, match=rf"^[^\n]*{name}: [^\n]*{problem}[^\n]*$"):
            load_footage(str(tmp_path / name), 2, audio=False)


# --- fixed systems ---


def test_a_fixed_system_is_given_the_images_of_the_clip(videos: Path) -> None:
    footage = load_footage(str(videos / "a.mp4"), 3, audio=False)
    _, frames, heard = listen({"rgb": (3, 224, 224)}, footage, calls=4)
    assert frames == [Frame(0, 0, "full"), Frame(0, 1, "full"), Frame(0, 2, "full"), Frame(1, 0, "full")]
    for t, call in zip((0, 1, 2, 0), heard, strict=True):
        assert torch.equal(call[""], footage.clips[0].image(t)[None])


def test_several_clips_are_taken_in_turn() -> None:
    _, frames, heard = listen({"rgb": (3, 8, 8)}, footage_of(10, 20), calls=7)
    assert [call[""].unique().tolist() for call in heard] == [[10], [11], [12], [20], [21], [22], [10]]
    assert [(frame.video, frame.t) for frame in frames] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]


def test_several_frames_go_into_a_call_and_the_last_may_repeat() -> None:
    _, frames, heard = listen({"rgb": (2, 3, 8, 8)}, footage_of(10), calls=3, frames=2)
    assert [call[""][0, :, 0, 0, 0].tolist() for call in heard] == [[10, 11], [12, 12], [10, 11]]
    assert [(frame.video, frame.t) for frame in frames] == [(0, 0), (0, 2), (1, 0)]


def test_a_call_may_be_given_more_frames_than_it_stands_for() -> None:
    subject, frames, heard = listen({"rgb": (4, 3, 8, 8)}, footage_of(10, frames=8), calls=3, frames=2)
    first, second = [10, 11, 12, 13], [14, 15, 16, 17]
    assert [call[""][0, :, 0, 0, 0].tolist() for call in heard] == [first, second, first]
    assert [(frame.video, frame.t) for frame in frames] == [(0, 0), (0, 2), (1, 0)]
    assert subject.frames == 4
    assert subject.batch(0, 1) == [Frame(0, t, "full") for t in range(4)]


def test_an_input_of_one_frame_is_that_in_the_middle_of_the_call() -> None:
    sounds = torch.arange(8.0)[:, None, None, None].expand(8, 1, 6, 6)
    clip = TensorClip(torch.ones(8, 3, 8, 8), log_mels=sounds)
    inputs = {"rgb": (4, 3, 8, 8), "log_mel": (1, 6, 6)}
    subject, _, heard = listen(inputs, Footage([clip], [], []), calls=2, frames=2)
    assert [call["log_mel"].unique().tolist() for call in heard] == [[2], [6]]
    assert subject.notes == []


def test_footage_has_all_that_a_system_is_given(videos: Path) -> None:
    system = System("small/listener", Listener, {"rgb": (4, 3, 224, 224), "log_mel": (1, 80, 128)}, frames=2)
    footage = footage_for(system, str(videos / "a.mp4"), 3)
    (clip,) = footage.clips
    assert len(footage.decode_seconds) == 4  # two calls of two frames, for each of which two are decoded
    with VideoClip(videos / "a.mp4", 8, audio=False) as video:
        for t in range(8):
            assert torch.equal(clip.image(t), video.image(t))
            assert torch.equal(clip.log_mel(t), video.log_mel(t))
    with pytest.raises(ValueError, match="without spectrograms"):
        clip.spectrogram(0)
    plain = System("small/plain", Listener, {"rgb": (3, 224, 224)})
    with pytest.raises(ValueError, match="without log-mel"):
        footage_for(plain, str(videos / "a.mp4"), 1).clips[0].log_mel(0)


def test_images_are_resized_to_what_a_system_takes_and_that_is_noted() -> None:
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)
    subject, _, heard = listen({"rgb": (3, 4, 4)}, Footage([TensorClip(ramp)], [], []), calls=1)
    # of a ramp, the bilinear mean of two neighbours each
    assert heard[0][""][0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert subject.notes == ["rgb is resized to 4x4"]


def test_several_inputs_go_by_name() -> None:
    clip = TensorClip(torch.ones(2, 3, 8, 8), torch.full((2, 1, 6, 6), 5.0))
    inputs = {"rgb": (3, 8, 8), "spectrogram": (1, 6, 6)}
    subject, _, heard = listen(inputs, Footage([clip], [], []), calls=1)
    assert {name: tuple(tensor.shape) for name, tensor in heard[0].items()} == {
        "rgb": (1, 3, 8, 8),
        "spectrogram": (1, 1, 6, 6),
    }
    assert heard[0]["spectrogram"].unique().tolist() == [5.0]
    assert subject.notes == []


def test_what_a_clip_does_not_give_is_random_and_noted() -> None:
    inputs = {"rgb": (3, 8, 8), "flow": (10, 8, 8), "audio": (40,)}
    subject, _, heard = listen(inputs, footage_of(10), calls=2)
    assert subject.notes == [
        "flow 10x8x8 is of random numbers: a clip does not give it",
        "audio 40 is of random numbers: a clip does not give it",
    ]
    assert heard[0]["flow"].shape == (1, 10, 8, 8)
    assert heard[0]["audio"].shape == (1, 40)
    assert 0.8 < float(heard[0]["flow"].std()) < 1.2
    assert torch.equal(listen(inputs, footage_of(10), calls=1)[2][0]["flow"], heard[0]["flow"])  # by the seed


def test_seeds_make_weights() -> None:
    def weights(seed: int) -> Tensor:
        system = System("small/conv", lambda: nn.Conv2d(3, 2, 3), {"rgb": (3, 8, 8)})
        subject = Subject(system, footage_of(0), "fixed", CPU, "float32", seed)
        return next(subject.model.parameters())

    before = torch.get_rng_state()
    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_of_a_fixed_system_is_a_call_for_all_clips() -> None:
    subject, _, _ = listen({"rgb": (3, 8, 8)}, footage_of(10, 20), calls=0)
    frames = subject.batch(1, 3)
    assert isinstance(subject.model, Listener)
    assert [call[""][:, 0, 0, 0].tolist() for call in subject.model.heard] == [[20, 10, 20], [21, 11, 21], [22, 12, 22]]
    assert frames == [Frame(video, t, "full") for video in (1, 2, 3) for t in range(3)]


def test_a_system_that_cannot_be_built_is_one_line() -> None:
    def build() -> nn.Module:
        raise OSError("no such weights")

    with pytest.raises(RunError, match=r"^small/none cannot be built: OSError: no such weights$"):
        Subject(System("small/none", build, {"rgb": (3, 8, 8)}), footage_of(0), "fixed", CPU, "float32")


# --- adaptive systems ---


@pytest.fixture(scope="module")
def footage(videos: Path) -> Footage:
    return load_footage(str(videos), 6, audio=True)


@pytest.fixture(scope="module")
def adaptive(small_system: System, footage: Footage) -> Subject:
    subject = Subject(small_system, footage, "learned", CPU, "float32")
    subject.policy = GivenShares(Shares(25.0, 35.0, 40.0), max_skip=3, frames=6)
    return subject


def test_batches_decide_as_single_streams_do(adaptive: Subject) -> None:
    streamed = list(islice(adaptive.stream(), 5 * 6))
    batched = adaptive.batch(0, 2) + adaptive.batch(2, 3)
    assert batched == streamed
    assert {frame.decision for frame in streamed} == {"full", "prescan", "skip"}
    assert [frame.video for frame in streamed] == [video for video in range(5) for _ in range(6)]


def test_a_policy_may_be_given_for_a_stream(adaptive: Subject) -> None:
    assert {frame.decision for frame in islice(adaptive.stream(AlwaysFull()), 12)} == {"full"}
    assert {frame.decision for frame in adaptive.batch(0, 2, AlwaysFull())} == {"full"}


def test_a_policy_that_a_system_cannot_follow_is_refused(small_system: System, footage: Footage) -> None:
    with pytest.raises(UsageError, match="no policy 'random'"):
        Subject(small_system, footage, "random", CPU, "float32")


def test_adaptive_systems_run_in_half_precision(small_system: System, footage: Footage) -> None:
    subject = Subject(small_system, footage, "learned", CPU, "bfloat16")
    assert {parameter.dtype for parameter in subject.model.parameters()} == {torch.bfloat16}
    assert len(list(islice(subject.stream(), 7))) == 7
    assert len(subject.batch(0, 2, AlwaysFull())) == 12


def test_the_published_backbone_runs_in_half_precision() -> None:
    footage = footage_of(0, frames=1, size=64)
    subject = Subject(registry().find("san19"), footage, "fixed", CPU, "bfloat16")
    assert next(subject.stream()) == Frame(0, 0, "full")
    assert subject.notes == ["x is resized to 224x224"]
