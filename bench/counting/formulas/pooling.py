"""Pooling and resampling: 1 operation per element of each window, and for a mean 1 more per output element."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from bench.counting.registry import Cost, Formula, register_formula


def windows(dims: int, divides: bool) -> Formula:
    """Formula of pooling over windows; one that reaches over the edge counts whole."""

    def formula(x: Tensor, kernel_size: Sequence[int], *_: Any, out: Any, **__: Any) -> Cost:
        elements = prod(kernel_size) if len(kernel_size) == dims else kernel_size[0] ** dims
        return Cost(other=_main(out).numel() * (elements + divides))

    return formula


def adaptive_windows(dims: int, divides: bool) -> Formula:
    """Formula of adaptive pooling, whose windows from floor(i n / m) to ceil((i + 1) n / m) may overlap."""

    def formula(x: Tensor, *_: Any, out: Any, **__: Any) -> Cost:
        result = _main(out)
        elements = prod(x.shape[:-dims])
        for n, m in zip(x.shape[-dims:], result.shape[-dims:], strict=True):
            elements *= sum(-(-(i + 1) * n // m) - i * n // m for i in range(m))
        return Cost(other=elements + divides * result.numel())

    return formula


def _main(out: Any) -> Tensor:
    return out if isinstance(out, Tensor) else out[0]


for _dims in (1, 2, 3):
    _max, _mean = f"max_pool{_dims}d", f"avg_pool{_dims}d"
    register_formula(f"aten::{_max}", f"aten::{_max}_with_indices", family="max_pool")(windows(_dims, False))
    register_formula(f"aten::{_mean}", family="avg_pool")(windows(_dims, True))
    register_formula(f"aten::adaptive_{_max}", family="adaptive_max_pool")(adaptive_windows(_dims, False))
    register_formula(f"aten::adaptive_{_mean}", f"aten::_adaptive_{_mean}", family="adaptive_avg_pool")(
        adaptive_windows(_dims, True)
    )

# Interpolation: a product for each neighbour and a sum over them.
LINEAR, BILINEAR, TRILINEAR, BICUBIC = 3, 7, 15, 31


def per_output(operations: int) -> Formula:
    """Formula of an operator that does the same for every output element."""

    def formula(*_: Any, out: Tensor, **__: Any) -> Cost:
        return Cost(other=operations * out.numel())

    return formula


register_formula("aten::upsample_linear1d")(per_output(LINEAR))
register_formula("aten::upsample_bilinear2d")(per_output(BILINEAR))
register_formula("aten::upsample_trilinear3d")(per_output(TRILINEAR))
register_formula("aten::upsample_bicubic2d")(per_output(BICUBIC))


@register_formula("aten::grid_sampler", "aten::grid_sampler_2d", "aten::grid_sampler_3d", family="grid_sampler")
def grid_sampler(x: Tensor, grid: Tensor, mode: int, *_: Any, out: Tensor) -> Cost:
    """Linear interpolation (mode 0) between neighbours, the nearest one (1), or cubic interpolation (2)."""
    linear = BILINEAR if x.ndim == 4 else TRILINEAR
    return Cost(other=out.numel() * (linear, 0, BICUBIC)[mode])
