"""Faster inference of SAN, with no footprint-sized tensor in attention.

It computes what the layers of `adaptive_models.san` define, in another order; where it cannot, these run. On a CPU,
batch norms are folded into convolutions, and layers that follow each other are one compiled operator, or, where none is
there, plain torch with attention on strided views. On CUDA, with FOVEABENCH_TRITON=1, attention is a Triton kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from os import environ
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adaptive_models import native, strided
from adaptive_models.folding import fold_bottleneck, fold_first, fold_norm, foldable, folded, transposed
from adaptive_models.native import inference
from adaptive_models.unwatched import unwatched

if TYPE_CHECKING:
    from adaptive_models.san import SAN, Bottleneck


_DTYPES = {"cpu": (torch.float32,), "cuda": (torch.float32, torch.float16, torch.bfloat16)}
"""Types of maps, and of weights, that operators take, by device."""


def suits(network: SAN, names: Sequence[str], x: Tensor) -> bool:
    """Whether layers of a network can run here: inference in a type of `_DTYPES`, with nobody watching single layers.

    What is counted, traced, compiled or hooked goes layer by layer.
    """
    if not (
        unwatched(x)
        and x.dtype in _DTYPES.get(x.device.type, ())
        and (x.device.type == "cpu" or _runs_triton(x.device))
    ):
        return False
    layers = list(_layers(network, names))
    blocks = [layer for name, layer in zip(names, layers, strict=True) if "." in name]
    return foldable(network, tuple(names), layers, x) and all(_fits(block, x.device) for block in blocks)


def run(network: SAN, names: Sequence[str], x: Tensor) -> Tensor:
    """Run layers of a network, in the order of their names.

    Args:
        network: for which `suits` was asked.
        names: as in the network's order; beginning with its first, a block, or what follows a block.
        x: (N, C, H, W).

    Returns:
        The same as layer by layer; on a CPU, with channels last in memory.
    """
    if x.is_cuda:
        for layer in _layers(network, names):
            x = bottleneck(layer, x)[0] if hasattr(layer, "sam") else layer(x)
        return x
    for step in steps(tuple(names)):
        x = _step(network, step, x)
    return x


@lru_cache(maxsize=64)
def steps(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Names of layers of a SAN, grouped as they run together on a CPU.

    These are the four layers before the first stage; the first convolution alone; a block; and a norm and the ReLU
    after it, with the max-pool and the convolution before the next stage.
    """
    groups: list[tuple[str, ...]] = []
    for name in names:
        within = groups and groups[-1][0].startswith("bn") and name.startswith("conv")
        if name in ("bn_in", "relu", "pool") or within:
            groups[-1] += (name,)
        else:
            groups.append((name,))
    return groups


def _step(network: SAN, step: tuple[str, ...], x: Tensor) -> Tensor:
    """Run layers that are one of `steps`."""
    engine = _engine()
    first, *others = _layers(network, step)
    if step[0] == "conv_in":
        return engine.stem(x, *folded(network, fold_first), first.out_channels)
    if isinstance(first, nn.Conv2d):
        return engine.convolve(x, folded(first, transposed))
    if not isinstance(first, nn.BatchNorm2d):
        return bottleneck(first, x)[0]
    if len(others) == 1:
        return engine.rectify(x, *folded(first, fold_norm))
    return engine.next_stage(x, *folded(first, fold_norm), folded(others[-1], transposed))


def bottleneck(block: Bottleneck, x: Tensor, attention: bool = False) -> tuple[Tensor, Tensor | None]:
    """Run a bottleneck.

    Args:
        block: for which `suits` was asked.
        x: (N, C, H, W).
        attention: whether to sum up the attention, too.

    Returns:
        The same shape, and the cumulative global attention (N, C/32, H, W), or None.
    """
    if x.is_cuda:
        from adaptive_models import triton_attention

        return triton_attention.bottleneck(block, x, attention)
    return _engine().bottleneck(folded(block, fold_bottleneck), x, attention)


def _engine() -> ModuleType:
    """What runs steps on a CPU."""
    return strided if native.operators() is None else inference


def _layers(network: SAN, names: Sequence[str]) -> Iterator[Any]:
    """As `network.get_submodule` for each name, without its checks, as it is asked at every call."""
    for name in names:
        layer: Any = network
        for part in name.split("."):
            layer = layer._modules[part]
        yield layer


@cache
def _runs_triton(device: torch.device) -> bool:
    """Whether Triton is asked for, installed, and compiles for this device.

    It has to be asked for until its kernels were held against the plain ones on a GPU, not in its interpreter alone.
    """
    return (
        device.type == "cuda"
        and environ.get("FOVEABENCH_TRITON") == "1"
        and find_spec("triton") is not None
        and (torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0))
    )


def _fits(block: Bottleneck, device: torch.device) -> bool:
    """Whether there is an operator for a block: on a CPU, if its groups fill vectors."""
    return device.type != "cpu" or inference.fits(block.conv.out_channels // 32)
