"""`count_flops`: the operations of one call of a model."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.counting.copies import Copier, meta_twin, variables_within
from bench.counting.counter import CONVENTIONS, Counter, counting
from bench.counting.isolation import operators_whole, undisturbed
from bench.counting.profile import Profile

CROSS_CHECKS = ("fvcore", "thop", "torch")


def count_flops(module: Callable[..., Any], *args: Any, convention: str = "exact", **kwargs: Any) -> Profile:
    """Count the operations of `module(*args, **kwargs)`.

    It runs on the meta device, with no arithmetic and no memory, unless the model's control flow needs values; then it
    runs on the data given, and `Profile.device` and `Profile.reason` say so. What is run is a copy: the model, its
    statistics, mode, hooks and attributes, the inputs, the random number generators and torch are as before afterwards,
    also after an exception. The count is the same on every device, with and without gradients, with frozen weights and
    compiled. Backward passes are counted when `module` is a function that runs them.

    Args:
        module: an `nn.Module`, a method of one, or any function.
        args: what to call it with.
        convention: "exact" or "paper" (see `bench.counting`), or the name of a library whose own count is wanted,
            "fvcore", "thop" or "torch".
        kwargs: what to call it with.

    Returns:
        A `Profile`; `unknown` in it lists, by layer, operators that have no formula.

    Raises:
        ValueError: an unknown convention.
        Exception: whatever the model itself raises on this input.

    Example:
        >>> count_flops(torch.nn.Linear(32, 16), torch.randn(8, 32)).macs
        4096
    """
    if convention in CROSS_CHECKS:
        from bench.counting.crosschecks import count_with

        return count_with(convention, module, *args, **kwargs)
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r}: use one of {', '.join((*CONVENTIONS, *CROSS_CHECKS))}")
    call = (module, args, kwargs)
    with operators_whole():
        try:
            return _count(call, meta_twin, convention)
        except Exception as error:
            reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        profile = _count(call, torch.clone, convention)
        profile.device, profile.reason = _device_of(call), reason
        return profile


def _count(call: Any, copy_tensor: Callable[[Tensor], Tensor], convention: str) -> Profile:
    try:
        return _count_copy(call, copy_tensor, convention, inference=True)
    except RuntimeError as error:
        # What differentiates inside its forward pass cannot run in inference mode; it is counted below autograd.
        if not re.search("grad|inference", f"{error} {error.__cause__}", re.IGNORECASE):
            raise
    return _count_copy(call, copy_tensor, convention, inference=False)


def _count_copy(call: Any, copy_tensor: Callable[[Tensor], Tensor], convention: str, inference: bool) -> Profile:
    with_gradients = torch.is_grad_enabled() and not inference
    with undisturbed(), torch.inference_mode(inference), torch.set_grad_enabled(with_gradients):
        copier = Copier(copy_tensor)
        function, args, kwargs = copier.copy(call)
        counter = Counter(modules_of(function, args, kwargs), convention)
        with counting(counter):
            function(*args, **kwargs)
    return counter.profile()


def modules_of(function: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, nn.Module]:
    """The modules of a call by the name that they are reported under; one alone is the whole and has none."""
    if isinstance(function, functools.partial):
        return modules_of(function.func, (*function.args, *args), {**function.keywords, **kwargs})
    owner = getattr(function, "__self__", function)
    if isinstance(owner, nn.Module):
        return {"": owner}
    held = variables_within(function) if isinstance(function, types.FunctionType) else getattr(owner, "__dict__", {})
    given = {**{str(position): value for position, value in enumerate(args)}, **kwargs}
    modules = {name: value for name, value in {**held, **given}.items() if isinstance(value, nn.Module)}
    return modules if len(modules) != 1 else {"": modules.popitem()[1]}


def _device_of(call: Any) -> str:
    function, args, kwargs = call
    tensors: list[Tensor] = [p for module in modules_of(function, args, kwargs).values() for p in module.parameters()]
    tensors += [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    return tensors[0].device.type if tensors else "cpu"
