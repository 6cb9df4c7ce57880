"""Recurrent layers and cells, by their definition: matrix products, biases, and the operations of the gates.

Per hidden unit and step, besides matrix products and biases:

- RNN, h' = act(a + b): 2;
- GRU, r, z = sigmoid(a + b), n = tanh(a + r b), h' = (h - n) z + n: 3 additions, 3 activations, 1 for r b, 3 for h';
- LSTM, i, f, o = sigmoid(a + b), g = tanh(a + b), c' = f c + i g, h' = o tanh(c'): 4 additions, 4 activations, 3, 2.

Dropout between the layers, in training, is 2 per element.
"""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor

from bench.counting.registry import Cost, Formula, register_formula

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
OPERATIONS_PER_UNIT = {"rnn": 2, "gru": 10, "lstm": 13}


def layers_of(kind: str, operations_per_unit: int) -> Formula:
    """Formula of a whole recurrent network; a packed sequence has as many steps as rows, whatever the batch sizes."""

    def formula(x: Tensor, *args: Any, out: Any) -> Cost:
        packed = isinstance(args[0], Tensor) and args[0].ndim == 1 and not args[0].is_floating_point()
        parameters, _, layers, dropout, train, bidirectional = args[2:8] if packed else args[1:7]
        per_cell = len(parameters) // (layers * (2 if bidirectional else 1))
        units = sum(w.shape[0] for w in parameters[::per_cell]) // GATES[kind]
        dropped = (layers - 1) * out[0].shape[-1] if train and dropout else 0
        return _steps(prod(x.shape[:-1]), parameters, units * operations_per_unit + 2 * dropped)

    return formula


def cell_of(kind: str, operations_per_unit: int) -> Formula:
    """Formula of a single recurrent cell, called on (N, in) or (in,)."""

    def formula(
        x: Tensor, hidden: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None,
        *, out: Any,
    ) -> Cost:  # fmt: skip
        parameters = [p for p in (w_ih, w_hh, b_ih, b_hh) if p is not None]
        return _steps(prod(x.shape[:-1]), parameters, w_ih.shape[0] // GATES[kind] * operations_per_unit)

    return formula


def _steps(steps: int, parameters: list[Tensor], other_per_step: int) -> Cost:
    """Weights, an LSTM's projection among them, are the 2-D parameters; biases the 1-D ones."""
    weights = sum(p.numel() for p in parameters if p.ndim == 2)
    biases = sum(p.numel() for p in parameters if p.ndim == 1)
    return Cost(steps * weights, steps * (biases + other_per_step))


def recurrent_formulas(operations_per_unit: dict[str, int]) -> dict[str, Formula]:
    """Formulas of all recurrent operators, given what the gates of a kind cost per hidden unit and step."""
    formulas: dict[str, Formula] = {}
    for kind, operations in operations_per_unit.items():
        for operator in (kind,) if kind != "rnn" else ("rnn_tanh", "rnn_relu"):
            formulas[f"aten::{operator}"] = layers_of(kind, operations)
            formulas[f"aten::{operator}_cell"] = cell_of(kind, operations)
    return formulas


for _name, _formula in recurrent_formulas(OPERATIONS_PER_UNIT).items():
    register_formula(_name, family=next(kind for kind in GATES if kind in _name))(_formula)
