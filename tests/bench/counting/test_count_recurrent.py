"""Recurrent layers by hand.

A step of a layer of size h on inputs of size i has g*h*(i + h) MACs, 2*g*h biases and, per unit, 2 (RNN), 10 (GRU) or
13 (LSTM) operations of the gates, where g is 1, 3 or 4.
"""

from __future__ import annotations

import pytest
import torch
from every_way import assert_counts
from torch import Tensor, nn, randn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from bench import count_flops

# Of one step of a layer of size 4 on inputs of size 3: MACs, and operations of biases and gates.
RNN = (1 * 4 * (3 + 4), 2 * 4 + 2 * 4)
GRU = (3 * 4 * (3 + 4), 2 * 12 + 10 * 4)
LSTM = (4 * 4 * (3 + 4), 2 * 16 + 13 * 4)


@pytest.mark.parametrize(
    ("module", "macs", "others"),
    [
        (nn.RNN(3, 4), *RNN),
        (nn.RNN(3, 4, nonlinearity="relu"), *RNN),
        (nn.GRU(3, 4), *GRU),
        (nn.LSTM(3, 4), *LSTM),
        (nn.GRU(3, 4, bias=False), GRU[0], 10 * 4),
        (nn.GRU(3, 4, bidirectional=True), 2 * GRU[0], 2 * GRU[1]),
        # the second layer has inputs of size 4
        (nn.GRU(3, 4, num_layers=2), GRU[0] + 3 * 4 * (4 + 4), 2 * GRU[1]),
        # the second layer of each direction has both directions of the first for inputs
        (nn.LSTM(3, 4, num_layers=2, bidirectional=True), 2 * (LSTM[0] + 4 * 4 * (8 + 4)), 4 * LSTM[1]),
        # projected to 2: the state that comes back has size 2, and each step ends in a product of 2*4
        (nn.LSTM(3, 4, proj_size=2), 4 * 4 * (3 + 2) + 2 * 4, LSTM[1]),
        (nn.LSTM(3, 4, num_layers=2, proj_size=2), 80 + 8 + 4 * 4 * (2 + 2) + 8, 2 * LSTM[1]),
    ],
)
def test_layers(module: nn.Module, macs: int, others: int) -> None:
    steps = 5 * 2  # 5 in each of 2 sequences
    assert_counts(module, randn(5, 2, 3), macs=steps * macs, flops=steps * (2 * macs + others))


@pytest.mark.parametrize(("kind", "step"), [(nn.RNN, RNN), (nn.GRU, GRU), (nn.LSTM, LSTM)])
def test_shapes_of_input(kind: type[nn.Module], step: tuple[int, int]) -> None:
    macs, others = step
    assert_counts(kind(3, 4, batch_first=True), randn(2, 5, 3), macs=10 * macs, flops=10 * (2 * macs + others))
    assert_counts(kind(3, 4), randn(5, 3), macs=5 * macs, flops=5 * (2 * macs + others))
    state = randn(1, 2, 4)
    state = (state, state) if kind is nn.LSTM else state
    assert_counts(kind(3, 4), randn(5, 2, 3), state, macs=10 * macs, flops=10 * (2 * macs + others))


@pytest.mark.parametrize(("kind", "step"), [(nn.RNNCell, RNN), (nn.GRUCell, GRU), (nn.LSTMCell, LSTM)])
def test_cells(kind: type[nn.Module], step: tuple[int, int]) -> None:
    macs, others = step
    assert_counts(kind(3, 4), randn(2, 3), macs=2 * macs, flops=2 * (2 * macs + others))
    assert_counts(kind(3, 4), randn(3), macs=macs, flops=2 * macs + others)
    biases = {nn.RNNCell: 8, nn.GRUCell: 24, nn.LSTMCell: 32}[kind]
    assert_counts(kind(3, 4, bias=False), randn(2, 3), macs=2 * macs, flops=2 * (2 * macs + others - biases))


@pytest.mark.parametrize(("kind", "step"), [(nn.RNN, RNN), (nn.GRU, GRU), (nn.LSTM, LSTM)])
def test_packed_sequences_have_no_padding(kind: type[nn.Module], step: tuple[int, int]) -> None:
    macs, others = step
    packed = pack_sequence([randn(5, 3), randn(2, 3)])  # 7 steps instead of 10
    profile = count_flops(kind(3, 4), packed)
    assert (profile.macs, profile.flops) == (7 * macs, 7 * (2 * macs + others))


class PacksInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]


def test_sequences_that_are_packed_inside_a_model() -> None:
    lengths = torch.tensor([2, 5])
    assert_counts(PacksInside(), randn(2, 5, 3), lengths, macs=7 * LSTM[0], flops=7 * (2 * LSTM[0] + LSTM[1]))


def test_dropout_between_layers_counts_in_training() -> None:
    steps, macs, others = 10, GRU[0] + 3 * 4 * (4 + 4), 2 * GRU[1]
    module = nn.GRU(3, 4, num_layers=2, dropout=0.5)
    evaluated, trained = (count_flops(module.train(mode), randn(5, 2, 3)) for mode in (False, True))
    assert evaluated.flops == steps * (2 * macs + others)
    assert trained.flops == evaluated.flops + steps * 2 * 4  # mask and scale between the two layers
    assert trained.macs == evaluated.macs == steps * macs


def test_a_cell_in_a_loop_counts_every_step() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            state = torch.zeros(x.shape[1], 4)  # on the default device, whatever the input's
            for step in x:
                state = self.cell(step.float(), state)
            return state

    profile = count_flops(Loop(), randn(5, 2, 3))
    assert (profile.macs, profile.device) == (10 * GRU[0], "meta")
    assert [row.name for row in profile.rows if row.ops] == ["cell"] * 5
    assert [row.params for row in profile.rows if row.ops] == [3 * 4 * (3 + 4) + 2 * 12, 0, 0, 0, 0]
