"""A product of two tensors that is then summed is multiply-accumulates, however it is written.

Throughout, a and b are (2, 3, 4): 24 products.
"""

from __future__ import annotations

import pytest
import torch
from every_way import assert_counts
from torch import Tensor, nn, randn

from bench import count_flops


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(-1)


class Aggregation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.summed = Sum()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.summed(a * b)


def sums_of_parts(a: Tensor, b: Tensor) -> Tensor:
    product = a * b
    return torch.stack((product[:, :1].sum(), product[:, 1:].sum()))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: (a * b).sum(),
        lambda a, b: (a * b).sum(-1),
        lambda a, b: torch.sum(torch.mul(a, b), dim=(0, 2)),
        lambda a, b: a.mul_(b).sum(-1),
        lambda a, b: (a * b).transpose(0, 1).flatten(1).unsqueeze(0).sum(-1),
        lambda a, b: (a * b).permute(2, 0, 1).contiguous().view(4, 6).sum(1),  # moved, not changed
        lambda a, b: (a * b).double().sum(),
        sums_of_parts,
        Aggregation(),
    ],
)
def test_products_that_are_summed_are_multiply_accumulates(function) -> None:
    assert_counts(function, randn(2, 3, 4), randn(2, 3, 4), macs=24, flops=48)


def add_to_product(a: Tensor, b: Tensor) -> Tensor:
    product = a * b
    product.add_(1)
    return product.sum()


def multiply_twice(a: Tensor, b: Tensor) -> Tensor:
    product = a * b
    product.mul_(b)
    return product.sum()


def sum_twice(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    product = a * b
    return product.sum(0), product.sum(1)


@pytest.mark.parametrize(
    ("function", "macs", "flops"),
    [
        (lambda a, b: (a * b).mean(-1), 24, 48 + 6),  # 6 divisions
        (lambda a, b: a * b, 0, 24),
        (lambda a, b: (a * b).relu().sum(), 0, 24 + 24 + 24),  # products and additions, but not of the same
        (lambda a, b: (a * 2).sum(), 0, 24 + 24),  # a factor is no second tensor
        (lambda a, b: (a * b).expand(5, 2, 3, 4).sum(), 24, 48 + 4 * 24),  # four more times, only additions
        (add_to_product, 0, 24 + 24 + 24),
        (multiply_twice, 24, 24 + 48),
        (sum_twice, 24, 48 + 24),
    ],
)
def test_products_that_are_not_simply_summed(function, macs: int, flops: int) -> None:
    assert_counts(function, randn(2, 3, 4), randn(2, 3, 4), macs=macs, flops=flops)


def test_the_macs_are_charged_where_the_sum_is() -> None:
    # The products are made in the module and summed in its child; none of them is counted twice.
    profile = count_flops(Aggregation(), randn(2, 3, 4), randn(2, 3, 4))
    assert [(row.name, row.macs, row.flops) for row in profile.rows] == [("", 0, 0), ("summed", 24, 48)]


def test_sums_of_complex_products() -> None:
    # A complex product is 4 multiplications and 2 additions, a complex sum 2 additions: 4 multiply-accumulates.
    a, b = randn(2, 3, dtype=torch.complex64), randn(2, 3, dtype=torch.complex64)
    assert_counts(lambda a, b: (a * b).sum(), a, b, macs=4 * 6, flops=8 * 6)


def test_an_empty_product_is_no_trouble() -> None:
    assert_counts(lambda a: (a * a).sum(), randn(0, 3), macs=0, flops=0)


def test_an_integer_product_that_becomes_floating_point_is_no_trouble() -> None:
    a = torch.ones(2, 3, dtype=torch.int64)
    assert_counts(lambda a: (a * a).float().sum(), a, macs=0, flops=6)
