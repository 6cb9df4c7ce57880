"""`count_flops`: the operations of one call of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bench.counting.counter import CONVENTIONS, Counter, counting
from bench.counting.isolation import copy_sharing_parameters, copy_to_meta, modules_in, restored, undisturbed
from bench.counting.profile import Profile

CROSS_CHECKS = ("fvcore", "thop", "torch")


def count_flops(module: Callable[..., Any], *args: Any, convention: str = "exact", **kwargs: Any) -> Profile:
    """Count the operations of `module(*args, **kwargs)`.

    It runs on the meta device, with no arithmetic and no memory, unless the model's control flow needs values; then it
    runs on the data given, and `Profile.device` and `Profile.reason` say so. The model, its batch-norm statistics, mode,
    hooks and attributes, the inputs, the random number generators and torch are as before afterwards, also after an
    exception: a module is counted on a copy. The count is the same on every device, with and without gradients,
    with frozen weights and compiled. Backward passes are counted when `module` is a function that runs them.

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
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    with undisturbed():
        reason = ""
        if _can_run_on_meta(module):
            try:
                model, inputs, named = copy_to_meta((module, args, kwargs))
                return _count(model, inputs, named, convention)
            except Exception as error:
                reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        profile = _count_on_data(module, args, kwargs, convention)
        profile.device = _device_of(module, args, kwargs)
        profile.reason = reason or "a function that refers to tensors or modules runs where they are"
        return profile


def _can_run_on_meta(function: Callable[..., Any]) -> bool:
    """A plain function keeps the modules and tensors that it refers to, so it must not have any."""
    return not _is_plain_function(function) or not (modules_in(function) or _captured_tensors(function))


def _is_plain_function(function: Callable[..., Any]) -> bool:
    return not isinstance(function, nn.Module) and not isinstance(getattr(function, "__self__", None), nn.Module)


def _captured_tensors(function: Callable[..., Any]) -> Iterator[Tensor]:
    return (
        cell.cell_contents
        for cell in getattr(function, "__closure__", None) or ()
        if isinstance(cell.cell_contents, Tensor)
    )


def _count_on_data(function: Callable[..., Any], args: Any, kwargs: Any, convention: str) -> Profile:
    if not _is_plain_function(function):
        try:
            function, args, kwargs = copy_sharing_parameters((function, args, kwargs))
        except Exception:  # an object that cannot be copied; then it runs itself, and is restored
            pass
        else:
            return _count(function, args, kwargs, convention)
    with restored(modules_in(function)):
        return _count(function, args, kwargs, convention)


def _count(function: Callable[..., Any], args: Any, kwargs: Any, convention: str) -> Profile:
    modules = modules_in(function)
    model = modules[0] if len(modules) == 1 else None
    for inference in (True, False):
        counter = Counter(model, convention)
        try:
            with torch.inference_mode(inference), counting(counter):
                function(*args, **kwargs)
            return counter.profile()
        except RuntimeError as error:
            # What differentiates inside its forward pass cannot run in inference mode; it is counted below autograd.
            if not inference or not torch.is_grad_enabled() or "grad" not in str(error) + str(error.__cause__):
                raise
    raise AssertionError("unreachable")


def _device_of(function: Callable[..., Any], args: Any, kwargs: Any) -> str:
    tensors = [p for module in modules_in(function) for p in module.parameters()]
    tensors += [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    return tensors[0].device.type if tensors else "cpu"
