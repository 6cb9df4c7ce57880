from __future__ import annotations

import pytest
import torch
from hook_counter import count_by_hooks

from baselines.bninception import BLOCKS, BNInception, InceptionBlock, widen_first_conv


@pytest.mark.parametrize(
    ("channels", "size", "operations"),
    [(3, 224, 2_049_258_400), (1, 256, 2_573_821_952), (10, 224, 2_324_624_288)],
    ids=["rgb", "spectrogram", "flow"],
)
def test_published_operations(channels: int, size: int, operations: int) -> None:
    with torch.device("meta"):
        # Global average pooling included: it counts its 1024 x 7 x 7 (8 x 8 for the spectrogram) inputs.
        assert count_by_hooks(BNInception(channels), torch.empty(1, channels, size, size)) == operations


def test_parameters_are_those_of_the_published_network_without_classifier() -> None:
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in BNInception().parameters())
    assert parameters == 11_295_240 - 1025 * 1000  # pretrainedmodels.bninception less its last_linear


def test_shapes_after_each_block() -> None:
    with torch.device("meta"):
        network = BNInception()
        x = network.stem(torch.empty(1, 3, 224, 256))
        assert x.shape[1:] == (192, 28, 32)
        shapes = {name: tuple((x := block(x)).shape[1:]) for name, block in network.blocks.named_children()}
    assert shapes == {
        "3a": (256, 28, 32),
        "3b": (320, 28, 32),
        "3c": (576, 14, 16),
        "4a": (576, 14, 16),
        "4b": (576, 14, 16),
        "4c": (608, 14, 16),
        "4d": (608, 14, 16),
        "4e": (1056, 7, 8),
        "5a": (1024, 7, 8),
        "5b": (1024, 7, 8),
    }


def test_pools_of_the_stem_round_up() -> None:
    with torch.device("meta"):
        x = torch.empty(1, 3, 64, 64)
        sides = [(x := layer(x)).shape[-1] for layer in BNInception().stem]
    assert sides == [32, 16, 16, 16, 8]  # without ceil_mode the pools give 15 and 7


SIDES = range(1, 104)


def sides_that_fit() -> list[int]:
    """Sides whose strided convolutions and pools agree, by the output-size rules of the layers alone."""
    runs = []
    for side in SIDES:
        x = (side - 1) // 2 + 1  # 7x7, stride 2, padding 3
        for _ in range(2):
            x = -(-(x - 3) // 2) + 1 if x > 1 else 0  # 3x3, stride 2, rounded up
        for _ in range(2):  # 3c and 4e
            convolved, pooled = (x - 1) // 2 + 1, -(-(x - 3) // 2) + 1
            x = convolved if convolved == pooled else 0
        if x > 0:
            runs.append(side)
    return runs


def test_exactly_the_sizes_that_fit_are_taken() -> None:
    fitting = sides_that_fit()
    assert {32, 64, 96} <= set(fitting)
    with torch.device("meta"):
        network = BNInception()
        for side in SIDES:
            images = torch.empty(1, 3, side, 64)
            if side in fitting:
                assert network(images).shape == (1, 1024)
            else:
                with pytest.raises(ValueError, match=f"got {side} x 64$"):
                    network(images)


def test_a_halving_block_ends_with_the_maxima_of_its_input() -> None:
    x = torch.randn(1, 320, 4, 6)
    with torch.no_grad():
        pooled = InceptionBlock(320, BLOCKS["3c"])(x)[:, -320:]
    for row in range(2):
        for column in range(3):
            window = x[..., 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]  # cut off at the border
            assert torch.equal(pooled[..., row, column], window.amax(dim=(-2, -1)))


@pytest.mark.parametrize(
    ("name", "edge", "corner"), [("3a", 6 / 9, 4 / 9), ("5b", 1.0, 1.0)], ids=["average", "maximum"]
)
def test_averages_count_the_padding_and_maxima_do_not(name: str, edge: float, corner: float) -> None:
    pool = next(InceptionBlock(1, BLOCKS[name])["pool"].children())
    expected = torch.tensor([[corner, edge, corner], [edge, 1.0, edge], [corner, edge, corner]])
    torch.testing.assert_close(pool(torch.ones(1, 1, 3, 3))[0, 0], expected)


def test_branches_are_concatenated_in_the_published_order() -> None:
    block = InceptionBlock(8, BLOCKS["4d"]).eval()
    levels = {"1x1": 1.0, "3x3": 2.0, "double_3x3": 3.0, "pool": 4.0}
    for branch, level in levels.items():
        last = [module for module in block[branch].modules() if isinstance(module, torch.nn.BatchNorm2d)][-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, level)
    with torch.no_grad():
        y = block(torch.randn(1, 8, 2, 2))[0, :, 0, 0]
    assert y.tolist() == [1.0] * 96 + [2.0] * 192 + [3.0] * 192 + [4.0] * 128


def test_widened_kernels_are_the_mean_over_rgb() -> None:
    weight = torch.tensor([[1.0, 2.0, 6.0], [0.0, -3.0, 0.0]]).reshape(2, 3, 1, 1)
    assert widen_first_conv(weight, 1).flatten(1).tolist() == [[3.0], [-1.0]]
    assert widen_first_conv(weight, 10).flatten(1).tolist() == [[3.0] * 10, [-1.0] * 10]


@pytest.mark.parametrize("channels", [1, 10])
def test_widened_kernels_fit_the_first_convolution(channels: int) -> None:
    first = "stem.0.conv.weight"
    with torch.device("meta"):
        widened = widen_first_conv(BNInception().get_parameter(first), channels)
        assert widened.shape == BNInception(channels).get_parameter(first).shape
