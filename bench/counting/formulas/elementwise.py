"""Everything that is not a sum of products: pointwise operators, reductions, normalisation, pooling, resampling.

One operation per element and elementary operation:

- a pointwise operator, activation function or comparison of floating-point numbers: 1 per output element;
- a sum, maximum and the like: 1 per input element; a mean: 1 more per output element;
- softmax: 5 per element (maximum, subtraction, exponential, sum, division);
- normalisation: 2 per element (scale, shift) with stored statistics; with statistics of its own 4 more (mean; subtract,
  square, add); layer and group normalisation 2, and 1 each for weight and bias, which batch normalisation folds in;
- pooling: 1 per element of each window, and for a mean 1 more per output element.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, prod
from typing import Any

from torch import Tensor

from bench.counting.registry import Cost, Formula, register_formula

# Pointwise operators of more than one elementary operation, and pointwise ones that torch does not tag as such.
POINTWISE_OPERATIONS = {
    "addcdiv": 2,
    "addcmul": 2,
    "lerp": 3,
    "glu": 2,
    "mse_loss": 2,
    "smooth_l1_loss": 2,
    "huber_loss": 2,
    "rsub": 1,
    "floor_divide": 1,
    "hardswish": 1,
    "log_sigmoid_forward": 1,
    "_prelu_kernel": 1,
    "complex": 0,
}


def pointwise(name: str) -> Formula:
    """Formula of a pointwise operator by its plain name; a scale (`alpha`, `value`) is one more, integers are free."""
    operations = POINTWISE_OPERATIONS.get(name, 1)

    def formula(*args: Any, out: Any, alpha: float = 1, value: float = 1, **_: Any) -> Cost:
        if not any(isinstance(a, Tensor) and (a.is_floating_point() or a.is_complex()) for a in (*args, first(out))):
            return Cost()
        return Cost(other=first(out).numel() * (operations + (alpha != 1) + (value != 1)))

    return formula


def first(out: Any) -> Tensor:
    """The main result of an operator that may return several."""
    return out[0] if isinstance(out, (tuple, list)) else out


# --- reductions --------------------------------------------------------------------------------------------------


@register_formula(
    *(
        f"aten::{name}"
        for name in (
            "sum", "nansum", "prod", "amax", "amin", "aminmax", "argmax", "argmin", "cumsum", "cumprod", "cummax",
            "cummin", "median", "nanmedian", "mode", "kthvalue", "count_nonzero", "col2im", "nll_loss", "nll_loss_nd",
            "nll_loss_forward", "nll_loss2d_forward", "trace",
        )
    )
)  # fmt: skip
def reduction(x: Tensor, *_: Any, out: Any, **__: Any) -> Cost:
    """One operation per input element."""
    return Cost(other=x.numel())


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
    return Cost(other=4 * x.numel() + first(out).numel())


@register_formula("aten::norm", "aten::linalg_vector_norm", "aten::frobenius_norm", family="norm")
def norm(x: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """Power and sum per element; a root per result."""
    return Cost(other=2 * x.numel() + out.numel())


@register_formula("aten::logsumexp")
def logsumexp(x: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """Maximum, subtraction, exponential and sum per element; logarithm and addition per result."""
    return Cost(other=4 * x.numel() + 2 * out.numel())


@register_formula("aten::scatter_add", "aten::index_add", "aten::scatter_add_", "aten::index_add_")
def scattered_sum(x: Tensor, dim: int, index: Tensor, source: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """One addition per element of the source."""
    return Cost(other=source.numel())


@register_formula("aten::embedding_bag", "aten::_embedding_bag", "aten::_embedding_bag_forward_only")
def embedding_bag(weight: Tensor, indices: Tensor, *_: Any, out: Any, **__: Any) -> Cost:
    """One addition per looked-up number."""
    return Cost(other=indices.numel() * weight.shape[-1])


# --- softmax and normalisation -----------------------------------------------------------------------------------


@register_formula(
    "aten::softmax",
    "aten::log_softmax",
    "aten::_softmax",
    "aten::_log_softmax",
    "aten::_safe_softmax",
    family="softmax",
)
def softmax(x: Tensor, *_: Any, out: Tensor, **__: Any) -> Cost:
    """Maximum, subtraction, exponential, sum, division (or logarithm)."""
    return Cost(other=5 * x.numel())


@register_formula("aten::batch_norm", "aten::native_batch_norm", "aten::_native_batch_norm_legit", "aten::cudnn_batch_norm",
                  "aten::miopen_batch_norm", family="batch_norm")  # fmt: skip
def batch_norm(
    x: Tensor,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any = None,
    training: bool = False,
    *_: Any,
    out: Any,
    **__: Any,
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
    x: Tensor,
    shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    out: Any,
    **__: Any,
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


@register_formula("aten::dropout", "aten::dropout_", "aten::native_dropout", family="dropout")
def dropout(x: Tensor, p: float, train: bool | None, *, out: Any) -> Cost:
    """In training, mask and scale; nothing in evaluation."""
    return Cost(other=2 * x.numel() if train and p else 0)


# --- pooling and resampling --------------------------------------------------------------------------------------


def windows(dims: int, divides: bool) -> Formula:
    """Formula of pooling over windows: each element of each is met once; one that reaches over the edge counts whole."""

    def formula(x: Tensor, kernel_size: Sequence[int], *_: Any, out: Any, **__: Any) -> Cost:
        elements = prod(kernel_size) if len(kernel_size) == dims else kernel_size[0] ** dims
        return Cost(other=first(out).numel() * (elements + divides))

    return formula


def adaptive_windows(dims: int, divides: bool) -> Formula:
    """Formula of adaptive pooling, whose windows from floor(i n / m) to ceil((i + 1) n / m) may overlap."""

    def formula(x: Tensor, *_: Any, out: Any, **__: Any) -> Cost:
        result = first(out)
        elements = prod(x.shape[:-dims])
        for n, m in zip(x.shape[-dims:], result.shape[-dims:], strict=True):
            elements *= sum(-(-(i + 1) * n // m) - i * n // m for i in range(m))
        return Cost(other=elements + divides * result.numel())

    return formula


for _dims in (1, 2, 3):
    _max, _mean = f"max_pool{_dims}d", f"avg_pool{_dims}d"
    register_formula(f"aten::{_max}", f"aten::{_max}_with_indices", family="max_pool")(windows(_dims, False))
    register_formula(f"aten::{_mean}", family="avg_pool")(windows(_dims, True))
    register_formula(f"aten::adaptive_{_max}", family="adaptive_max_pool")(adaptive_windows(_dims, False))
    register_formula(f"aten::adaptive_{_mean}", f"aten::_adaptive_{_mean}", family="adaptive_avg_pool")(
        adaptive_windows(_dims, True)
    )


def per_output(operations: int) -> Formula:
    """Formula of an operator that does the same for every output element."""

    def formula(*_: Any, out: Tensor, **__: Any) -> Cost:
        return Cost(other=operations * out.numel())

    return formula


# Interpolation: a product for each neighbour and a sum over them.
register_formula("aten::upsample_linear1d")(per_output(3))
register_formula("aten::upsample_bilinear2d")(per_output(7))
register_formula("aten::upsample_trilinear3d")(per_output(15))
register_formula("aten::upsample_bicubic2d")(per_output(31))
register_formula("aten::grid_sampler", "aten::grid_sampler_2d", family="grid_sampler")(per_output(7))


@register_formula("aten::_fft_r2c", "aten::_fft_c2c", "aten::_fft_c2r", family="fft")
def fft(x: Tensor, dims: Sequence[int], *_: Any, out: Tensor, **__: Any) -> Cost:
    """5 n log2(n) for a complex transform of length n, half of it where one side is real."""
    larger = x if x.numel() >= out.numel() else out
    length = prod(larger.shape[d] for d in dims)
    operations = 5 * larger.numel() * log2(max(length, 1))
    return Cost(other=round(operations if x.is_complex() and out.is_complex() else operations / 2))
