"""Resident memory of this process, and its peak since a moment of our choice."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Literal

import psutil

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What tells the kernel to forget the peak so far (proc_pid_clear_refs(5))."""


def resident_bytes() -> int:
    """Resident memory of this process now."""
    return int(psutil.Process().memory_info().rss)


class PeakMemory:
    """The peak of this process's resident memory since construction.

    Attributes:
        how: "VmHWM", the kernel's mark, set back at the start; or "ru_maxrss", the peak since the process began, which
            can only be higher.
    """

    how: Literal["VmHWM", "ru_maxrss"]

    def __init__(self) -> None:
        try:
            CLEAR.write_text(RESET_PEAK)
            self._mark()
            self.how = "VmHWM"
        except (OSError, StopIteration):
            self.how = "ru_maxrss"

    @property
    def peak_bytes(self) -> int:
        """So far."""
        if self.how == "VmHWM":
            return max(self._mark(), resident_bytes())
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    @staticmethod
    def _mark() -> int:
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024


def available_bytes() -> int:
    """Memory that new processes can take now: of the machine, or what its control group leaves of a limit."""
    return int(min(psutil.virtual_memory().available, _left_in_group()))


def _left_in_group() -> float:
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            root = Path(os.sep, "sys", "fs", "cgroup")
            return float((root / limit).read_text()) - float((root / used).read_text())
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return float("inf")
