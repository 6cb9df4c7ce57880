from __future__ import annotations

import pytest
import torch
from hook_counter import count_by_hooks

from baselines.res3d import Res3D18
from bench.counting.count import count_flops
from bench.counting.crosschecks import compare

PROJECTION = 64 * 64 * 8 * 56 * 56
"""Multiply-accumulates of the shortcut of res2a, which changes no shape."""
TORCHVISION = 20_348_174_336
"""Of the convolutions of torchvision's r3d_18, which has no such projection, and is else the same network, bit for
bit, with the same weights."""


def convolutions() -> int:
    """Multiply-accumulates of the published network from its description alone."""
    macs = 3 * 49 * 3 * 64 * 8 * 56 * 56
    inputs = 64
    for channels, frames, side in ((64, 8, 56), (128, 4, 28), (256, 2, 14), (512, 1, 7)):
        macs += (27 * inputs + 3 * 27 * channels + inputs) * channels * frames * side * side
        inputs = channels
    return macs


def test_operations_are_those_of_the_description() -> None:
    with torch.device("meta"):
        network, clip = Res3D18().eval(), torch.empty(1, 8, 3, 112, 112)
        profile = count_flops(network, clip, convention="paper")
        assert profile.flops == count_by_hooks(network, clip)
    assert profile.macs == convolutions() + 512 * 101
    assert profile.unknown == []
    assert convolutions() == TORCHVISION + PROJECTION
    assert round(convolutions() / 1e9, 2) == 20.45


def test_parameters_are_those_of_torchvision_and_a_projection() -> None:
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in Res3D18((400,)).parameters())
    assert parameters == 33_371_472 + 64 * 64 + 2 * 64


def test_without_the_projection_it_is_that_of_torchvision() -> None:
    with torch.device("meta"):
        network = Res3D18((400,), projected_res2=False).eval()
        profile = count_flops(network, torch.empty(1, 8, 3, 112, 112))
    assert profile.macs == TORCHVISION + 512 * 400
    assert profile.params == 33_371_472


def test_shapes_after_each_stage() -> None:
    with torch.device("meta"):
        network = Res3D18()
        x = network.stem(torch.empty(1, 3, 8, 112, 112))
        shapes = [tuple(x.shape[1:])] + [tuple((x := stage(x)).shape[1:]) for stage in network.stages]
    assert shapes == [(64, 8, 56, 56), (64, 8, 56, 56), (128, 4, 28, 28), (256, 2, 14, 14), (512, 1, 7, 7)]


@pytest.fixture(scope="module")
def small() -> Res3D18:
    torch.manual_seed(0)
    return Res3D18((5, 3), width=0.125).eval()


def test_other_libraries_differ_in_normalisation_and_pooling_alone(small: Res3D18) -> None:
    differences = compare(small, torch.randn(1, 8, 3, 32, 32))
    assert {each.type for each in differences} == {"BatchNorm3d", "AdaptiveAvgPool3d"}
    assert {each.ours for each in differences} == {0}


def test_logits_for_each_label_and_clip(small: Res3D18) -> None:
    clips = torch.randn(2, 8, 3, 32, 40)
    with torch.no_grad():
        for both, *single in zip(small(clips), small(clips[:1]), small(clips[1:]), strict=True):
            torch.testing.assert_close(both, torch.cat(single))
        assert not torch.allclose(small(clips)[0], small(clips.flip(1))[0])  # the order of frames matters
        assert [logits.shape for logits in small(clips)] == [(2, 5), (2, 3)]


def test_other_shapes_are_refused(small: Res3D18) -> None:
    with pytest.raises(ValueError, match=r"rgb must have shape \(N, T, 3, H, W\), got \(1, 3, 8, 32, 32\)"):
        small(torch.zeros(1, 3, 8, 32, 32))
