"""The memory that one call of a system takes, in a process of its own that does nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.errors import RunError, UsageError
from bench.systems.libraries.find import in_library
from bench.systems.registry import System, load_object

TIME_LIMIT = 600
"""Seconds."""

STEADY = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""With a fixed threshold, glibc gives large tensors back at once, and peaks repeat within 1 %; else within 8 %."""

_START = "import sys; sys.path[:] = {path!r}; from bench.guards.memory import main; main()"


def peak_memory(places: list[str]) -> int:
    """Bytes by which a call of a system, the second, raises a process' resident memory at most, on one thread.

    Args:
        places: where a fresh process finds the system: its id, or several places of which one will do, each as
            "module:name" or "path/to/file.py:name".

    Raises:
        RunError: the process fails, or does not end.
    """
    command = [sys.executable, "-c", _START.format(path=sys.path), *places]
    try:
        run = subprocess.run(
            command, env={**os.environ, **STEADY}, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"{places[0]}: the process that measures its memory did not end in {TIME_LIMIT} s") from None
    if run.returncode:
        cause = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        raise RunError(f"{places[0]}: the process that measures its memory failed: {cause}")
    return int(run.stdout.split()[-1])


def places_of(system: System) -> list[str]:
    """Where a fresh process finds a system that is an object here; empty if it is not to be found.

    It is found if it was made by `@bench.system` at the top of a module.
    """
    name, module = (getattr(system.build, attribute, "") for attribute in ("__qualname__", "__module__"))
    found = getattr(sys.modules.get(module), name, None)
    if found is not system or module == "__main__":
        return []
    file = getattr(sys.modules[module], "__file__", None)
    return [f"{module}:{name}", *([f"{Path(file).resolve()}:{name}"] if file else [])]


def main() -> None:
    """What the fresh process does: print the bytes."""
    import torch

    from bench.guards.calls import one_call
    from bench.measuring.memory import PeakMemory, resident_bytes

    torch.set_num_threads(1)
    call = one_call(_find(sys.argv[1:]))
    call()  # the first loads code too, more or less of it as the machine has it at hand
    before, peak = resident_bytes(), PeakMemory()
    call()
    print(peak.peak_bytes - before)


def _find(places: list[str]) -> System:
    from bench.systems.builtin import registry

    if ":" not in places[0] or in_library(places[0]):
        return registry().find(places[0])
    *others, last = places
    for place in others:
        try:
            return load_object(place)
        except UsageError:
            continue
    return load_object(last)
