"""Operators that are not torch's own: reported by layer and name, and counted once they have a formula."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn, randn

from bench import Cost, count_flops, register_formula
from bench.counting.profile import Unknown
from bench.counting.registry import FORMULAS


@torch.library.custom_op("counttest::scores", mutates_args=())
def scores(a: Tensor, b: Tensor) -> Tensor:
    return a @ b.T


@scores.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[0])


@torch.library.custom_op("counttest::without_meta", mutates_args=())
def without_meta(a: Tensor) -> Tensor:
    return a * 2


@torch.library.custom_op("counttest::best", mutates_args=())
def best(a: Tensor) -> int:
    return int(a.argmax())


@torch.library.custom_op("counttest::double_", mutates_args=("a",))
def double_(a: Tensor) -> None:
    a *= 2


class Matching(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return scores(a, b)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(3, 4, bias=False)
        self.match = Matching()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.match(self.project(a), self.project(b))


@pytest.fixture
def formulas() -> Iterator[None]:
    before = dict(FORMULAS)
    yield
    FORMULAS.clear()
    FORMULAS.update(before)


def test_without_a_formula_it_is_listed_by_layer_and_operator() -> None:
    profile = count_flops(Model(), randn(2, 3), randn(5, 3))
    assert profile.macs == (2 + 5) * 12
    assert profile.unknown == [Unknown("match", "counttest::scores", calls=1)]
    assert "unknown operators: 1" in repr(profile)
    repeated = count_flops(lambda a: scores(scores(a, a), scores(a, a)), randn(2, 3))
    assert repeated.unknown == [Unknown("", "counttest::scores", calls=3)]


@pytest.mark.usefixtures("formulas")
def test_with_a_formula_of_three_lines_it_is_counted() -> None:
    @register_formula("counttest::scores")
    def scores_macs(a: Tensor, b: Tensor, *, out: Tensor) -> int:
        return out.numel() * a.shape[-1]

    profile = count_flops(Model(), randn(2, 3), randn(5, 3))
    assert profile.unknown == []
    assert profile.macs == (2 + 5) * 12 + 2 * 5 * 4
    assert [(row["name"], row["macs"]) for row in profile.layers()][-1] == ("match", 40)
    assert [op["name"] for op in profile.operators()] == ["linear", "scores"]
    assert count_flops(Model(), randn(2, 3), randn(5, 3), convention="paper").flops == profile.macs


@pytest.mark.parametrize(
    "operator", [scores, torch.ops.counttest.scores, torch.ops.counttest.scores.default, "counttest::scores"]
)
@pytest.mark.usefixtures("formulas")
def test_an_operator_can_be_named_in_four_ways(operator: object) -> None:
    register_formula(operator, family="matching")(lambda a, b, out: Cost(macs=10, other=3))
    profile = count_flops(Matching(), randn(2, 3), randn(5, 3))
    assert (profile.macs, profile.flops) == (10, 23)
    assert profile.operators()[0]["name"] == "matching"


def test_an_operator_without_meta_kernel_runs_on_data_and_is_listed() -> None:
    profile = count_flops(lambda a: without_meta(a) + 1, randn(2, 3))
    assert profile.unknown == [Unknown("", "counttest::without_meta")]
    assert (profile.flops, profile.device) == (6, "cpu")
    assert "counttest::without_meta" in profile.reason


def test_operators_that_return_no_tensor_are_listed_too() -> None:
    assert count_flops(lambda a: best(a), randn(2, 3)).unknown == [Unknown("", "counttest::best")]
    a = randn(2, 3)
    before = a.clone()
    profile = count_flops(lambda a: double_(a), a)
    assert profile.unknown == [Unknown("", "counttest::double_")]
    assert torch.equal(a, before)


@pytest.mark.usefixtures("formulas")
def test_operators_that_return_no_tensor_can_have_formulas() -> None:
    register_formula(double_)(lambda a, out: Cost(macs=a.numel(), other=1))
    profile = count_flops(lambda a: double_(a), randn(2, 3))
    assert (profile.macs, profile.flops, profile.activations, profile.unknown) == (6, 13, 0, [])


def test_a_second_formula_is_refused() -> None:
    with pytest.raises(ValueError, match="aten::mm has a formula already"):
        register_formula(torch.ops.aten.mm)(lambda a, b, out: 0)
    with pytest.raises(ValueError, match="aten::mm has a formula already"):
        register_formula("counttest::scores", "aten::mm")(lambda a, b, out: 0)
    assert "counttest::scores" not in FORMULAS


@pytest.mark.parametrize("thing", [torch.mm, "mm", 3, None])
def test_what_is_no_operator_is_refused(thing: object) -> None:
    with pytest.raises(TypeError, match=r"give an operator such as torch\.ops\.mylib\.my_op"):
        register_formula(thing)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x @ x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad @ x.T + x.T @ grad


def test_the_forward_pass_of_an_autograd_function_is_counted() -> None:
    profile = count_flops(Square.apply, randn(3, 3))
    assert (profile.macs, profile.unknown) == (27, [])
