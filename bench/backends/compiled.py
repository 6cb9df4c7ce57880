"""torch.compile: layers traced into one graph, and compiled by TorchInductor into C++, or Triton on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
import torch._dynamo
from torch._dynamo.exc import TorchDynamoException

from bench.backends.backend import UnsupportedError, why


class Made:
    """A `Backend` by torch.compile, whole graphs only: what it would leave to Python is a reason to give up."""

    notes = ("compiled as written: local attention is the plain one, whose layers TorchInductor fuses as it can",)

    def __init__(self) -> None:
        torch._dynamo.config.allow_rnn = True  # else no graph holds a GRU
        torch._dynamo.reset()
        self._counters = torch._dynamo.utils.counters["stats"]
        self._before = self._counters["unique_graphs"]

    @property
    def compiled(self) -> int:
        """How many graphs were compiled so far."""
        return int(self._counters["unique_graphs"] - self._before)

    def accelerated(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """See `Backend`; batches of a second size are compiled for any (torch's `dynamic=None`)."""
        compiled = torch.compile(function, fullgraph=True)

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return compiled(*args, **kwargs)
            except TorchDynamoException as error:
                raise UnsupportedError(f"{name} cannot be compiled: {why(error)}") from error

        return run
