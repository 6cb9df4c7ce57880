"""Rows: which module is charged, under which name, with which parameters, whatever way it is called."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn, randn
from torch.nn.utils import parametrizations

from bench import count_flops


class Two(nn.Module):
    """Two linear layers around an operation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x) * 2) + 1

    def half(self, x: Tensor) -> Tensor:
        return self.first(x)


TWO = 2 * (12 + 20)  # MACs on (2, 3)


def table(profile) -> list[tuple[str, str, int, int]]:
    return [(row.name, row.type, row.flops, row.params) for row in profile.rows]


def test_an_empty_model() -> None:
    profile = count_flops(nn.Sequential(), randn(2, 3))
    assert (profile.macs, profile.flops, profile.params, profile.rows) == (0, 0, 0, [])
    with_hook = nn.Sequential()
    with_hook.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    assert table(count_flops(with_hook, randn(2, 3))) == [("", "Sequential", 6, 0)]


def test_rows_are_in_the_order_of_execution() -> None:
    profile = count_flops(Two(), randn(2, 3))
    assert table(profile) == [
        ("first", "Linear", 2 * 24 + 8, 16),
        ("", "Two", 8, 0),  # doubling
        ("second", "Linear", 2 * 40 + 10, 25),
        ("", "Two", 10, 0),  # adding one
    ]
    assert (profile.macs, profile.params, profile.uncalled) == (TWO, 41, [])


def test_names_are_those_of_named_modules() -> None:
    nested = nn.ModuleDict({"left": nn.Sequential(Two(), nn.ReLU()), "right": Two()})
    nested.forward = lambda x: nested["left"](x) + nested["right"](x)
    profile = count_flops(nested, randn(2, 3))
    assert {row.name for row in profile.rows} == {
        "left.0.first", "left.0", "left.0.second", "left.1", "right.first", "right", "right.second", "",
    }  # fmt: skip


def test_a_repeated_module_has_its_parameters_once_and_its_operations_each_time() -> None:
    layer = nn.Linear(3, 3)
    profile = count_flops(lambda x: layer(layer(layer(x))), randn(2, 3))
    assert (profile.macs, profile.params) == (3 * 18, 12)
    assert table(profile) == [("", "Linear", 48 - 6, 12), ("", "Linear", 42, 0), ("", "Linear", 42, 0)]


def test_a_shared_module_goes_by_its_first_name() -> None:
    shared = nn.Linear(3, 3)
    profile = count_flops(nn.Sequential(shared, nn.ReLU(), shared), randn(2, 3))
    assert [(row.name, row.params) for row in profile.rows] == [("0", 12), ("1", 0), ("0", 0)]
    assert profile.macs == 2 * 18


def test_tied_weights_count_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert count_flops(model, randn(2, 3)).params == 9


def test_a_module_that_nothing_calls_is_listed_with_its_parameters() -> None:
    model = Two()
    model.spare = nn.Linear(7, 7)
    profile = count_flops(model, randn(2, 3))
    assert profile.uncalled == ["spare"]
    assert profile.params == 41 + 56 == sum(p.numel() for p in model.parameters())
    assert table(profile)[-1] == ("spare", "Linear", 0, 56)


def test_a_module_whose_weight_is_used_without_calling_it_is_charged_to_the_user() -> None:
    class Borrower(Two):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.first.weight) + self.second.forward(self.first.bias).sum()

    profile = count_flops(Borrower(), randn(2, 3))
    assert (profile.macs, profile.params, profile.uncalled) == (24 + 20, 41, [])
    assert {row.name for row in profile.rows} == {""}


def test_parameters_outside_of_layers() -> None:
    class Scales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scales = nn.ParameterList([nn.Parameter(randn(3)), nn.Parameter(randn(3))])
            self.shift = nn.Parameter(randn(3))
            self.register_buffer("table", randn(3))

        def forward(self, x: Tensor) -> Tensor:
            for scale in self.scales:
                x = x * scale
            return x + self.shift + self.table

    profile = count_flops(Scales(), randn(2, 3))
    assert (profile.flops, profile.params, profile.uncalled) == (4 * 6, 9, [])


