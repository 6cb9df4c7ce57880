"""Where control flow needs values the count runs on the data, and says so; elsewhere it does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn, randn

from bench import count_flops


class EarlyExit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(10):
            x = self.layer(x)
            if x.amax() <= 0:
                break
        return x


def test_decisions_are_made_on_the_data() -> None:
    model = EarlyExit()
    nn.init.eye_(model.layer.weight)
    going_on, at_once = (count_flops(model, torch.full((2, 3), value)) for value in (1.0, -1.0))
    assert (going_on.macs, at_once.macs) == (10 * 18, 18)
    assert going_on.device == "cpu"
    assert going_on.reason.startswith("RuntimeError: Tensor.item() cannot be called on meta tensors")
    assert "\n" not in going_on.reason


def by_item(x: Tensor) -> Tensor:
    return x @ x.T if x.sum().item() > -1e9 else x


def by_list(x: Tensor) -> Tensor:
    return x @ x.T if max(x.flatten().tolist()) > -1e9 else x


def by_numpy(x: Tensor) -> Tensor:
    return x @ x.T if x.numpy().max() > -1e9 else x


def by_mask(x: Tensor) -> Tensor:
    return x @ x[x > -1e9].view(2, 3).T


def by_nonzero(x: Tensor) -> Tensor:
    rows = (x[:, 0] > -1e9).nonzero()[:, 0]
    return x @ x[rows].T


@pytest.mark.parametrize("function", [by_item, by_list, by_numpy, by_mask, by_nonzero])
def test_every_way_of_reading_values(function) -> None:
    profile = count_flops(function, randn(2, 3))
    assert (profile.macs, profile.device) == (12, "cpu")
    assert profile.reason


def with_a_constant(x: Tensor) -> Tensor:
    return x * torch.arange(3.0) + torch.tensor([1.0, 2.0, 3.0]) + torch.zeros(2, 3)


def with_a_buffer(x: Tensor) -> Tensor:
    table = torch.zeros(10, 4)
    table[:, 0::2] = torch.sin(torch.arange(10.0))[:, None]
    return x @ table[:3]


def by_shape(x: Tensor) -> Tensor:
    sides = torch.tensor(x.shape)
    return x.reshape(int(sides.prod()), 1) if sides.max() > 1 else x


def on_another_device(x: Tensor) -> Tensor:
    return (x.cpu().double() @ torch.ones(3, 2, dtype=torch.float64, device="cpu")).to(x.device)


def by_lengths(x: Tensor, lengths: Tensor) -> Tensor:
    return torch.cat([row[: int(length)] for row, length in zip(x, lengths, strict=True)])


@pytest.mark.parametrize("function", [with_a_constant, with_a_buffer, by_shape, on_another_device])
def test_what_only_looks_like_values_does_not_need_the_data(function) -> None:
    profile = count_flops(function, randn(2, 3))
    assert (profile.device, profile.reason, profile.unknown) == ("meta", "", [])


def test_vectors_of_integers_keep_their_values() -> None:
    profile = count_flops(by_lengths, randn(2, 3), torch.tensor([2, 1]))
    assert (profile.device, profile.bytes > 0) == ("meta", True)


def test_the_models_own_error_is_what_is_raised() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        count_flops(nn.Linear(3, 4), randn(2, 5))
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        count_flops(nn.Linear(3, 4))
    with pytest.raises(RuntimeError, match="channels"):
        count_flops(nn.Conv2d(3, 4, 3), randn(1, 5, 8, 8))
    with pytest.raises(RuntimeError, match="running_mean should contain 5 elements not 3"):
        count_flops(nn.BatchNorm2d(3).eval(), randn(1, 5, 8, 8))
    with pytest.raises(RuntimeError, match="normalized_shape"):
        count_flops(nn.LayerNorm(3), randn(2, 5))


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown convention 'macs': use one of exact, paper, fvcore, thop, torch"):
        count_flops(nn.Linear(3, 4), randn(2, 3), convention="macs")
