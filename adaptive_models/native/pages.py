"""Large pages of memory, in which weights that are read anew for every frame are read faster."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

from torch import Tensor

PAGE = 2 * 2**20
"""Bytes of a large page where it matters: on x86-64, and on ARM with small ones of 4 KiB."""

_COLLAPSE = 25
"""MADV_COLLAPSE of Linux 6.1 and later."""


def into_large_pages(*tensors: Tensor) -> None:
    """Have the kernel move the memory of tensors on a CPU into large pages, where they fill some; it stays where it is.

    What goes beyond, or cannot be had so (another system, an older kernel, no memory in one piece), stays as it is.
    """
    advise = _madvise()
    if advise is None:
        return
    for tensor in tensors:
        first = tensor.data_ptr()
        # One by one: of a longer piece the kernel gives up at the first page that it cannot have.
        for page in range(-(-first // PAGE) * PAGE, (first + tensor.nbytes) // PAGE * PAGE, PAGE):
            advise(page, PAGE, _COLLAPSE)


@cache
def _madvise() -> ctypes._CFuncPtr | None:  # type: ignore[name-defined]
    if sys.platform != "linux":
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return function
