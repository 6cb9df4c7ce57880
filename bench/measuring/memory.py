"""Resident memory of this process, and its peak since a moment of our choice."""

from __future__ import annotations

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


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that new processes can take now: of the machine, or what its control group leaves of a limit.

    Args:
        root: of the file system, for tests.
    """
    return int(min(psutil.virtual_memory().available, _left_in_group(root / "sys/fs/cgroup")))


def _left_in_group(group: Path) -> float:
    """Pages of files that nobody has used of late count as used in a group, but give way (cgroups(7), v2 and v1)."""
    for limit, used, stat, files in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            left = float((group / limit).read_text()) - float((group / used).read_text())
            facts = dict(line.split() for line in (group / stat).read_text().splitlines())
            return left + float(facts[files])
        except (OSError, ValueError, KeyError):  # no such group, or "max"
            continue
    return float("inf")
