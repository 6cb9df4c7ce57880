from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaptive_models import build_backbone
from adaptive_models.fused import steps
from adaptive_models.san import SAN
from adaptive_models.watching import Watch


@pytest.fixture
def network() -> SAN:
    torch.manual_seed(0)
    made = build_backbone("san-mini").eval()
    assert isinstance(made, SAN)
    return made


@contextmanager
def watched(network: SAN) -> Iterator[list[tuple[str, int]]]:
    """Names of the steps that run while it lasts, each with the number of its modules."""
    seen: list[tuple[str, int]] = []

    def call(name: str, modules: list[nn.Module], function: Callable[..., Any], *args: Any) -> Any:
        seen.append((name, len(modules)))
        return function(*args)

    with Watch(network, call).watching():
        yield seen


def everything(network: SAN, x: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        return network(x), *network.prescan(x), network.resume(network.prescan(x)[0])


def test_a_fused_network_that_is_watched_computes_the_same_bits(network: SAN) -> None:
    x = torch.randn(2, 3, 64, 48)
    expected, before = everything(network, x), dict(vars(network))
    with watched(network) as seen:
        made = everything(network, x)
    assert vars(network) == before
    assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))
    assert [name for name, _ in seen][:6] == [
        *("conv_in, bn_in, relu, pool", "conv0", "bn0, relu, pool, conv1", "bn1, relu, pool, conv2"),
        *("layer2.0", "bn2, relu, pool, conv3"),
    ]
    assert dict(seen)["conv_in, bn_in, relu, pool"] == 4
    assert dict(seen)["bn0, relu, pool, conv1"] == 4
    assert ("layer2.0", 1) in seen


def test_what_does_not_run_fused_is_left_alone(network: SAN) -> None:
    x = torch.randn(1, 3, 64, 64)
    network.layer3.register_forward_hook(lambda *_: None)  # of which blocks know nothing
    network.layer2[0].register_forward_hook(lambda *_: None)
    with watched(network) as seen:
        everything(network, x)
        network(x)  # with gradients
    names = {name for name, _ in seen}
    assert "layer3.0" in names
    assert "layer2.0" not in names


def test_what_ran_fused_is_taken_in_the_same_steps_where_it_cannot(network: SAN) -> None:
    x = torch.randn(1, 3, 64, 64)
    with watched(network) as seen:
        everything(network, x)
        fused = seen.copy()
        seen.clear()
        expected = network(x)  # with gradients: layer by layer
        assert seen == fused[: len(seen)]
        assert expected.requires_grad


def test_steps_are_those_in_which_layers_run_fused() -> None:
    names = ("conv_in", "bn_in", "relu", "pool", "conv0", "layer0.0", "bn0", "relu", "pool", "conv1")
    assert steps(names) == [names[:4], ("conv0",), ("layer0.0",), ("bn0", "relu", "pool", "conv1")]
    assert steps(("layer3.1", "bn3", "relu")) == [("layer3.1",), ("bn3", "relu")]
