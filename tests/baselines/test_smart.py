from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hook_counter import count_by_hooks
from torch import Tensor

from adaptive_models.data.clips import TensorClip, VideoClip
from adaptive_models.policies import GivenNumber, Learned
from baselines.smart import SMART, GlobalSelector
from bench.counting.counter import Counter, counting
from bench.streaming import step_flops
from bench.systems.costs import count_system
from bench.systems.registry import System


@pytest.fixture(scope="module")
def small() -> SMART:
    torch.manual_seed(0)
    return SMART((5, 3), width=0.125, frames=6, kept=2, hidden=8).eval()


@pytest.fixture(scope="module")
def video() -> TensorClip:
    return TensorClip(torch.randn(6, 3, 224, 224, generator=torch.Generator().manual_seed(1)))


def test_stages_count_what_the_description_says() -> None:
    system = System("x/smart", SMART, {"rgb": (16, 3, 224, 224)}, frames=16, stepwise=True)
    profile = count_system(system, "paper", "always-full").profile
    assert profile.unknown == []
    stages = {stage["name"]: stage for stage in profile.stages()}
    with torch.device("meta"):
        model, image = SMART().eval(), torch.empty(1, 3, 224, 224)
        assert stages["scan"]["flops"] == 16 * count_by_hooks(model.observation, image)
        assert stages["look"]["flops"] == 16 * (count_by_hooks(model.backbone, image) + 2048 * 101)
    assert stages["scan"]["macs"] == 16 * 300_774_272
    feature, hidden = 1280 + 300, 256
    of_a_frame = feature * hidden + hidden  # alone
    of_a_frame += 2 * feature + 4 * feature + (hidden + 2 * feature)  # attention, relation, temporal attention
    of_a_frame += 4 * hidden * (2 * feature + hidden)  # LSTM
    of_a_frame += 2 * feature  # the weighted sum over frames
    assert stages["decide"]["macs"] == 16 * of_a_frame
    assert stages["decide"]["macs"] < 0.02 * stages["scan"]["macs"]  # widths of ours, which say little


@pytest.mark.parametrize("kept", [1, 6])
def test_what_is_counted_is_executed(small: SMART, video: TensorClip, kept: int) -> None:
    system = System(
        "x/smart",
        lambda: SMART((5, 3), width=0.125, frames=6, kept=2, hidden=8),
        {"rgb": (6, 3, 224, 224)},
        frames=6,
        stepwise=True,
    )
    profile = count_system(system, "exact", "always-full").profile
    costs = {stage["name"]: stage["flops"] for stage in profile.stages()}
    with counting(Counter({"": small}, "exact")) as counter:
        frames = list(small.stream(video, GivenNumber(kept, 6)))
    assert counter.profile().flops == sum(step_flops(costs, frames))
    assert [frame.decision for frame in frames].count("full") == kept


def test_frames_that_are_not_kept_are_never_given_to_the_expensive_network(small: SMART, video: TensorClip) -> None:
    given: list[Tensor] = []
    handle = small.backbone.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    try:
        frames = list(small.stream(video, Learned()))
    finally:
        handle.remove()
    kept = [frame.t for frame in frames if frame.decision == "full"]
    assert len(kept) == len(given) == 2
    for t, image in zip(kept, given, strict=True):
        torch.testing.assert_close(image, video.image(t)[None])


def test_features_are_the_network_s_and_the_words_of_the_likeliest_classes(small: SMART, video: TensorClip) -> None:
    image = video.image(0)[None]
    with torch.no_grad():
        (feature,) = small.scan(image[None])
        seen, said = small.observation.pooled(image), small.observation(image)
        ten = sorted(range(1000), key=lambda i: -float(said[0, i]))[:10]
        words = torch.stack([small.words.weight[i] for i in ten]).mean(dim=0)
    torch.testing.assert_close(feature, torch.cat([seen[0], words]))


def test_the_global_selector_frame_by_frame() -> None:
    torch.manual_seed(3)
    selector, x = GlobalSelector(4, 5, 6).eval(), torch.randn(1, 4, 5)
    partners = selector.partners.tolist()
    assert all(partner > t for t, partner in enumerate(partners[:-1]))
    assert partners[-1] == 3  # nothing comes after the last
    with torch.no_grad():
        pairs = [torch.cat([x[0, t], x[0, partners[t]]]) for t in range(4)]
        attention = [torch.sigmoid(selector.attention(pair)) for pair in pairs]
        video = sum(a * pair for a, pair in zip(attention, pairs, strict=True)) / sum(attention)
        state, expected = None, []
        for a, pair in zip(attention, pairs, strict=True):
            relation = torch.sigmoid(selector.relation(torch.cat([pair, video])))
            hidden, state = selector.lstm((a * relation * pair)[None, None], state)
            expected.append(torch.sigmoid(selector.temporal(torch.cat([hidden[0, 0], video]))))
        torch.testing.assert_close(selector(x)[0], torch.cat(expected))


def test_a_score_is_the_product_of_both(small: SMART) -> None:
    features = torch.randn(2, 6, small.observation.features + 300)
    with torch.no_grad():
        scores = small.decide(features)
        alone = torch.sigmoid(small.alone(features))[..., 0]
        torch.testing.assert_close(scores, alone * small.together(features))
    assert scores.shape == (2, 6)
    assert bool(((scores > 0) & (scores < 1)).all())


def test_frames_are_paired_alike_in_every_model() -> None:
    pairs = [GlobalSelector(16, 3, 2).partners for _ in range(2)]
    assert torch.equal(*pairs)


def test_batched_is_as_streamed_on_real_clips(small: SMART, shared: Path) -> None:
    paths = [shared / "clips" / name for name in ("clip_silent.mp4", "clip_with_audio.avi")]
    clips = [VideoClip(path, 6, audio=False) for path in paths]
    together = small.run(clips, GivenNumber(2, 6))
    for number, (clip, result) in enumerate(zip(clips, together, strict=True)):
        streamed = list(small.stream(clip, GivenNumber(2, 6), number))
        assert [frame.decision for frame in streamed] == result.decisions
        assert [logits.shape for logits in result.logits] == [(5,), (3,)]
        for one, other in zip(streamed, result.frames, strict=True):
            torch.testing.assert_close(one.logits, other.logits, rtol=1e-4, atol=1e-5)
        clip.close()
