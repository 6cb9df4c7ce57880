from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from adaptive_models.data.clips import TensorClip
from adaptive_models.data.demo import write_demo_clip
from adaptive_models.policies import AlwaysFull, GivenShares, Shares
from adaptive_models.system import AdaptiveSystem
from bench.counting.counter import Counter, counting
from bench.errors import RunError, UsageError
from bench.streaming import Stream, frame_flops, make_policy, open_clip, stage_flops, stream_clip
from bench.systems.builtin import registry
from bench.systems.registry import System

POLICIES = """
class Scripted:
    def choose(self, videos, t, logits):
        return [{1: 1, 2: 3, 5: 0}[t]]

class Raising:
    def choose(self, videos, t, logits):
        raise KeyError("lost")

class Nonsense:
    def choose(self, videos, t, logits):
        return {"0": 0, "1": 7, "2": "full", "3": [0, 0], "4": None}["CASE"]

class Unmade:
    def __init__(self):
        raise RuntimeError("no weights\\nat all")

nothing = 3
scripted = Scripted()
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("clips") / "demo.mp4"
    write_demo_clip(path, seconds=1, fps=10)
    return str(path)


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "policies.py").write_text(POLICIES)
    return tmp_path / "policies.py"


def write_silent_clip(path: Path, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for index in range(frames):
            picture = np.full((48, 64, 3), 20 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def run(clip: str, system: System, *arguments: Any, frames: int | None = 6, **options: Any) -> Stream:
    with open_clip(clip, system, frames) as opened:
        return stream_clip(opened, system, *arguments, **options)


# --- what a stream says ---


@pytest.mark.parametrize("convention", ["exact", "paper"])
def test_a_frame_costs_the_stages_that_ran_for_it(
    demo: str, small_system: System, policies: Path, convention: str
) -> None:
    stream = run(demo, small_system, f"{policies}:Scripted", convention=convention)
    cost = stage_flops(small_system, convention)
    looks = cost["scan"] + cost["hallucinate"]
    closely = cost["look"] + cost["classify"]
    assert [frame.decision for frame in stream.frames] == ["full", "prescan", "prescan", "skip", "skip", "full"]
    assert [frame.flops for frame in stream.frames] == [
        looks + closely,  # the temporal sampler is not asked
        looks + cost["decide"],
        looks + cost["decide"],
        0,
        0,
        looks + cost["decide"] + closely,
    ]
    assert stream.always_full == looks + cost["decide"] + closely
    assert stream.per_frame == sum(frame.flops for frame in stream.frames) / 6
    assert stream.shares == pytest.approx({"skip": 100 / 3, "prescan": 100 / 3, "full": 100 / 3})


def test_what_a_frame_costs_is_what_is_executed_for_it(small_system: System) -> None:
    model = small_system.build().eval()
    assert isinstance(model, AdaptiveSystem)
    costs = stage_flops(small_system, "exact")
    clip = TensorClip(torch.rand(20, 3, 224, 224), torch.rand(20, 1, 256, 256))
    steps = model.stream(clip, GivenShares(Shares(25, 35, 40), 3, 20))
    decisions = set()
    for _ in range(20):
        with counting(Counter({"": model}, "exact")) as counter:
            result = next(steps)
        decisions.add(result.decision)
        assert counter.profile().flops == frame_flops(costs, result)
    assert decisions == {"full", "prescan", "skip"}


def test_plain_data(demo: str, small_system: System) -> None:
    data = run(demo, small_system, frames=5).to_json()
    assert (data["system"], data["convention"], data["weights"]) == ("small/s2-t3", "exact", "random, from seed 0")
    assert [frame["index"] for frame in data["frames"]] == [0, 1, 2, 3, 4]
    assert [frame["source_frame"] for frame in data["frames"]] == [1, 3, 5, 7, 9]
    assert data["frames"][0]["decision"] == "full"
    assert data["frames"][0]["similarity"] is None
    assert all(isinstance(frame["flops"], int) for frame in data["frames"])
    assert all(frame["seconds"] > 0 and frame["decode_seconds"] > 0 for frame in data["frames"] if frame["flops"])
    assert data["per_frame"]["flops"] == sum(frame["flops"] for frame in data["frames"]) / 5
    assert len(data["predictions"]) == 2
    assert data["notes"] == ["the audio track lasts 1.00 s, a spectrogram 1.28 s: silence follows the track"]


def test_a_run_can_be_repeated(demo: str, small_system: System) -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = (run(demo, small_system) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert [frame.decision for frame in first.frames] == [frame.decision for frame in second.frames]
    for one, other in zip(first.results, second.results, strict=True):
        assert one.similarity == other.similarity
        assert one.logits is None or all(map(torch.equal, one.logits, other.logits or ()))


def test_frames_are_told_one_by_one(demo: str, small_system: System) -> None:
    told: list[Any] = []
    stream = run(demo, small_system, on_frame=told.append)
    assert told == stream.frames


def test_weights_go_round(demo: str, small_system: System, tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = small_system.build().eval()
    assert isinstance(model, AdaptiveSystem)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    loaded = run(demo, small_system, "always-full", tmp_path / "weights.pt")
    with open_clip(demo, small_system, 6) as clip:
        expected = list(model.stream(clip, AlwaysFull()))
    for one, other in zip(loaded.results, expected, strict=True):
        assert one.logits is not None
        assert all(map(torch.equal, one.logits, other.logits or ()))
    assert loaded.weights == str(tmp_path / "weights.pt")
    random = run(demo, small_system, "always-full").results[0].logits
    assert random is not None
    assert not torch.equal(random[0], (expected[0].logits or (Tensor(),))[0])


def drop(entries: dict[str, Tensor]) -> None:
    del entries["classifier.heads.both.classifiers.0.bias"]


def add(entries: dict[str, Tensor]) -> None:
    entries["surprise"] = torch.zeros(1)


def reshape(entries: dict[str, Tensor]) -> None:
    entries["low_rgb.conv_in.weight"] = torch.zeros(3, 3, 1, 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop, "missing: classifier.heads.both.classifiers.0.bias"),
        (add, "unexpected: surprise"),
        (reshape, r"low_rgb.conv_in.weight has shape \(3, 3, 1, 1\), not"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    demo: str, small_system: System, tmp_path: Path, spoil: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    entries = small_system.build().state_dict()
    spoil(entries)
    torch.save(entries, tmp_path / "weights.pt")
    with pytest.raises(RunError, match=rf"weights\.pt: .*{message}"):
        run(demo, small_system, weights=tmp_path / "weights.pt")


def test_weights_that_are_none(demo: str, small_system: System, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_text("nothing")
    with pytest.raises(RunError, match="not a checkpoint"):
        run(demo, small_system, weights=tmp_path / "weights.pt")
    with pytest.raises(RunError, match=r"missing\.pt: no such checkpoint"):
        run(demo, small_system, weights=tmp_path / "missing.pt")


# --- clips ---


def test_what_is_put_in_place_of_missing_material_is_noted(small_system: System, tmp_path: Path) -> None:
    write_silent_clip(tmp_path / "silent.mp4", 4)
    notes = run(str(tmp_path / "silent.mp4"), small_system).notes
    assert any("no audio track" in note for note in notes)
    assert any("6 frames were asked for, the file has 4" in note for note in notes)


def test_a_truncated_clip_is_noted(shared: Path, small_system: System, tmp_path: Path) -> None:
    whole = (shared / "clips" / "clip_with_audio.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 6 // 10])
    stream = run(str(tmp_path / "cut.avi"), small_system)
    assert any("header promises" in note for note in stream.notes)
    assert len(stream.frames) == 6


def test_the_demo_clip_needs_no_file(small_system: System) -> None:
    with open_clip("demo", small_system, 4) as clip:
        assert (clip.source_frames, clip.notes) == (100, [])
        folder = clip.path.parent
        assert clip.image(0).shape == (3, 224, 224)
    assert not folder.exists()


def test_workloads_say_how_many_frames_are_sampled(demo: str, small_system: System) -> None:
    for id, frames in (("epic/s0", 10), ("ucf101/s0-t1", 16)):
        with open_clip(demo, registry().find(id)) as clip:
            assert clip.frames == frames
    with pytest.raises(UsageError, match="--frames is needed: small/s2-t3"), open_clip(demo, small_system):
        pass


@pytest.mark.parametrize("frames", [0, -3])
def test_no_frames_at_all(demo: str, small_system: System, frames: int) -> None:
    with pytest.raises(UsageError, match=f"--frames {frames}"), open_clip(demo, small_system, frames):
        pass


def test_only_adaptive_systems_are_streamed(demo: str) -> None:
    with pytest.raises(UsageError, match="san19 is not adaptive"), open_clip(demo, registry().find("san19")):
        pass


@pytest.mark.parametrize("content", [None, b"", b"no video at all"])
def test_clips_that_cannot_be_read(small_system: System, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(RunError, match=r"clip\.mp4: "), open_clip(str(tmp_path / "clip.mp4"), small_system, 4):
        pass


# --- policies ---


def decisions(policy: Any, frames: int) -> list[int]:
    return [policy.choose([0], t, torch.zeros(1, 5))[0] for t in range(frames)]


@pytest.mark.parametrize(("id", "frames"), [("epic/s3-t4", 10), ("ucf101/s0-t1", 16)])
def test_the_published_policy_decides_the_same_every_time(id: str, frames: int) -> None:
    system = registry().find(id)
    (first, words), (second, _) = (make_policy("published", system, frames) for _ in range(2))
    assert decisions(first, frames) == decisions(second, frames)
    assert words.startswith("published (")


def test_policies_by_name(small_system: System) -> None:
    assert make_policy("always-full", small_system, 4)[1] == "always-full"
    learned, _ = make_policy("learned", small_system, 4)
    assert learned.choose([0], 1, torch.tensor([[0.0, 0.0, 9.0]])) == [2]


def test_without_a_temporal_sampler_nobody_is_asked() -> None:
    policy, words = make_policy("learned", registry().find("epic/s1"), 4)
    assert "no temporal sampler" in words
    assert policy.choose([0], 1, torch.zeros(1, 2)) == [0]


def test_a_policy_may_be_an_object_or_a_class(small_system: System, policies: Path) -> None:
    for name in ("Scripted", "scripted"):
        policy, words = make_policy(f"{policies}:{name}", small_system, 4)
        assert policy.choose([0], 2, torch.zeros(1, 4)) == [3]
        assert words == f"{policies}:{name}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best", "no policy 'best': use published, learned, always-full, or"),
        ("missing.py:x", "no such file: missing.py"),
        ("FILE:missing", "has no 'missing'"),
        ("FILE:nothing", r"has no method choose\(videos, t, logits\)"),
        ("FILE:Unmade", "cannot be made: RuntimeError: no weights$"),
    ],
)
@pytest.mark.parametrize("id", ["epic/s1-t2", "epic/s1"])
def test_policies_that_there_are_not(id: str, policies: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_policy(name.replace("FILE", str(policies)), registry().find(id), 4)


def test_frames_on_which_the_published_shares_cannot_be_had(small_system: System) -> None:
    with pytest.raises(UsageError, match="policy published: T_3 on 1 frames"):
        make_policy("published", small_system, 1)


def test_a_policy_that_fails_is_named(demo: str, small_system: System, policies: Path) -> None:
    with pytest.raises(RunError, match=r"policy '.*policies\.py:Raising' failed at frame 1: KeyError: 'lost'$"):
        run(demo, small_system, f"{policies}:Raising")


@pytest.mark.parametrize("case", range(5))
def test_a_policy_that_chooses_nonsense_is_named(demo: str, small_system: System, policies: Path, case: int) -> None:
    policies.write_text(POLICIES.replace("CASE", str(case)))
    with pytest.raises(RunError, match=r"policies\.py:Nonsense chose .* at frame 1 for 1 videos: .* from 0 to 3"):
        run(demo, small_system, f"{policies}:Nonsense")


# --- devices ---


@pytest.mark.parametrize("device", ["nonsense", "meta", "cuda:99", "cpu:x"])
def test_devices_that_cannot_be_used(demo: str, small_system: System, device: str) -> None:
    with pytest.raises(UsageError, match=f"--device {device}: cannot be used") as error:
        run(demo, small_system, device=device)
    assert "\n" not in str(error.value)


# --- the real thing ---


def test_a_real_clip_through_a_system_of_the_paper(shared: Path) -> None:
    system = registry().find("ucf101/s0-t1")
    stream = run(str(shared / "clips" / "clip_silent.mp4"), system, convention="paper")
    decisions = [frame.decision for frame in stream.frames]
    assert decisions[0] == "full"
    assert set(decisions) == {"full", "prescan"}  # T_1 skips nothing
    costs = {frame.decision: frame.flops for frame in stream.frames[1:]}
    assert [frame.flops for frame in stream.frames[1:]] == [costs[decision] for decision in decisions[1:]]
    assert costs["full"] == stream.always_full
    # As the reference counts: SAN19 at 112 pixels, whose first half is the pre-scan's; a GRU, its ReLU, and the
    # classifier, which it takes for a single operation.
    head = 3 * 1024 * (2048 + 1024) + 13 * 1024 + 1024 + 1
    assert costs["full"] - costs["prescan"] == 892_427_180 - 526_042_636 + head
    assert len(stream.predictions) == 1
