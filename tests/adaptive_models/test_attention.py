"""Attention against loops over positions and footprints, on maps small enough for them."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adaptive_models.attention import (
    aggregate,
    cumulative_attention,
    footprints,
    pad_by_reflection,
    pairwise_attention,
    patchwise_attention,
    position_grid,
)

SIDES = st.integers(1, 5)
KERNEL_SIZES = st.sampled_from([1, 3, 5, 7])
small = settings(max_examples=20, deadline=None)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def grown(items: list, by: int) -> list:
    """Reflection of a list, without repeating its ends; a single item is repeated."""
    if len(items) == 1:
        return items * (1 + 2 * by)
    return items[by:0:-1] + items + items[-2 : -2 - by : -1]


def reflected(rows: list, padding: int) -> list:
    by = padding if min(len(rows), len(rows[0])) > padding else 1
    for _ in range(padding // by if by else 0):
        rows = grown([grown(row, by) for row in rows], by)
    return rows


def neighbours(height: int, width: int, kernel_size: int) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """For each position, the positions that its footprint looks at, row by row."""
    places = [[(row, column) for column in range(width)] for row in range(height)]
    padded = reflected(places, kernel_size // 2)
    offsets = list(product(range(kernel_size), repeat=2))
    return {
        (row, column): [padded[row + down][column + across] for down, across in offsets]
        for row, column in product(range(height), range(width))
    }


def scorer(inputs: int, outputs: int) -> nn.Module:
    """Batch norm, ReLU and a 1x1 convolution, with statistics and weights that make a difference."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(inputs)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return nn.Sequential(norm, nn.ReLU(), nn.Conv2d(inputs, outputs, 1)).double().eval()


def test_reflection_by_hand() -> None:
    row = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]] * 4]])
    assert pad_by_reflection(row, 3)[0, 0, 0].tolist() == [4, 3, 2, 1, 2, 3, 4, 3, 2, 1]
    # Three pixels are too few to reflect three: one at a time, 3 2 1 -> 2 [1 2 3] 2 -> 1 [2 1 2 3 2] 3 -> ...
    assert pad_by_reflection(row[..., :3], 3)[0, 0, 0].tolist() == [2, 1, 2, 1, 2, 3, 2, 3, 2]
    assert pad_by_reflection(row[..., :2, :2], 3)[0, 0, 0].tolist() == [2, 1, 2, 1, 2, 1, 2, 1]
    assert pad_by_reflection(row[..., :1, :1], 2)[0, 0].tolist() == [[1] * 5] * 5


@given(SIDES, SIDES, st.integers(0, 3))
@small
def test_reflection_is_that_of_lists(height: int, width: int, padding: int) -> None:
    x = random(1, 1, height, width)
    assert pad_by_reflection(x, padding)[0, 0].tolist() == reflected(x[0, 0].tolist(), padding)


@given(SIDES, SIDES, KERNEL_SIZES)
@small
def test_footprints_are_the_neighbours_of_every_position(height: int, width: int, kernel_size: int) -> None:
    x = random(2, 3, height, width)
    windows = footprints(x, kernel_size).unflatten(3, (height, width))
    for (row, column), places in neighbours(height, width, kernel_size).items():
        expected = torch.stack([x[:, :, i, j] for i, j in places], dim=2)
        assert torch.equal(windows[..., row, column], expected)


def test_position_grid_runs_from_minus_one_to_one_across_then_down() -> None:
    grid = position_grid(3, 2, like=torch.empty(0, dtype=torch.float64))
    assert grid.dtype == torch.float64
    assert grid.tolist() == [[[[-1, 1], [-1, 1], [-1, 1]], [[-1, -1], [0, 0], [1, 1]]]]


@given(SIDES, SIDES, KERNEL_SIZES, st.integers(1, 3), st.integers(1, 3))
@small
def test_aggregation_sums_over_the_footprint(
    height: int, width: int, kernel_size: int, groups: int, sharing: int
) -> None:
    value = random(2, sharing * groups, height, width)
    weights = random(2, groups, kernel_size**2, height * width, seed=1)
    result = aggregate(value, weights, kernel_size)
    for (row, column), places in neighbours(height, width, kernel_size).items():
        for n, channel in product(range(2), range(sharing * groups)):
            own = weights[n, channel % groups, :, row * width + column]
            expected = sum(float(own[o]) * float(value[n, channel, i, j]) for o, (i, j) in enumerate(places))
            assert result[n, channel, row, column].item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(SIDES, SIDES, st.sampled_from([3, 7]))
