"""A count of operations by forward hooks on leaf modules, written from the rules of the published tables.

It shares no code with the counter of the harness, so the two check each other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def _operations(module: nn.Module, x: Tensor, y: Tensor) -> int:
    match module:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            multiply_accumulates = module.in_channels // module.groups * math.prod(module.kernel_size)
            return y.numel() * (multiply_accumulates + (module.bias is not None))
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d():
            return 2 * y.numel()
        case nn.ReLU() | nn.ReLU6():
            return y.numel()
        case nn.MaxPool2d() | nn.MaxPool3d() | nn.AvgPool2d() | nn.AdaptiveAvgPool2d() | nn.AdaptiveAvgPool3d():
            return x.numel()
        case nn.Linear():
            return y.numel() * module.in_features
        case nn.Dropout() | nn.Identity():
            return 0
    raise AssertionError(f"no rule for {module}")


def count_by_hooks(model: nn.Module, *args: Tensor, **kwargs: Tensor) -> int:
    """Operations of model(*args, **kwargs): convolution MACs and bias, batch norm 2 per element, ReLU 1,
    pooling 1 per input element, linear MACs; nothing for what is not a module (sums, concatenation, means).
    """
    operations = []

    def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        operations.append(_operations(module, inputs[0], output))

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [module.register_forward_hook(hook) for module in leaves]
    with torch.no_grad():
        model(*args, **kwargs)
    for handle in handles:
        handle.remove()
    return sum(operations)
