from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import bench
from adaptive_models.parts import save_part
from bench.errors import RunError
from bench.systems.registry import System
from bench.systems.weights import load_model


def small() -> nn.Module:
    return nn.Linear(3, 2)


def system_with(weights: Path | None) -> System:
    return System("mine/net", small, {"rgb": (3,)}, weights=weights)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    module = small()
    nn.init.constant_(module.weight, 7)
    save_part(module, tmp_path / "net.safetensors")
    return tmp_path


def test_weights_that_come_with_a_system_are_loaded(trained: Path) -> None:
    assert load_model(system_with(trained), None).weight.eq(7).all()


def test_weights_that_are_given_come_first(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    module, other = small(), tmp_path_factory.mktemp("other")
    nn.init.constant_(module.weight, 5)
    save_part(module, other / "net.safetensors")
    assert load_model(system_with(trained), other).weight.eq(5).all()


def test_without_any_they_are_random_from_the_seed() -> None:
    assert torch.equal(load_model(system_with(None), None, 3).weight, load_model(system_with(None), None, 3).weight)
    assert not torch.equal(load_model(system_with(None), None, 3).weight, load_model(system_with(None), None, 4).weight)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"mine/net: .*net\.safetensors"):
        load_model(system_with(tmp_path), None)


def test_users_name_the_weights_of_their_system(trained: Path) -> None:
    mine = bench.system("mine/net", inputs={"rgb": (3,)}, weights=trained)(small)
    assert load_model(mine, None).weight.eq(7).all()
