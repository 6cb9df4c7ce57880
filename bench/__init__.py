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

_HOMES = {
    "count_flops": "bench.counting.count",
    "Profile": "bench.counting.profile",
    "Cost": "bench.counting.registry",
    "register_formula": "bench.counting.registry",
}

__all__ = ["Cost", "Profile", "count_flops", "register_formula"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
