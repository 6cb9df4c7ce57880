"""ONNX Runtime, on CPUs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor

from bench.backends.by_shape import ByShape, Network, Run
from bench.backends.onnx_export import ATTENTION, to_onnx

ERRORS_ONLY = 3

INT8 = "int8: quantize_dynamic rounds weights of products and convolutions once, and what they are given at every call"


class Made:
    """A `Backend` by ONNX Runtime, with all of its optimisations, and as many threads as torch.

    Args:
        int8: round weights to 8 bits by its dynamic quantisation.
    """

    def __init__(self, int8: bool = False) -> None:
        self._int8 = int8
        self.notes = (ATTENTION, INT8) if int8 else (ATTENTION,)
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
        if self._int8:
            model = _quantized(model)
        session = onnxruntime.InferenceSession(model, self._options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        self.compiled += 1

        def run(tensors: list[Tensor]) -> list[Tensor]:
            arrays = [tensor.numpy() for tensor in tensors]
            return [torch.from_numpy(each) for each in session.run(None, dict(zip(names, arrays, strict=True)))]

        return run


def _quantized(model: bytes) -> bytes:
    """With weights of 8 bits where ONNX Runtime has operators for them."""
    with TemporaryDirectory() as folder:
        to = Path(folder) / "model.onnx"
        logging.disable(logging.WARNING)  # it advises what it does by itself
        try:
            quantize_dynamic(onnx.load_from_string(model), to, weight_type=QuantType.QInt8, per_channel=True)
        finally:
            logging.disable(logging.NOTSET)
        return to.read_bytes()
