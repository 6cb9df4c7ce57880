"""Trained weights: a folder of safetensors files, one for each part of a system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from adaptive_models.checkpoints import CheckpointError, load_reference
from adaptive_models.system import AdaptiveSystem
from adaptive_models.training.checkpointing import write_atomically

SUFFIX = ".safetensors"


class PartError(ValueError):
    """A part that is missing, is no file of tensors, or does not fit; the message is one line that names the file."""


def save_part(part: nn.Module | Mapping[str, Tensor], path: Path) -> None:
    """Write a module's weights, or named tensors; the file appears whole or not at all.

    Args:
        part: the module, or its state dict.
        path: the file, e.g. `folder / "rgb-112.safetensors"`; its folder is made if need be.

    Raises:
        OSError: the file cannot be written.
    """
    state = part.state_dict() if isinstance(part, nn.Module) else part
    write_atomically(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}))


def load_part(module: nn.Module, path: Path) -> None:
    """Load one part into a module: a safetensors file, or else a published checkpoint (see `load_reference`).

    Nothing is changed unless every tensor fits.

    Raises:
        PartError: no such file, a file that cannot be read, or tensors that are missing, unexpected or of the wrong
            shape.
    """
    try:
        load_reference(module, path)
    except FileNotFoundError:
        raise PartError(f"{path}: no such file; the phase that trains it has not been run, or not into here") from None
    except CheckpointError as error:
        raise PartError(str(error)) from None


def parts_of(model: AdaptiveSystem) -> dict[str, nn.Module]:
    """Name of each part of a system, and the modules whose weights it holds.

    A system with a temporal sampler has the heads that were trained with it, any other those of S_k.
    """
    parts: dict[str, nn.Module] = {"rgb-112": model.low_rgb}
    if model.high_rgb is not None:
        parts["rgb-224"] = model.high_rgb
    if model.spectrogram is not None:
        parts["spectrogram"] = model.spectrogram
    if model.temporal_sampler is None:
        parts[f"heads-s{model.crops}"] = model.classifier
    else:
        assert model.hallucinator is not None
        parts["hallucinator"] = model.hallucinator
        parts[f"sampler-s{model.crops}-t{model.max_skip}"] = sampler_part(model)
    return parts


def sampler_part(model: AdaptiveSystem) -> nn.ModuleDict:
    """What the last phase trains of a system: its temporal sampler, and the classifier with it."""
    assert model.temporal_sampler is not None
    return nn.ModuleDict({"temporal_sampler": model.temporal_sampler, "classifier": model.classifier})


def load_parts(model: AdaptiveSystem, folder: Path) -> None:
    """Load every part of a system from a folder of trained weights.

    Raises:
        PartError: a part that is missing or does not fit (see `load_part`).
    """
    for name, module in parts_of(model).items():
        load_part(module, folder / f"{name}{SUFFIX}")
