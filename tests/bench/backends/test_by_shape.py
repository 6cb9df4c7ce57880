from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.backends.backend import UnsupportedError
from bench.backends.by_shape import ByShape, Network, Run


class Scaled(nn.Module):
    """Two outputs, of arguments by position, by name and of None."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor, shift: Tensor | None = None, power: int = 1) -> tuple[tuple[Tensor, ...], Tensor]:
        if x.shape[-1] == 7:
            raise ValueError("seven is too many")
        y = self.weight * x**power + (0 if shift is None else shift)
        return (y, x + 1), y.sum(dim=1)


class Listener:
    """Compiles nothing, and keeps for what it was asked to; it refuses free sizes if it is told to."""

    def __init__(self, any_size: bool = True) -> None:
        self.asked: list[tuple[list[tuple[int, ...]], list[set[int]]]] = []
        self.any_size = any_size

    def __call__(self, network: Network, inputs: list[Tensor], free: list[set[int]]) -> Run:
        self.asked.append(([tuple(each.shape) for each in inputs], free))
        if any(free) and not self.any_size:
            raise ValueError("one size alone\nand more of that")
        return lambda tensors: network(*tensors)


@torch.inference_mode()
def test_it_returns_what_the_method_does() -> None:
    module, listener = Scaled().eval(), Listener()
    fast = ByShape("forward", module.forward, listener)
    x, shift = torch.randn(2, 4), torch.randn(4)
    for args, kwargs in (((x,), {}), ((x, shift), {}), ((x,), {"shift": shift, "power": 2}), ((x,), {})):
        torch.testing.assert_close(fast(*args, **kwargs), module(*args, **kwargs), rtol=0, atol=0)
    assert [shapes for shapes, _ in listener.asked] == [[(2, 4)], [(2, 4), (4,)], [(2, 4), (4,)]]


def test_of_batches_the_second_size_is_compiled_for_any() -> None:
    listener = Listener()
    fast = ByShape("forward", Scaled().forward, listener)
    for size in (3, 2, 1, 3, 5):
        assert fast(torch.randn(size, 4))[1].shape == (size,)
    # for any size by an example of the larger batch: what is of size 1 would be taken for a constant
    assert listener.asked == [([(3, 4)], [set()]), ([(3, 4)], [{0}])]


def test_where_any_size_cannot_be_compiled_each_is() -> None:
    listener = Listener(any_size=False)
    fast = ByShape("forward", Scaled().forward, listener)
    for size in (3, 2, 1, 2, 3):
        assert fast(torch.randn(size, 4))[1].shape == (size,)
    assert [shapes for shapes, free in listener.asked if free == [set()]] == [[(3, 4)], [(2, 4)], [(1, 4)]]


def test_what_cannot_be_compiled_is_one_line_with_the_cause() -> None:
    def refuse(*_: object) -> Run:
        try:
            raise KeyError("no such operator")
        except KeyError as error:
            raise RuntimeError("this is step 2 of 3\n1. do this") from error

    fast = ByShape("low.forward", Scaled().forward, refuse)
    with pytest.raises(UnsupportedError, match=r"^low\.forward cannot be compiled: KeyError: 'no such operator'$"):
        fast(torch.randn(1, 4))


def test_errors_of_the_model_are_its_own() -> None:
    listener = Listener()
    with pytest.raises(ValueError, match=r"^seven is too many$"):
        ByShape("forward", Scaled().forward, listener)(torch.randn(1, 7))
    assert listener.asked == []


def test_only_tensors_come_out_of_a_compiler() -> None:
    class Told(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, str]:
            return x, "seen"

    with pytest.raises(UnsupportedError, match=r"^forward returns something beside tensors$"):
        ByShape("forward", Told().forward, Listener())(torch.ones(1))
