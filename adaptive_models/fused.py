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
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from adaptive_models import native, strided
from adaptive_models.folding import (
    changes,
    fold_bottleneck,
    fold_first,
    fold_norm,
    foldable,
    folded,
    transposed,
    trusts,
)
from adaptive_models.native import layers
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
    if trusts(network, tuple(names), x):
        return True
    found = list(_layers(network, names))
    blocks = [layer for name, layer in zip(names, found, strict=True) if "." in name]
    return all(_fits(block, x.device) for block in blocks) and foldable(network, tuple(names), found, x)


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
            x = _triton().bottleneck(layer, x)[0] if hasattr(layer, "sam") else layer(x)
        return x
    if native.operators() is not None:
        return _chain(network, tuple(names), x)(x)[0]
    for step in steps(tuple(names)):
        kind, weights = _kind_and_weights(network, step)
        x = getattr(strided, kind)(x, *weights)
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


def attend(block: Bottleneck, x: Tensor) -> tuple[Tensor, Tensor]:
    """Run a bottleneck, and sum up its attention.

    Args:
        block: for which `suits` was asked.
        x: (N, C, H, W).

    Returns:
        The same shape, and the cumulative global attention (N, C/32, H, W).
    """
    if x.is_cuda:
        made, attention = _triton().bottleneck(block, x, attention=True)
    elif native.operators() is not None:
        made, attention = _chain(block, ("",), x)(x, attention=True)
    else:
        made, attention = strided.attend(x, folded(block, fold_bottleneck))
    assert attention is not None
    return made, attention


def _triton() -> ModuleType:
    from adaptive_models import triton_attention

    return triton_attention


def _kind_and_weights(owner: nn.Module, step: tuple[str, ...]) -> tuple[str, tuple[Any, ...]]:
    """What layers that are one of `steps` are called in `native.layers` and in `strided`, and what these take."""
    first, *others = _layers(owner, step)
    if step[0] == "conv_in":
        return "stem", (*folded(owner, fold_first), first.out_channels)
    if isinstance(first, nn.Conv2d):
        return "convolve", (folded(first, transposed),)
    if not isinstance(first, nn.BatchNorm2d):
        return "bottleneck", (folded(first, fold_bottleneck),)
    if len(others) == 1:
        return "rectify", folded(first, fold_norm)
    return "next_stage", (*folded(first, fold_norm), folded(others[-1], transposed))


_CHAINS: WeakKeyDictionary[nn.Module, tuple[object, dict[object, layers.Chain]]] = WeakKeyDictionary()
"""Of networks and blocks, for which weights they were made, and chains by names of layers and size of maps."""


def _chain(owner: nn.Module, names: tuple[str, ...], x: Tensor) -> layers.Chain:
    """Layers of a network, or a block itself, of which the name is empty, for maps of the size of x."""
    weights = changes(), native.operators()
    known = _CHAINS.get(owner)
    if known is None or known[0] != weights:
        known = _CHAINS[owner] = weights, {}
    size = x.shape[2], x.shape[3]
    found = known[1].get((names, size))
    if found is None:
        found = known[1][names, size] = layers.Chain(list(_made(owner, names, size)))
    return found


def _made(owner: nn.Module, names: tuple[str, ...], size: layers.Size) -> Iterator[layers.Step]:
    for step in steps(names):
        kind, weights = _kind_and_weights(owner, step)
        made = getattr(layers, kind)(size, *weights)
        size = made.size
        yield made


def _layers(network: nn.Module, names: Sequence[str]) -> Iterator[Any]:
    """As `network.get_submodule` for each name, without its checks, as it is asked at every call."""
    for name in names:
        layer: Any = network
        for part in name.split(".") if name else ():
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
    """Whether there is an operator for a block: of patchwise attention on a CPU, if its groups fill vectors."""
    return device.type != "cpu" or block.sam.kind == "pairwise" or layers.fits(block.conv.out_channels // 32)
