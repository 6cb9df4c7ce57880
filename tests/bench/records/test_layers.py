from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.counting.count import count_flops
from bench.counting.profile import Profile
from bench.errors import RunError
from bench.records.counts import read_counts
from bench.records.layers import Layer, LayerFile, Stage, layer_file, read_layers, write_layers
from bench.reproduce import make_counts
from bench.systems.registry import System


def profile(*widths: int) -> Profile:
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return count_flops(nn.Sequential(*layers, nn.Flatten()), torch.empty(2, widths[0]), convention="paper")


def test_layers_that_compute_are_kept_in_order() -> None:
    file = layer_file([("a/x", profile(10, 5))])
    assert file.systems == {"a/x": [Stage("call", 0)]}
    # a batch of 2: 100 products and 10 biases; each product an addition too
    assert file.layers == [[Layer("0", "Linear", 100, 100, 210), Layer("1", "ReLU", 0, 10, 10)]]


def test_what_several_systems_have_is_kept_once() -> None:
    file = layer_file([("a/x", profile(10, 5)), ("a/y", profile(10, 6)), ("b/x", profile(10, 5))])
    assert [stages[0].place for stages in file.systems.values()] == [0, 1, 0]
    assert len(file.layers) == 2


def test_layers_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = layer_file([("a/x", profile(10, 5, 3)), ("b", profile(2, 2))])
    write_layers(file, tmp_path / "layers.json")
    assert read_layers(tmp_path / "layers.json") == file
    write_layers(file, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "layers.json").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "layers.json: damaged"),
        ('{"schema": 1, "systems": {}}', r"damaged \(layers: Field required\)"),
        ('{"schema": 3, "systems": {}, "layers": []}', "schema 3, this version reads 1"),
        ('{"schema": 1, "systems": {"a": [["call", 0]]}, "layers": []}', r"a: no layers in the places \[0\]"),
        ('{"schema": 1, "systems": {}, "layers": [[["x", "Linear", -1, 1, 1]]]}', r"layers.0.0.2: Input should be"),
    ],
)
def test_damaged_layers_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "layers.json").write_text(text)
    with pytest.raises(RunError, match=message):
        read_layers(tmp_path / "layers.json")


def test_a_full_disk_leaves_the_old_layers(
    tmp_path: Path, files_up_to: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "layers.json"
    write_layers(LayerFile(1, {}, []), path)
    before = path.read_bytes()
    with files_up_to(64), pytest.raises(RunError, match="cannot write"):
        write_layers(layer_file([("a/x", profile(10, 5, 3))]), path)
    assert path.read_bytes() == before


def test_layers_are_kept_of_all_systems_and_counts_of_those_with_a_workload(tmp_path: Path) -> None:
    systems = [System(name, lambda: nn.Linear(10, 5), {"x": (10,)}) for name in ("bare", "ucf101/a")]
    counts = make_counts(tmp_path, iter(systems))
    assert [count.system for count in counts] == ["ucf101/a"]
    assert read_counts(tmp_path / "counts.json") == counts
    assert list(read_layers(tmp_path / "layers.json").systems) == ["bare", "ucf101/a"]
