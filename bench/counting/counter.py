"""The counter: a dispatch mode that charges every operator to the module that calls it.

It is meant to run under `torch.inference_mode`, where operators arrive as the model wrote them (linear, lstm,
scaled_dot_product_attention, ...), before autograd or a device splits them up. That is what makes a count the same on every
device and in every mode. Below autograd it still counts, by the formulas of the parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from bench.counting import formulas as formulas  # importing them registers them
from bench.counting.formulas.elementwise import POINTWISE_OPERATIONS, pointwise
from bench.counting.free import MAKING_OR_MOVING, VIEWING
from bench.counting.paper import PaperRule, paper_rule
from bench.counting.profile import OperatorCount, Profile, Row, Unknown
from bench.counting.registry import FORMULAS, Cost, Formula, plain_name

CONVENTIONS = ("exact", "paper")
# Families whose outputs are `activations`: where a network's data is made anew, not only changed.
ACTIVATION_FAMILIES = frozenset(
    ("convolution", "linear", "matmul", "bilinear", "attention", "rnn", "gru", "lstm", "cdist")
)


@dataclass(slots=True)
class Rule:
    """What to do with one operator: count it by a formula, split it up, or report it."""

    family: str
    formula: Formula | None = None
    paper: PaperRule | None = None
    splits: bool = False
    moves: bool = True


def rule_for(operator: Any) -> Rule:
    """The rule of an overload: its own formula first, then free, pointwise, composite, and unknown last."""
    if not isinstance(operator, torch._ops.OpOverload):  # a higher-order operator
        return Rule(family=str(operator))
    name = operator._schema.name
    plain = plain_name(name)
    entry = FORMULAS.get(name) or FORMULAS.get(name.rstrip("_"))
    if entry:
        return Rule(entry.family, entry.formula, paper_rule(name.rstrip("_"), entry.family))
    if operator.namespace in ("aten", "prim"):
        if plain in VIEWING:
            return Rule(plain, _nothing, moves=False)
        if plain in MAKING_OR_MOVING or plain.removesuffix("_copy") in VIEWING:
            return Rule(plain, _nothing)
        if plain in POINTWISE_OPERATIONS or _is_pointwise(operator):
            return Rule(plain, pointwise(plain), paper_rule(name.rstrip("_"), plain))
    return Rule(name, splits=operator._can_decompose())


def _nothing(*_: Any, **__: Any) -> Cost:
    return Cost()


def _is_pointwise(operator: Any) -> bool:
    # In-place variants are not always tagged as what they are.
    packet = getattr(torch.ops.aten, plain_name(operator._schema.name), operator.overloadpacket)
    overloads = [operator, *(getattr(packet, name) for name in packet.overloads())]
    return any(torch.Tag.pointwise in overload.tags for overload in overloads)


class Counter(TorchDispatchMode):
    """Counts what runs inside it.

    Args:
        model: the module whose names and parameters label the rows; None for a plain function.
        convention: "exact" or "paper".
    """

    def __init__(self, model: nn.Module | None, convention: str) -> None:
        super().__init__()
        self.convention = convention
        self.rows: list[Row] = []
        self.unknown: dict[tuple[str, str], int] = {}
        self._modules = [(_clean(name), module) for name, module in model.named_modules()] if model else []
        self._names = {id(module): name for name, module in self._modules}
        self._unused = {id(p): p for p in model.parameters()} if model else {}
        self._open = [_Visit("", type(model).__name__ if model else "function")]
        self._rules: dict[Any, Rule] = {}
        self._products: dict[int, tuple[StorageWeakRef, Row]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would import its whole compiler to keep out of this mode; the counter runs with compilation off.
        return False

    def enter_module(self, module: nn.Module, _: Any) -> None:
        """Global forward pre-hook: what follows is charged to this module."""
        self._open[-1].row = None
        name = self._names.get(id(module), "")
        self._open.append(_Visit(name, type(module).__name__))

    def leave_module(self, module: nn.Module, _: Any, __: Any) -> None:
        """Global forward hook: what follows is charged to the caller again."""
        self._open.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator and charge it to the module that is open."""
        kwargs = kwargs or {}
        rule = self._rules.get(func)
        if rule is None:
            rule = self._rules[func] = rule_for(func)
        tensors = list(_tensors(args)) + list(_tensors(kwargs.values()))
        if self._unused:
            self._claim_parameters(tensors)
        if rule.splits:
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        if rule.family == "batch_norm" and tensors[0].is_meta:
            # What batch normalisation gives on the meta device is known, and finding it out there is slow.
            out = torch.empty_like(tensors[0])
        else:
            out = func(*args, **kwargs)
        results = [out] if isinstance(out, Tensor) else list(_tensors(out)) if isinstance(out, (tuple, list)) else []
        if rule.formula is None:
            self._report_unknown(rule.family, tensors, results)
        elif rule.moves:
            cost = rule.formula(*args, out=out, **kwargs)
            if isinstance(cost, int):
                cost = Cost(macs=cost)
            if self._products or rule.family == "mul":
                cost = self._join_product_and_sum(func, rule.family, cost, tensors, results)
            if cost.flops or not (results and tensors and results[0] is tensors[0]):
                self._charge(rule, cost, args, out, tensors, results)
        return out

    def profile(self) -> Profile:
        """What was counted so far; modules whose parameters nothing used are listed last."""
        rows, uncalled = self.rows, []
        if self._unused:
            owners: dict[str, Row] = {}
            for module_name, module in self._modules:
                unused = [p for p in module.parameters(recurse=False) if self._unused.pop(id(p), None) is not None]
                if unused:
                    owners[module_name] = Row(module_name, type(module).__name__, sum(p.numel() for p in unused))
            rows, uncalled = [*rows, *owners.values()], list(owners)
        unknown = [Unknown(layer, operator, calls) for (layer, operator), calls in self.unknown.items()]
        return Profile(self.convention, rows, unknown, uncalled)

    def _row(self) -> Row:
        visit = self._open[-1]
        if visit.row is None:
            visit.row = Row(visit.name, visit.type)
            self.rows.append(visit.row)
        return visit.row

    def _claim_parameters(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            if id(tensor) in self._unused:
                del self._unused[id(tensor)]
                self._row().params += tensor.numel()

    def _report_unknown(self, name: str, tensors: list[Tensor], results: list[Tensor]) -> None:
        if any(result.is_floating_point() or result.is_complex() for result in results):
            row = self._row()
            row.bytes += _bytes(tensors) + _bytes(results)
            self.unknown[row.name, name] = self.unknown.get((row.name, name), 0) + 1

    def _charge(
        self, rule: Rule, cost: Cost, args: Any, out: Any, tensors: list[Tensor], results: list[Tensor]
    ) -> None:
        row = self._row()
        row.bytes += _bytes(tensors) + _bytes(results)
        if rule.family in ACTIVATION_FAMILIES:
            row.activations += results[0].numel()
        flops = cost.flops
        if self.convention == "paper":
            flops = rule.paper(cost, args, out) if rule.paper else 0
        if flops or cost.flops:
            op = row.ops.setdefault(rule.family, OperatorCount())
            op.macs += cost.macs
            op.exact += cost.flops
            op.flops += flops
            op.calls += 1

    def _join_product_and_sum(
        self, func: Any, family: str, cost: Cost, tensors: list[Tensor], results: list[Tensor]
    ) -> Cost:
        """A product of two tensors that is then summed is one multiply-accumulate each, charged where the sum is."""
        if family == "mul":
            if len(tensors) > 1 and cost.flops:
                storage = StorageWeakRef(results[0].untyped_storage())
                self._products[storage.cdata] = (storage, self._row())
            return cost
        if not tensors or not (family in ("sum", "mean") or func._schema.is_mutable):
            return cost
        storage, row = self._products.pop(tensors[0].untyped_storage()._cdata, (None, None))
        if storage is None or row is None or storage.expired() or family not in ("sum", "mean"):
            return cost
        macs = tensors[0].numel()
        product = row.ops["mul"]
        product.exact -= macs
        if self.convention == "exact":
            product.flops -= macs
        return Cost(macs, cost.other - macs)


@dataclass(slots=True)
class _Visit:
    """A module that is running, and the row that its own operators go to; None after one of its children ran."""

    name: str
    type: str
    row: Row | None = None


@contextmanager
def counting(counter: Counter) -> Iterator[Counter]:
    """Count what runs inside; torch's global hooks are as before afterwards, also after an exception."""
    with ExitStack() as hooks:
        hooks.callback(register_module_forward_pre_hook(counter.enter_module).remove)
        hooks.callback(register_module_forward_hook(counter.leave_module, always_call=True).remove)
        hooks.enter_context(counter)
        yield counter


def _clean(name: str) -> str:
    """A module's name as its author wrote it, without the wrappers of `torch.compile`."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _bytes(tensors: list[Tensor]) -> int:
    """Bytes that the tensors span, a broadcast dimension once."""
    total = 0
    for tensor in tensors:
        elements = prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or not size)
        total += elements * tensor.element_size()
    return total
