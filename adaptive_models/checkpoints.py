"""Loading published reference checkpoints, without running anything that they contain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

MENTIONED = 5
"""How many entries of a kind an error names."""


class CheckpointError(ValueError):
    """A checkpoint that does not fit the module, or is none; the message names the entries."""


def load_reference(module: nn.Module, mapping_or_path: Mapping[str, Any] | str | Path) -> None:
    """Load a published checkpoint into a SAN, `Hallucinator`, `TemporalSampler`, `GRUHead` or `ThreeHeads`.

    A checkpoint is a mapping from names to tensors, or {"state_dict": such a mapping}; names may begin with "module.".
    Files are read by `torch.load(weights_only=True)`, which cannot run code. The module's `REFERENCE_NAMES` says
    how published names read here; entries in its `REFERENCE_EXTRAS` (a SAN's ImageNet classifier) may be there and
    are left out. Nothing is changed unless everything fits.

    Args:
        module: what to load into.
        mapping_or_path: the mapping, or the path of a file that holds it, or of a safetensors file.

    Raises:
        CheckpointError: a file that cannot be read safely, or entries that are missing, unexpected, given twice or of
            the wrong shape; the message begins with the path, if that was given.
        FileNotFoundError: no such file.
    """
    if not isinstance(mapping_or_path, (str, Path)):
        _load(module, mapping_or_path)
        return
    try:
        _load(module, _read(Path(mapping_or_path)))
    except CheckpointError as error:
        raise CheckpointError(f"{mapping_or_path}: {error}") from None


def _load(module: nn.Module, source: Any) -> None:
    published = _entries(source)
    own_names = {name: _own_name(module, str(name)) for name in published}
    renamed = {own_names[name]: tensor for name, tensor in published.items()}
    own = module.state_dict()
    known = {*own, *getattr(module, "REFERENCE_EXTRAS", ())}
    # Old checkpoints do not count the batches that batch normalisation has seen.
    missing = [name for name in own if name not in renamed and not name.endswith("num_batches_tracked")]
    unexpected = [str(name) for name, own_name in own_names.items() if own_name not in known]
    twice = [name for name, times in Counter(own_names.values()).items() if times > 1]
    wrong = [
        f"{name} has shape {tuple(tensor.shape)}, not {tuple(own[own_names[name]].shape)}"
        for name, tensor in published.items()
        if own_names[name] in own and tensor.shape != own[own_names[name]].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "given twice": twice, "wrong shape": wrong}
    problems = [f"{kind}: {_mention(names)}" for kind, names in kinds.items() if names]
    if problems:
        raise CheckpointError(f"checkpoint does not fit {type(module).__name__}: {'; '.join(problems)}")
    module.load_state_dict({name: renamed.get(name, own[name]) for name in own})


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"not a safetensors file ({error})") from None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # what torch raises on a file of another kind depends on its first bytes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"not a checkpoint that can be read safely ({reason})") from None


def _entries(source: Any) -> Mapping[str, Tensor]:
    if isinstance(source, Mapping) and isinstance(source.get("state_dict"), Mapping):
        source = source["state_dict"]
    if not isinstance(source, Mapping) or not all(isinstance(value, Tensor) for value in source.values()):
        raise CheckpointError("a checkpoint maps names to tensors, or 'state_dict' to such a mapping")
    return source


def _own_name(module: nn.Module, name: str) -> str:
    name = name.removeprefix("module.")
    for published, own in getattr(module, "REFERENCE_NAMES", {}).items():
        name = name.replace(published, own)
    return name


def _mention(names: list[str]) -> str:
    more = f" and {len(names) - MENTIONED} more" if len(names) > MENTIONED else ""
    return ", ".join(names[:MENTIONED]) + more
