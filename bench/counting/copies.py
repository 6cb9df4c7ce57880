"""Copies to count on, so that a model, its inputs and all that they hold stay as they are.

`copy.deepcopy` does not serve: it keeps functions, which may hold the model that they were written for; it gives up on
a lock anywhere inside; it copies the data of every parameter; and it takes as long as the counting itself.
"""

from __future__ import annotations

import copy
import dis
import functools
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

ATOMIC = frozenset((
    type(None), bool, int, float, complex, str, bytes, range, slice, types.ModuleType, types.BuiltinFunctionType,
    types.CodeType, torch.Size, torch.dtype, torch.device, torch.layout, torch.memory_format,
))  # fmt: skip


def meta_twin(tensor: Tensor) -> Tensor:
    """Shape, strides and type without the data.

    Vectors of integers keep their data, as lengths and batch sizes steer control flow; so does what is no plain array.
    """
    is_vector = tensor.ndim <= 1 and not tensor.is_floating_point() and not tensor.is_complex()
    if is_vector or not is_plain(tensor):
        return tensor.clone()
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is an array of numbers, not sparse, quantised or nested."""
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested


class Copier:
    """Deep copies in which each tensor is what `copy_tensor` makes of it.

    Functions are copied with the variables that they refer to: those that they enclose, and the globals of their own
    file. What `torch.compile` made is replaced by what it was made from. What cannot be copied is shared.

    Args:
        copy_tensor: called with detached tensors; `meta_twin` or `torch.clone`.
    """

    def __init__(self, copy_tensor: Callable[[Tensor], Tensor]) -> None:
        self._copy_tensor = copy_tensor
        self._copies: dict[int, Any] = {}  # by the id of the original, as in copy.deepcopy
        self._originals: list[Any] = []  # kept alive, so that no id is given out twice

    def copy(self, x: Any) -> Any:
        """The copy of anything, the same whenever it is asked for."""
        if type(x) in ATOMIC:
            return x
        if id(x) in self._copies:
            return self._copies[id(x)]
        if isinstance(x, Tensor):
            return self._remember(x, self._tensor(x))
        if isinstance(x, nn.Module):
            return self._remember(x, self._module(x))
        try:
            return self._remember(x, self._make(x, type(x)))
        except Exception:  # a lock, a file, a generator
            return self._remember(x, x)

    def _remember(self, original: Any, made: Any) -> Any:
        self._originals.append(original)
        self._copies[id(original)] = made
        return made

    def _tensor(self, x: Tensor) -> Tensor:
        if is_lazy(x):
            device = "meta" if self._copy_tensor is meta_twin else x.device
            make: Any = type(x)
            return make(requires_grad=x.requires_grad, device=device, dtype=x.dtype)
        made = self._copy_tensor(x.detach())
        if type(made) is not type(x):
            made = made.as_subclass(type(x))
        if x.requires_grad:
            made.requires_grad_()
        if x.__dict__:
            made.__dict__.update(self.copy(x.__dict__))
        return made

    def _make(self, x: Any, kind: type) -> Any:
        if kind is dict or kind is OrderedDict:
            made = self._remember(x, kind())
            for key, value in x.items():
                made[self.copy(key)] = self.copy(value)
            return made
        if kind is list:
            made = self._remember(x, [])
            made.extend(map(self.copy, x))
            return made
        if kind is set:
            return {self.copy(item) for item in x}
        if isinstance(x, tuple):
            items = [self.copy(item) for item in x]
            return x if _same(items, x) else tuple.__new__(kind, items)
        if isinstance(x, types.FunctionType):
            return self._function(x)
        if isinstance(x, types.MethodType):
            return types.MethodType(x.__func__, self.copy(x.__self__))
        if isinstance(x, functools.partial):
            return functools.partial(self.copy(x.func), *map(self.copy, x.args), **self.copy(x.keywords))
        if kind is weakref.ref:
            return x if x() is None else weakref.ref(self.copy(x()))
        return x if isinstance(x, type) else self._instance(x)

    def _module(self, x: nn.Module) -> nn.Module:
        if "_orig_mod" in x._modules:  # the wrapper of torch.compile
            return self.copy(x._orig_mod)
        if isinstance(x, torch.jit.ScriptModule):
            return copy.deepcopy(x, self._copies)
        made = self._remember(x, object.__new__(type(x)))
        for name, value in x.__dict__.items():
            if name != "_compiled_call_impl":  # of model.compile()
                made.__dict__[name] = self.copy(value)
        return made

    def _instance(self, x: Any) -> Any:
        if hasattr(x, "__deepcopy__"):
            return x.__deepcopy__(self._copies)
        made = copy.copy(x)
        if made is x:
            return x
        self._remember(x, made)
        if isinstance(x, dict):
            for key, value in x.items():
                new_key = self.copy(key)
                if new_key is not key:
                    del made[key]
                made[new_key] = self.copy(value)
        elif isinstance(x, (list, deque)):
            for index, value in enumerate(x):
                made[index] = self.copy(value)
        for name, value in getattr(x, "__dict__", {}).items():
            made.__dict__[name] = self.copy(value)
        for slot in (name for base in type(x).__mro__ for name in getattr(base, "__slots__", ())):
            if hasattr(x, slot):
                object.__setattr__(made, slot, self.copy(getattr(x, slot)))
        return made

    def _function(self, x: types.FunctionType) -> Any:
        if hasattr(x, "_torchdynamo_orig_callable"):
            return self.copy(x._torchdynamo_orig_callable)
        cells = x.__closure__ or ()
        new_cells = tuple(self._copies.get(id(cell)) or self._remember(cell, types.CellType()) for cell in cells)
        scope = self._copies.get(id(x.__globals__)) or self._remember(x.__globals__, dict(x.__globals__))
        made = types.FunctionType(x.__code__, scope, x.__name__, self.copy(x.__defaults__), new_cells)
        made.__kwdefaults__ = self.copy(x.__kwdefaults__)
        made.__dict__.update(x.__dict__)
        self._remember(x, made)
        for name, value in global_variables(x).items():
            scope[name] = self.copy(value)
        for cell, new_cell in zip(cells, new_cells, strict=True):
            if cell != types.CellType():  # else a variable that has no value yet
                new_cell.cell_contents = self.copy(cell.cell_contents)
        keeps_state = cells or any(
            i.opname == "STORE_GLOBAL" for code in codes_of(x) for i in dis.get_instructions(code)
        )
        return made if keeps_state or not _same(variables(x).values(), variables(made).values()) else x


def variables(function: types.FunctionType) -> dict[str, Any]:
    """The variables outside a function that it refers to, and its default arguments."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {
        **global_variables(function),
        **{name: cell.cell_contents for name, cell in cells if cell != types.CellType()},
        **{f"default {index}": value for index, value in enumerate(function.__defaults__ or ())},
        **(function.__kwdefaults__ or {}),
    }


def variables_within(function: types.FunctionType) -> dict[str, Any]:
    """The same, with the variables of the functions among them."""
    functions, found = [function], {}
    for each in functions:
        found.update(variables(each))
        functions += [value for value in found.values() if type(value) is types.FunctionType and value not in functions]
    return found


def global_variables(function: types.FunctionType) -> dict[str, Any]:
    """The variables of its file that a function of a user refers to, also from functions inside it."""
    scope = function.__globals__
    if str(scope.get("__name__")).partition(".")[0] == "torch":
        return {}
    names = {name for code in codes_of(function) for name in code.co_names if name in scope}
    return {name: scope[name] for name in sorted(names) if not _is_imported(scope[name], scope)}


def codes_of(function: types.FunctionType) -> list[types.CodeType]:
    """The code of a function and of the functions inside it."""
    codes = [function.__code__]
    for code in codes:
        codes.extend(constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return codes


def _is_imported(value: Any, scope: dict[str, Any]) -> bool:
    return isinstance(value, types.FunctionType) and value.__globals__ is not scope and not value.__closure__


def _same(items: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(item is other for item, other in zip(items, others, strict=True))
