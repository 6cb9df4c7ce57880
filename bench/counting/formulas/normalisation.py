"""Softmax, normalisation and dropout.

- softmax: 5 per element (maximum, subtraction, exponential, sum, division);
- normalisation: 2 per element (scale, shift) with stored statistics; with statistics of its own 4 more (mean; subtract,
  square, add); layer and group normalisation 1 more each for weight and bias, which batch normalisation folds in.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bench.counting.registry import Cost, register_formula


@register_formula(
    "aten::softmax", "aten::log_softmax", "aten::_softmax", "aten::_log_softmax", "aten::_safe_softmax",
    "aten::_masked_softmax", family="softmax",
)  # fmt: skip
def softmax(x: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """Maximum, subtraction, exponential, sum, division (or logarithm)."""
    return Cost(other=5 * x.numel())


@register_formula(
    "aten::batch_norm", "aten::native_batch_norm", "aten::_native_batch_norm_legit", "aten::cudnn_batch_norm",
    "aten::miopen_batch_norm", family="batch_norm",
)  # fmt: skip
def batch_norm(
    x: Tensor, weight: Any, bias: Any, mean: Any, var: Any = None, training: bool = False, *_: Any, out: Any, **__: Any
) -> Cost:
    """Scale and shift per element, weight and bias folded in; statistics of the batch if it is to use them."""
    return Cost(other=(6 if training else 2) * x.numel())


@register_formula("aten::_native_batch_norm_legit_no_training", "aten::_batch_norm_no_update", family="batch_norm")
def stored_batch_norm(x: Tensor, *_: Any, out: Any, **__: Any) -> Cost:
    """What batch normalisation becomes below autograd with stored statistics."""
    return Cost(other=2 * x.numel())


@register_formula("aten::_batch_norm_with_update", family="batch_norm")
def updating_batch_norm(x: Tensor, *_: Any, out: Any, **__: Any) -> Cost:
    """What batch normalisation becomes below autograd in training."""
    return Cost(other=6 * x.numel())


@register_formula("aten::layer_norm", "aten::native_layer_norm", "aten::group_norm", family="layer_norm")
def layer_norm(
    x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, *_: Any, out: Any, **__: Any
) -> Cost:
    """Statistics (4), normalise (2), weight and bias."""
    return Cost(other=(6 + (weight is not None) + (bias is not None)) * x.numel())


@register_formula("aten::native_group_norm", family="layer_norm")
def native_group_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, *_: Any, out: Any) -> Cost:
    """What group normalisation becomes below autograd."""
    return layer_norm(x, None, weight, bias, out=out)


@register_formula("aten::rms_norm", "aten::_fused_rms_norm", family="rms_norm")
def rms_norm(x: Tensor, shape: Any, weight: Tensor | None = None, *_: Any, out: Any, **__: Any) -> Cost:
    """Square, sum, scale, and the weight."""
    return Cost(other=(3 + (weight is not None)) * x.numel())


@register_formula("aten::_weight_norm", "aten::_weight_norm_interface", family="weight_norm")
def weight_norm(direction: Tensor, magnitude: Tensor, *_: Any, out: Any) -> Cost:
    """Square, sum and scale per weight; a root and a division per magnitude."""
    return Cost(other=3 * direction.numel() + 2 * magnitude.numel())


@register_formula("aten::dropout", "aten::native_dropout", family="dropout")
def dropout(x: Tensor, p: float, train: bool | None, *, out: Any) -> Cost:
    """In training, mask and scale; nothing in evaluation."""
    return Cost(other=2 * x.numel() if train and p else 0)
