"""Weights of SAN's layers and of the hallucinator as inference wants them: batch norms folded into convolutions.

Folded in double precision at the first call, and again whenever a weight has changed. Identities: a batch norm in
evaluation is a scale and a shift, which convolutions beside it take over; the scale of that after the aggregation goes
into the values, and in pairwise attention, whose weights sum to 1, the shift as well, for which reason also the last
bias of the branch of the weights and that of the positions cancel; ReLU and max-pool may change places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, compress
from operator import attrgetter, is_, itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_models import native
from adaptive_models.attention import position_grid
from adaptive_models.native.pages import into_large_pages

if TYPE_CHECKING:
    from adaptive_models.hallucinator import Hallucinator
    from adaptive_models.san import SAN, Bottleneck, SelfAttention

Result = TypeVar("Result")

State: TypeAlias = list[tuple[int, int]]
"""Address and version of each weight."""

Looked: TypeAlias = set["_Weights"]
"""The weights that were looked at."""

_TOGETHER: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], _Weights]] = WeakKeyDictionary()
_SEEN: WeakKeyDictionary[nn.Module, object] = WeakKeyDictionary()
"""Of each layer, what stands for its weights as `foldable` saw them last."""
_KEPT: WeakKeyDictionary[nn.Module, dict[tuple[Callable[..., Any], int], tuple[list[Any], Any]]] = WeakKeyDictionary()


def foldable(owner: nn.Module, names: tuple[str, ...], layers: Sequence[nn.Module], x: Tensor) -> bool:
    """Whether layers can be folded: in evaluation, as x in device and type, and nothing hangs on them.

    It is asked at every call, for weights that have changed are folded anew (see `folded`).

    Args:
        owner: of which they are parts, or itself.
        names: that these layers have there, other than other layers of which it is asked.
        layers: which.
        x: what they are to take.
    """
    if trusts(owner, names, x):
        return True
    known = _TOGETHER.setdefault(owner, {})
    weights, like, trusted = known.get(names), (x.device, x.dtype), _TRUSTED.get()
    if weights is None or not weights.are_those_of(layers):
        weights = known[names] = _Weights(layers)
    state = weights.state()
    if state is None:
        return False
    if weights.like != like or weights.last != state:
        if not all(_is_like(each, x) for each in weights.tensors):
            return False
        weights.like, weights.last, weights.settled = like, state, -1
    weights.settle(layers)
    if trusted is not None:
        trusted.add(weights)
    return True


def trusts(owner: nn.Module, names: tuple[str, ...], x: Tensor) -> bool:
    """Whether `foldable` has said yes of these layers before, while it is `trusting`; other arguments are its own."""
    trusted = _TRUSTED.get()
    weights = trusted and _TOGETHER.get(owner, {}).get(names)
    return bool(
        trusted and weights and weights in trusted and weights.like == (x.device, x.dtype) and weights.in_evaluation()
    )


@contextmanager
def trusting(weights: Looked) -> Iterator[None]:
    """While it lasts, weights that `foldable` has once looked at are taken to be as they were.

    Looking at hundreds of them takes as long as some layers.

    Args:
        weights: what was looked at so far, by whoever trusts it.
    """
    token = _TRUSTED.set(weights)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


_TRUSTED: ContextVar[Looked | None] = ContextVar("_TRUSTED", default=None)


def folded(module: Any, fold: Callable[[Any], Result]) -> Result:
    """What a function makes of the weights of a module, as `foldable` saw them last, or else as they are."""
    parts = [module.conv_in, module.bn_in] if fold is fold_first else [module]
    seen = [_SEEN.get(part) or _Weights([part]).state() for part in parts]
    kept, key = _KEPT.setdefault(module, {}), (fold, native.lanes())
    found = kept.get(key)
    if found is None or None in seen or found[0] != seen:
        with torch.inference_mode(False), torch.no_grad():
            found = kept[key] = seen, fold(module)
    return cast("Result", found[1])


def changes() -> int:
    """A number that is another one whenever `foldable` has seen that weights of any layer have changed."""
    return _Weights.changes


class _Weights:
    """The weights of layers, and what tells that they are as before: asked of hundreds of modules at every call.

    It keeps the dictionaries that modules have their parts in, and what was in them: what is exchanged is noticed.
    What is called for each of them is what Python calls the fastest.

    Attributes:
        tensors: the weights.
        like: device and type of what they were last found fit for.
        last: their state then.
        settled: of how many changes of `_SEEN` it is known that none was of these layers since.
    """

    changes = 0

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = [vars(layer) for layer in layers]
        self.with_weights = [any(True for _ in chain(layer.parameters(), layer.buffers())) for layer in layers]
        self.modules = [vars(module) for layer in layers for module in layer.modules()]
        self.hooks = [own[name] for own in self.modules for name in ("_forward_hooks", "_forward_pre_hooks")]
        groups = [own[name] for own in self.modules for name in ("_parameters", "_buffers", "_modules")]
        self.groups, self.empty = [each for each in groups if each], [each for each in groups if not each]
        self.parts = self._parts()
        self.tensors = [part for part in self.parts if isinstance(part, Tensor) and part.ndim]  # but for counters
        self.like: tuple[torch.device, torch.dtype] | None = None
        self.last: State | None = None
        self.settled = -1

    def _parts(self) -> list[Any]:
        return list(chain.from_iterable(map(dict.values, self.groups)))

    def are_those_of(self, layers: Sequence[nn.Module]) -> bool:
        """Whether these are the layers, and no part of them was exchanged."""
        parts = self._parts()
        return (
            len(layers) == len(self.layers)
            and all(map(is_, map(vars, layers), self.layers))
            and len(parts) == len(self.parts)
            and all(map(is_, parts, self.parts))
            and not any(self.empty)
        )

    def in_evaluation(self) -> bool:
        """Whether no layer is in training, or has hooks."""
        return not any(self.hooks) and not any(map(_TRAINING, self.modules))

    def state(self) -> State | None:
        """Address and version of each weight; None in training, with hooks, or with weights that have no versions."""
        if not self.in_evaluation():
            return None
        try:
            return list(zip(map(Tensor.data_ptr, self.tensors), map(_VERSION, self.tensors), strict=True))
        except RuntimeError:  # made in inference mode
            return None

    def settle(self, layers: Sequence[nn.Module]) -> None:
        """See to it that what stands for the weights of each layer is this state."""
        if self.settled == _Weights.changes:
            return
        own = list(compress(layers, self.with_weights))  # others, as a ReLU, are parts of several
        if any(_SEEN.get(layer) is not self.last for layer in own):
            _SEEN.update((layer, self.last) for layer in own)
            _Weights.changes += 1
        self.settled = _Weights.changes


_TRAINING = itemgetter("training")
_VERSION = attrgetter("_version")


def _is_like(weight: Tensor, x: Tensor) -> bool:
    return weight.device == x.device and (weight.dtype is x.dtype or weight.dtype is torch.int8)


@dataclass(frozen=True)
class Dense:
    """Weights of a 1x1 convolution."""

    plain: Tensor  # (C, D)

    @cached_property
    def panels(self) -> Tensor:
        """The same as `Dense` of products.h has them: panel after panel, the last of as many vectors as it needs."""
        columns, last = native.panel(), self.plain.shape[1] % native.panel()
        with torch.inference_mode(False), torch.no_grad():
            whole = self.plain[:, : self.plain.shape[1] - last].unflatten(1, (-1, columns)).transpose(0, 1)
            rest = F.pad(self.plain[:, self.plain.shape[1] - last :], (0, -last % native.lanes()))
            made = torch.cat((whole.flatten(), rest.flatten()))
        into_large_pages(made)
        return made


@dataclass(frozen=True)
class Pairwise:
    """Weights from differences: D inputs of the relation, G groups; widths filled up as `native.lanes` wants them."""

    first: Tensor  # (D + 2, D, filled up with zeros): to activations
    bias: Tensor
    second: Tensor  # (D, G): to scores
    position: Tensor  # (2, 2): coordinates to position features, in double precision
    position_shift: Tensor  # (2,)
    places: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def places_of(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Position features (H * W, 2) of queries and of keys, scaled and shifted by the norm of differences."""
        if (height, width) not in self.places:
            with torch.inference_mode(False), torch.no_grad():
                keys = position_grid(height, width, like=self.position).flatten(2)[0].T @ self.position
                self.places[height, width] = _kept(keys + self.position_shift), _kept(keys)
        return self.places[height, width]