def test_hooks_of_the_user_run_and_are_counted() -> None:
    model, calls = Two(), []
    model.first.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    model.second.register_forward_hook(lambda module, args, output: output * 2)
    model.second.register_forward_hook(lambda *_: calls.append("called"))
    assert count_flops(model, randn(2, 3)).flops == 2 * TWO + 8 + 10 + 8 + 10 + 6 + 10
    assert calls == []  # those of the copy did


@pytest.mark.parametrize(
    ("wrap", "power_iterations"),
    [(parametrizations.spectral_norm, 0), (torch.nn.utils.spectral_norm, 1)],
)
def test_spectral_norm(wrap, power_iterations: int) -> None:
    model = wrap(nn.Linear(3, 4, bias=False)).eval()
    profile = count_flops(model, randn(2, 3))
    # in evaluation u (W v): a product of matrix and vector, and a dot product; then the layer itself
    assert profile.macs == 12 + 4 + 24
    assert (profile.params, profile.unknown, profile.uncalled) == (12, [], [])


def test_parametrised_in_general() -> None:
    class Symmetric(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.triu() + x.triu(1).T

    model = nn.Linear(3, 3)
    torch.nn.utils.parametrize.register_parametrization(model, "weight", Symmetric())
    profile = count_flops(model, randn(2, 3))
    assert (profile.macs, profile.flops, profile.params, profile.device) == (18, 36 + 6 + 9, 12, "meta")
    assert [row.name for row in profile.rows if row.ops] == ["parametrizations.weight.0", ""]


def test_lazy_modules_learn_their_sizes_on_the_copy() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))
    profile = count_flops(model, randn(2, 3, 6, 5))
    conv, linear = 2 * 48 * 27, 2 * 48 * 2
    assert (profile.macs, profile.params, profile.device) == (conv + linear, 4 * 27 + 4 + 96 + 2, "meta")
    assert [row.type for row in profile.rows if row.ops] == ["Conv2d", "Linear"]
    assert isinstance(model[0], nn.LazyConv2d)
    assert model[0].has_uninitialized_params()


# --- what can be called ------------------------------------------------------------------------------------------


def test_a_method_is_charged_to_its_module() -> None:
    profile = count_flops(Two().half, randn(2, 3))
    assert (profile.macs, profile.params, profile.uncalled) == (24, 41, ["second"])
    assert table(profile)[0][:2] == ("first", "Linear")


def test_partial_functions() -> None:
    assert count_flops(functools.partial(Two(), randn(2, 3))).macs == TWO
    assert count_flops(functools.partial(F.linear, weight=randn(4, 3)), randn(2, 3)).macs == 24
    profile = count_flops(functools.partial(lambda model, x: model(x), Two()), randn(2, 3))
    assert (profile.macs, profile.params, profile.rows[0].name) == (TWO, 41, "first")


def test_plain_functions() -> None:
    profile = count_flops(lambda x: x @ x.T, randn(2, 3))
    assert (profile.macs, profile.params, table(profile)) == (12, 0, [("", "function", 24, 0)])
    assert count_flops(torch.mm, randn(2, 3), randn(3, 4)).macs == 24
    assert count_flops(randn(2, 3).mm, randn(3, 4)).macs == 24


MODEL = Two()


def doubled(x: Tensor) -> Tensor:
    return MODEL(x) * 2


def test_functions_that_refer_to_models() -> None:
    inside, weight = Two(), randn(3, 3)

    def closure(x: Tensor) -> Tensor:
        return inside(x @ weight)

    for function, macs in ((closure, TWO + 18), (doubled, TWO), (lambda x: doubled(x), TWO)):
        profile = count_flops(function, randn(2, 3))
        assert (profile.macs, profile.params, profile.device) == (macs, 41, "meta")
    assert {row.name for row in count_flops(doubled, randn(2, 3)).rows} == {"", "first", "second"}


