"""What glibc does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3), as malloc.h numbers them
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep memory that is freed for the next tensors, instead of giving it back to the system, where glibc is used.

    Else every large tensor is mapped anew, and the system fills it with zeros page by page: half of the time of
    training a narrow network on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_MMAP_MAX, 0)
