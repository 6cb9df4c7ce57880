from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adaptive_models.native import inference


@pytest.fixture(scope="session")
def recipe_weights(shared: Path) -> Callable[[str], dict[str, Tensor]]:
    """Makes the checkpoint of a reference network with which its reference vectors were computed."""
    keys = json.loads((shared / "reference" / "checkpoint_keys.json").read_text())

    @cache
    def weights(network: str) -> dict[str, Tensor]:
        checkpoint = {}
        for name, shape, dtype in keys[network]:
            random = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
            if len(shape) in (2, 4):
                value = torch.from_numpy(random.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape))
            else:  # weights of one dimension are those of batch normalisation
                value = torch.full(shape, float(name.endswith(("running_var", "weight"))))
            checkpoint[name] = value.to(getattr(torch, dtype))
        return checkpoint

    return weights


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small operations gain nothing from more, and lose much where other processes want the cores too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of frames that the compiled operator of samplers and classifiers takes."""
    taken: list[int] = []
    call = inference.Head.__call__

    def counting(self: inference.Head, inputs: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        taken.append(len(inputs))
        return call(self, inputs, *rest)

    monkeypatch.setattr(inference.Head, "__call__", counting)
    return taken
