"""Faster inference of SAN, with no footprint-sized tensor in attention.

It computes what the layers of `adaptive_models.san` define, in another order; where it cannot, these run. On a CPU,
batch norms are folded into convolutions, and attention is one compiled operator, or, where none is there, plain torch
on strided views. On CUDA, with FOVEABENCH_TRITON=1, attention is a Triton kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from os import environ
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adaptive_models import native, strided
from adaptive_models.folding import Dense, fold_bottleneck, fold_first, fold_norm, foldable, folded, transposed
from adaptive_models.maps import Maps
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
    return (
        unwatched(x)
        and x.dtype in _DTYPES.get(x.device.type, ())
        and (x.device.type == "cpu" or _runs_triton(x.device))
        and all(foldable(layer, x) and _fits(layer, x.device) for layer in _layers(network, names))
    )


def run(network: SAN, names: Sequence[str], x: Tensor) -> Tensor:
    """Run layers of a network, in the order of their names; ReLU is part of the norm that it follows.

    Args:
        network: for which `suits` was asked.
        names: as in the network's order; all four layers before the first stage, or none.
        x: (N, C, H, W).

    Returns:
        The same as layer by layer; on a CPU, with channels last in memory.
    """
    if x.is_cuda:
        for layer in _layers(network, names):
            x = bottleneck(layer, x)[0] if hasattr(layer, "sam") else layer(x)
        return x
    if names[0] == "conv_in":
        x, names = network.pool(_linear(x, *folded(network, fold_first))).relu_(), names[4:]
    for layer in _layers(network, names):
        if isinstance(layer, nn.Conv2d):
            x = _linear(x, folded(layer, transposed))
        elif isinstance(layer, nn.BatchNorm2d):
            x = _rectify(x, *folded(layer, fold_norm))
        elif isinstance(layer, nn.MaxPool2d):
            x = layer(x)
        elif not isinstance(layer, nn.ReLU):
            x, _ = bottleneck(layer, x)
    return x


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
    images, channels, height, width = x.shape
    weights = folded(block, fold_bottleneck)
    rows = _as_rows(x)
    maps = Maps(
        _product(_engine().rectify(rows, weights.scale, weights.shift), weights.maps, bias=weights.maps_bias),
        *(images, height, width),
        relation=channels // 16,
        values=channels // 4,
        groups=channels // 32,
        side=block.sam.kernel_size,
    )
    sums, looked_at = _engine().attend(weights.weigh, maps, attention)
    made = _as_map(_product(sums, weights.out, onto=rows), x)
    if looked_at is None:
        return made, None
    return made, looked_at.transpose(1, 2).unflatten(2, (height, width))


def _engine() -> ModuleType:
    """What computes attention."""
    return strided if native.operators() is None else inference


def _linear(x: Tensor, weights: Dense, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution with weights (C, D)."""
    return _as_map(_product(_as_rows(x), weights, bias), x)


def _product(rows: Tensor, weights: Dense, bias: Tensor | None = None, onto: Tensor | None = None) -> Tensor:
    """Rows (N, C) times weights (C, D), plus a bias (D,) or what there is (N, D)."""
    if native.operators() is not None and inference.reads_panels(rows, weights):
        return inference.linear(rows, weights, bias, onto)
    added = bias if onto is None else onto
    return rows @ weights.plain if added is None else torch.addmm(added, rows, weights.plain)


def _rectify(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Batch norm in evaluation, and ReLU."""
    return _as_map(_engine().rectify(_as_rows(x), scale, shift), x)


def _as_rows(x: Tensor) -> Tensor:
    """(N, C, H, W) to contiguous (N * H * W, C); no copy where channels lie last."""
    return x.permute(0, 2, 3, 1).contiguous().view(-1, x.shape[1])


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    images, _, height, width = like.shape
    return rows.view(images, height, width, rows.shape[1]).permute(0, 3, 1, 2)


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


def _fits(layer: Any, device: torch.device) -> bool:
    """Whether there is an operator for a layer: on a CPU, one with attention has groups that fill vectors."""
    return device.type != "cpu" or not hasattr(layer, "sam") or inference.fits(layer.conv.out_channels // 32)
