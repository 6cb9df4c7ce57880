"""Matrix products and their kin, by hand: rows x inner x columns MACs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from every_way import assert_counts
from torch import Tensor, nn, randn


@pytest.mark.parametrize(
    ("module", "shape", "macs", "flops"),
    [
        (nn.Linear(3, 4), (2, 3), 24, 2 * 24 + 8),  # 2*3*4; a bias for each of 2*4 outputs
        (nn.Linear(3, 4, bias=False), (2, 3), 24, 48),
        (nn.Linear(3, 4), (3,), 12, 2 * 12 + 4),
        (nn.Linear(3, 4), (2, 5, 3), 120, 2 * 120 + 40),  # 10 rows
        (nn.Linear(3, 4), (0, 3), 0, 0),
    ],
)
def test_linear(module: nn.Module, shape: tuple[int, ...], macs: int, flops: int) -> None:
    assert_counts(module, randn(shape), macs=macs, flops=flops)


@pytest.mark.parametrize(
    ("product", "a", "b", "macs"),
    [
        (torch.mm, (2, 3), (3, 4), 24),
        (torch.bmm, (5, 2, 3), (5, 3, 4), 120),
        (torch.mv, (4, 3), (3,), 12),
        (torch.dot, (5,), (5,), 5),
        (torch.vdot, (5,), (5,), 5),
        (torch.inner, (3,), (3,), 3),
        (torch.inner, (2, 3), (4, 3), 24),
        (torch.matmul, (3,), (3,), 3),
        (torch.matmul, (3,), (3, 4), 12),
        (torch.matmul, (2, 3), (3,), 6),
        (torch.matmul, (2, 3), (3, 4), 24),
        (torch.matmul, (5, 1, 2, 3), (4, 3, 6), 720),  # broadcast to 5*4 products of 2*3*6
        (torch.linalg.vecdot, (5, 3), (5, 3), 15),
        (lambda a, b: torch.tensordot(a, b, dims=2), (2, 3, 4), (3, 4, 5), 120),  # 2*12*5
        (lambda a, b: a.T @ b.T, (3, 2), (4, 3), 24),  # views are free
    ],
)
def test_products_of_two(product, a: tuple[int, ...], b: tuple[int, ...], macs: int) -> None:
    assert_counts(product, randn(a), randn(b), macs=macs, flops=2 * macs)


@pytest.mark.parametrize(
    ("function", "shapes", "macs", "others"),
    [
        (torch.addmm, [(4,), (2, 3), (3, 4)], 24, 8),  # an addition for each of 2*4 outputs
        (lambda x, a, b: torch.addmm(x, a, b, beta=0), [(4,), (2, 3), (3, 4)], 24, 0),
        (lambda x, a, b: torch.addmm(x, a, b, beta=0.5, alpha=2), [(4,), (2, 3), (3, 4)], 24, 3 * 8),
        (torch.addmv, [(4,), (4, 3), (3,)], 12, 4),
        (torch.addbmm, [(2, 4), (5, 2, 3), (5, 3, 4)], 120, 8),  # five products, summed into one
        (torch.baddbmm, [(5, 2, 4), (5, 2, 3), (5, 3, 4)], 120, 40),
        (lambda x, a, b: x.addmm_(a, b), [(2, 4), (2, 3), (3, 4)], 24, 8),
        (torch.addr, [(3, 4), (3,), (4,)], 12, 12),
    ],
)
def test_products_that_are_added(function, shapes: list[tuple[int, ...]], macs: int, others: int) -> None:
    assert_counts(function, *map(randn, shapes), macs=macs, flops=2 * macs + others)


@pytest.mark.parametrize(
    ("equation", "shapes", "macs", "others"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)], 24, 0),
        ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)], 120, 0),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)], 720, 0),  # 2*3 products of 4*5*6
        ("ij,ij->i", [(2, 3), (2, 3)], 6, 0),  # two dot products of 3
        ("ij,ij->", [(2, 3), (2, 3)], 6, 0),
        ("ij,ij->ij", [(2, 3), (2, 3)], 0, 6),  # elementwise: products without sums
        ("i,j->ij", [(3,), (4,)], 0, 12),  # outer
        ("i,ij,j->", [(3,), (3, 4), (4,)], 12 + 4, 0),  # row times matrix, then a dot product of 4
        ("ij,k->k", [(2, 3), (4,)], 0, 6 + 4),  # the matrix is summed first, then scales
        ("ii->i", [(3, 3)], 0, 0),
        ("ijk->k", [(2, 3, 4)], 0, 24),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]], macs: int, others: int) -> None:
    def contract(*operands: Tensor) -> Tensor:
        return torch.einsum(equation, *operands)

    assert_counts(contract, *map(randn, shapes), macs=macs, flops=2 * macs + others)


def test_a_chain_is_multiplied_in_the_cheapest_order() -> None:
    # (2x3 @ 3x4) @ 4x5 is 24 + 40; 2x3 @ (3x4 @ 4x5) would be 60 + 30.
    assert_counts(lambda *m: torch.linalg.multi_dot(m), randn(2, 3), randn(3, 4), randn(4, 5), macs=64, flops=128)


def test_a_power_of_a_matrix_is_products() -> None:
    assert_counts(lambda a: torch.matrix_power(a, 3), randn(3, 3), macs=2 * 27, flops=4 * 27)


def test_outer_product_has_no_sums() -> None:
    assert_counts(torch.outer, randn(3), randn(4), macs=0, flops=12)


def test_bilinear() -> None:
    # 5 samples: an outer product of 2*3, then 4 outputs of 2*3 weights, and 4 biases.
    module = nn.Bilinear(2, 3, 4)
    assert_counts(module, randn(5, 2), randn(5, 3), macs=5 * 4 * 6, flops=2 * 120 + 5 * 6 + 5 * 4)


def test_distances() -> None:
    # 3*5 pairs of 4 numbers: subtract, square and sum, root.
    assert_counts(torch.cdist, randn(3, 4), randn(5, 4), macs=60, flops=60 + 2 * 60 + 15)


def test_affine_grid() -> None:
    # 2*5*6 places of 2 coordinates, each a row of 3 times (x, y, 1).
    assert_counts(
        lambda theta: F.affine_grid(theta, [2, 3, 5, 6], align_corners=False),
        randn(2, 2, 3),
        macs=2 * 30 * 2 * 3,
        flops=720,
    )


def test_products_of_integers_count_and_their_other_operations_do_not() -> None:
    a, b = torch.ones(2, 3, dtype=torch.int64), torch.ones(3, 4, dtype=torch.int64)
    assert_counts(lambda a, b: (a @ b + 1).sum(), a, b, macs=24, flops=48)


def test_products_of_complex_numbers_are_four_of_real_ones() -> None:
    a, b = randn(2, 3, dtype=torch.complex64), randn(3, 4, dtype=torch.complex64)
    assert_counts(torch.mm, a, b, macs=4 * 24, flops=8 * 24)


def test_an_output_tensor_may_be_given() -> None:
    assert_counts(lambda a, b, c: torch.mm(a, b, out=c), randn(2, 3), randn(3, 4), torch.empty(2, 4), macs=24, flops=48)
