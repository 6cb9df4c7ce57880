"""Putting a backend in place of the networks of a system."""

from __future__ import annotations

from typing import Any

from torch import nn

from adaptive_models.stepwise import Stepwise
from bench.backends.backend import Backend, UnsupportedError


def replace_networks(model: nn.Module, backend: Backend) -> None:
    """Have a backend run a model: the whole of it, or, of one that decides step by step, its networks, one by one.

    Decisions stay in Python, so that what is skipped is not run.

    Raises:
        UnsupportedError: a model that decides, and names no networks.
    """
    if not isinstance(model, Stepwise):
        vars(model)["forward"] = backend.accelerated("the model", model.forward)
        return
    if not model.networks:
        raise UnsupportedError(f"{type(model).__name__} does not say in `networks` what of it may be compiled")
    for path in model.networks:
        owner: Any = model
        *way, method = path.split(".")
        for name in way:
            owner = getattr(owner, name)
        vars(owner)[method] = backend.accelerated(path, getattr(owner, method))
