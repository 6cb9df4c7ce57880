"""CUDA graphs: the kernels of a network, recorded once for each shape of its inputs, and launched together.

It was written after torch's documentation, and has not been run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.backends.by_shape import ByShape, Network, Run

WARM_UP = 3
"""Calls before the recording, as torch's notes on CUDA semantics have it, for what libraries do once."""


class Made:
    """A `Backend` by CUDA graphs."""

    notes = ("outputs of a graph are copied, for its next launch overwrites them",)

    def __init__(self) -> None:
        self.compiled = 0

    def accelerated(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """See `Backend`."""
        return ByShape(name, function, self._compile)

    def _compile(self, network: Network, inputs: list[Tensor], free: list[set[int]]) -> Run:
        if any(free):
            raise ValueError("a graph is of one shape")
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                network(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = network(*inputs)
        self.compiled += 1

        def run(tensors: list[Tensor]) -> list[Tensor]:
            for own, given in zip(inputs, tensors, strict=True):
                own.copy_(given)
            graph.replay()
            return [output.clone() for output in outputs]

        return run
