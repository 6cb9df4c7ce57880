"""foveabench: what video action recognition really costs.

What needs torch is imported when it is first used, so that the command line answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.counting.count import count_flops
    from bench.counting.profile import Profile
    from bench.counting.registry import Cost, register_formula
    from bench.systems.registry import System, system

_HOMES = {
    "count_flops": "bench.counting.count",
    "Profile": "bench.counting.profile",
    "Cost": "bench.counting.registry",
    "register_formula": "bench.counting.registry",
    "System": "bench.systems.registry",
    "system": "bench.systems.registry",
}

__all__ = ["Cost", "Profile", "System", "count_flops", "register_formula", "system"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
