"""The numbers that a model computes with, and those that its weights are kept as."""

from __future__ import annotations

import torch
from torch import nn

from adaptive_models.recurrent import GRU, Int8GRU
from bench.backends.backend import UnsupportedError
from bench.records.measurement import Dtype


def computed_in(dtype: Dtype) -> torch.dtype:
    """The type of inputs, and of what is computed; only weights are int8, under float32."""
    return torch.float32 if dtype == "int8" else getattr(torch, dtype)


def to_precision(model: nn.Module, device: torch.device, dtype: Dtype) -> nn.Module:
    """Move a model to a device and a type, in place, and return it.

    By int8, the weights of its `adaptive_models.recurrent.GRU`s are rounded to 8 bits (see `Int8GRU`), for it is by
    these that a frame that is only pre-scanned waits for memory; all else stays in float32.

    Raises:
        UnsupportedError: int8 on another device than a CPU, or of a model without such GRUs.
    """
    if dtype != "int8":
        return model.to(device, computed_in(dtype))
    if device.type != "cpu":
        raise UnsupportedError(f"int8 is for weights on a CPU, not on {device}")
    found = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, GRU)]
    if not found:
        raise UnsupportedError("int8 is for the weights of GRUs that go frame by frame, and there are none in it")
    model = model.to(device, computed_in(dtype))
    for path, layer in found:
        model.set_submodule(path, Int8GRU(layer).eval())
    return model
