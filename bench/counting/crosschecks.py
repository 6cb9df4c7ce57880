"""The counts of other libraries beside ours: fvcore, thop and torch's own counter, and why they differ, layer by layer."""

from __future__ import annotations

import io
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from bench.counting.copies import Copier
from bench.counting.count import CROSS_CHECKS, count_flops, modules_of
from bench.counting.isolation import undisturbed
from bench.counting.profile import OperatorCount, Profile, Row, Unknown


@dataclass(frozen=True)
class Difference:
    """A layer to which a library gives other multiply-accumulates than we do.

    Attributes:
        layer: its name; "" for what the model itself computes.
        type: its class.
        ours: MACs that we count.
        theirs: MACs that the library counts.
        library: "fvcore", "thop" or "torch".
        reason: why, in a sentence.
    """

    layer: str
    type: str
    ours: int
    theirs: int
    library: str
    reason: str


def count_with(library: str, module: Callable[..., Any], *args: Any, **kwargs: Any) -> Profile:
    """Count one call with another library, as it counts by itself, on a copy of the model and of the data.

    `flops` is the figure that the library prints: multiply-accumulates (fvcore, thop), or two for each (torch); `macs`
    is that in multiply-accumulates. There is one row per layer, in the order of registration.

    Raises:
        ValueError: an unknown library.
        RuntimeError: the library cannot count this model; it says which and why.
    """
    if library not in CROSS_CHECKS:
        raise ValueError(f"unknown library {library!r}: use one of {', '.join(CROSS_CHECKS)}")
    copy, copied_args, copied_kwargs = Copier(torch.clone).copy((module, args, kwargs))
    call = _Call(copy, copied_args, copied_kwargs)
    try:
        with undisturbed(), torch.no_grad(), _silence():
            counts = _COUNTERS[library](call)
    except Exception as error:
        cause = next(iter(str(error).splitlines()), "")
        raise RuntimeError(f"{library} cannot count this model: {type(error).__name__}: {cause}") from error
    return _profile(library, call, counts)


def compare(module: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Difference]:
    """Layers to which fvcore, thop or torch give other multiply-accumulates than we do, with the reason.

    A library that cannot count the model at all is a single difference, of the whole model.
    """
    ours = _by_layer(count_flops(module, *args, **kwargs))
    differences = []
    for library in CROSS_CHECKS:
        try:
            theirs = _by_layer(count_with(library, module, *args, **kwargs))
        except RuntimeError as error:
            whole = sum(layer.macs for layer in ours.values())
            differences.append(Difference("", type(module).__name__, whole, 0, library, str(error)))
            continue
        for name in {**ours, **theirs}:
            our, their = ours.get(name, _Layer()), theirs.get(name, _Layer())
            if our.macs != their.macs:
                reason = _reason(library, our, their)
                kind = our.type or their.type
                differences.append(Difference(name, kind, our.macs, their.macs, library, reason))
    return differences
