"""OpenVINO, on CPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openvino
import torch
from torch import Tensor

from bench.backends.by_shape import ByShape, Network, Run
from bench.backends.onnx_export import ATTENTION, to_onnx

PRECISIONS = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}


class Made:
    """A `Backend` by OpenVINO's CPU plugin, with as many threads as torch.

    It is told to keep to the precision of the inputs, for by itself it takes bfloat16 where that is fast.
    """

    notes = (ATTENTION,)

    def __init__(self) -> None:
        self._core = openvino.Core()
        self._settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
        self.compiled = 0

    def accelerated(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """See `Backend`."""
        return ByShape(name, function, self._compile)

    def _compile(self, network: Network, inputs: list[Tensor], free: list[set[int]]) -> Run:
        precision = PRECISIONS[inputs[0].dtype]
        model = self._core.read_model(to_onnx(network, inputs, free))
        compiled = self._core.compile_model(model, "CPU", {**self._settings, "INFERENCE_PRECISION_HINT": precision})
        request, outputs = compiled.create_infer_request(), range(len(compiled.outputs))
        self.compiled += 1

        def run(tensors: list[Tensor]) -> list[Tensor]:
            results = request.infer([tensor.numpy() for tensor in tensors], share_inputs=True)
            return [torch.from_numpy(results[place]) for place in outputs]

        return run
