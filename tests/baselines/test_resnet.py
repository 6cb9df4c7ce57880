from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hook_counter import count_by_hooks

from baselines.resnet import Bottleneck, ResNet, ResNet18, ResNet50, ResNet152
from bench.counting.count import count_flops


def test_published_operations_for_ucf101() -> None:
    with torch.device("meta"):
        # Global average pooling included: it counts its 2048 x 7 x 7 inputs.
        assert count_by_hooks(ResNet50(101), torch.empty(1, 3, 224, 224)) == 4_120_082_944


def convolutions(kernels: str, blocks: tuple[int, ...], expansion: int) -> int:
    """Multiply-accumulates at 224 pixels from the description: of each block the kernels' sides, "33" or "131"."""
    macs, inputs, before = 49 * 3 * 64 * 112**2, 64, 56
    for stage, count in enumerate(blocks):
        channels, side = 64 * 2**stage, 56 // 2**stage
        for block in range(count):
            for number, kernel in enumerate(kernels):
                entering = inputs if number == 0 else channels
                leaving = channels * (expansion if number == len(kernels) - 1 else 1)
                # A bottleneck halves the map in its 3x3 convolution, so that its first 1x1 sees the larger one
                area = before**2 if (block, number, len(kernels)) == (0, 0, 3) else side**2
                macs += int(kernel) ** 2 * entering * leaving * area
            if block == 0 and inputs != channels * expansion:
                macs += inputs * channels * expansion * side**2
            inputs, before = channels * expansion, side
    return macs


@pytest.mark.parametrize(
    ("build", "macs", "parameters", "published"),
    [
        # Parameters as torchvision prints them; GMACs as the counter of the published tables prints them
        (ResNet18, convolutions("33", (2, 2, 2, 2), 1) + 512 * 1000, 11_689_512, "1.82"),
        (ResNet50, convolutions("131", (3, 4, 6, 3), 4) + 2048 * 1000, 25_557_032, "4.12"),
        (ResNet152, convolutions("131", (3, 8, 36, 3), 4) + 2048 * 1000, 60_192_808, "11.58"),
    ],
)
def test_depths_are_those_of_the_description(
    build: Callable[[], ResNet], macs: int, parameters: int, published: str
) -> None:
    with torch.device("meta"):
        network, image = build().eval(), torch.empty(1, 3, 224, 224)
        profile = count_flops(network, image, convention="paper")
        assert profile.flops == count_by_hooks(network, image)
    assert (profile.macs, profile.params) == (macs, parameters)
    assert f"{profile.flops / 1e9:.2f}" == published


@pytest.mark.parametrize(("classes", "parameters"), [(1000, 25_557_032), (None, 25_557_032 - 2049 * 1000)])
def test_parameters(classes: int | None, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in ResNet50(classes).parameters()) == parameters


@pytest.mark.parametrize("size", [(224, 224), (97, 33), (1, 1)])
def test_any_size_gives_logits_or_features(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        images = torch.empty(2, 3, *size)
        assert ResNet50(7)(images).shape == (2, 7)
        assert ResNet50(None)(images).shape == (2, 2048)


def test_odd_sizes_are_rounded_up_stage_by_stage() -> None:
    with torch.device("meta"):
        network = ResNet50()
        x = network.maxpool(network.conv1(torch.empty(1, 3, 97, 33)))  # 97 x 33 -> 49 x 17 -> 25 x 9
        shapes = [(x := stage(x)).shape[1:] for stage in network.children() if isinstance(stage, torch.nn.Sequential)]
    assert shapes == [(256, 25, 9), (512, 13, 5), (1024, 7, 3), (2048, 4, 2)]


def test_state_dict_has_the_names_and_shapes_of_torchvision() -> None:
    with torch.device("meta"):
        state = {name: tuple(tensor.shape) for name, tensor in ResNet50().state_dict().items()}
    known = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "bn1.num_batches_tracked": (),
        "layer1.0.conv1.weight": (64, 64, 1, 1),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.0.downsample.1.running_mean": (256,),
        "layer1.2.conv1.weight": (64, 256, 1, 1),
        "layer2.0.conv2.weight": (128, 128, 3, 3),
        "layer2.3.bn3.bias": (512,),
        "layer3.5.conv3.weight": (1024, 256, 1, 1),
        "layer4.0.downsample.0.weight": (2048, 1024, 1, 1),
        "layer4.2.bn2.weight": (512,),
        "fc.weight": (1000, 2048),
        "fc.bias": (1000,),
    }
    assert known.items() <= state.items()
    assert len(state) == 320  # 53 convolutions, 53 batch norms of five tensors, two tensors of the classifier
    assert not {"layer1.1.downsample.0.weight", "layer2.1.downsample.0.weight"} & state.keys()


def test_a_block_adds_its_input_to_the_residual() -> None:
    block = Bottleneck(256, 64, stride=1).eval()
    torch.nn.init.zeros_(block.bn3.weight)  # no residual is left (the bias starts at 0)
    x = torch.randn(2, 256, 5, 7)
    before = x.clone()
    assert torch.equal(block(x), before.clamp(min=0))
    assert torch.equal(x, before)  # ReLU in place spares the caller's tensor


@pytest.mark.parametrize("width", [0.125, 0.3])
def test_a_narrow_network_has_layers_of_that_part_of_the_channels(width: float) -> None:
    network = ResNet50(None, width=width).eval()
    assert network.features == 4 * round(512 * width)
    assert network.get_submodule("layer3.0.conv2").out_channels == round(256 * width)
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, network.features)
