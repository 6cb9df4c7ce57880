"""Importing a library that is an optional extra, or saying in one line what is missing."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from bench.errors import RunError, UsageError, in_words

TORCHVISION_OPERATORS = ("nms", "qnms")
"""Those whose shapes torchvision declares when it is imported, whether or not its compiled part could be loaded."""

_declarations: list[Any] = []
"""Keeps what was declared: it ends with the object that declares it."""


def load(library: str, module: str) -> Any:
    """Import a module of an optional library.

    Args:
        library: "timm", "torchvision", "transformers" or "pytorchvideo", which is also the name of the extra.
        module: its name, or that of a module in it.

    Raises:
        UsageError: the library is not installed.
        RunError: it is installed, and cannot be imported.
    """
    if find_spec(library) is None:
        raise UsageError(f"{library} is not installed: pip install 'foveabench[{library}]'")
    try:
        if find_spec("torchvision") is not None:  # which all of them import where they find it
            _import_torchvision()
        return importlib.import_module(module)
    except Exception as error:
        raise RunError(f"{library} is installed but cannot be imported: {in_words(error)}") from error


def _import_torchvision() -> None:
    """Import torchvision, also where its compiled part is for another build of torch.

    That is so where torch's CPU build stands beside the torchvision of PyPI. The models are written in torch alone;
    what is compiled finds boxes and decodes images, and says so if it is asked for.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        import torch

        declaration = torch.library.Library("torchvision", "FRAGMENT")
        for name in TORCHVISION_OPERATORS:
            declaration.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declarations.append(declaration)
        importlib.import_module("torchvision")
