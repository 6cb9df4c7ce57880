"""Reductions, orderings, losses and transforms: 1 operation per input element and elementary operation."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2, prod
from typing import Any

from torch import Tensor

from bench.counting.registry import Cost, Formula, register_formula


def per_input(operations: int) -> Formula:
    """Formula of an operator that does the same for every input element."""

    def formula(x: Tensor, *_: Any, out: Any, **__: Any) -> Cost:
        return Cost(other=operations * x.numel())

    return formula


for _name in (
    "sum", "nansum", "prod", "amax", "amin", "aminmax", "_aminmax", "argmax", "argmin", "cumsum", "cumprod", "cummax",
    "cummin", "median", "nanmedian", "mode", "kthvalue", "topk", "trace", "col2im", "unfold_backward", "bincount",
    "all", "any", "equal", "nonzero", "nonzero_static", "argwhere", "count_nonzero",
):  # fmt: skip
    register_formula(f"aten::{_name}")(per_input(1))
register_formula("aten::histc", "aten::histogram")(per_input(2))
register_formula("aten::dist", "aten::renorm")(per_input(3))
register_formula("aten::logcumsumexp", "aten::allclose")(per_input(4))


@register_formula("aten::max", "aten::min")
def extremum(x: Tensor, other: Any = None, *_: Any, out: Any, **__: Any) -> Cost:
    """A reduction, or the larger or smaller of two tensors."""
    return Cost(other=out.numel() if isinstance(other, Tensor) else x.numel())


@register_formula("aten::mean", "aten::nanmean")
def mean(x: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """A sum, and a division per result."""
    return Cost(other=x.numel() + out.numel())


@register_formula("aten::var", "aten::std", "aten::var_mean", "aten::std_mean")
def variance(x: Tensor, *_: Any, out: Any, **__: Any) -> Cost:
    """Mean, subtraction, square and sum per element; a division or root per result."""
    return Cost(other=4 * x.numel() + (out if isinstance(out, Tensor) else out[0]).numel())


@register_formula("aten::norm", "aten::linalg_vector_norm", "aten::frobenius_norm", family="norm")
def norm(x: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """Power and sum per element; a root per result."""
    return Cost(other=2 * x.numel() + out.numel())


@register_formula("aten::logsumexp")
def logsumexp(x: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """Maximum, subtraction, exponential and sum per element; logarithm and addition per result."""
    return Cost(other=4 * x.numel() + 2 * out.numel())


# --- additions at given places -----------------------------------------------------------------------------------


@register_formula("aten::scatter_add", "aten::index_add", "aten::scatter_reduce", "aten::index_reduce")
def scattered_sum(x: Tensor, dim: int, index: Tensor, source: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """One addition, or the like, per element of the source."""
    return Cost(other=source.numel())


@register_formula(
    "aten::index_put", "aten::put", "aten::_index_put_impl", "aten::_unsafe_index_put", family="index_put"
)
def index_put(x: Tensor, index: Any, values: Tensor, accumulate: bool = False, *_: Any, out: Tensor) -> Cost:
    """Nothing, or an addition per value."""
    return Cost(other=values.numel() if accumulate else 0)


@register_formula("aten::embedding_bag", "aten::_embedding_bag", "aten::_embedding_bag_forward_only")
def embedding_bag(weight: Tensor, indices: Tensor, *_: Any, out: Any, **__: Any) -> Cost:
    """One addition per looked-up number."""
    return Cost(other=indices.numel() * weight.shape[-1])


@register_formula("aten::embedding_renorm")
def embedding_renorm(weight: Tensor, indices: Tensor, *_: Any, out: Any) -> Cost:
    """Square, sum and scale for each looked-up number."""
    return Cost(other=3 * indices.numel() * weight.shape[-1])


# --- orderings ---------------------------------------------------------------------------------------------------


@register_formula("aten::sort", "aten::argsort", "aten::msort", family="sort")
def sort(x: Tensor, *settings: Any, out: Any, **named: Any) -> Cost:
    """n ceil(log2 n) comparisons for a row of n; the row is the last dimension unless another is named."""
    dim = named.get("dim", next((s for s in settings if type(s) is int), -1))
    return Cost(other=x.numel() * ceil(log2(max(x.shape[dim] if x.ndim else 1, 1))))


@register_formula("aten::unique_dim", "aten::unique_consecutive", "aten::_unique", "aten::_unique2", family="unique")
def unique(x: Tensor, *_: Any, out: Any, **__: Any) -> Cost:
    """Comparisons of a sort of all elements."""
    return Cost(other=x.numel() * ceil(log2(max(x.numel(), 1))))


@register_formula("aten::searchsorted")
def searchsorted(boundaries: Tensor, values: Tensor | float, *_: Any, out: Tensor, **__: Any) -> Cost:
    """ceil(log2(n + 1)) comparisons per value, for n boundaries."""
    return Cost(other=out.numel() * ceil(log2(boundaries.shape[-1] + 1)))


@register_formula("aten::bucketize")
def bucketize(values: Tensor | float, boundaries: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """As `searchsorted`."""
    return searchsorted(boundaries, values, out=out)


# --- losses ------------------------------------------------------------------------------------------------------


def loss(operations: int) -> Formula:
    """Formula of a loss of so many operations per element of prediction and target, and a sum if it is reduced."""

    def formula(x: Tensor, target: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
        elements = max(x.numel(), target.numel())
        return Cost(other=elements * (operations + (out.numel() != elements)))

    return formula


register_formula("aten::mse_loss")(loss(2))  # subtract, square
register_formula("aten::soft_margin_loss")(loss(4))  # multiply, negate, exponential, logarithm
register_formula("aten::smooth_l1_loss", "aten::huber_loss")(loss(5))  # subtract, absolute, compare, square, scale
register_formula("aten::binary_cross_entropy")(loss(7))  # t log(x) + (1 - t) log(1 - x)
register_formula("aten::binary_cross_entropy_with_logits")(loss(8))  # max(x, 0) - x t + log(1 + exp(-|x|))


@register_formula(
    "aten::nll_loss", "aten::nll_loss_nd", "aten::nll_loss_forward", "aten::nll_loss2d_forward", family="nll_loss"
)
def nll_loss(x: Tensor, target: Tensor, *_: Any, out: Any, **__: Any) -> Cost:
    """One addition per target."""
    return Cost(other=target.numel())


# --- Fourier transform -------------------------------------------------------------------------------------------


@register_formula("aten::_fft_r2c", "aten::_fft_c2c", "aten::_fft_c2r", family="fft")
def fft(x: Tensor, dims: Sequence[int], *_: Any, out: Tensor, **__: Any) -> Cost:
    """5/2 n log2(n) complex operations for a transform of length n, half of them where one side is real.

    The counter takes an operation on complex numbers for two.
    """
    larger = x if x.numel() >= out.numel() else out
    operations = 5 * larger.numel() * log2(max(prod(larger.shape[d] for d in dims), 1)) / 2
    return Cost(other=round(operations if x.is_complex() and out.is_complex() else operations / 2))
