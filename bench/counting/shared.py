"""Counts of what several models have in common, each made once.

On the meta device nothing but structure decides what runs: classes, plain attributes, shapes. So where a part of a
model and its inputs are built as those of an earlier one were, their counts are the same.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.counting.counter import Counter, counting
from bench.counting.profile import Row

KEPT = 512
"""Parts of which counts are kept, those asked for last."""

_TELLING = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase)
"""Layers that networks have hundreds of, and that say all that they compute of themselves."""

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = tuple(name for name in _OF_EVERY_MODULE if name.endswith(("_hooks", "_pre_hooks")))

_kept: OrderedDict[Hashable, tuple[list[Row], Any]] = OrderedDict()


def count_shared(counter: Counter, parts: Mapping[str, Hashable], function: Callable[..., Any], *args: Any) -> Any:
    """Count `function(*args)`, or charge to the counter what it charged when the same was counted before.

    Args:
        counter: of a model on the meta device.
        parts: all that decides what the function computes, besides its arguments: attributes of the model, each with
            its `description`.
        function: a method of the model.
        args: tensors, plain values, and collections and data classes of them.

    Returns:
        What the function returns, or what it returned then: on the meta device there is nothing in it but shapes.
    """
    try:
        key = (counter.convention, counter.stage, *parts.items(), description(args), counter.unused(parts))
    except TypeError:
        key = None
    if key in _kept:
        _kept.move_to_end(key)
        rows, out = _kept[key]
        counter.charge_again(rows)
        return out
    first, unknown = counter.new_row(), len(counter.unknown)
    with counting(counter):
        out = function(*args)
    if key is not None and len(counter.unknown) == unknown:
        _kept[key] = [row.copy() for row in counter.rows[first:]], out
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return out


def description(value: Any) -> Hashable:
    """All of a value that can matter on the meta device, of a module, a tensor, a plain value or a collection.

    Raises:
        TypeError: it may depend on something else: a function, a hook, an unknown object, a tensor with data.
    """
    kind: Any = type(value)
    if value is None or kind in (bool, int, float, str, torch.Size, torch.dtype) or isinstance(value, type):
        return kind, value
    if isinstance(value, Tensor):
        if kind not in (Tensor, nn.Parameter) or not value.is_meta:
            raise TypeError(f"a {kind.__name__} on {value.device}")
        return kind, value.shape, value.stride(), value.dtype, value.requires_grad
    if isinstance(value, (tuple, list)):
        return kind, tuple(map(description, value))
    if isinstance(value, Mapping):
        return kind, tuple((name, description(each)) for name, each in value.items())
    if isinstance(value, nn.Module):
        modules = list(value.named_modules(remove_duplicate=False))
        parameters = [id(each) for _, module in modules for each in module._parameters.values()]
        first = {parameter: place for place, parameter in reversed(list(enumerate(parameters)))}
        return (
            *((name, *_structure(module)) for name, module in modules),
            tuple(first[parameter] for parameter in parameters),  # which of them are the same
        )
    if is_dataclass(value):
        return kind, tuple(description(getattr(value, field.name)) for field in fields(value))
    if kind is weakref.ref:  # of a recurrent layer, to its parameters
        return kind
    raise TypeError(f"a {kind.__name__}")


def _structure(module: nn.Module) -> tuple[Any, ...]:
    """A module without its children."""
    kind, state = type(module), vars(module)
    if any(state[name] for name in _HOOKS):
        raise TypeError("hooks")
    if issubclass(kind, _TELLING) and kind.__module__.startswith("torch.nn.modules.") and "forward" not in state:
        own: Any = module.extra_repr()
    else:
        own = {name: value for name, value in state.items() if name not in _OF_EVERY_MODULE}
    return kind, module.training, description([own, state["_parameters"], state["_buffers"]])
