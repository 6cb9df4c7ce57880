"""Models to evaluate: what identifies their weights, and systems that share or lack parts."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from torch import nn

from adaptive_models.system import AdaptiveSystem
from bench.backends.backend import UnsupportedError
from bench.backends.precision import to_precision
from bench.errors import RunError, UsageError
from bench.records.measurement import Dtype
from bench.streaming import usable_device
from bench.systems.costs import build_model
from bench.systems.registry import Registry, System
from bench.systems.weights import load_named_parts, weights_of

FROZEN = ("rgb-112", "rgb-224", "spectrogram")
"""Parts whose features are kept."""


def digest(model: nn.Module) -> str:
    """Of all parameters and buffers, with their names: "sha256:" and 16 digits."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return f"sha256:{found.hexdigest()[:16]}"


def in_precision(system: System, model: nn.Module, device: str, dtype: Dtype) -> nn.Module:
    """The model on a device and in a type: see `to_precision`.

    Raises:
        UsageError: a device that there is not.
        RunError: a model that cannot be of this type.
    """
    try:
        return to_precision(model, usable_device(device), dtype)
    except UnsupportedError as error:
        raise RunError(f"{system.id} --dtype {dtype}: {error}") from error


def without_sampler(model: AdaptiveSystem) -> AdaptiveSystem:
    """The model as an S_k, with the classifier that it has: it forgets its temporal sampler and hallucinator."""
    model.temporal_sampler = model.hallucinator = model.max_skip = None
    return model


def spatial_system(system: System) -> System:
    """An (S_k, T_M) as an S_k: see `without_sampler`."""

    def build() -> nn.Module:
        model = system.build()
        assert isinstance(model, AdaptiveSystem)
        return without_sampler(model)

    return replace(system, max_skip=None, build=build)


def frozen_networks(system: System, systems: Registry, weights: Path | None) -> AdaptiveSystem:
    """The system of the same workload with most crops, of which only the networks whose features are kept are loaded.

    Raises:
        UsageError: no weights: random networks differ from one system to another.
        RunError: a part that is missing or does not fit.
    """
    weights = weights_of(system, weights)
    if weights is None:
        raise UsageError("--features needs --weights: systems with random weights share no networks")
    rivals = [each for each in systems if each.crops is not None and each.workload == system.workload]
    model = build_model(max(rivals, key=lambda each: each.crops or 0))
    assert isinstance(model, AdaptiveSystem)
    load_named_parts(system, model, weights, FROZEN)
    return model
