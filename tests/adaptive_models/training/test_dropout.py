from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from adaptive_models.training.dropout import dropout_by_clip


def sources(*clips: int) -> list[np.random.Generator]:
    return [np.random.default_rng(clip) for clip in clips]


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_drops_that_part_and_keeps_the_mean(p: float) -> None:
    layer, x = nn.Dropout(p), torch.ones(3, 4, 5000)
    with dropout_by_clip(layer, sources(0, 1, 2)):
        dropped = layer(x)
    assert (dropped == 0).double().mean().item() == pytest.approx(p, abs=0.01)
    if p < 1:
        assert dropped.max().item() == pytest.approx(1 / (1 - p))


def test_a_clip_loses_the_same_in_whatever_batch_it_comes() -> None:
    network = nn.Sequential(nn.Linear(6, 6), nn.Dropout(), nn.Linear(6, 6), nn.Dropout())
    x = torch.randn(4, 6)
    with dropout_by_clip(network, sources(0, 1, 2, 3)):
        together = network(x)
    with dropout_by_clip(network, sources(2, 0)):
        torch.testing.assert_close(network(x[[2, 0]]), together[[2, 0]])
    with dropout_by_clip(network, sources(7, 8)):
        assert not torch.equal(network(x[[2, 0]]), together[[2, 0]])


def test_nothing_is_dropped_in_evaluation_and_nothing_remains_afterwards() -> None:
    layer, x = nn.Dropout().eval(), torch.ones(2, 50)
    with dropout_by_clip(layer, sources(0, 1)):
        assert torch.equal(layer(x), x)
    layer.train()
    assert not torch.equal(layer(x), layer(x))
