"""ONNX Runtime, on CPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from bench.backends.by_shape import ByShape, Network, Run
from bench.backends.onnx_export import ATTENTION, to_onnx

ERRORS_ONLY = 3


class Made:
    """A `Backend` by ONNX Runtime, with all of its optimisations, and as many threads as torch."""

    notes = (ATTENTION,)

    def __init__(self) -> None:
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = torch.get_num_threads()
        self._options.inter_op_num_threads = 1
        self._options.log_severity_level = ERRORS_ONLY
        self.compiled = 0

    def accelerated(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """See `Backend`."""
        return ByShape(name, function, self._compile)

    def _compile(self, network: Network, inputs: list[Tensor], free: list[set[int]]) -> Run:
        model = to_onnx(network, inputs, free)
        session = onnxruntime.InferenceSession(model, self._options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        self.compiled += 1

        def run(tensors: list[Tensor]) -> list[Tensor]:
            arrays = [tensor.numpy() for tensor in tensors]
            return [torch.from_numpy(each) for each in session.run(None, dict(zip(names, arrays, strict=True)))]

        return run
