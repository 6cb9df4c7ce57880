from __future__ import annotations

import collections
import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_models.backbone import AttentionBackbone
from adaptive_models.checkpoints import load_reference
from adaptive_models.data.clips import TensorClip, VideoClip
from adaptive_models.data.demo import write_demo_clip
from adaptive_models.policies import AlwaysFull, GivenShares, Learned, Policy, Shares
from adaptive_models.san import SAN
from adaptive_models.spatial_sampler import crop_boxes, follow_boxes, order_boxes_along_video, salient_boxes
from adaptive_models.ssim import ssim
from adaptive_models.system import AdaptiveSystem, BoxOrder, FrameResult, mean_logits
from adaptive_models.vit import VisionTransformer
from bench import count_flops
from bench.counting.counter import Counter, counting

FRAMES = 5
CLASSES = (5, 3)


class Scripted:
    """Each video's choices by frame; 0 where nothing is written."""

    def __init__(self, *scripts: dict[int, int]) -> None:
        self.scripts = scripts
        self.asked: dict[tuple[int, int], Tensor] = {}

    def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> list[int]:
        self.asked |= {(video, t): own for video, own in zip(videos, logits, strict=True)}
        return [self.scripts[video].get(t, 0) for video in videos]


class RecordingClip(TensorClip):
    """Remembers what it was asked for."""

    def __init__(self, images: Tensor, spectrograms: Tensor | None = None) -> None:
        super().__init__(images, spectrograms)
        self.looked_at: list[int] = []
        self.listened_to: list[int] = []

    def image(self, t: int) -> Tensor:
        self.looked_at.append(t)
        return super().image(t)

    def spectrogram(self, t: int) -> Tensor:
        self.listened_to.append(t)
        return super().spectrogram(t)


def narrow(channels: int) -> SAN:
    return SAN((0, 0, 0, 1, 0), channels=channels, widths=(32, 32, 32, 64, 64))


def transformer(channels: int) -> VisionTransformer:
    return VisionTransformer(32, 4, channels, depth=3, split="blocks.1")


class Third(AttentionBackbone):
    """Somebody else's network: it looks where a convolution of the image is large."""

    features, split = 8, "conv"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(channels, 4, 8, stride=8), nn.Conv2d(4, 8, 1)

    def prescan(self, x: Tensor) -> tuple[Tensor, Tensor]:
        state = self.conv(x)
        return state, state.abs() / state.abs().mean((1, 2, 3), keepdim=True)

    def resume(self, state: Tensor) -> Tensor:
        return self.last(state.relu()).mean((2, 3))

    def attention_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 4, height // 8, width // 8


OTHERS = [transformer, Third]
"""Backbones beside SAN."""


def make_system(
    crops: int,
    max_skip: int | None,
    audio: bool = True,
    make_backbone: Callable[[int], AttentionBackbone] = narrow,
) -> AdaptiveSystem:
    """A small system in double precision, whose weights let attention and decisions vary from frame to frame."""
    torch.manual_seed(0)
    system = AdaptiveSystem(crops, max_skip, CLASSES, audio, 2, make_backbone, hidden=16).double().eval()
    for parameter in system.parameters():
        if parameter.ndim in (2, 4):
            nn.init.kaiming_normal_(parameter)
    if system.temporal_sampler is not None:
        system.temporal_sampler.fc_out.weight.data *= 4
    return system


