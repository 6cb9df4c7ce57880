"""Local attention and what is beside it, compiled for this processor when the package is built, if a compiler is there.

`footprints.cpp` opens footprints without copies, for training. For inference, `layers.cpp` is the layers of SAN that
follow each other, with the products of `products.h`, and attention by `pairwise.cpp`, by `across.cpp` of few groups,
and by `patchwise.cpp`; `hallucinator.cpp` the hallucinator, `similarity.cpp` the SSIM of small maps, and
`recurrent.cpp` single steps of GRUs, and of samplers and classifiers.
Where they cannot run, `adaptive_models.strided`, the plain versions of
`adaptive_models.attention`, or torch's own layers, do.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from adaptive_models.unwatched import unwatched

BUILDS = {"AVX512": ("v4", "v3", "base"), "AVX2": ("v3", "base")}
"""Which builds a processor can run, the fastest first, by what torch says of it."""


@cache
def build() -> tuple[str, str] | None:
    """Name and file of the fastest build for this processor; None if the package was built without a compiler."""
    for name in BUILDS.get(torch.backends.cpu.get_cpu_capability(), ("base",)):
        found = find_spec(f"{__name__}.kernels_{name}")
        if found and found.origin:
            return name, found.origin
    return None


@cache
def operators() -> ctypes.CDLL | None:
    """The operators of that build, or None."""
    found = build()
    return ctypes.CDLL(found[1]) if found else None


def lanes() -> int:
    """Floats in a vector of that build, to which weights of inference are filled up; 1 without any."""
    found = operators()
    return found.foveabench_lanes() if found else 1


def panel() -> int:
    """Columns of the panels in which that build reads the weights of products of few rows; 1 without any."""
    found = operators()
    return found.foveabench_panel() if found else 1


def suits_inference(*tensors: Any) -> bool:
    """Whether these are tensors for the operators of inference: float32 on a CPU, in inference that nobody follows."""
    return all(map(_is_plain, tensors)) and unwatched(tensors[0]) and operators() is not None


def suits_training(*maps: Tensor) -> bool:
    """Whether these are tensors for `Subtract` and `Aggregate`: float32 on a CPU, of which some need gradients.

    What is compiled or autocast goes by the plain versions, and so does inference, which keeps nothing.
    """
    return (
        torch.is_grad_enabled()
        and any(each.requires_grad for each in maps)
        and all(map(_is_plain, maps))
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and operators() is not None
    )


def _is_plain(tensor: Any) -> bool:
    return (
        type(tensor) in (Tensor, torch.nn.Parameter) and tensor.dtype is torch.float32 and tensor.device.type == "cpu"
    )


def _call(name: str, *arguments: Tensor | int) -> None:
    pointers = [
        ctypes.c_void_p(each.data_ptr()) if isinstance(each, Tensor) else ctypes.c_int64(each) for each in arguments
    ]
    getattr(operators(), f"foveabench_{name}")(*pointers)


class Subtract(torch.autograd.Function):
    """Query (N, D, H, W) less the keys of its footprint, padded (N, D, H + k - 1, W + k - 1): (N, D, k*k, H*W)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor) -> Tensor:
        """Subtract."""
        query, key = query.contiguous(), key.contiguous()
        images, channels, height, width = query.shape
        side = key.shape[2] - height + 1
        ctx.sides = images * channels, height, width, side
        ctx.shapes = query.shape, key.shape
        out = query.new_empty(images, channels, side**2, height * width)
        _call("subtract", query, key, out, *ctx.sides)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of query and padded key."""
        grad_query, grad_key = map(grad.new_empty, ctx.shapes)
        _call("subtract_backward", grad.contiguous(), grad_query, grad_key, *ctx.sides)
        return grad_query, grad_key


class Aggregate(torch.autograd.Function):
    """Weighted sum over the footprint: padded values (N, C, H + k - 1, W + k - 1) and weights (N, G, k*k, H*W)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, weights: Tensor, size: tuple[int, int]) -> Tensor:
        """Sum up."""
        value, weights = value.contiguous(), weights.contiguous()
        images, channels = value.shape[:2]
        groups = weights.shape[1]
        ctx.sides = images, groups, channels // groups, *size, value.shape[2] - size[0] + 1
        ctx.save_for_backward(value, weights)
        out = value.new_empty(images, channels, *size)
        _call("aggregate", value, weights, out, *ctx.sides)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of padded values and weights."""
        value, weights = ctx.saved_tensors
        grad_value, grad_weights = torch.empty_like(value), torch.empty_like(weights)
        _call("aggregate_backward", grad.contiguous(), value, weights, grad_value, grad_weights, *ctx.sides)
        return grad_value, grad_weights, None
