"""Operations of the backbones in the `paper` convention: published integers, and a hook counter written here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from adaptive_models import build_backbone
from bench import count_flops

NETWORKS = [f"{name}{kind}" for name in ("san10", "san15", "san19") for kind in ("", "-patchwise")]


def count_by_hooks(network: nn.Module, x: Tensor) -> int:
    """By the rules of the published tables, from the shapes that leaf modules see."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            counts.append(output.numel() * (module.weight[0].numel() + (module.bias is not None)))
        else:
            per_element = {nn.BatchNorm2d: 2, nn.ReLU: 1, nn.MaxPool2d: 1, nn.AdaptiveAvgPool2d: 1}
            counts.append(inputs[0].numel() * per_element[type(module)])

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    network(x)
    return sum(counts)


@pytest.mark.parametrize("size", [32, 64, 112, 224])
@pytest.mark.parametrize("name", NETWORKS)
def test_counter_agrees_with_hooks(name: str, size: int) -> None:
    with torch.device("meta"):
        network = build_backbone(name).eval()
        x = torch.empty(1, 3, size, size)
    profile = count_flops(network, x, convention="paper")
    assert profile.flops == count_by_hooks(network, x)
    assert profile.unknown == []
    assert profile.params == sum(parameter.numel() for parameter in network.parameters())


# Counted once on the published network, its CuPy kernels replaced by plain ones, which its counter does not see; where
# its reflection fails, patchwise at 32 to 112, with reflection one pixel at a time.
PUBLISHED = {
    "san10": (43_046_828, 172_187_312, 507_839_516, 2_109_294_572),
    "san10-patchwise": (37_327_104, 149_308_416, 439_804_160, 1_829_028_096),
    "san15": (60_220_424, 240_881_696, 705_574_308, 2_950_800_776),
    "san15-patchwise": (51_555_328, 206_221_312, 603_489_408, 2_526_211_072),
    "san19": (76_505_700, 306_022_800, 892_427_180, 3_748_779_300),
    "san19-patchwise": (64_977_664, 259_910_656, 757_302_528, 3_183_905_536),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_those_of_the_published_network(name: str) -> None:
    with torch.device("meta"):
        network = build_backbone(name).eval()
        images = [torch.empty(1, 3, size, size) for size in (32, 64, 112, 224)]
    assert tuple(count_flops(network, x, convention="paper").flops for x in images) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("channels", "size", "flops"),
    [
        (3, 224, 3_748_779_300),
        (3, 112, 892_427_180),
        (3, 64, 306_022_800),
        (3, 32, 76_505_700),
        (1, 256, 4_887_976_192),
    ],
)
def test_published_counts_of_san19(channels: int, size: int, flops: int) -> None:
    with torch.device("meta"):
        network = build_backbone("san19", channels).eval()
        x = torch.empty(1, channels, size, size)
    assert count_flops(network, x, convention="paper").flops == flops


def test_published_count_of_the_first_half() -> None:
    with torch.device("meta"):
        network = build_backbone("san19").eval()
        x = torch.empty(1, 3, 112, 112)
    first = count_flops(network.prescan, x, convention="paper").flops
    assert first == 526_042_636
    state, _ = network.prescan(x)
    assert first + count_flops(network.resume, state, convention="paper").flops == 892_427_180


def test_what_the_published_count_does_not_see() -> None:
    # Known of SAN19 at 224: with subtraction (1 per element) and aggregation (k x k per output element) it would be
    # 3 842 104 602. The aggregation is among the MACs of the exact convention.
    with torch.device("meta"):
        network = build_backbone("san19").eval()
        x = torch.empty(1, 3, 224, 224)
    macs = count_flops(network, x).macs
    side, subtraction, aggregation = 224, 0, 0
    for width, kernel, blocks in zip((64, 256, 512, 1024, 2048), (3, 7, 7, 7, 7), (3, 3, 4, 6, 3), strict=True):
        side //= 2
        subtraction += blocks * (width // 16 + 2) * kernel**2 * side**2
        aggregation += blocks * width // 4 * kernel**2 * side**2
    assert 3_748_779_300 + subtraction + aggregation == 3_842_104_602
    convolutions = 0

    def count(module: nn.Conv2d, _: object, output: Tensor) -> None:
        nonlocal convolutions
        convolutions += output.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    network(x)
    assert macs == convolutions + aggregation