@cache
def material(seed: int, frames: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = 60 * torch.randn(frames, 3, 7, 7, generator=generator)
    spectrograms = torch.randn(frames, 1, 32, 32, generator=generator)
    return F.interpolate(coarse, size=(224, 224), mode="bicubic"), spectrograms


def make_clip(seed: int, frames: int = FRAMES) -> RecordingClip:
    return RecordingClip(*material(seed, frames))


def assert_same(got: Sequence[FrameResult], expected: Sequence[FrameResult], tolerance: float = 1e-9) -> None:
    def contents(frame: FrameResult) -> dict[str, Tensor]:
        found = {"attention": frame.attention, "hallucination": frame.hallucination, "boxes": frame.boxes}
        found |= {} if frame.similarity is None else {"similarity": torch.tensor(frame.similarity)}
        found |= {} if frame.features is None else vars(frame.features)
        found |= {f"logits {group}": logits for group, logits in enumerate(frame.logits or ())}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    for one, other in zip(got, expected, strict=True):
        assert (one.video, one.t, one.decision) == (other.video, other.t, other.decision)
        ours, theirs = contents(one), contents(other)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            error = (ours[name] - tensor).abs().max()
            assert error <= (0 if name == "boxes" else tolerance * tensor.abs().max()), (one.t, name)


def policies(max_skip: int | None) -> list[Callable[[], Policy]]:
    if max_skip is None:
        return [AlwaysFull]
    shares = Shares(0, 45, 55) if max_skip == 1 else Shares(15, 40, 45)
    return [
        lambda: GivenShares(shares, max_skip, FRAMES),
        Learned,
        lambda: Learned(seed=1),
        lambda: Scripted({1: 1, 2: max_skip}, {}, {1: max_skip}),
        *([AlwaysFull] if max_skip == 4 else []),
    ]


@pytest.mark.parametrize(
    ("crops", "max_skip", "make_backbone"),
    [
        *product(range(4), (None, 1, 2, 3, 4), [narrow]),
        *product((0, 2), (None, 3), OTHERS),
    ],
)
def test_batched_videos_get_what_they_get_alone(
    crops: int, max_skip: int | None, make_backbone: Callable[[int], AttentionBackbone]
) -> None:
    system = make_system(crops, max_skip, crops != 2, make_backbone)
    clips = [make_clip(seed) for seed in range(3 if crops == 3 else 2)]
    seen = set()
    for make_policy in policies(max_skip):
        together = system.run(clips, make_policy())
        alone = make_policy()
        for video, (clip, result) in enumerate(zip(clips, together, strict=True)):
            frames = list(system.stream(clip, alone, video))
            assert_same(result.frames, frames)
            assert result.decisions == [frame.decision for frame in frames]
            torch.testing.assert_close(result.logits, mean_logits(frames), rtol=1e-9, atol=1e-9)
            seen.add(tuple(result.decisions))
    expected = {"full"} | ({"prescan"} if max_skip else set()) | ({"skip"} if (max_skip or 0) > 1 else set())
    assert {decision for decisions in seen for decision in decisions} == expected
    assert len(seen) > 2 or max_skip is None


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> list[TensorClip]:
    """Two encoded videos, decoded and prepared as a system sees them."""
    clips = []
    for seed in range(2):
        path = tmp_path_factory.mktemp("clips") / "demo.mp4"
        write_demo_clip(path, seconds=2, seed=seed)
        with VideoClip(path, FRAMES, audio=False) as clip:
            clips.append(TensorClip(torch.stack([clip.image(t) for t in range(FRAMES)])))
    return clips


@pytest.mark.parametrize(("crops", "max_skip"), list(product(range(4), (1, 2, 3, 4))))
def test_frames_of_an_encoded_video_get_the_same_batched_and_streamed(
    crops: int, max_skip: int, decoded: list[TensorClip]
) -> None:
    system = make_system(crops, max_skip, audio=False)
    shares = Shares(0, 45, 55) if max_skip == 1 else Shares(15, 40, 45)
    batched = system.run(decoded, GivenShares(shares, max_skip, FRAMES))
    alone = GivenShares(shares, max_skip, FRAMES)
    for video, (clip, result) in enumerate(zip(decoded, batched, strict=True)):
        assert_same(list(system.stream(clip, alone, video)), result.frames)


@pytest.mark.parametrize(("crops", "make_backbone"), [(0, narrow), (3, narrow), *product([3], OTHERS)])
def test_a_video_step_by_step(crops: int, make_backbone: Callable[[int], AttentionBackbone]) -> None:
    """Against a loop that follows the description: one video, known decisions, every memory written out."""
    system, clip = make_system(crops, 3, make_backbone=make_backbone), make_clip(0, frames=7)
    # Full 0, pre-scan 1, skip 2, full 3, full 4, pre-scan 5, full 6.
    policy = Scripted({1: 2, 5: 1})
    results = list(system.stream(clip, policy))
    assert "".join(result.decision[0] for result in results) == "fpsffpf"
    hallucination = sampler_memory = hallucinator_memory = heads_memory = boxes = None
    slots_moved = False
    with torch.inference_mode():
        for result in results:
            if result.decision == "skip":
                assert result == FrameResult(0, result.t, "skip")
                continue
            image = TensorClip.image(clip, result.t)[None].double()
            low = F.interpolate(image, size=(112, 112), mode="bilinear", align_corners=False)
            state, attention = system.low_rgb.prescan(low)
            torch.testing.assert_close(result.attention, attention[0])
            if result.t == 0:
                assert (result.hallucination, result.similarity) == (None, None)
            else:
                similarity = ssim(attention, hallucination)
                torch.testing.assert_close(result.hallucination, hallucination[0])
                assert result.similarity == pytest.approx(similarity.item())
                sampler = system.temporal_sampler
                choices, sampler_memory = sampler(attention, hallucination, similarity, sampler_memory)
                torch.testing.assert_close(policy.asked[0, result.t], choices[0])
            hallucination, hallucinator_memory = system.hallucinator(attention, hallucinator_memory)
            if result.decision == "prescan":
                assert (result.boxes, result.features, result.logits) == (None, None, None)
                continue
            features = [system.low_rgb.resume(state)]
            features += [system.spectrogram(TensorClip.spectrogram(clip, result.t)[None].double())]
            if crops:
                found = salient_boxes(attention, crops)
                boxes = found if boxes is None else follow_boxes(boxes, found)
                slots_moved |= not torch.equal(boxes, found)
                assert torch.equal(result.boxes, boxes[0])
                features += [torch.stack([system.high_rgb(crop) for crop in crop_boxes(image, boxes).unbind(1)], dim=1)]
            logits, heads_memory = system.classifier(*features, memory=heads_memory)
            torch.testing.assert_close(result.logits, tuple(group[0] for group in logits))
    assert slots_moved == (crops > 0)


def test_decisions_are_those_of_the_sampler_with_its_memory() -> None:
    system, clip = make_system(1, 4), make_clip(1)
    logits: list[Tensor] = []
    system.temporal_sampler.register_forward_hook(lambda _, __, output: logits.append(output[0][0]))
    frames = list(system.stream(clip, Learned()))
    t = 1
    for row in logits:
        choice = int(row.argmax())
        assert frames[t].decision == ("prescan" if choice else "full")
        assert all(frame.decision == "skip" for frame in frames[t + 1 : t + choice])
        t += max(choice, 1)
    assert t >= FRAMES
    assert len({int(row.argmax()) for row in logits}) > 1


def test_what_is_skipped_is_not_asked_for() -> None:
    system = make_system(1, 4)
    clips = [make_clip(seed) for seed in range(3)]
    policy = Scripted({1: 4}, {1: 1, 2: 2, 4: 3}, {2: 1})
    run = system.run(clips, policy)
    assert ["".join(d[0] for d in result.decisions) for result in run] == ["fpsss", "fppsp", "ffpff"]
    assert [clip.looked_at for clip in clips] == [[0, 1], [0, 1, 2, 4], [0, 1, 2, 3, 4]]
    assert [clip.listened_to for clip in clips] == [[0], [0], [0, 1, 3, 4]]
    assert sorted(policy.asked) == [(0, 1), (1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4)]


def test_a_stream_asks_for_one_frame_at_a_time() -> None:
    clip = make_clip(0)
    stream = make_system(0, 2).stream(clip, Scripted({1: 2}))
    for looked_at in ([0], [0, 1], [0, 1], [0, 1, 3], [0, 1, 3, 4]):
        next(stream)
        assert clip.looked_at == looked_at


@pytest.mark.parametrize("max_skip", [None, 2])
def test_only_what_is_needed_runs(max_skip: int | None) -> None:
    system = make_system(2, max_skip)
    ran: list[str] = []
    for name, module in system.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    full = ["spectrogram", "high_rgb", "classifier"]
    stream = system.stream(make_clip(0), Scripted({1: 1}))
    for t in range(3):
        ran.clear()
        next(stream)
        expected = [] if max_skip is None else ["hallucinator", "temporal_sampler"] if t else ["hallucinator"]
        assert ran == (expected if t == 1 and max_skip else expected + full), t


def test_without_crops_and_sampler_there_is_no_attention_to_make() -> None:
    system, clip = make_system(0, None), make_clip(0)
    assert [(frame.attention, frame.boxes) for frame in system.stream(clip)] == [(None, None)] * FRAMES
    assert (system.hallucinator, system.temporal_sampler, system.high_rgb) == (None, None, None)


@pytest.mark.parametrize("box_order", ["causal", "published"])
def test_full_frames_wait_until_there_is_one_for_each_video(
    box_order: BoxOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of three videos of 8 frames, p is pre-scanned and - skipped: ffp-ffff, ffffp-ff, fp-fffpf
    scripts = {2: 2}, {4: 2}, {1: 2, 6: 1}
    system, looks, rounds = make_system(3, 4), [], []
    look, classify = system.look, system.classify
    monkeypatch.setattr(system, "look", lambda state, *rest: looks.append(len(state)) or look(state, *rest))
    monkeypatch.setattr(system, "classify", lambda own, *rest: rounds.append(len(own.image)) or classify(own, *rest))
    clips = [make_clip(seed, 8) for seed in range(3)]
    together = system.run(clips, Scripted(*scripts), box_order)
    assert ["".join("-" if d == "skip" else d[0] for d in result.decisions) for result in together] == [
        "ffp-ffff", "ffffp-ff", "fp-fffpf",
    ]  # fmt: skip
    assert looks == [3, 3, 4, 4, 3]
    if box_order == "causal":
        assert rounds == [3, 2, 1, 3, 1, 3, 1, 3]  # of each look, a video's frames one after the other
    for video, (clip, result) in enumerate(zip(clips, together, strict=True)):
        if box_order == "causal":
            assert_same(list(system.stream(clip, Scripted(*scripts), video)), result.frames)
        else:
            assert_same(system.run([clip], Scripted(*scripts), box_order, video)[0].frames, result.frames)


@pytest.mark.parametrize("box_order", ["causal", "published"])
def test_videos_do_not_disturb_each_other_nor_later_runs(box_order: str) -> None:
    system, clip = make_system(2, 3), make_clip(0)
    (first, _) = system.run([clip, make_clip(1)], Learned(), box_order)
    (_, second, _) = system.run([make_clip(2), clip, make_clip(3)], Learned(), box_order)
    assert_same(first.frames, [replace(frame, video=0) for frame in second.frames])


def test_results_handed_out_do_not_change_later() -> None:
    stream = make_system(2, 1).stream(make_clip(0), Scripted({2: 1}))
    frames, copies = [], []
    for frame in stream:
        frames.append(frame)
        copies.append(copy.deepcopy(frame))
    assert_same(frames, copies, tolerance=0)


def test_policies_know_videos_by_their_numbers() -> None:
    system, clips = make_system(0, 2), [make_clip(seed) for seed in range(4)]
    shares = Shares(15, 40, 45)
    whole = system.run(clips, GivenShares(shares, 2, FRAMES))
    policy = GivenShares(shares, 2, FRAMES)
    parts = system.run(clips[:2], policy) + system.run(clips[2:], policy, first_video=2)
    assert [result.decisions for result in parts] == [result.decisions for result in whole]
    assert [frame.video for result in parts for frame in result.frames[:1]] == [0, 1, 2, 3]
    assert len({tuple(result.decisions) for result in whole}) > 1
    assert [frame.decision for frame in system.stream(clips[3], policy, video=3)] == whole[3].decisions


def test_a_video_is_predicted_by_the_mean_of_its_full_frames() -> None:
    (result,) = make_system(1, 2).run([make_clip(0)], Scripted({1: 2}))
    full = [result.frames[t] for t in (0, 3, 4)]
    assert [len(group) for group in result.logits] == list(CLASSES)
    for group in range(2):
        expected = (full[0].logits[group] + full[1].logits[group] + full[2].logits[group]) / 3
        torch.testing.assert_close(result.logits[group], expected)


@pytest.mark.parametrize("max_skip", [None, 2])
def test_published_order_of_boxes(max_skip: int | None) -> None:
    system, clips = make_system(3, max_skip), [make_clip(seed) for seed in range(2)]
    heads_ran: list[int] = []
    system.classifier.register_forward_hook(lambda *_: heads_ran.append(1))
    policy = Scripted({1: 2}, {2: 1})
    together = system.run(clips, policy, box_order="published")
    assert len(heads_ran) == sum(result.decisions.count("full") for result in together)
    for video, (clip, result) in enumerate(zip(clips, together, strict=True)):
        (alone,) = system.run([clip], policy, box_order="published", first_video=video)
        assert_same(result.frames, alone.frames)
        torch.testing.assert_close(result.logits, alone.logits)
        full = [frame for frame in result.frames if frame.decision == "full"]
        attention = torch.stack([frame.attention for frame in full])
        boxes = order_boxes_along_video(salient_boxes(attention, 3))
        memory = None
        with torch.inference_mode():
            for frame, own in zip(full, boxes, strict=True):
                assert torch.equal(frame.boxes, own)
                image = TensorClip.image(clip, frame.t)[None].double()
                crops = system.high_rgb(crop_boxes(image, own[None])[0])[None]
                torch.testing.assert_close(frame.features.crops, crops)
                logits, memory = system.classifier(frame.features.image, frame.features.audio, crops, memory)
                torch.testing.assert_close(frame.logits, tuple(group[0] for group in logits))
    causal = system.run(clips, policy)
    assert any(
        not torch.equal(a.boxes, b.boxes)
        for one, other in zip(together, causal, strict=True)
        for a, b in zip(one.frames, other.frames, strict=True)
        if a.decision == "full"
    )


def test_without_crops_both_orders_are_one() -> None:
    system, clip = make_system(0, 1), make_clip(0)
    (published,) = system.run([clip], Learned(), box_order="published")
    assert_same(published.frames, system.run([clip], Learned())[0].frames)


@pytest.mark.parametrize(("choices", "shown"), [
    ([3], r"\[3\]"), ([-1], r"\[-1\]"), ([0.5], r"\[0\.5\]"), ([0, 0], r"\[0, 0\]"), ([], r"\[\]"), (None, "None"),
    (0, "0"), ("x", "x"), ([None], r"\[None\]"),
])  # fmt: skip
def test_a_policy_that_talks_nonsense(choices: object, shown: str) -> None:
    class Nonsense:
        def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> object:
            return choices

    message = f"policy Nonsense chose {shown} at frame 1 for 1 videos: it must choose from 0 to 2 for each"
    with pytest.raises(ValueError, match=message):
        make_system(0, 2).run([make_clip(0)], Nonsense())


def test_a_policy_may_answer_with_a_tensor() -> None:
    class Mine:
        def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> Tensor:
            return logits.argmin(dim=1)

    system, clip = make_system(0, 2), make_clip(0)
    assert_same(list(system.stream(clip, Mine())), system.run([clip], Mine())[0].frames)


def test_wrong_calls() -> None:
    system = make_system(0, 1)
    with pytest.raises(ValueError, match=r"equally many frames, got \[4, 5\]"):
        system.run([make_clip(0), make_clip(1, frames=4)])
    with pytest.raises(ValueError, match=r"equally many frames, got \[\]"):
        system.run([])
    with pytest.raises(ValueError, match="unknown order of boxes 'random': use 'causal' or 'published'"):
        system.run([make_clip(0)], box_order="random")
    with pytest.raises(ValueError, match=r"images of shape \(1, 3, 112, 112\): the system takes \(N, 3, 224, 224\)"):
        system.run([TensorClip(torch.zeros(2, 3, 112, 112))])
    with pytest.raises(ValueError, match="without spectrograms"):
        system.run([TensorClip(torch.zeros(2, 3, 224, 224))])
    with pytest.raises(ValueError, match="number of crops k must be 0 or more, got -1"):
        AdaptiveSystem(-1, None, CLASSES, False, 1, narrow)
    with pytest.raises(ValueError, match=r"max_skip .* at least 1, got 0"):
        AdaptiveSystem(0, 0, CLASSES, False, 1, narrow)


@pytest.mark.parametrize(("crops", "max_skip"), [(0, None), (2, None), (3, 4)])
def test_stages_of_the_published_system_know_their_shapes_on_the_meta_device(crops: int, max_skip: int | None) -> None:
    with torch.device("meta"), torch.inference_mode():
        system = AdaptiveSystem(crops, max_skip, (125, 352), True, 2).eval()
        images, spectrograms = torch.empty(2, 3, 224, 224), torch.empty(2, 1, 256, 256)
        state, attention = system.scan(images)
        features, boxes = system.look(state, attention, images, spectrograms, None)
        logits, memory = system.classify(features, None)
        if max_skip is not None:
            hallucination, _ = system.hallucinate(attention, None)
            choices, sampler_memory, similarity = system.decide(attention, hallucination, None)
    assert (attention is None) == (crops == 0 and max_skip is None)
    assert (features.image.shape, features.audio.shape) == ((2, 2048), (2, 2048))
    assert (features.crops is None) == (boxes is None) == (crops == 0)
    assert [group.shape for group in logits] == [(2, 125), (2, 352)]
    assert memory.shape == (3 if crops else 1, 2, 2, 1024)
    if max_skip is not None:
        assert attention.shape == hallucination.shape == (2, 32, 7, 7)
        assert (choices.shape, sampler_memory.shape, similarity.shape) == ((2, max_skip + 1), (2, 2, 1024), (2,))


# --- operations ---


class StageCosts:
    """Operations of each stage on a batch of videos, of a system on the meta device."""

    def __init__(self, on_meta: AdaptiveSystem, convention: str) -> None:
        self.system, self.convention = on_meta, convention
        self.counted: dict[int, dict[str, int]] = {}

    def of(self, batch: int) -> dict[str, int]:
        if batch not in self.counted:
            self.counted[batch] = self._count(batch) if batch else {"look": 0, "classify": 0}
        return self.counted[batch]

    def _count(self, batch: int) -> dict[str, int]:
        costs = {}

        def count(stage: str, *args: object) -> Any:
            profile = count_flops(getattr(self.system, stage), *args, convention=self.convention)
            assert profile.unknown == []
            costs[stage] = profile.flops
            with torch.inference_mode():
                return getattr(self.system, stage)(*args)

        like = next(self.system.parameters())
        images = torch.empty(batch, 3, 224, 224, dtype=like.dtype, device="meta")
        spectrograms = torch.empty(batch, 1, 32, 32, dtype=like.dtype, device="meta")
        state, attention = count("scan", images)
        if self.system.temporal_sampler is not None:
            hallucination, _ = count("hallucinate", attention, None)
            count("decide", attention, hallucination, None)
        features, _ = count("look", state, attention, images, spectrograms, None)
        count("classify", features, None)
        return costs

    def expected(self, *videos: Sequence[str]) -> int:
        """Of videos that go through together, given the decisions on their frames; the first is not decided on."""
        total, waiting = 0, collections.Counter[int]()
        for t, decisions in enumerate(zip(*videos, strict=True)):
            glanced = self.of(len(decisions) - decisions.count("skip"))
            total += glanced.get("scan", 0) + glanced.get("hallucinate", 0) + (glanced.get("decide", 0) if t else 0)
            waiting.update(video for video, decision in enumerate(decisions) if decision == "full")
            if waiting.total() >= len(videos) or t == len(videos[0]) - 1:
                total += self.of(waiting.total())["look"]
                while waiting:  # a frame of each video at once
                    total += self.of(len(waiting))["classify"]
                    waiting -= collections.Counter(list(waiting))
        return total


def executed_operations(system: AdaptiveSystem, convention: str, run: Callable[[], object]) -> tuple[int, Any]:
    counter = Counter(system, convention)
    with torch.inference_mode(), counting(counter):
        result = run()
    profile = counter.profile()
    assert profile.unknown == []
    return profile.flops, result


@pytest.mark.parametrize(
    ("crops", "max_skip", "convention", "make_backbone"),
    [
        (0, None, "exact", narrow),
        (1, None, "exact", narrow),
        (0, 1, "exact", narrow),
        (0, 2, "paper", narrow),
        (1, 2, "exact", narrow),
        (2, 4, "exact", narrow),
        (2, 4, "paper", narrow),
        (3, 3, "exact", narrow),
        *product([0, 2], [3], ["exact", "paper"], OTHERS),
    ],
)
def test_operations_executed_are_those_of_the_decisions(
    crops: int, max_skip: int | None, convention: str, make_backbone: Callable[[int], AttentionBackbone]
) -> None:
    system, clips = make_system(crops, max_skip, make_backbone=make_backbone), [make_clip(seed) for seed in range(2)]
    costs = StageCosts(copy.deepcopy(system).to("meta"), convention)
    for make_policy in policies(max_skip):
        policy = make_policy()
        # What choosing costs is the policy's own: to find the largest of M + 1, after noise, its logarithm and a sum.
        choosing = 0
        if isinstance(policy, Learned) and convention == "exact":
            choosing = (max_skip + 1) * (1 if policy.seed is None else 3)
        stream = system.stream(clips[0], policy)
        flops, frames = executed_operations(system, convention, lambda stream=stream: list(stream))
        decisions = [frame.decision for frame in frames]
        asked = FRAMES - 1 - decisions.count("skip")
        assert flops == costs.expected(decisions) + asked * choosing
        flops, results = executed_operations(system, convention, lambda policy=policy: system.run(clips, policy))
        decisions = [result.decisions for result in results]
        asked = sum(FRAMES - 1 - own.count("skip") for own in decisions)
        averaging = sum((own.count("full") + 1) * sum(CLASSES) for own in decisions) if convention == "exact" else 0
        assert flops == costs.expected(*decisions) + asked * choosing + averaging


# --- the real thing ---


def test_real_clips_through_a_published_system(
    shared: Path, recipe_weights: Callable[[str], dict[str, Tensor]]
) -> None:
    def make() -> AdaptiveSystem:
        return AdaptiveSystem(crops=2, max_skip=4, classes=(101,), audio=False, head_layers=1).eval()

    torch.manual_seed(0)
    system = make()
    for network in (system.low_rgb, system.high_rgb):
        load_reference(network, recipe_weights("san19_pairwise"))
    clips = []
    for name in ("clip_with_audio.avi", "clip_silent.mp4"):
        with VideoClip(shared / "clips" / name, 3, audio=False) as clip:
            # Scaled, since these random weights make chaos of pixels from -128 to 151.
            clips.append(TensorClip(torch.stack([clip.image(t) for t in range(3)]) / 300))
    policy = Scripted({1: 2}, {1: 1})
    batched = system.run(clips, policy)
    assert ["".join(d[0] for d in result.decisions) for result in batched] == ["fps", "fpf"]
    with torch.device("meta"):
        costs = StageCosts(make(), "exact")
    for video, (clip, result) in enumerate(zip(clips, batched, strict=True)):
        stream = system.stream(clip, policy, video)
        flops, frames = executed_operations(system, "exact", lambda stream=stream: list(stream))
        assert_same(frames, result.frames, tolerance=2e-5)  # who counts runs layer by layer, and the batch fused
        assert flops == costs.expected(result.decisions)
        assert frames[0].attention.shape == (32, 7, 7)
        assert frames[0].boxes.shape == (2, 4)