@dataclass(frozen=True)
class Patchwise:
    """Weights from query and keys together: D inputs of each, G groups, k*k places of the footprint."""

    scale: Tensor  # ((k*k + 1) * D, filled up with zeros) and shift of the norm: query, then place after place
    shift: Tensor
    first: Tensor  # ((k*k + 1) * D, G, filled up with zeros): to activations
    bias: Tensor
    second: Tensor  # (k*k, G, G, repeated to fill a vector): to weights
    second_bias: Tensor  # (k*k, G, repeated to fill a vector)
    value_shift: Tensor  # (V,): of the norm after the aggregation


@dataclass(frozen=True)
class Block:
    """Weights of a bottleneck of `channels`: D = channels / 16, V = channels / 4, G = channels / 32."""

    side: int  # of the footprint
    scale: Tensor  # (channels,) and shift of the first norm
    shift: Tensor
    maps: Dense  # (channels, D + D + V): to queries, keys and values
    maps_bias: Tensor
    weigh: Pairwise | Patchwise
    out: Dense  # (V + 1, channels), the bias last


def fold_bottleneck(block: Bottleneck) -> Block:
    """Fold a bottleneck in evaluation mode."""
    attention = block.sam
    relation = attention.query.out_channels
    scale, shift = _scale_and_shift(block.bn1)
    value_scale, value_shift = _scale_and_shift(block.bn2)
    weigh: Pairwise | Patchwise
    if attention.kind == "pairwise":
        weigh, key_scale, query_shift = fold_pairwise(attention)
    else:
        weigh, key_scale = fold_patchwise(attention, value_shift), torch.ones_like(scale[:relation])
        query_shift, value_shift = torch.zeros_like(key_scale), torch.zeros_like(value_shift)
    layers = (attention.query, attention.key, attention.value)
    scales = torch.cat((key_scale, key_scale, value_scale))
    shifts = torch.cat((query_shift, torch.zeros_like(key_scale), value_shift))
    return Block(
        side=attention.kernel_size,
        scale=scale.float(),
        shift=shift.float(),
        maps=Dense(_kept(torch.cat([_matrix(layer) for layer in layers]).T * scales)),
        maps_bias=_kept(torch.cat([_bias(layer) for layer in layers]) * scales + shifts),
        weigh=weigh,
        out=Dense(_kept(torch.cat((_matrix(block.conv).T, _bias(block.conv)[None])))),
    )