@small
def test_pairwise_attention_by_loops(height: int, width: int, kernel_size: int) -> None:
    query, key = random(2, 2, height, width), random(2, 2, height, width, seed=1)
    value = random(2, 6, height, width, seed=2)
    torch.manual_seed(1)
    position, weigh = nn.Conv2d(2, 2, 1).double(), scorer(4, 3)
    with torch.inference_mode():
        result, weights = pairwise_attention(query, key, value, position, weigh, kernel_size)
        places = position(position_grid(height, width, like=query))[0]
        for (row, column), looked_at in neighbours(height, width, kernel_size).items():
            differences = [
                torch.cat([query[n, :, row, column] - key[n, :, i, j], places[:, row, column] - places[:, i, j]])
                for n in range(2)
                for i, j in looked_at
            ]
            scores = weigh(torch.stack(differences)[:, :, None, None]).reshape(2, kernel_size**2, 3)
            expected = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
            own = weights[:, :, :, row * width + column]
            torch.testing.assert_close(own, expected.transpose(1, 2))
    torch.testing.assert_close(weights.sum(dim=2), torch.ones_like(weights[:, :, 0]))
    torch.testing.assert_close(result, aggregate(value, weights, kernel_size))


@given(SIDES, SIDES, st.sampled_from([3, 7]))
@small
def test_patchwise_attention_by_loops(height: int, width: int, kernel_size: int) -> None:
    area = kernel_size**2
    query, key = random(2, 2, height, width), random(2, 2, height, width, seed=1)
    value = random(2, 4, height, width, seed=2)
    weigh = scorer(2 * (area + 1), 2 * area)
    with torch.inference_mode():
        result, weights = patchwise_attention(query, key, value, weigh, kernel_size)
        for (row, column), looked_at in neighbours(height, width, kernel_size).items():
            keys = [key[:, channel, i, j] for channel in range(2) for i, j in looked_at]
            seen = torch.stack([query[:, 0, row, column], query[:, 1, row, column], *keys], dim=1)
            expected = weigh(seen[:, :, None, None]).reshape(2, 2, area)
            torch.testing.assert_close(weights[:, :, :, row * width + column], expected)
    torch.testing.assert_close(result, aggregate(value, weights, kernel_size))


@given(SIDES, SIDES, KERNEL_SIZES)
@small
def test_cumulative_attention_adds_each_weight_where_it_looks(height: int, width: int, kernel_size: int) -> None:
    weights = random(2, 3, kernel_size**2, height * width)
    reach = kernel_size // 2
    expected = torch.zeros(2, 3, height, width, dtype=torch.float64)
    for row, column in product(range(height), range(width)):
        for offset, (down, across) in enumerate(product(range(-reach, reach + 1), repeat=2)):
            i, j = row + down, column + across
            if 0 <= i < height and 0 <= j < width:
                expected[:, :, i, j] += weights[:, :, offset, row * width + column]
    torch.testing.assert_close(cumulative_attention(weights, (height, width), kernel_size), expected)


def test_gradients_of_pairwise_attention() -> None:
    position, weigh = nn.Conv2d(2, 2, 1).double(), scorer(4, 1)
    inputs = [random(1, channels, 3, 2, seed=channels).requires_grad_() for channels in (2, 2, 2)]

    def attention(query: Tensor, key: Tensor, value: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        result, weights = pairwise_attention(query, key, value, position, weigh, 3)
        return result, cumulative_attention(weights, (3, 2), 3)

    parameters = [*position.parameters(), *weigh.parameters()]
    assert torch.autograd.gradcheck(attention, (*inputs, *parameters))


def test_gradients_of_patchwise_attention() -> None:
    weigh = scorer(2 * 10, 9)
    inputs = [random(1, 2, 2, 3, seed=seed).requires_grad_() for seed in range(3)]

    def attention(query: Tensor, key: Tensor, value: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        return patchwise_attention(query, key, value, weigh, 3)

    assert torch.autograd.gradcheck(attention, (*inputs, *weigh.parameters()))
