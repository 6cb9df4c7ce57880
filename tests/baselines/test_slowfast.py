from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hook_counter import count_by_hooks

from baselines.slowfast import SlowFast, SlowFastTrunk
from bench.counting.count import count_flops
from bench.counting.crosschecks import compare


def bottlenecks(inputs: int, inner: int, kernels: Sequence[int], frames: int, before: int, after: int) -> int:
    """Multiply-accumulates of a stage from Table 1 alone: frames of so many pixels before its stride and after it."""
    macs = inputs * 4 * inner * frames * after  # the shortcut of the first block
    for kernel in kernels:
        macs += kernel * inputs * inner * frames * before + (9 + 4) * inner * inner * frames * after
        inputs, before = 4 * inner, after
    return macs


def convolutions(side: int, temporal_blocks: int) -> int:
    """Of both pathways and their lateral connections, from Table 1 alone, for frames of side x side pixels."""
    stem, pixels = (side // 2) ** 2, [(side // reduction) ** 2 for reduction in (4, 4, 8, 16, 32)]
    macs = 8 * stem * 49 * 3 * 64 + 32 * stem * 5 * 49 * 3 * 8
    slow_kernels = ((1,) * 3, (1,) * 4, (3,) * temporal_blocks + (1,) * (23 - temporal_blocks), (3,) * 3)
    fast_kernels = ((3,) * 3, (3,) * 4, slow_kernels[2], (3,) * 3)
    slow, fast = 64, 8
    for stage in range(4):
        macs += 8 * pixels[stage] * 5 * fast * 2 * fast
        inner, sides = 64 * 2**stage, (pixels[stage], pixels[stage + 1])
        macs += bottlenecks(slow + 2 * fast, inner, slow_kernels[stage], 8, *sides)
        macs += bottlenecks(fast, inner // 8, fast_kernels[stage], 32, *sides)
        slow, fast = 4 * inner, inner // 2
    return macs


@pytest.mark.parametrize(
    ("side", "temporal_blocks", "published"), [(256, 6, 106.51), (224, 6, 81.55), (256, 23, 125.90), (224, 23, 96.40)]
)
def test_convolutions_are_those_of_the_published_network(side: int, temporal_blocks: int, published: float) -> None:
    with torch.device("meta"):
        trunk = SlowFastTrunk(temporal_blocks=(3, 4, temporal_blocks, 3)).eval()
        profile = count_flops(trunk, torch.empty(1, 32, 3, side, side))
    assert profile.macs == convolutions(side, temporal_blocks)
    assert round(profile.macs / 1e9, 2) == published
    assert profile.unknown == []


def test_as_many_operations_as_pytorchvideo_has() -> None:
    # create_slowfast(model_depth=101) with lateral kernels of 5x1x1 has 3x1x1 kernels in all blocks of res4;
    # with its weights, features were the same too, bit for bit
    assert convolutions(256, 23) == 125_904_617_472


def test_operations_of_the_whole_network_in_the_paper_convention() -> None:
    with torch.device("meta"):
        network, clip = SlowFast().eval(), torch.empty(1, 32, 3, 256, 256)
        profile = count_flops(network, clip, convention="paper")
        assert profile.flops == count_by_hooks(network, clip)
        assert [logits.shape for logits in network(clip)] == [(1, 125), (1, 352)]
    assert profile.macs == convolutions(256, 6) + 2304 * (125 + 352)
    assert profile.unknown == []


def test_other_libraries_differ_in_normalisation_and_pooling_alone() -> None:
    torch.manual_seed(0)
    differences = compare(SlowFast(width=0.125).eval(), torch.randn(1, 8, 3, 32, 32))
    assert {each.type for each in differences} == {"BatchNorm3d", "AdaptiveAvgPool3d"}
    assert {each.ours for each in differences} == {0}


@pytest.fixture(scope="module")
def trunk() -> SlowFastTrunk:
    torch.manual_seed(0)
    return SlowFastTrunk(width=0.25).eval()


def test_the_slow_pathway_sees_every_fourth_frame(trunk: SlowFastTrunk) -> None:
    clip = torch.randn(1, 8, 3, 32, 32)
    first, fifth = clip.clone(), clip.clone()
    first[:, [1, 2, 3, 5, 6, 7]] += 1
    fifth[:, 4] += 1
    alone = SlowFastTrunk(width=0.25).eval()
    alone.load_state_dict(trunk.state_dict())
    for lateral in alone.laterals:
        torch.nn.init.zeros_(lateral.get_parameter("0.weight"))
    with torch.no_grad():
        slow, fast = alone(clip).split([512, 64], dim=1)
        assert torch.equal(alone(first)[:, :512], slow)
        assert not torch.allclose(alone(first)[:, 512:], fast)
        assert not torch.allclose(alone(fifth)[:, :512], slow)


def test_the_fast_pathway_is_connected_to_the_slow_one_but_not_back(trunk: SlowFastTrunk) -> None:
    clip = torch.randn(1, 8, 3, 32, 32)
    other = clip.clone()
    other[:, [1, 2, 3, 5, 6, 7]] += 1
    with torch.no_grad():
        plain, changed = trunk(clip), trunk(other)
        added = trunk(clip, {"res3": torch.ones(1, trunk.fused_channels["res3"], 1, 1, 1)})
    assert not torch.allclose(plain[:, :512], changed[:, :512])
    assert not torch.allclose(plain[:, :512], added[:, :512])
    assert torch.equal(plain[:, 512:], added[:, 512:])


def test_clips_of_a_batch_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    network, clips = SlowFast((5, 3), width=0.125).eval(), torch.randn(2, 8, 3, 32, 40)
    with torch.no_grad():
        for both, *single in zip(network(clips), network(clips[:1]), network(clips[1:]), strict=True):
            torch.testing.assert_close(both, torch.cat(single))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 8, 32, 32), r"rgb must have shape \(N, T, 3, H, W\), got \(1, 3, 8, 32, 32\)"),
        ((8, 3, 32, 32), r"rgb must have shape"),
        ((1, 10, 3, 32, 32), "rgb has 10 frames; SlowFast takes a multiple of 4"),
    ],
)
def test_wrong_clips_are_named(trunk: SlowFastTrunk, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trunk(torch.zeros(shape))