def fold_pairwise(attention: SelfAttention) -> tuple[Pairwise, Tensor, Tensor]:
    """Fold the branch of the weights; also the scale (D,) of queries and keys, and the shift (D,) of queries."""
    norm, first, hidden_norm, last = _branch(attention)
    scale, shift = _scale_and_shift(norm)
    hidden_scale, hidden_shift = _scale_and_shift(hidden_norm)
    filling = -(len(scale) - 2) % native.lanes()
    weigh = Pairwise(
        first=_kept(F.pad(_matrix(first).T * hidden_scale, (0, filling))),
        bias=_kept(F.pad(hidden_shift, (0, filling))),
        second=_kept(_matrix(last).T),
        position=_matrix(attention.position).T * scale[-2:],
        position_shift=shift[-2:],
    )
    return weigh, scale[:-2], shift[:-2]


def fold_patchwise(attention: SelfAttention, value_shift: Tensor) -> Patchwise:
    """Fold the branch of the weights, and keep the shift (V,) of the norm after the aggregation with it."""
    norm, first, hidden_norm, last = _branch(attention)
    relation, groups = attention.query.out_channels, first.out_channels
    hidden_scale, hidden_shift = _scale_and_shift(hidden_norm)

    def place_by_place(inputs: Tensor) -> Tensor:
        """The query's D, then the keys', of which the places are together, to the D of each place."""
        keys = inputs[relation:].unflatten(0, (relation, -1)).transpose(0, 1).flatten(0, 1)
        return torch.cat((inputs[:relation], keys))

    filling = -relation % native.lanes()
    scale, shift = (_kept(F.pad(place_by_place(each), (0, filling))) for each in _scale_and_shift(norm))
    return Patchwise(
        scale=scale,
        shift=shift,
        first=_kept(F.pad(place_by_place(_matrix(first).T) * hidden_scale, (0, -groups % native.lanes()))),
        bias=_kept(F.pad(hidden_shift, (0, -groups % native.lanes()))),
        second=_repeated(_matrix(last).unflatten(0, (groups, -1)).permute(1, 2, 0)),
        second_bias=_repeated(_bias(last).unflatten(0, (groups, -1)).T),
        value_shift=_kept(value_shift),
    )


