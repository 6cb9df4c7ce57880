"""Options that several commands have, and checks of them."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

from bench.errors import RunError


class DtypeName(str, Enum):
    """Of weights and inputs; int8 of weights alone."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"


def writable(folder: Path) -> Path:
    """Refuse a folder that cannot be written to, before the work is done.

    Raises:
        RunError: it, or the first folder above it that exists, is no folder or cannot be written to.
    """
    existing = next(each for each in (folder.absolute(), *folder.absolute().parents) if os.path.exists(each))
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise RunError(f"cannot write to {folder}: {existing} is not a folder that can be written to")
    return folder
