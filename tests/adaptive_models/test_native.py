from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adaptive_models import attention, build_backbone, native
from adaptive_models.folding import Dense
from adaptive_models.native import layers

pytestmark = pytest.mark.skipif(native.operators() is None, reason="built without a compiler")

Results = tuple[Tensor, ...]


@pytest.fixture(autouse=True)
def one_seed() -> None:
    torch.manual_seed(0)


def gradients_of(make: Callable[..., Results], inputs: Results) -> Results:
    """Results of leaves, and the leaves' gradients of a loss in which every result weighs differently."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    results = make(*leaves)
    generator = torch.Generator().manual_seed(1)
    loss = sum((each * torch.randn(each.shape, generator=generator).to(each)).sum() for each in results)
    assert isinstance(loss, Tensor)
    return (*(each.detach() for each in results), *torch.autograd.grad(loss, leaves))


def close(found: Results, true: Results, rounding: float = 1e-6) -> bool:
    return all(
        (own.double() - other).norm() <= 2e-6 * other.norm() + rounding for own, other in zip(found, true, strict=True)
    )


@settings(deadline=None, max_examples=60)
@given(
    images=st.integers(1, 3),
    groups=st.integers(1, 3),
    shares=st.integers(1, 8),
    height=st.integers(1, 17),
    width=st.integers(1, 33),
    side=st.sampled_from([1, 3, 5, 7]),
)
def test_aggregation_is_that_in_double_precision(
    images: int, groups: int, shares: int, height: int, width: int, side: int
) -> None:
    value = torch.randn(images, groups * shares, height, width)
    weights = torch.randn(images, groups, side**2, height * width)

    def aggregate(value: Tensor, weights: Tensor) -> Results:
        return (attention.aggregate(value, weights, side),)

    assert native.suits_training(value.requires_grad_(), weights)
    assert close(gradients_of(aggregate, (value, weights)), gradients_of(aggregate, (value.double(), weights.double())))


@settings(deadline=None, max_examples=40)
@given(
    images=st.integers(1, 3),
    relation=st.integers(1, 5),
    height=st.integers(1, 12),
    width=st.integers(1, 20),
    side=st.sampled_from([3, 7]),
)
def test_pairwise_attention_is_that_in_double_precision(
    images: int, relation: int, height: int, width: int, side: int
) -> None:
    position, weigh = nn.Conv2d(2, 2, 1), nn.Conv2d(relation + 2, 2, 1)
    maps = tuple(torch.randn(images, channels, height, width) for channels in (relation, relation, 16))
    parameters = tuple(p.detach() for p in (position.weight, weigh.weight))

    def attend(query: Tensor, key: Tensor, value: Tensor, places: Tensor, scores: Tensor) -> Results:
        def convolved(weight: Tensor) -> nn.Module:
            convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
            del convolution.weight
            convolution.weight = weight  # type: ignore[assignment]  # not a leaf, so that its gradient is asked for
            return convolution

        return attention.pairwise_attention(query, key, value, convolved(places), convolved(scores), side)

    found = gradients_of(attend, (*maps, *parameters))
    true = gradients_of(attend, tuple(each.double() for each in (*maps, *parameters)))
    assert close(found, true, rounding=1e-4)  # of sums of thousands of terms that cancel


def test_a_network_trains_alike_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = build_backbone("san-mini").train(), torch.randn(2, 3, 64, 64)
    by_native = gradients_of(lambda x: (network(x),), (images,))
    monkeypatch.setattr(native, "operators", lambda: None)
    plain = gradients_of(lambda x: (network(x),), (images,))
    assert not torch.equal(by_native[0], plain[0]) or not torch.equal(by_native[1], plain[1])  # two ways indeed
    for own, other in zip(by_native, plain, strict=True):
        assert (own - other).norm() <= 1e-4 * other.norm()


def test_strange_layouts_are_laid_out_first() -> None:
    value = torch.randn(2, 16, 6, 5).to(memory_format=torch.channels_last).requires_grad_()
    weights = torch.randn(2, 30, 9, 2).permute(0, 3, 2, 1)
    assert close((attention.aggregate(value, weights, 3),), (attention.aggregate(value.double(), weights, 3),))


@pytest.mark.parametrize("case", ["inference", "double", "half", "autocast", "meta", "frozen"])
def test_what_it_cannot_do_is_left_to_the_plain_version(case: str) -> None:
    maps = torch.randn(1, 8, 4, 4, requires_grad=case != "frozen")
    if case in ("double", "half"):
        maps = maps.to({"double": torch.float64, "half": torch.float16}[case])
    if case == "meta":
        maps = maps.to("meta")
    with torch.set_grad_enabled(case != "inference"), torch.autocast("cpu", enabled=case == "autocast"):
        assert not native.suits_training(maps, maps)


def test_second_derivatives_are_refused() -> None:
    value, weights = torch.randn(1, 8, 4, 4, requires_grad=True), torch.randn(1, 1, 9, 16)
    (gradient,) = torch.autograd.grad(attention.aggregate(value, weights, 3).pow(2).sum(), value, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def with_other_threads(make: Callable[[], Tensor]) -> Tensor:
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        return make()
    finally:
        torch.set_num_threads(threads)


def run(step: Callable[..., layers.Step], x: Tensor, *weights: Any) -> Tensor:
    return layers.Chain([step(tuple(x.shape[2:]), *weights)])(x)[0]


def norm_of(channels: int) -> tuple[Tensor, Tensor]:
    """Scale, of either sign, and shift."""
    return torch.randn(channels), torch.randn(channels)


@settings(deadline=None, max_examples=80)
@given(
    images=st.integers(0, 3),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    depth=st.integers(1, 60) | st.integers(200, 600),
    width=st.integers(1, 200),
)
def test_convolutions(images: int, size: tuple[int, int], depth: int, width: int) -> None:
    x, weights = torch.randn(images, depth, *size), Dense(torch.randn(depth, width))
    true = torch.einsum("nchw,cd->ndhw", x.double(), weights.plain.double())
    found = run(layers.convolve, x, weights)
    torch.testing.assert_close(found.double(), true, rtol=1e-5, atol=1e-5 * depth**0.5)
    assert with_other_threads(lambda: run(layers.convolve, x, weights)).equal(found)


@settings(deadline=None, max_examples=80)
@given(
    images=st.integers(0, 3),
    size=st.tuples(st.integers(2, 15), st.integers(2, 15)),
    depth=st.integers(1, 300),
    width=st.integers(1, 90),
)
def test_ways_to_the_next_stage(images: int, size: tuple[int, int], depth: int, width: int) -> None:
    x, (scale, shift), weights = torch.randn(images, depth, *size), norm_of(depth), Dense(torch.randn(depth, width))
    normed = x.double() * scale.double()[:, None, None] + shift.double()[:, None, None]
    true = torch.einsum("nchw,cd->ndhw", F.max_pool2d(normed.relu(), 2), weights.plain.double())
    found = run(layers.next_stage, x, scale, shift, weights)
    torch.testing.assert_close(found.double(), true, rtol=1e-5, atol=1e-5 * depth**0.5)
    assert with_other_threads(lambda: run(layers.next_stage, x, scale, shift, weights)).equal(found)


@settings(deadline=None, max_examples=40)
@given(
    images=st.integers(0, 3),
    size=st.tuples(st.integers(2, 15), st.integers(2, 15)),
    channels=st.integers(1, 5),
    outputs=st.integers(1, 70),
)
def test_first_layers(images: int, size: tuple[int, int], channels: int, outputs: int) -> None:
    x, weights, bias = torch.randn(images, channels, *size), torch.randn(channels, outputs), torch.randn(outputs)
    made = torch.einsum("nchw,cd->ndhw", x.double(), weights.double()) + bias.double()[:, None, None]
    filling = 0, -outputs % native.lanes()
    found = run(layers.stem, x, F.pad(weights, filling), F.pad(bias, filling), outputs)
    torch.testing.assert_close(found.double(), F.max_pool2d(made.relu(), 2), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(images=st.integers(0, 3), channels=st.integers(1, 70))
def test_norms(images: int, channels: int) -> None:
    x, (scale, shift) = torch.randn(images, channels, 5, 7), norm_of(channels)
    found = run(layers.rectify, x, scale, shift)
    torch.testing.assert_close(found, (x * scale[:, None, None] + shift[:, None, None]).relu())


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("channels", [3, 40])  # beyond whole vectors, and both
def test_layers_keep_what_is_not_a_number(corner: tuple[int, int], channels: int) -> None:
    x = torch.ones(1, channels, 4, 4)
    x[0, :, 2 + corner[0], corner[1]] = torch.nan
    dense, lanes = Dense(torch.ones(channels, 20)), native.lanes()
    one, none = torch.ones(channels), torch.zeros(channels)
    weights, bias = torch.ones(channels, -(-20 // lanes) * lanes), torch.zeros(-(-20 // lanes) * lanes)
    for found in (run(layers.next_stage, x, one, none, dense), run(layers.stem, x, weights, bias, 20)):
        assert found[0, :, 1, 0].isnan().all()
        assert found.isnan().sum() == 20
    for found in (run(layers.convolve, x, dense), run(layers.rectify, x, one, none)):
        assert found.isnan().sum() == found.shape[1]
