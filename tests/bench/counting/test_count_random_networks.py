"""Random networks against counts that share no code with ours: sums of ones, and torch's own counter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, ones, randn
from torch.utils.flop_counter import FlopCounterMode

from bench import count_flops

CONVOLUTIONS = {1: (F.conv1d, F.conv_transpose1d), 2: (F.conv2d, F.conv_transpose2d), 3: (F.conv3d, F.conv_transpose3d)}
quick = settings(max_examples=60, deadline=None)


@quick
@given(data=st.data(), dims=st.integers(1, 3), groups=st.integers(1, 3), transposed=st.booleans())
def test_convolutions_multiply_as_often_as_ones_add_up(
    data: st.DataObject, dims: int, groups: int, transposed: bool
) -> None:
    # Where all numbers are one, every multiply-accumulate adds one to the outputs. Padding is to count as data, so it
    # is ones here; a transposed convolution meets all its inputs, also where its padding then cuts the output.
    def per_side(low: int, high: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(dims))

    kernel, stride, dilation, padding = per_side(1, 3), per_side(1, 2), per_side(1, 2), per_side(0, 1)
    sides = [data.draw(st.integers(d * (k - 1) + 1, 6)) for k, d in zip(kernel, dilation, strict=True)]
    x = ones(2, 2 * groups, *sides)
    plain, transpose = CONVOLUTIONS[dims]
    if transposed:
        weight = ones(2 * groups, 3, *kernel)
        products = transpose(x, weight, stride=stride, groups=groups, dilation=dilation).sum()

        def call(x: Tensor) -> Tensor:
            return transpose(x, weight, stride=stride, padding=padding, groups=groups, dilation=dilation)
    else:
        weight = ones(3 * groups, 2, *kernel)
        padded = F.pad(x, [p for side in reversed(padding) for p in (side, side)], value=1)
        products = plain(padded, weight, stride=stride, groups=groups, dilation=dilation).sum()

        def call(x: Tensor) -> Tensor:
            return plain(x, weight, stride=stride, padding=padding, groups=groups, dilation=dilation)

    try:
        call(x)
    except RuntimeError:  # padding that leaves nothing of a transposed convolution
        return
    profile = count_flops(call, x)
    assert (profile.macs, profile.flops) == (products, 2 * products)


@quick
@given(data=st.data())
def test_einsum_multiplies_as_often_as_ones_add_up(data: st.DataObject) -> None:
    # One contracted, one kept on either side, and two of the batch; to contract a side of one is no sum.
    sizes = {letter: data.draw(st.integers(2 if letter == "j" else 1, 4)) for letter in "ijkab"}
    left = "".join(data.draw(st.permutations("ijab")))
    right = "".join(data.draw(st.permutations("jkab")))
    out = "".join(data.draw(st.permutations("ikab")))
    operands = [ones([sizes[letter] for letter in term]) for term in (left, right)]

    def call(a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum(f"{left},{right}->{out}", a, b)

    assert count_flops(call, *operands).macs == call(*operands).sum()


@quick
@given(data=st.data())
def test_matmul_multiplies_as_often_as_ones_add_up(data: st.DataObject) -> None:
    m, k, n = (data.draw(st.integers(1, 5)) for _ in range(3))
    batch = [data.draw(st.integers(1, 3)) for _ in range(data.draw(st.integers(0, 2)))]
    shape = [data.draw(st.sampled_from([1, size])) for size in batch]
    a, b = ones(*batch, m, k), ones(*shape, k, n)
    if data.draw(st.booleans()):
        a, b = b.mT, a.mT
    assert count_flops(torch.matmul, a, b).macs == (a @ b).sum()


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    """Convolutions, norms, activations and pools, then a head of linear layers."""
    channels, layers = 4, []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["convolution", "depthwise", "transposed", "norm", "activation", "pool"]))
        if kind == "norm":
            layers.append(draw(st.sampled_from([nn.BatchNorm2d(channels), nn.GroupNorm(2, channels)])))
        elif kind == "activation":
            layers.append(draw(st.sampled_from([nn.ReLU(inplace=True), nn.GELU(), nn.SiLU(), nn.PReLU()])))
        elif kind == "pool":
            layers.append(draw(st.sampled_from([nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(3, 1, 1), nn.Dropout()])))
        else:
            width = channels if kind == "depthwise" else 2 * draw(st.integers(1, 4))
            groups = channels if kind == "depthwise" else draw(st.sampled_from([1, 2]))
            layer = nn.ConvTranspose2d if kind == "transposed" else nn.Conv2d
            stride, bias = draw(st.integers(1, 2)), draw(st.booleans())
            layers.append(layer(channels, width, 3, stride, 1, groups=groups, bias=bias))
            channels = width
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 6), nn.LayerNorm(6), nn.Linear(6, 3)]
    return nn.Sequential(*layers)


@quick
@given(network=networks(), training=st.booleans())
def test_networks_of_linear_maps_agree_with_torchs_own_counter(network: nn.Module, training: bool) -> None:
    x = randn(2, 4, 9, 9)
    network.train(training)
    profile = count_flops(network, x)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    assert profile.macs == counter.get_total_flops() / 2
    assert profile.params == sum(p.numel() for p in network.parameters())
    assert profile.unknown == []
    assert sum(row.macs for row in profile.rows) == profile.macs


VGG16 = [64, 64, "pool", 128, 128, "pool", *[256] * 3, "pool", *[512] * 3, "pool", *[512] * 3, "pool"]


def test_vgg16_has_its_well_known_numbers() -> None:
    layers: list[nn.Module] = []
    channels = 3
    with torch.device("meta"):
        for width in VGG16:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        head = [
            nn.Linear(25088, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, 1000),
        ]
        profile = count_flops(nn.Sequential(*layers, nn.Flatten(), *head).eval(), randn(1, 3, 224, 224))
    assert (profile.macs, profile.params) == (15_470_264_320, 138_357_544)
    maps = 64 * 224**2 * 2 + 128 * 112**2 * 2 + 256 * 56**2 * 3 + 512 * 28**2 * 3 + 512 * 14**2 * 3
    assert profile.activations == maps + 4096 + 4096 + 1000


@pytest.mark.parametrize(("layers", "width", "heads", "tokens"), [(2, 16, 4, 7), (1, 32, 2, 5)])
def test_a_vision_transformer_by_its_formula(layers: int, width: int, heads: int, tokens: int) -> None:
    layer = nn.TransformerEncoderLayer(width, heads, 4 * width, batch_first=True, norm_first=True, activation="gelu")
    model = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()
    # per layer and token: 4 projections and a feed-forward of 8 widths squared; per pair of tokens two products
    macs = layers * (12 * width**2 * tokens + 2 * width * tokens**2)
    assert count_flops(model, randn(3, tokens, width)).macs == 3 * macs
