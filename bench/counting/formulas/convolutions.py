"""Convolutions, plain, grouped and transposed. MACs: dense, so that padding counts as data."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor

from bench.counting.registry import Cost, register_formula


@register_formula("aten::conv1d", "aten::conv2d", "aten::conv3d", family="convolution")
def convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, out: Tensor, **__: Any) -> Cost:
    """Every output element is one dot product with a kernel of (C_in / groups) x k."""
    return Cost(out.numel() * prod(weight.shape[1:]), out.numel() if bias is not None else 0)


@register_formula("aten::conv_transpose1d", "aten::conv_transpose2d", "aten::conv_transpose3d", family="convolution")
def transposed_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, out: Tensor, **__: Any
) -> Cost:
    """Every input element meets every weight of its kernel of (C_out / groups) x k."""
    return Cost(x.numel() * prod(weight.shape[1:]), out.numel() if bias is not None else 0)


@register_formula("aten::convolution", "aten::_convolution", "aten::convolution_overrideable", family="convolution")
def any_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, transposed: bool,
    *_: Any, out: Tensor, **__: Any,
) -> Cost:  # fmt: skip
    """What every convolution becomes below autograd."""
    return (transposed_convolution if transposed else convolution)(x, weight, bias, out=out)


@register_formula("aten::convolution_backward", family="convolution_backward")
def convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias_sizes: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, output_mask: list[bool], *, out: Any,
) -> Cost:  # fmt: skip
    """The gradients of the input and of the weight each cost what the forward pass does; that of the bias is a sum."""
    forward = (x if transposed else grad).numel() * prod(weight.shape[1:])
    return Cost(forward * (output_mask[0] + output_mask[1]), grad.numel() * output_mask[2])
