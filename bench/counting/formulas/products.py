"""Matrix products and their kin. MACs: one per output element and element of the contracted dimension."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bench.counting.registry import Cost, register_formula


@register_formula("aten::linear", "aten::mkldnn_linear", family="linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor) -> Cost:
    """Every output element is one dot product with a row of the weight; the bias is one addition."""
    return Cost(out.numel() * weight.shape[-1], out.numel() if bias is not None else 0)


@register_formula(
    "aten::mm", "aten::bmm", "aten::matmul", "aten::mv", "aten::dot", "aten::vdot", "aten::_int_mm", family="matmul"
)
def matmul(a: Tensor, b: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """Every output element is one dot product over the last dimension of the first factor."""
    return Cost(out.numel() * a.shape[-1])


@register_formula(
    "aten::addmm", "aten::baddbmm", "aten::addmv", "aten::addbmm", "aten::addr", "aten::_addmm_activation",
    family="matmul",
)  # fmt: skip
def add_matmul(
    x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1, use_gelu: bool | None = None, out: Tensor,
    **_: Any,
) -> Cost:  # fmt: skip
    """`beta * x + alpha * (a @ b)`; with `addbmm` the products of a batch are summed too; an activation may follow."""
    if a.ndim == 1:  # addr, an outer product
        inner = 1
    elif a.ndim == 3 and out.ndim == 2:  # addbmm
        inner = a.shape[0] * a.shape[-1]
    else:
        inner = a.shape[-1]
    extra = (beta != 0) + (beta not in (0, 1)) + (alpha != 1) + (use_gelu is not None)
    return Cost(out.numel() * inner, extra * out.numel())


@register_formula("aten::bilinear", family="bilinear")
def bilinear(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor) -> Cost:
    """The outer product of both inputs once, then one MAC per weight and sample."""
    samples = out.numel() // weight.shape[0]
    return Cost(samples * weight.numel(), samples * weight[0].numel() + (out.numel() if bias is not None else 0))


@register_formula("aten::_trilinear", family="bilinear")
def trilinear(x: Tensor, weight: Tensor, y: Tensor, *_: Any, out: Tensor) -> Cost:
    """What `bilinear` becomes below autograd."""
    return bilinear(x, y, weight, out=out)


@register_formula("aten::_cdist_forward", "aten::cdist", "aten::_euclidean_dist", family="cdist")
def cdist(a: Tensor, b: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """For each pair: subtract, then square and sum, then the root."""
    return Cost(out.numel() * a.shape[-1], out.numel() * (a.shape[-1] + 1))


@register_formula("aten::_pdist_forward", family="cdist")
def pdist(a: Tensor, *_: Any, out: Tensor) -> Cost:
    """As `cdist`, for each pair of rows."""
    return cdist(a, a, out=out)


@register_formula("aten::affine_grid_generator")
def affine_grid(theta: Tensor, *_: Any, out: Tensor) -> Cost:
    """Each coordinate is one dot product with a row of the transform."""
    return Cost(out.numel() * theta.shape[-1])
