"""Nothing that computes is counted as nothing in silence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn, randn

from bench import count_flops


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (torch.linalg.svd, "aten::_linalg_svd"),
        (torch.linalg.qr, "aten::linalg_qr"),
        (torch.linalg.inv, "aten::linalg_inv_ex"),
        (torch.linalg.eigh, "aten::_linalg_eigh"),
    ],
)
def test_operators_without_formula_are_listed(function, operator: str) -> None:
    profile = count_flops(lambda a: function(a), torch.eye(3))
    assert [(entry.layer, entry.operator) for entry in profile.unknown] == [("", operator)]


def test_a_sparse_product_is_listed() -> None:
    sparse = torch.eye(3).to_sparse()
    profile = count_flops(lambda a, b: torch.sparse.mm(a, b), sparse, randn(3, 4))
    assert profile.unknown
    assert profile.macs == 0
    linear = nn.Linear(3, 3, bias=False)
    linear.weight = nn.Parameter(sparse)
    assert count_flops(linear, randn(2, 3)).unknown


def test_quantised_layers_are_listed() -> None:
    x = torch.quantize_per_tensor(randn(2, 3), 0.1, 0, torch.qint8)
    profile = count_flops(lambda x: torch.relu(x), x)
    assert [entry.operator for entry in profile.unknown] == ["relu"]


def test_nested_tensors_are_counted_by_their_parts() -> None:
    nested = torch.nested.nested_tensor([randn(2, 3), randn(5, 3)], layout=torch.jagged)
    profile = count_flops(nn.Linear(3, 4, bias=False), nested)
    assert (profile.macs, profile.unknown) == (7 * 12, [])
    strided = torch.nested.nested_tensor([randn(2, 3), randn(5, 3)])
    assert count_flops(nn.Linear(3, 4, bias=False), strided).unknown


def test_describing_a_tensor_is_nothing_unknown() -> None:
    def describe(x: Tensor) -> Tensor:
        assert (x.size(0), x.numel(), x.is_contiguous(), x.is_complex()) == (2, 6, True, False)
        return x.view_as(x).detach()

    profile = count_flops(describe, randn(2, 3))
    assert (profile.flops, profile.unknown, profile.bytes) == (0, [], 0)


def test_integers_alone_are_nothing_unknown() -> None:
    assert count_flops(lambda x: torch.isin(x, x), torch.ones(2, 3, dtype=torch.int64)).unknown == []
