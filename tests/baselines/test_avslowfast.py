from __future__ import annotations

import pytest
import torch
from hook_counter import count_by_hooks
from torch import Tensor

from baselines.avslowfast import AudioPathway, AVSlowFast
from bench.counting.count import count_flops

ALL, RESNET_50 = (3, 4, 23, 3), (3, 4, 6, 3)
VISUAL = {RESNET_50: 106_510_155_776, ALL: 125_904_617_472}  # by the blocks with temporal kernels, see test_slowfast


def audio_convolutions(res4_blocks: int) -> int:
    """Multiply-accumulates of the audio pathway and its fusion, from Table 1 alone, for 80 bands and 128 steps."""
    positions = [80 * 128 // 4**stage for stage in range(4)]
    macs = 2 * 9 * 32 * positions[0]
    inputs, before = 32, positions[0]
    for stage, blocks in enumerate((3, 4, res4_blocks, 3)):
        inner, after = 32 * 2**stage, positions[stage]
        macs += inputs * 4 * inner * after  # the shortcut of the first block
        for _ in range(blocks):
            parallel, plain = (3 + 3) * inner**2 + 2 * inner * 4 * inner, 9 * inner**2 + inner * 4 * inner
            macs += inputs * inner * before + (parallel if stage < 2 else plain) * after
            inputs, before = 4 * inner, after
    for channels, steps, fused in ((256, 64, 512 + 128), (512, 32, 1024 + 256)):
        macs += 5 * (channels * 64 * steps + 64 * fused * 8)
    return macs


def published_inputs() -> tuple[Tensor, Tensor]:
    return torch.empty(1, 32, 3, 256, 256, device="meta"), torch.empty(1, 1, 80, 128, device="meta")


@pytest.mark.parametrize(
    ("temporal_blocks", "audio_blocks", "counted"),
    [(RESNET_50, ALL, 112.88), (RESNET_50, RESNET_50, 109.85), (ALL, ALL, 132.27), (ALL, RESNET_50, 129.24)],
)
def test_convolutions(temporal_blocks: tuple[int, ...], audio_blocks: tuple[int, ...], counted: float) -> None:
    with torch.device("meta"):
        network = AVSlowFast(temporal_blocks=temporal_blocks, audio_blocks=audio_blocks).eval()
        profile = count_flops(network, *published_inputs())
    macs = VISUAL[temporal_blocks] + audio_convolutions(audio_blocks[2])
    assert profile.macs == macs + (2304 + 1024) * (125 + 352)
    assert round(profile.macs / 1e9, 2) == counted
    assert profile.unknown == []


def test_by_default_all_pathways_have_the_depth_of_resnet_101() -> None:
    with torch.device("meta"):
        network = AVSlowFast().eval()
        profile = count_flops(network, *published_inputs(), convention="paper")
        assert profile.flops == count_by_hooks(network, *published_inputs())
        assert [logits.shape for logits in network(*published_inputs())] == [(1, 125), (1, 352)]
    assert profile.macs == VISUAL[RESNET_50] + audio_convolutions(23) + 3328 * 477
    assert profile.unknown == []


def test_shapes_of_the_audio_pathway() -> None:
    with torch.device("meta"):
        outputs = AudioPathway()(torch.empty(2, 1, 80, 128))
    assert {name: tuple(x.shape[1:]) for name, x in outputs.items()} == {
        "res2": (128, 80, 128),
        "res3": (256, 40, 64),
        "res4": (512, 20, 32),
        "res5": (1024, 10, 16),
    }


@pytest.fixture(scope="module")
def small() -> AVSlowFast:
    torch.manual_seed(0)
    return AVSlowFast((5, 3), width=0.125).eval()


def test_sound_reaches_the_slow_pathway_and_not_the_fast_one(small: AVSlowFast) -> None:
    rgb, one, other = torch.randn(1, 8, 3, 32, 32), torch.randn(1, 1, 16, 32), torch.randn(1, 1, 16, 32)
    features: list[Tensor] = []
    hook = small.trunk.register_forward_hook(lambda module, inputs, output: features.append(output))
    with torch.no_grad():
        logits = small(rgb, one), small(rgb, other)
    hook.remove()
    slow = 4 * round(512 * 0.125)
    assert not torch.allclose(features[0][:, :slow], features[1][:, :slow])
    assert torch.equal(features[0][:, slow:], features[1][:, slow:])
    assert not torch.allclose(logits[0][0], logits[1][0])


def test_sound_is_added_to_the_frames_at_its_time(small: AVSlowFast) -> None:
    log_mel = torch.zeros(1, 1, 16, 128)
    with torch.no_grad():
        silent = {name: fusion(small.audio(log_mel)[name]) for name, fusion in small.fusions.items()}
        log_mel[..., -8:] = 10
        loud = {name: fusion(small.audio(log_mel)[name]) for name, fusion in small.fusions.items()}
    for name, fused in silent.items():
        assert fused.shape == (1, small.trunk.fused_channels[name], 8, 1, 1)
    # res3 sees some dozen steps to either side, of 16 for each frame
    assert torch.equal(silent["res3"][:, :, :4], loud["res3"][:, :, :4])
    assert not torch.allclose(silent["res3"][:, :, -1], loud["res3"][:, :, -1])


@pytest.mark.parametrize("shape", [(1, 16, 32), (1, 1, 16, 64), (2, 1, 16, 32), (1, 3, 16, 32)])
def test_sound_that_does_not_fit_the_clip_is_refused(small: AVSlowFast, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"log_mel must have shape \(1, 1, F, 32\) for rgb of shape \(1, 8, 3, 32, 32"):
        small(torch.zeros(1, 8, 3, 32, 32), torch.zeros(shape))
