"""Faster inference of SAN on a CPU: batch norms folded into convolutions, and local attention as one operator.

It computes what the layers of `adaptive_models.san` define, in another order; where it cannot, these run. Weights are
folded at the first call, and again whenever one of them has changed.

Identities: a batch norm in evaluation is a scale and a shift, which convolutions beside it take over; that after the
aggregation goes into the values, as softmax weights sum to 1, for which reason also the last bias of the branch of the
weights and that of the positions cancel; ReLU and max-pool may change places.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils import _python_dispatch as dispatch

from adaptive_models import native
from adaptive_models.attention import pad_by_reflection, position_grid

if TYPE_CHECKING:
    from adaptive_models.san import SAN, Bottleneck

Folded = TypeVar("Folded")


def suits(network: SAN, names: Sequence[str], x: Tensor) -> bool:
    """Whether layers of a network can run here: inference in float32 on a CPU, with nobody watching single layers.

    What is counted, traced, compiled or hooked goes layer by layer.
    """
    return (
        type(x) is Tensor
        and x.dtype is torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not dispatch.any_torch_dispatch_mode_on_stack()
        and not hooks._global_forward_hooks
        and not hooks._global_forward_pre_hooks
        and native.operators() is not None
        and all(_is_plain(layer) and _fits(layer) for layer in map(network.get_submodule, names))
    )


def run(network: SAN, names: Sequence[str], x: Tensor) -> Tensor:
    """Run layers of a network, in the order of their names; ReLU is part of the norm that it follows.

    Args:
        network: in evaluation mode.
        names: as in the network's order; all four layers before the first stage, or none.
        x: (N, C, H, W).

    Returns:
        The same as layer by layer, with channels last in memory.
    """
    if names[0] == "conv_in":
        x, names = network.pool(_linear(x, *_folded(network, _fold_first))).relu_(), names[4:]
    for name in names:
        layer = network.get_submodule(name)
        if isinstance(layer, nn.Conv2d):
            x = _linear(x, _folded(layer, _transposed))
        elif isinstance(layer, nn.BatchNorm2d):
            x = _rectify(x, *_folded(layer, _fold_norm))
        elif isinstance(layer, nn.MaxPool2d):
            x = layer(x)
        elif not isinstance(layer, nn.ReLU):
            x, _ = bottleneck(cast("Bottleneck", layer), x)
    return x


@dataclass(frozen=True)
class _Bottleneck:
    """Weights of a bottleneck of `channels`: D = channels / 16, V = channels / 4, G groups."""

    scale: Tensor  # (channels,) and shift of the first norm
    shift: Tensor
    maps: Tensor  # (channels, D + D + V): to queries, keys and values
    maps_bias: Tensor
    first: Tensor  # (D + 2, D, filled up with zeros): to activations
    bias: Tensor
    second: Tensor  # (D, G, repeated to fill a vector): to scores
    out: Tensor  # (V + 1, channels), the bias last
    places: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)


def bottleneck(block: Bottleneck, x: Tensor, attention: bool = False) -> tuple[Tensor, Tensor | None]:
    """Run a bottleneck with pairwise attention.

    Args:
        block: in evaluation mode.
        x: (N, C, H, W).
        attention: whether to sum up the attention, too.

    Returns:
        The same shape, and the cumulative global attention (N, C/32, H, W), or None.
    """
    images, channels, height, width = x.shape
    weights = _folded(block, _fold_bottleneck)
    rows = _as_rows(x)
    relation, values, groups = channels // 16, channels // 4, channels // 32
    maps = torch.addmm(weights.maps_bias, _rectify_rows(rows, weights.scale, weights.shift), weights.maps)
    places = weights.places.get((height, width))
    if places is None:
        places = weights.places[height, width] = _places(block, height, width)
    neighbours = _neighbours(height, width, block.sam.kernel_size)
    sums = rows.new_empty(len(rows), values + 1)
    looked_at = rows.new_zeros(images, height * width, groups) if attention else None
    call = _Call(
        *(maps.data_ptr(), images, height, width, maps.shape[1], relation, values, groups),
        *(each.data_ptr() for each in places),
        *(each.data_ptr() for each in (weights.first, weights.bias, weights.second)),
        *(each.data_ptr() for each in neighbours),
        *(sums.data_ptr(), values + 1, None if looked_at is None else looked_at.data_ptr()),
    )
    _operators().foveabench_pairwise(ctypes.byref(call))
    made = _as_map(torch.addmm(rows, sums, weights.out), x)
    if looked_at is None:
        return made, None
    return made, looked_at.transpose(1, 2).reshape(images, groups, height, width)


class _Call(ctypes.Structure):
    """`Pairwise` of native/pairwise.cpp."""

    _fields_ = (
        ("maps", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("images", "height", "width", "stride", "relation", "values", "groups")),
        *((name, ctypes.c_void_p) for name in ("query_places", "key_places", "first", "bias", "second")),
        *(
            (axis + name, ctypes.c_void_p)
            for axis, first in (("row_", "rows"), ("column_", "columns"))
            for name in ("starts", first, "counts", "direct")
        ),
        ("out", ctypes.c_void_p),
        ("out_stride", ctypes.c_int64),
        ("attention", ctypes.c_void_p),
    )


@lru_cache(maxsize=64)
def _neighbours(height: int, width: int, side: int) -> tuple[Tensor, ...]:
    """Of each row, then of each column of a map: starts, neighbours without repeats, their counts, and if in reach."""
    padding = side // 2
    with torch.inference_mode(False):
        cells = pad_by_reflection(torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width), padding)
    indices = cells[0, 0].long()
    return (
        *_without_repeats(indices[:, padding] // width, side),
        *_without_repeats(indices[padding] % width, side),
    )


def _without_repeats(padded: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    starts, found, counts, direct = [0], [], [], []
    for here in range(len(padded) - side + 1):
        neighbours, times = padded[here : here + side].unique(return_counts=True)
        found.append(neighbours)
        counts.append(times)
        direct.append(((neighbours - here).abs() <= side // 2).long())
        starts.append(starts[-1] + len(neighbours))
    return torch.tensor(starts), torch.cat(found), torch.cat(counts), torch.cat(direct)


def _places(block: Bottleneck, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Position features (H * W, 2) of queries and keys, scaled and shifted by the norm of differences."""
    scale, shift = _scale_and_shift(cast("nn.BatchNorm2d", block.sam.weigh[0]))
    grid = position_grid(height, width, like=scale).flatten(2)[0].T  # (H * W, 2)
    keys = grid @ _matrix(block.sam.position).T * scale[-2:]
    return _kept(keys + shift[-2:]), _kept(keys)