def _branch(attention: SelfAttention) -> tuple[nn.BatchNorm2d, nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]:
    """The layers that make weights, but for their ReLUs."""
    norm, _, first, hidden_norm, _, last = attention.weigh
    return cast("tuple[nn.BatchNorm2d, nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]", (norm, first, hidden_norm, last))


def fold_first(network: SAN) -> tuple[Tensor, Tensor]:
    """The first convolution (C, D, filled up with zeros) with its norm, and the bias (D, filled up)."""
    scale, shift = _scale_and_shift(network.bn_in)
    filling = -len(scale) % native.lanes()
    return _kept(F.pad(_matrix(network.conv_in).T * scale, (0, filling))), _kept(F.pad(shift, (0, filling)))


def fold_norm(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,)."""
    scale, shift = _scale_and_shift(norm)
    return scale.float(), shift.float()


@dataclass(frozen=True)
class Foresight:
    """Weights (3, 3, inputs, outputs) of the hallucinator's convolutions, and biases (outputs); outputs filled up."""

    encoder: Tensor
    encoder_bias: Tensor
    gates: Tensor  # each of the four filled up
    gates_bias: Tensor
    decoder: Tensor
    decoder_bias: Tensor


def fold_hallucinator(hallucinator: Hallucinator) -> Foresight:
    """Fold a hallucinator in evaluation mode."""

    def filled(weights: Tensor) -> Tensor:
        return _kept(F.pad(weights, (0, -weights.shape[-1] % native.lanes())))

    def normed(layers: nn.Sequential) -> tuple[Tensor, Tensor]:
        conv, norm, _ = cast("tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]", layers)
        scale, shift = _scale_and_shift(norm)
        return filled(conv.weight.double().permute(2, 3, 1, 0) * scale), filled(_bias(conv) * scale + shift)

    gates = hallucinator.cell.conv
    apart = gates.weight.double().permute(2, 3, 1, 0).unflatten(3, (4, -1))
    return Foresight(
        *normed(hallucinator.encoder),
        filled(apart).flatten(3),
        filled(_bias(gates).unflatten(0, (4, -1))).flatten(),
        *normed(hallucinator.decoder),
    )


def transposed(layer: nn.Conv2d) -> Dense:
    """Weights (C, D) of a 1x1 convolution."""
    return Dense(layer.weight.flatten(1).T.contiguous())


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What batch normalisation in evaluation mode is, in double precision."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _matrix(layer: nn.Conv2d) -> Tensor:
    """Weights (D, C) of a 1x1 convolution, in double precision."""
    return layer.weight.double().flatten(1)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias.double()


def _kept(weights: Tensor) -> Tensor:
    return weights.float().contiguous()


def _repeated(weights: Tensor) -> Tensor:
    """The last dimension, groups, repeated to fill a vector."""
    times = max(1, native.lanes() // weights.shape[-1])
    return _kept(weights.repeat(*(1,) * (weights.ndim - 1), times))
