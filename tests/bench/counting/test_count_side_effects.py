"""Counting leaves everything as it was found, also when the model raises midway."""

from __future__ import annotations

import copy
import gc
import logging
import random
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn, randn
from torch.nn.modules import module as module_hooks

from bench import count_flops


class Restless(nn.Module):
    """Changes everything that a model can change while it runs."""

    def __init__(self, needs_values: bool = False, raises: bool = False, lock: bool = False) -> None:
        super().__init__()
        self.needs_values, self.raises = needs_values, raises
        self.norm = nn.BatchNorm1d(3)
        self.layer = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)
        self.spectral = torch.nn.utils.spectral_norm(nn.Linear(3, 3))
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("history", torch.zeros(2, 3))
        self.cache: dict[str, Any] = {"calls": [0]}
        self.last: Tensor | None = None
        self.lock = threading.Lock() if lock else None
        self.layer.register_forward_hook(self.note)

    def note(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.cache["calls"].append(tuple(output.shape))

    def forward(self, x: Tensor, extra: dict[str, Tensor] | None = None) -> Tensor:
        x += 1
        if extra is not None:
            extra["seen"] = x
            extra["mask"].zero_()
        self.steps += 1
        self.history[0] = 5
        self.history = self.history + 1
        self.cache["x"] = self.last = x
        self.new_attribute = x
        self.register_buffer("new_buffer", torch.ones(3))
        self.layer.weight.data.mul_(2)
        self.layer.bias.data = self.layer.bias.data + 1
        random.random()
        np.random.rand()
        x = self.spectral(self.drop(self.layer(self.norm(x)))) + torch.rand(3)
        self.norm.eval()
        if self.needs_values and x.sum() > 1e9:
            return x
        if self.raises:
            self.layer.register_forward_pre_hook(lambda *_: None)
            raise RuntimeError("midway")
        return x


def state_of(model: nn.Module) -> dict[str, Any]:
    """What a model consists of: tensors by value, everything else by identity or value."""
    tensors = {
        name: (id(t), t.clone(), t.requires_grad, t.grad)
        for name, t in [*model.named_parameters(), *model.named_buffers()]
    }
    attributes = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            is_container = isinstance(value, (dict, list))
            attributes[name, key] = (id(value), copy.copy(value) if is_container else value)
    return {"tensors": tensors, "attributes": attributes, "calls": copy.copy(model.cache["calls"])}


def assert_same(before: Any, after: Any) -> None:
    if isinstance(before, Tensor):
        assert isinstance(after, Tensor)
        assert before.device == after.device
        assert torch.equal(before, after)
    elif isinstance(before, dict):
        assert before.keys() == after.keys()
        for key, value in before.items():
            assert_same(value, after[key])
    elif isinstance(before, (tuple, list)):
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            assert_same(one, other)
    elif isinstance(before, nn.Module):
        assert before is after
    else:
        assert before == after


def process_state() -> dict[str, Any]:
    hooks = {name: value for name, value in vars(module_hooks).items() if name.startswith("_global_")}
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],
        "hooks": {name: dict(value) for name, value in hooks.items() if isinstance(value, dict)},
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "modes": torch.utils._python_dispatch._len_torch_dispatch_stack(),
        "gc": gc.isenabled(),
        "logging": logging.root.manager.disable,
        "warnings": len(warnings.filters),
    }


