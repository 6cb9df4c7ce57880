"""Networks in the ONNX format, which ONNX Runtime and OpenVINO read."""

from __future__ import annotations

import logging
import warnings

import torch
from torch import Tensor

from bench.backends.by_shape import Network

ATTENTION = (
    "exported as written: local attention is the plain one (unfold), for ONNX has no operator for the compiled kernels"
)


def to_onnx(network: Network, inputs: list[Tensor], free: list[set[int]]) -> bytes:
    """Export a network by torch.export.

    Args:
        network: in evaluation mode.
        inputs: of its kind.
        free: for each input, its dimensions that may be of any size.

    Returns:
        The model, with its weights.

    Raises:
        Exception: whatever torch raises where something cannot be exported.
    """
    dims = tuple(dict.fromkeys(own, torch.export.Dim.DYNAMIC) for own in free)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(network, tuple(inputs), dynamic_shapes=(dims,))
            # Runtimes optimise by themselves
            program = torch.onnx.export(exported, dynamo=True, optimize=False, verbose=False)
    finally:
        logger.setLevel(level)
    assert program is not None
    model: bytes = program.model_proto.SerializeToString()
    return model
