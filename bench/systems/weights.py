"""A system's model with its weights: a folder of trained parts, or a checkpoint of the whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from adaptive_models.checkpoints import CheckpointError, load_reference
from adaptive_models.parts import SUFFIX, PartError, load_part, parts_of
from adaptive_models.system import AdaptiveSystem
from baselines.san_base import SANBase
from bench.errors import RunError
from bench.systems.costs import build_model
from bench.systems.registry import System

BASE_NETWORKS = {"rgb": "rgb-224", "spectrogram": "spectrogram"}
"""Parts of SAN19-base's networks, which are those of the adaptive systems."""

PART_NAMES = {"tsn-resnet50": "tsn"}
"""Of systems that are a single part, where it is not named as the system."""


def weights_of(system: System, given: Path | None) -> Path | None:
    """The weights that are given, or else those that come with the system, or None for random ones."""
    return system.weights if given is None else given


def load_model(system: System, weights: Path | None, seed: int = 0) -> nn.Module:
    """The model, in evaluation mode.

    Args:
        system: which.
        weights: a folder of parts, as `foveabench train` writes them, or a checkpoint of the whole model; None for
            those that come with the system, or random ones.
        seed: of random weights.

    Raises:
        RunError: a model that cannot be built, or weights that are missing or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(system)
    weights = weights_of(system, weights)
    if weights is None:
        return model
    if weights.is_dir():
        load_named_parts(system, model, weights)
        return model.eval()
    try:
        load_reference(model, weights)
    except FileNotFoundError:
        raise RunError(f"{weights}: no such checkpoint, and no folder of parts") from None
    except CheckpointError as error:
        raise RunError(str(error)) from error
    return model.eval()


def load_named_parts(system: System, model: nn.Module, folder: Path, names: Iterable[str] | None = None) -> None:
    """Load a system's parts into its model, those of these names, or all.

    Raises:
        RunError: a part that is missing or does not fit.
    """
    parts = system_parts(system, model)
    try:
        for name in parts if names is None else names:
            if name in parts:
                load_part(parts[name], folder / f"{name}{SUFFIX}")
    except PartError as error:
        raise RunError(f"{system.id}: {error}") from error


def system_parts(system: System, model: nn.Module) -> dict[str, nn.Module]:
    """Name of each part of a system, and the modules whose weights it holds."""
    if isinstance(model, AdaptiveSystem):
        return parts_of(model)
    if isinstance(model, SANBase):
        networks = {BASE_NETWORKS[modality]: network for modality, network in model.backbones.items()}
        return {**networks, "san-base": nn.ModuleDict({"fusion": model.fusion, "classifiers": model.classifiers})}
    name = system.id.rpartition("/")[2]
    return {PART_NAMES.get(name, name): model}
