"""One assertion for all ways to run a model: a count must not depend on any of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from bench import Profile, count_flops


class ReadsValues(nn.Module):
    """Makes a model's control flow depend on values, so that it has to run on data."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call
        self.register_buffer("switch", torch.ones(1, 1))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        assert self.switch[0, 0].item()
        return self.call(*args, **kwargs)


def ways(call: Callable[..., Any], args: Any, kwargs: Any) -> Iterator[tuple[str, Profile]]:
    """The profile of a call in every way that must give the same count."""
    yield "plain", count_flops(call, *args, **kwargs)
    with torch.no_grad():
        yield "no_grad", count_flops(call, *args, **kwargs)
    with torch.inference_mode():
        yield "inference_mode", count_flops(call, *args, **kwargs)
    on_data = count_flops(ReadsValues(call), *args, **kwargs)
    assert on_data.device == "cpu"
    yield "data", on_data
    inputs = tree_map_only(Tensor, as_leaf, (args, kwargs))
    yield "inputs with gradients", count_flops(call, *inputs[0], **inputs[1])
    if isinstance(call, nn.Module):
        yield "frozen", count_flops(copy.deepcopy(call).requires_grad_(False), *args, **kwargs)
        halves = tree_map_only(Tensor, lambda x: x.bfloat16() if x.is_floating_point() else x, (args, kwargs))
        yield "bfloat16", count_flops(copy.deepcopy(call).bfloat16(), *halves[0], **halves[1])
        metas = tree_map_only(Tensor, lambda x: x.to("meta") if x.is_floating_point() else x, (args, kwargs))
        yield "meta", count_flops(copy.deepcopy(call).to("meta"), *metas[0], **metas[1])


def as_leaf(x: Tensor) -> Tensor:
    """A copy that requires gradients if it can."""
    return x.detach().clone().requires_grad_(x.is_floating_point() or x.is_complex())


def assert_counts(call: Callable[..., Any], *args: Any, macs: int, flops: int, **kwargs: Any) -> None:
    """The call costs so much in the exact convention in every way, and nothing in it is unknown."""
    for way, profile in ways(call, args, kwargs):
        assert (profile.macs, profile.flops) == (macs, flops), f"{way}: {profile.operators()}"
        assert profile.unknown == [], way
