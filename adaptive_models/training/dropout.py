"""Dropout by clip, so that what is dropped does not depend on which process trains on which clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def dropout_by_clip(module: nn.Module, sources: Sequence[np.random.Generator]) -> Iterator[None]:
    """While it lasts, what layers of dropout drop of each clip comes from the clip's own source of random numbers.

    Args:
        module: whose layers `nn.Dropout` take values (N, ...) of N clips.
        sources: of each clip.
    """

    def drop(layer: nn.Dropout, inputs: tuple[Any, ...], _: Tensor) -> Tensor | None:
        if not layer.training:
            return None
        (x,) = inputs
        kept = torch.from_numpy(np.stack([source.random(x.shape[1:], np.float32) for source in sources]) >= layer.p)
        return x * kept.to(x) / (1 - layer.p) if layer.p < 1 else torch.zeros_like(x)

    hooks = [layer.register_forward_hook(drop) for layer in module.modules() if isinstance(layer, nn.Dropout)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
