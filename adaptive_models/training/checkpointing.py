"""Checkpoints of training: all that is needed to go on as if nothing had happened, written whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from adaptive_models.checkpoints import CheckpointError


@dataclass(frozen=True)
class Checkpoint:
    """A phase of training after an epoch.

    Random generators need no place in it: each epoch starts them from the seed, the phase, the epoch and the rank
    (see `loop.start_random`), and the seed is among the settings.

    Attributes:
        phase: its name.
        settings: that it was trained with, a mapping of mappings and plain values.
        epochs: that are done.
        module, optimizer, scheduler, scaler: state dicts.
        history: a summary of each epoch.
    """

    phase: str
    settings: dict[str, Any]
    epochs: int
    module: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    scaler: dict[str, Any]
    history: list[dict[str, Any]]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, even if the process is killed or the machine stops.

    Raises:
        OSError: the folder cannot be made or written to, or the disk is full; a file that was there is unharmed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OSError: as `write_atomically`.
    """
    buffer = io.BytesIO()  # torch's own writer can bring the process down where the disk is full
    torch.save({field.name: getattr(checkpoint, field.name) for field in fields(Checkpoint)}, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, without running anything that it contains, to the CPU.

    Raises:
        CheckpointError: a file that is cut off, damaged, or no checkpoint of training.
        OSError: no such file, or one that cannot be read.
    """
    content = path.read_bytes()
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip():  # compares checksums, which torch does not
                raise BadZipFile("a checksum is wrong")
        entries = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises depends on where the damage is
        reason, *_ = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"{path}: a checkpoint that is cut off or damaged ({reason})") from None
    if not isinstance(entries, dict) or entries.keys() != {field.name for field in fields(Checkpoint)}:
        raise CheckpointError(f"{path}: not a checkpoint of training")
    return Checkpoint(**entries)


def refuse_changes(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings than those that a checkpoint was trained with.

    Raises:
        CheckpointError: settings differ; it names each, with both values.
    """
    old, new = _flat(before), _flat(now)
    changed = [
        f"{name} was {old.get(name, 'not set')}, is {new.get(name, 'not set')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if changed:
        raise CheckpointError(
            f"{path} was trained with other settings: {'; '.join(changed)}: "
            "go on with those, delete it, or train in another folder"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