def test_several_models_go_by_the_names_of_their_variables() -> None:
    encoder, decoder = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 5))
    profile = count_flops(lambda x: decoder(encoder(x)), randn(2, 3))
    assert [(row.name, row.params) for row in profile.rows] == [("encoder", 16), ("decoder.0", 25)]
    given = count_flops(lambda encoder, x, head: head(encoder(x)), encoder, randn(2, 3), head=decoder)
    assert [(row.name, row.params) for row in given.rows] == [("0", 16), ("head.0", 25)]


def test_objects_that_hold_models() -> None:
    class Runner:
        def __init__(self) -> None:
            self.model = Two()

        def run(self, x: Tensor) -> Tensor:
            return self.model(x)

        __call__ = run

    for call in (Runner().run, Runner()):
        profile = count_flops(call, randn(2, 3))
        assert (profile.macs, profile.params, profile.rows[0].name) == (TWO, 41, "first")


def test_a_recursive_function() -> None:
    def power(x: Tensor, n: int) -> Tensor:
        return x if n == 1 else x @ power(x, n - 1)

    assert count_flops(power, randn(3, 3), 4).macs == 3 * 27


# --- what it can be called with ----------------------------------------------------------------------------------


@dataclass
class Batch:
    image: Tensor
    masks: dict[str, list[Tensor]]
    name: str = "clip"


class Output(dict):
    """Names that are attributes too, and cannot be deleted, as in well-known libraries of models."""

    def __delitem__(self, key: str) -> None:
        raise TypeError("names are fixed")


class TakesAnything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4, bias=False)

    def forward(self, batch: Any, scale: Tensor | None = None, *, shift: Any = None) -> Tensor:
        image = batch.image if isinstance(batch, Batch) else batch["image"] if isinstance(batch, dict) else batch[0]
        x = self.layer(image)
        x = x if scale is None else x * scale
        return x if shift is None else x + shift["by"][0]


@pytest.mark.parametrize(
    "batch",
    [
        Batch(randn(2, 3), {"left": [randn(2, 3)]}),
        {"image": randn(2, 3), "name": "clip"},
        Output(image=randn(2, 3)),
        (randn(2, 3), None, 3),
        [randn(2, 3)],
        torch.nn.utils.rnn.PackedSequence(randn(2, 3), torch.tensor([1, 1])),
    ],
)
def test_structured_inputs(batch: Any) -> None:
    profile = count_flops(TakesAnything(), batch, scale=randn(4), shift={"by": (randn(4),)})
    assert (profile.macs, profile.flops, profile.device) == (24, 48 + 8 + 8, "meta")


# --- functional programming --------------------------------------------------------------------------------------


def test_vmap_inside_a_model() -> None:
    class PerSample(Two):
        def forward(self, x: Tensor) -> Tensor:
            return torch.func.vmap(self.second)(torch.func.vmap(lambda row: self.first.weight @ row)(x))

    assert count_flops(PerSample(), randn(2, 3)).macs == TWO


def test_functional_call_inside_a_model() -> None:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3, 4, bias=False)
            self.delta = nn.Parameter(randn(4, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.func.functional_call(self.net, {"weight": self.net.weight + self.delta}, (x,))

    profile = count_flops(Adapted(), randn(2, 3))
    assert (profile.macs, profile.flops, profile.params) == (24, 48 + 12, 24)


def test_a_module_that_is_made_while_running_is_charged_to_its_maker() -> None:
    class Maker(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.Linear(3, 4, bias=False)(x)

    profile = count_flops(nn.Sequential(Maker()), randn(2, 3))
    assert (profile.macs, {row.name for row in profile.rows}) == (24, {"0"})


def test_a_module_that_raises_and_is_caught_leaves_the_names_right() -> None:
    class Fragile(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("too fragile")

    class Robust(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fragile, self.layer = Fragile(), nn.Linear(3, 4, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.fragile(x)
            except ValueError:
                return self.layer(x) + 1

    profile = count_flops(Robust(), randn(2, 3))
    assert [(row.name, row.flops) for row in profile.rows] == [("layer", 48), ("", 8)]
