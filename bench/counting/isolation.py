"""Copies to count on, so that the model, its statistics, hooks, random numbers and torch itself stay as they are."""

from __future__ import annotations

import copy
import inspect
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode


def copy_to_meta(what: Any) -> Any:
    """A deep copy in which every tensor, parameter and buffer is a meta tensor: its shape without its memory."""
    return _deep_copy(what, _meta_twin, _meta_parameter)


def copy_sharing_parameters(what: Any) -> Any:
    """A deep copy that shares its parameters with the original and has its own buffers and other tensors."""
    return _deep_copy(what, lambda tensor: tensor.detach().clone(), lambda parameter: parameter)


def _deep_copy(what: Any, copy_tensor: Callable[[Tensor], Tensor], copy_parameter: Callable[[Any], Any]) -> Any:
    parameters = {id(p): p for module in modules_in(what) for p in module.parameters() if not is_lazy(p)}
    memo: dict[int, Any] = {key: copy_parameter(p) for key, p in parameters.items()}
    with torch.inference_mode(False), _CopyTensors(copy_tensor):
        return copy.deepcopy(what, memo)


def _meta_twin(tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided:
        raise TypeError(f"a tensor of layout {tensor.layout} has no meta twin")
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")


def _meta_parameter(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(_meta_twin(parameter), requires_grad=parameter.requires_grad)


class _CopyTensors(TorchFunctionMode):
    """Lets `copy.deepcopy` copy tensors our way, wherever they hide in an object."""

    def __init__(self, copy_tensor: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._copy_tensor = copy_tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__:
            return self._copy_tensor(args[0])
        return func(*args, **(kwargs or {}))


def modules_in(what: Any) -> list[nn.Module]:
    """The modules of a module, a method of one, a `functools.partial`, or a function that refers to some."""
    if isinstance(what, nn.Module):
        return [what]
    if isinstance(what, (tuple, list)):
        return [module for item in what for module in modules_in(item)]
    owner = getattr(what, "__self__", None)
    if isinstance(owner, nn.Module):
        return [owner]
    if hasattr(what, "func") and hasattr(what, "args"):
        return modules_in([what.func, *what.args, *what.keywords.values()])
    if inspect.isfunction(what):
        variables = inspect.getclosurevars(what)
        return modules_in([*variables.nonlocals.values(), *variables.globals.values()])
    return []


@contextmanager
def restored(modules: list[nn.Module]) -> Iterator[None]:
    """Give modules that must run themselves back their attributes, modes and buffers afterwards."""
    inside = [module for root in modules for module in root.modules()]
    attributes = [(module, dict(module.__dict__)) for module in inside]
    buffers = [(buffer, buffer.detach().clone()) for module in inside for buffer in module.buffers(recurse=False)]
    registered = [(module._buffers, dict(module._buffers)) for module in inside]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for table, entries in registered:
            table.clear()
            table.update(entries)
        for module, before_attributes in attributes:
            module.__dict__.clear()
            module.__dict__.update(before_attributes)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep random number generators, the fast path of attention and the state of the compiler as they are.

    The fast path is off inside, and so is compilation: both would hide operators.
    """
    python_state = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    fast_path = torch.backends.mha.get_fastpath_enabled()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.random.fork_rng(devices), _eager():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)


@contextmanager
def _eager() -> Iterator[None]:
    # Only what has imported the compiler can have compiled something; importing it here would cost a second.
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
