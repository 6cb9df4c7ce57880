"""What systems have in common is counted once, and as if each were counted alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaptive_models import build_backbone
from adaptive_models.system import AdaptiveSystem
from bench.counting import shared
from bench.counting.profile import Profile
from bench.counting.shared import description
from bench.systems.builtin import registry
from bench.systems.costs import count_stages, count_system

INPUTS = {"rgb": (3, 224, 224)}


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_kept", type(shared._kept)())


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages that were counted, and not taken from an earlier count."""
    stages: list[str] = []
    counting = shared.counting

    def noted(counter: Any) -> Any:
        stages.append(counter.stage)
        return counting(counter)

    monkeypatch.setattr(shared, "counting", noted)
    return stages


def build(crops: int = 1, max_skip: int | None = 1, **settings: Any) -> AdaptiveSystem:
    with torch.device("meta"):
        make: Callable[[int], Any] = lambda channels: build_backbone("san-mini", channels)  # noqa: E731
        return AdaptiveSystem(crops, max_skip, (5,), False, 1, make, hidden=16, **settings).eval()


def count(model: AdaptiveSystem) -> Profile:
    return count_stages(model, INPUTS, "paper")


@pytest.mark.parametrize("workload", ["epic", "ucf101", "mini"])
def test_counts_are_those_of_each_system_alone(workload: str) -> None:
    names = [f"{workload}/{name}" for name in ("s0", "s1", "s0-t1", "s1-t1", "s1-t4", "s3-t4")]
    systems = [system for system in registry([]) if system.id in names]
    assert len(systems) >= 4
    together = [count_system(system, "paper").profile for system in systems]
    for system, profile in zip(systems, together, strict=True):
        shared._kept.clear()
        assert count_system(system, "paper").profile == profile


def test_only_what_differs_is_counted_again(counted: list[str]) -> None:
    stages = list(AdaptiveSystem.stages)
    count(build(crops=1, max_skip=2))
    assert counted == stages
    count(build(crops=1, max_skip=2))
    assert counted == stages
    count(build(crops=1, max_skip=3))
    assert counted == [*stages, "decide"]
    count(build(crops=2, max_skip=3))
    assert counted == [*stages, "decide", "look", "classify"]
    count(build(crops=2, max_skip=None))
    assert counted == [*stages, "decide", "look", "classify"]
    count(build(crops=2, max_skip=3, hallucinator_hidden=7))
    assert counted == [*stages, "decide", "look", "classify", "hallucinate"]


def other_kernel(model: AdaptiveSystem) -> None:
    assert model.hallucinator
    model.hallucinator.encoder[0] = nn.Conv2d(4, 32, 5, padding=2, device="meta")


def other_setting(model: AdaptiveSystem) -> None:
    assert model.hallucinator
    model.hallucinator.encoder[0].padding_mode = "circular"


def other_class(model: AdaptiveSystem) -> None:
    assert model.hallucinator
    model.hallucinator.relu = nn.Sigmoid()  # type: ignore[assignment]


def other_attribute(model: AdaptiveSystem) -> None:
    assert model.hallucinator
    model.hallucinator.note = 1  # type: ignore[assignment]


def tied_weights(model: AdaptiveSystem) -> None:
    assert model.hallucinator
    model.hallucinator.decoder[1].weight = model.hallucinator.decoder[1].bias


def a_hook(model: AdaptiveSystem) -> None:
    assert model.hallucinator
    model.hallucinator.encoder.register_forward_hook(lambda *_: None)


def another_forward(model: AdaptiveSystem) -> None:
    assert model.hallucinator
    layer = model.hallucinator.encoder[0]
    layer.forward = lambda x: torch.zeros(1, 32, *x.shape[2:], device="meta")


def data(model: AdaptiveSystem) -> None:
    assert model.hallucinator
    model.hallucinator.table = torch.ones(3)


def unknown_object(model: AdaptiveSystem) -> None:
    assert model.hallucinator
    model.hallucinator.thing = object()


INDESCRIBABLE = [a_hook, another_forward, data, unknown_object]


@pytest.mark.parametrize(
    "change", [other_kernel, other_setting, other_class, other_attribute, tied_weights, *INDESCRIBABLE]
)
def test_what_was_changed_is_counted_as_it_is(change: Callable[[AdaptiveSystem], None]) -> None:
    changed = build()
    change(changed)
    count(build())
    after_another = count(changed)
    shared._kept.clear()
    assert count(changed) == after_another


@pytest.mark.parametrize("change", INDESCRIBABLE)
def test_what_cannot_be_described_is_not_kept(change: Callable[[AdaptiveSystem], None]) -> None:
    model = build()
    change(model)
    count(model)
    assert not shared._kept


def test_models_with_data_are_counted_each(counted: list[str]) -> None:
    model = AdaptiveSystem(
        0, None, (5,), False, 1, lambda channels: build_backbone("san-mini", channels), hidden=16
    ).eval()
    assert count(model) == count(model)
    assert counted == []


def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch, counted: list[str]) -> None:
    monkeypatch.setattr(shared, "KEPT", 2)
    count(build())
    assert len(shared._kept) == 2
    count(build())
    assert counted == 2 * list(AdaptiveSystem.stages)


def layers() -> Iterator[tuple[str, nn.Module]]:
    with torch.device("meta"):
        yield "a", nn.Conv2d(2, 3, 1)
        yield "bias", nn.Conv2d(2, 3, 1, bias=False)
        yield "stride", nn.Conv2d(2, 3, 1, stride=2)
        yield "type", nn.Conv2d(2, 3, 1, dtype=torch.float64)
        yield "class", nn.Conv1d(2, 3, 1)
        yield "mode", nn.Conv2d(2, 3, 1).eval()
        yield "frozen", nn.Conv2d(2, 3, 1).requires_grad_(False)
        yield "GRU", nn.GRU(2, 3)
        yield "layers", nn.GRU(2, 3, 2)
        yield "both", nn.GRU(2, 3, bidirectional=True)
        yield "RNN", nn.RNN(2, 3)
        yield "nonlinearity", nn.RNN(2, 3, nonlinearity="relu")
        yield "attention", nn.MultiheadAttention(4, 1)
        yield "heads", nn.MultiheadAttention(4, 2)
        yield "name", nn.Sequential(nn.Conv2d(2, 3, 1))
        yield "twice", nn.Sequential(*[nn.ReLU()] * 2)


def test_descriptions_tell_layers_apart() -> None:
    described = {name: description(layer) for name, layer in layers()}
    assert len(set(described.values())) == len(described)
    assert {name: description(layer) for name, layer in layers()} == described


class Odd(nn.Module):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("value", [torch.ones(2), object(), len, {1: {object()}}, [torch.zeros(1)]])
def test_what_may_hold_more_than_shapes_has_no_description(value: Any) -> None:
    with pytest.raises(TypeError):
        description(Odd(value))


@pytest.mark.parametrize("value", [None, 1, 1.5, "a", (1, "b"), {"a": [1]}, torch.Size([1]), torch.float32, int])
def test_plain_values_have_a_description(value: Any) -> None:
    assert hash(description(Odd(value))) == hash(description(Odd(value)))
    assert description(Odd(value)) != description(Odd((value, 1)))
