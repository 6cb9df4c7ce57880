from __future__ import annotations

import pytest
import torch
from hook_counter import count_by_hooks
from torch import nn

from baselines.mobilenetv2 import InvertedResidual, MobileNetV2
from bench.counting.count import count_flops

# Output of each bottleneck at 224 pixels, and its expansion, written out from Table 2 of the paper.
BOTTLENECKS = [
    (16, 112, 1),
    *[(24, 56, 6)] * 2,
    *[(32, 28, 6)] * 3,
    *[(64, 14, 6)] * 4,
    *[(96, 14, 6)] * 3,
    *[(160, 7, 6)] * 3,
    (320, 7, 6),
]


def convolutions() -> int:
    """Multiply-accumulates of the convolutions from the description alone."""
    macs, inputs, before = 9 * 3 * 32 * 112**2, 32, 112
    for channels, side, expansion in BOTTLENECKS:
        inner = expansion * inputs
        macs += (inputs * inner * before**2 if expansion > 1 else 0) + 9 * inner * side**2 + inner * channels * side**2
        inputs, before = channels, side
    return macs + 320 * 1280 * 7**2


def test_operations_are_those_of_the_description() -> None:
    with torch.device("meta"):
        network, image = MobileNetV2().eval(), torch.empty(1, 3, 224, 224)
        profile = count_flops(network, image, convention="paper")
        assert profile.flops == count_by_hooks(network, image)
    assert profile.macs == convolutions() + 1280 * 1000
    assert f"{profile.macs / 1e6:.1f}" == "300.8"  # the paper says 300
    assert f"{profile.flops / 1e9:.2f}" == "0.32"
    assert profile.params == 3_504_872  # torchvision's


def test_shapes_of_its_blocks() -> None:
    with torch.device("meta"):
        network = MobileNetV2()
        x = network.stem(torch.empty(1, 3, 224, 224))
        shapes = [tuple((x := block(x)).shape[1:]) for block in network.blocks]
    assert shapes == [(channels, side, side) for channels, side, _ in BOTTLENECKS]
    shortcuts = [block.shortcut for block in network.blocks if isinstance(block, InvertedResidual)]
    assert sum(shortcuts) == 10  # in all but the first block of each of the seven stages
    assert len(shortcuts) == 17


def test_a_shortcut_adds_the_input() -> None:
    torch.manual_seed(0)
    block = InvertedResidual(4, 4, stride=1, expansion=6).eval()
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + block.convolutions(x))
        assert not torch.equal(block(x), x)
    assert not any(isinstance(layer, nn.ReLU6) for layer in block.convolutions[-2:])  # the last one is linear


@pytest.mark.parametrize("size", [(224, 224), (97, 33)])
def test_any_size_gives_logits_or_features(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        images = torch.empty(2, 3, *size)
        assert MobileNetV2(7)(images).shape == (2, 7)
        assert MobileNetV2(None)(images).shape == (2, 1280)
        assert MobileNetV2(None, width=0.25)(images).shape == (2, 320)
