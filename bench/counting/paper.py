"""The `paper` convention: what the published tables count.

Convolution MACs and bias; batch normalisation 2 per element; ReLU and its kin 1 per element; pooling 1 per input
element; a linear layer rows x inputs x outputs, without bias; a recurrent layer its weights and biases once per step,
and 1 (RNN), 7 (GRU) or 10 (LSTM) per unit. The published counter hooks layers of `torch.nn`: functional calls count
nothing, nor does anything else: not subtraction, aggregation, softmax, sigmoid, SSIM, gates or residual additions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from bench.counting.formulas.recurrent import recurrent_formulas
from bench.counting.registry import FORMULAS, Cost, Formula

PaperRule = Callable[[Cost, tuple[Any, ...], Any], int]


def weights_and_biases(cost: Cost, args: tuple[Any, ...], out: Any) -> int:
    """Each weight and each bias used counts one."""
    return cost.macs + cost.other


def two_per_element(cost: Cost, args: tuple[Any, ...], out: Any) -> int:
    """2 per input element."""
    return 2 * args[0].numel()


def one_per_element(cost: Cost, args: tuple[Any, ...], out: Any) -> int:
    """1 per input element."""
    return args[0].numel()


def linear(cost: Cost, args: tuple[Any, ...], out: Any) -> int:
    """Rows x inputs x outputs; the published counter takes a (1, 1, D) input for a single operation."""
    x: Tensor = args[0]
    return 1 if x.shape[:-1] == (1, 1) else cost.macs


def recurrent(formula: Formula) -> PaperRule:
    """Weights, biases and gates, each counted one."""

    def rule(cost: Cost, args: tuple[Any, ...], out: Any) -> int:
        published = formula(*args, out=out)
        assert isinstance(published, Cost)
        return published.macs + published.other

    return rule


BY_FAMILY: dict[str, PaperRule] = {
    "convolution": weights_and_biases,
    "batch_norm": two_per_element,
    "linear": linear,
    # nn.ReLU6, which the published counter knows, arrives as hardtanh
    **dict.fromkeys(("relu", "relu6", "hardtanh", "leaky_relu", "elu", "prelu"), one_per_element),
    **dict.fromkeys(("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool"), one_per_element),
}
BY_OPERATOR: dict[str, PaperRule] = {
    name: recurrent(formula) for name, formula in recurrent_formulas({"rnn": 1, "gru": 7, "lstm": 10}).items()
}


def paper_rule(operator: str, family: str) -> PaperRule | None:
    """What the published counter does with an operator; None if it does not see it.

    An operator that a user has registered is new to the published counter: its MACs count.
    """
    rule = BY_OPERATOR.get(operator) or BY_FAMILY.get(family)
    if rule is None and operator in FORMULAS and not operator.startswith(("aten::", "foveabench::")):
        return lambda cost, args, out: cost.macs
    return rule
