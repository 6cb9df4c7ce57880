"""Watching a SAN step by step without changing how it runs: with hooks on its layers, none would be fused.

What runs fused is watched in the smallest steps in which it runs so; everything else by its modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from adaptive_models import fused
from adaptive_models.san import SAN

Call = Callable[..., Any]
"""Called as call(name, modules, function, *args), for a step of these modules; returns function(*args)."""


class Watch:
    """The steps of one network.

    What was once seen to run fused is taken in the same steps again, also while something counts it, layer by layer.

    Args:
        network: which.
        call: is given every step that runs fused.
    """

    def __init__(self, network: SAN, call: Call) -> None:
        self._network, self._call = network, call
        self._fused: set[tuple[str, ...]] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While it lasts."""
        own = vars(self._network)
        own["_run"], own["_run_split"] = self._run, self._run_split
        try:
            yield
        finally:
            del own["_run"], own["_run_split"]

    def _run(self, names: Sequence[str], x: Tensor) -> Tensor:
        suits = self._runs_fused(names, x)
        if not suits and tuple(names) not in self._fused:
            return SAN._run(self._network, names, x)
        run = fused.run if suits else SAN._run
        for step in fused.steps(tuple(names)):
            x = self._call(", ".join(step), self._modules(step), run, self._network, step, x)
        return x

    def _run_split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        network, split = self._network, (self._network.split,)
        if not self._runs_fused(split, x) and split not in self._fused:
            return SAN._run_split(network, x)
        return self._call(network.split, self._modules(split), SAN._run_split, network, x)

    def _runs_fused(self, names: Sequence[str], x: Tensor) -> bool:
        suits = fused.suits(self._network, names, x)
        if suits:
            self._fused.add(tuple(names))
        return suits

    def _modules(self, names: Sequence[str]) -> list[nn.Module]:
        return [self._network.get_submodule(name) for name in names]
