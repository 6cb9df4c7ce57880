"""Backward passes of what has an operator of its own for it; those of products are products and need no formulas here.

A derivative of a pointwise operator is 1 operation per element, as the operator is; that of a normalisation costs twice
its forward pass; one that hands gradients back to where the values came from, one addition each.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bench.counting.formulas.pooling import BICUBIC, BILINEAR, LINEAR, TRILINEAR, adaptive_windows, windows
from bench.counting.formulas.reductions import per_input
from bench.counting.registry import Cost, Formula, register_formula

for _name in (
    "elu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_sigmoid", "softplus",
    "softshrink", "rrelu_with_noise", "_prelu_kernel", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "embedding_dense", "reflection_pad1d", "reflection_pad2d",
    "reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d",
):  # fmt: skip
    register_formula(f"aten::{_name}_backward")(per_input(1))

register_formula("aten::_softmax_backward_data", "aten::_log_softmax_backward_data", family="softmax_backward")(
    per_input(4)  # product, sum, subtraction, product
)
register_formula("aten::upsample_linear1d_backward")(per_input(LINEAR))
register_formula("aten::upsample_bilinear2d_backward")(per_input(BILINEAR))
register_formula("aten::upsample_trilinear3d_backward")(per_input(TRILINEAR))
register_formula("aten::upsample_bicubic2d_backward")(per_input(BICUBIC))
register_formula("aten::_weight_norm_interface_backward")(per_input(6))


def loss_backward(operations: int) -> Formula:
    """Formula of a loss's derivative, of so many operations per element of the prediction."""

    def formula(grad: Tensor, x: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
        return Cost(other=operations * x.numel())

    return formula


register_formula("aten::mse_loss_backward", "aten::soft_margin_loss_backward")(loss_backward(3))
register_formula("aten::smooth_l1_loss_backward", "aten::huber_loss_backward")(loss_backward(5))
register_formula("aten::binary_cross_entropy_backward")(loss_backward(5))


def as_forward(formula: Formula) -> Formula:
    """Formula of a backward pass, called with gradient and input, that costs what the forward pass does."""

    def backward_formula(grad: Tensor, x: Tensor, *settings: Any, out: Any, **_: Any) -> Cost | int:
        return formula(x, *settings, out=grad)

    return backward_formula


for _dims in (2, 3):
    register_formula(f"aten::avg_pool{_dims}d_backward")(as_forward(windows(_dims, True)))
    register_formula(f"aten::_adaptive_avg_pool{_dims}d_backward")(as_forward(adaptive_windows(_dims, True)))


@register_formula(
    "aten::native_batch_norm_backward", "aten::cudnn_batch_norm_backward", "aten::miopen_batch_norm_backward",
    "aten::batch_norm_backward", family="batch_norm_backward",
)  # fmt: skip
def batch_norm_backward(grad: Tensor, x: Tensor, *_: Any, out: Any) -> Cost:
    """Twice the forward pass with statistics of the batch."""
    return Cost(other=12 * x.numel())


@register_formula("aten::native_layer_norm_backward", "aten::native_group_norm_backward", family="layer_norm_backward")
def layer_norm_backward(grad: Tensor, x: Tensor, *_: Any, out: Any) -> Cost:
    """Twice the forward pass with weight and bias."""
    return Cost(other=16 * x.numel())


@register_formula("aten::_fused_rms_norm_backward", family="rms_norm_backward")
def rms_norm_backward(grad: Tensor, x: Tensor, *_: Any, out: Any) -> Cost:
    """Twice the forward pass with weight."""
    return Cost(other=8 * x.numel())