def _fold_bottleneck(block: Bottleneck) -> _Bottleneck:
    attention = block.sam
    norm, hidden_norm = (cast("nn.BatchNorm2d", attention.weigh[place]) for place in (0, 3))
    first, last = (cast("nn.Conv2d", attention.weigh[place]) for place in (2, 5))
    input_scale, input_shift = _scale_and_shift(block.bn1)
    scale, shift = _scale_and_shift(norm)
    hidden_scale, hidden_shift = _scale_and_shift(hidden_norm)
    value_scale, value_shift = _scale_and_shift(block.bn2)
    relation, lanes = len(scale) - 2, _operators().foveabench_lanes()
    scales = torch.cat((scale[:relation], scale[:relation], value_scale))
    shifts = torch.cat((shift[:relation], torch.zeros_like(shift[:relation]), value_shift))
    layers = (attention.query, attention.key, attention.value)
    filling = -relation % lanes
    scores = _matrix(last).T
    return _Bottleneck(
        scale=input_scale.float(),
        shift=input_shift.float(),
        maps=_kept(torch.cat([_matrix(layer) for layer in layers]).T * scales),
        maps_bias=_kept(torch.cat([_bias(layer) for layer in layers]) * scales + shifts),
        first=_kept(F.pad(_matrix(first).T * hidden_scale, (0, filling))),
        bias=_kept(F.pad(hidden_shift, (0, filling))),
        second=_kept(scores.repeat(1, max(1, lanes // scores.shape[1]))),
        out=_kept(torch.cat((_matrix(block.conv).T, _bias(block.conv)[None]))),
    )


def _matrix(layer: nn.Conv2d) -> Tensor:
    """Weights (D, C) of a 1x1 convolution, in double precision."""
    return layer.weight.double().flatten(1)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias.double()


def _kept(weights: Tensor) -> Tensor:
    return weights.float().contiguous()


def _fold_first(network: SAN) -> tuple[Tensor, Tensor]:
    scale, shift = _scale_and_shift(network.bn_in)
    return _kept(_matrix(network.conv_in).T * scale), shift.float()


def _fold_norm(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    scale, shift = _scale_and_shift(norm)
    return scale.float(), shift.float()


def _transposed(layer: nn.Conv2d) -> Tensor:
    return layer.weight.flatten(1).T.contiguous()


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What batch normalisation in evaluation mode is, in double precision."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution with weights (C, D)."""
    rows = _as_rows(x)
    return _as_map(rows @ weight if bias is None else torch.addmm(bias, rows, weight), x)


def _rectify(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Batch norm in evaluation, and ReLU."""
    return _as_map(_rectify_rows(_as_rows(x), scale, shift), x)


def _rectify_rows(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    out = torch.empty_like(rows)
    arguments = (rows, scale, shift, out)
    _operators().foveabench_rectify(
        *(ctypes.c_void_p(each.data_ptr()) for each in arguments), *map(ctypes.c_int64, rows.shape)
    )
    return out


def _as_rows(x: Tensor) -> Tensor:
    """(N, C, H, W) to contiguous (N * H * W, C); no copy where channels lie last."""
    return x.permute(0, 2, 3, 1).contiguous().view(-1, x.shape[1])


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    images, _, height, width = like.shape
    return rows.view(images, height, width, -1).permute(0, 3, 1, 2)


# --- weights that are folded once ---

_KEPT: WeakKeyDictionary[nn.Module, dict[Callable[..., Any], tuple[Hashable, Any]]] = WeakKeyDictionary()


def _folded(module: Any, fold: Callable[[Any], Folded]) -> Folded:
    """What a function makes of a module's weights, made again when these have changed."""
    parts = [module.conv_in, module.bn_in] if fold is _fold_first else [module]
    state = tuple((each.data_ptr(), each._version) for part in parts for each in _tensors(part))
    kept = _KEPT.setdefault(module, {})
    found = kept.get(fold)
    if found is None or found[0] != state:
        with torch.inference_mode(False), torch.no_grad():
            found = kept[fold] = state, fold(module)
    return cast("Folded", found[1])


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    for tensors in (module._parameters, module._buffers):
        yield from (each for each in tensors.values() if each is not None)
    for child in module._modules.values():
        if child is not None:
            yield from _tensors(child)


def _operators() -> ctypes.CDLL:
    found = native.operators()
    assert found is not None
    return found


def _fits(layer: Any) -> bool:
    """Whether a bottleneck is pairwise, and its groups fill vectors."""
    if not hasattr(layer, "sam"):
        return True
    groups, lanes = layer.conv.out_channels // 32, _operators().foveabench_lanes()
    return layer.sam.kind == "pairwise" and (groups % lanes == 0 or (lanes % groups == 0 and 8 * groups >= lanes))


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is one to fold, and nothing hangs on it."""
    if layer.training or layer._forward_hooks or layer._forward_pre_hooks:
        return False
    for each in (*layer._parameters.values(), *layer._buffers.values()):
        if each is not None and (each.device.type != "cpu" or each.is_inference()):
            return False
        if each is not None and each.is_floating_point() and each.dtype is not torch.float32:
            return False
    return all(child is None or _is_plain(child) for child in layer._modules.values())
