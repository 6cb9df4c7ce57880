"""Loading published reference checkpoints, without running anything that they contain."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

MENTIONED = 5
"""How many entries of a kind an error names."""


class CheckpointError(ValueError):
    """A checkpoint that does not fit the module, or is none; the message names the entries."""


def load_reference(module: nn.Module, mapping_or_path: Mapping[str, Any] | str | Path) -> None:
    """Load a published checkpoint into a SAN, `Hallucinator`, `TemporalSampler`, `GRUHead` or `ThreeHeads`.

    A checkpoint is a mapping from names to tensors, or {"state_dict": such a mapping}; names may begin with "module.".
    Files are read by `torch.load(weights_only=True)`, which cannot run code. The module's `REFERENCE_NAMES` says
    how published names read here; entries in its `REFERENCE_EXTRAS` (a SAN's ImageNet classifier) may be there and are left
    out. Nothing is changed unless everything fits.

    Args:
        module: what to load into.
        mapping_or_path: the mapping, or the path of a file that holds it.

    Raises:
        CheckpointError: a file that cannot be read safely, or entries that are missing, unexpected or of the wrong shape.
        FileNotFoundError: no such file.
    """
    entries = _entries(mapping_or_path)
    renamed = {_own_name(module, name): tensor for name, tensor in entries.items()}
    extras = getattr(module, "REFERENCE_EXTRAS", ())
    own = module.state_dict()
    wrong = [
        f"{name} has shape {tuple(renamed[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in renamed and renamed[name].shape != own[name].shape
    ]
    # Old checkpoints do not count the batches that batch normalisation has seen.
    missing = [name for name in own if name not in renamed and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in renamed if name not in own and name not in extras]
    problems = [
        f"{kind} {_mention(names)}"
        for kind, names in (("missing:", missing), ("unexpected:", unexpected), ("wrong shape:", wrong))
        if names
    ]
    if problems:
        raise CheckpointError(f"checkpoint does not fit {type(module).__name__}: {'; '.join(problems)}")
    module.load_state_dict({name: renamed.get(name, own[name]) for name in own})


def _entries(source: Mapping[str, Any] | str | Path) -> dict[str, Tensor]:
    if isinstance(source, (str, Path)):
        try:
            source = torch.load(source, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise CheckpointError(f"{source}: not a checkpoint that can be read safely ({reason})") from None
    if isinstance(source, Mapping) and isinstance(source.get("state_dict"), Mapping):
        source = source["state_dict"]
    if not isinstance(source, Mapping) or not all(isinstance(value, Tensor) for value in source.values()):
        raise CheckpointError("a checkpoint maps names to tensors, or 'state_dict' to such a mapping")
    return {str(name).removeprefix("module."): tensor for name, tensor in source.items()}


def _own_name(module: nn.Module, name: str) -> str:
    for published, own in getattr(module, "REFERENCE_NAMES", {}).items():
        name = name.replace(published, own)
    return name


def _mention(names: list[str]) -> str:
    more = f" and {len(names) - MENTIONED} more" if len(names) > MENTIONED else ""
    return ", ".join(names[:MENTIONED]) + more