@pytest.mark.parametrize("convention", ["exact", "paper"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("needs_values", [True, False])
@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("lock", [True, False])
def test_everything_is_as_before(convention: str, training: bool, needs_values: bool, raises: bool, lock: bool) -> None:
    model = Restless(needs_values, raises, lock).train(training)
    x, extra = randn(4, 3), {"mask": torch.ones(2, 2)}
    inputs = (x.clone(), copy.deepcopy(extra))
    model_before, process_before = state_of(model), process_state()
    if raises:
        with pytest.raises(RuntimeError, match="midway"):
            count_flops(model, x, extra, convention=convention)
    else:
        profile = count_flops(model, x, extra, convention=convention)
        # two layers of 9 for 4 rows; u (W v), and in training a power iteration, of the spectral norm
        assert profile.macs == 4 * 18 + 9 + 3 + (18 if training else 0)
        assert profile.device == ("cpu" if needs_values else "meta")
    assert_same(process_before, process_state())
    assert_same(model_before, state_of(model))
    assert_same(inputs, (x, extra))


@pytest.mark.parametrize("needs_values", [True, False])
def test_functions_leave_what_they_refer_to(needs_values: bool) -> None:
    model, log = Restless(needs_values), []
    weight = randn(3, 3)

    def run(x: Tensor) -> Tensor:
        weight.add_(1)
        log.append(x)
        return model(x) @ weight

    before, weight_before = state_of(model), weight.clone()
    assert count_flops(run, randn(4, 3)).device == ("cpu" if needs_values else "meta")
    assert_same(before, state_of(model))
    assert torch.equal(weight, weight_before)
    assert log == []


CALLS = 0


def test_variables_that_functions_assign_are_left_alone() -> None:
    calls = 0

    def enclosed(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x @ x

    def of_the_file(x: Tensor) -> Tensor:
        global CALLS
        CALLS += 1
        return x @ x

    for function in (enclosed, of_the_file):
        assert count_flops(function, randn(3, 3)).macs == 27
    assert (calls, CALLS) == (0, 0)


class Holder:
    def __init__(self, model: nn.Module) -> None:
        self.models = [model]
        self.calls = 0

    def run(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.models[0](x)


def test_objects_are_left_alone_too() -> None:
    holder = Holder(Restless())
    before = state_of(holder.models[0])
    assert count_flops(holder.run, randn(4, 3)).macs > 0
    assert holder.calls == 0
    assert_same(before, state_of(holder.models[0]))


def test_functions_that_a_model_holds_work_on_the_copy() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.normalise: Callable[[Tensor], Tensor] = lambda x: self.norm(x)
            parent = weakref.ref(self)
            self.through_parent: Callable[[Tensor], Tensor] = lambda x: parent().norm(x)
            self.handle = self.norm.register_forward_hook(lambda *_: None)

        def forward(self, x: Tensor) -> Tensor:
            self.handle.remove()
            return self.through_parent(self.normalise(x))

    model = Model()
    profile = count_flops(model, randn(4, 3))
    assert (profile.flops, profile.device) == (2 * 6 * 12, "meta")
    assert model.norm.num_batches_tracked == 0
    assert len(model.norm._forward_hooks) == 1


def test_gradients_and_optimisers_are_left_alone() -> None:
    model = nn.Linear(3, 4, bias=False)
    optimiser = torch.optim.Adam(model.parameters())
    model.weight.grad = torch.ones(4, 3)
    weight = model.weight.detach().clone()

    def step(x: Tensor) -> None:
        optimiser.zero_grad()
        model(x).sum().backward()
        optimiser.step()

    profile = count_flops(step, randn(2, 3))
    assert profile.macs == 2 * 24  # forward, and the gradient of the weight
    assert torch.equal(model.weight, weight)
    assert torch.equal(model.weight.grad, torch.ones(4, 3))
    assert not optimiser.state


def test_uncopyable_things_are_shared() -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False))
    model.lock = threading.RLock()
    model.numbers = (n for n in range(3))
    model.nested = [{"event": threading.Event()}]
    profile = count_flops(model, randn(2, 3))
    assert (profile.macs, profile.device) == (24, "meta")
    assert list(model.numbers) == [0, 1, 2]


def test_a_generator_of_random_numbers_is_not_advanced() -> None:
    class Sampler(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = torch.Generator().manual_seed(3)

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand(x.shape, generator=self.generator)

    model = Sampler()
    count_flops(model, randn(2, 3))
    assert torch.equal(model.generator.get_state(), torch.Generator().manual_seed(3).get_state())


def test_the_model_and_its_copies_are_not_kept_alive() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    profile = count_flops(model, randn(2, 3))
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None
    assert profile.macs == 24


def test_every_restless_thing_is_really_changed_by_the_model_itself() -> None:
    # Else the tests above could not fail.
    model = Restless().train()
    x, extra = randn(4, 3), {"mask": torch.ones(2, 2)}
    model_before, process_before, x_before = state_of(model), process_state(), x.clone()
    model(x, extra)
    after, process_after = state_of(model), process_state()
    changed = [name for name in model_before["tensors"] if name in after["tensors"]]
    for name in ("norm.running_mean", "norm.num_batches_tracked", "layer.weight", "layer.bias", "history", "steps"):
        assert name in changed
        assert not torch.equal(model_before["tensors"][name][1], after["tensors"][name][1])
    for key in ("torch", "python", "numpy"):
        with pytest.raises(AssertionError):
            assert_same(process_before[key], process_after[key])
    assert not torch.equal(x, x_before)
    assert extra["mask"].sum() == 0
    assert model.cache["calls"] != model_before["calls"]
