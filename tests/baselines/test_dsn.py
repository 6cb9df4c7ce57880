from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hook_counter import count_by_hooks
from torch import Tensor

from adaptive_models.data.clips import TensorClip, VideoClip
from adaptive_models.policies import GivenNumber, Learned
from baselines.dsn import DSN
from bench.counting.counter import Counter, counting
from bench.streaming import step_flops
from bench.systems.costs import count_system
from bench.systems.registry import System


@pytest.fixture(scope="module")
def small() -> DSN:
    torch.manual_seed(0)
    return DSN((5,), width=0.125).eval()


@pytest.fixture(scope="module")
def video() -> TensorClip:
    return TensorClip(torch.randn(32, 3, 224, 224, generator=torch.Generator().manual_seed(1)))


def test_stages_count_what_the_description_says() -> None:
    system = System("x/dsn", DSN, {"rgb": (16, 3, 224, 224)}, frames=16, stepwise=True)
    profile = count_system(system, "paper", "always-full").profile
    assert profile.unknown == []
    stages = {stage["name"]: stage for stage in profile.stages()}
    with torch.device("meta"):
        model = DSN().eval()
        observed = count_by_hooks(model.observation, torch.empty(1, 3, 112, 112))
        classified = count_by_hooks(model.classifier, torch.empty(1, 8, 3, 112, 112))
    assert {name: stage["flops"] for name, stage in stages.items()} == {
        "scan": 2 * observed,
        "decide": 2 * 512,
        "look": 2 * classified,
    }
    # A quarter of the 1 813 561 344 multiply-accumulates at 224 pixels, but for the last stage's odd sizes: 4 for 3.5
    assert stages["scan"]["macs"] == 2 * 484_847_616
    assert stages["look"]["macs"] == 2 * (20_348_174_336 + 512 * 101)


@pytest.mark.parametrize("kept", [1, 2])
def test_what_is_counted_is_executed(small: DSN, video: TensorClip, kept: int) -> None:
    system = System("x/dsn", lambda: DSN((5,), width=0.125), {"rgb": (16, 3, 224, 224)}, frames=16, stepwise=True)
    profile = count_system(system, "exact", "always-full").profile
    costs = {stage["name"]: stage["flops"] for stage in profile.stages()}
    with counting(Counter({"": small}, "exact")) as counter:
        frames = list(small.stream(video, GivenNumber(kept, 2)))
    assert counter.profile().flops == sum(step_flops(costs, frames[:16])) + sum(step_flops(costs, frames[16:]))
    assert (counter.profile().flops == 2 * profile.flops) == (kept == 2)


def test_clips_that_are_not_kept_are_never_given_to_the_3d_network(small: DSN, video: TensorClip) -> None:
    given: list[Tensor] = []
    handle = small.classifier.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    try:
        frames = list(small.stream(video, GivenNumber(1, 2)))
    finally:
        handle.remove()
    kept = [frame.t for frame in frames if frame.decision == "full"][::8]
    assert len(given) == len(kept) == 2
    for first, clip in zip(kept, given, strict=True):
        images = torch.stack([video.image(t) for t in range(first, first + 8)])
        smaller = torch.nn.functional.interpolate(images, size=(112, 112), mode="bilinear", align_corners=False)
        torch.testing.assert_close(clip, smaller[None])


def test_scores_are_a_distribution_over_the_clips_of_a_section(small: DSN) -> None:
    with torch.no_grad():
        scores = small.decide(torch.randn(3, 2, small.observation.features))
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(3))
    assert bool((scores > 0).all())


def test_it_decides_by_what_it_observes(small: DSN, video: TensorClip) -> None:
    # With the clips exchanged, the other one is kept
    def kept(clip: TensorClip) -> list[int]:
        return [frame.t for frame in small.stream(clip, Learned()) if frame.decision == "full"]

    images = torch.stack([video.image(t) for t in range(16)])
    first = kept(TensorClip(images))
    assert first in ([*range(8)], [*range(8, 16)])
    assert kept(TensorClip(images.roll(8, dims=0))) == [(t + 8) % 16 for t in first]


def test_batched_is_as_streamed_on_real_clips(small: DSN, shared: Path) -> None:
    paths = [shared / "clips" / name for name in ("clip_silent.mp4", "clip_with_audio.avi")]
    clips = [VideoClip(path, 16, audio=False) for path in paths]
    together = small.run(clips, Learned())
    for number, (clip, result) in enumerate(zip(clips, together, strict=True)):
        (alone,) = small.run([clip], Learned(), first_video=number)
        assert alone.decisions == result.decisions
        assert alone.decisions.count("full") == 8
        for one, other in zip(alone.logits, result.logits, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
            assert one.shape == (5,)
        clip.close()
