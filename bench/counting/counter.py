"""The counter: a dispatch mode that charges every operator to the module that calls it.

It is meant to run under `torch.inference_mode`, where operators arrive as the model wrote them (linear, lstm,
scaled_dot_product_attention, ...), before autograd or a device splits them up. That is what makes a count the same on
every device and in every mode. Below autograd it still counts, by the formulas of the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from bench.counting import formulas as formulas  # importing them registers them
from bench.counting.copies import is_plain
from bench.counting.formulas.pointwise import is_pointwise, pointwise
from bench.counting.free import FREE
from bench.counting.meta import QUICK_RESULTS, in_place
from bench.counting.paper import PaperRule, paper_rule
from bench.counting.profile import OperatorCount, Profile, Row, Unknown
from bench.counting.registry import FORMULAS, Cost, Formula, plain_name

CONVENTIONS = ("exact", "paper")


@dataclass(slots=True)
class Rule:
    """What to do with one operator: count it by a formula, let it be, or split it up if it can be; if not, report it.

    Formulas of torch's own operators take no account of integers, which are free, and of complex numbers.
    """

    family: str
    formula: Formula | None = None
    paper: PaperRule | None = None
    quick_result: Callable[..., Any] | None = None
    is_torchs: bool = False
    is_mutable: bool = False
    is_free: bool = False
    splits: bool = False


def rule_for(operator: Any) -> Rule:
    """The rule of an overload: its own formula first, then free, pointwise, composite, and unknown last."""
    if not isinstance(operator, torch._ops.OpOverload):  # a higher-order operator
        return Rule(family=str(operator))
    schema = operator._schema
    is_torchs = operator.namespace in ("aten", "prim")
    name = schema.name.rstrip("_") if is_torchs else schema.name
    plain = plain_name(name)
    rule = Rule(name, is_torchs=is_torchs, is_mutable=schema.is_mutable)
    if name in FORMULAS:
        rule.family, rule.formula = FORMULAS[name].family, FORMULAS[name].formula
    elif is_torchs and (plain in FREE or plain.removesuffix("_copy") in FREE):
        rule.is_free = True
    elif is_torchs and is_pointwise(operator, plain):
        rule.family, rule.formula = plain, pointwise(plain)
    else:
        rule.splits = True
    if rule.formula:
        rule.paper = paper_rule(name, rule.family)
    quick_result = QUICK_RESULTS.get(name)
    if not rule.is_mutable:
        rule.quick_result = quick_result
    elif quick_result and schema.name.endswith("_"):
        rule.quick_result = partial(in_place, quick_result)
    return rule


@dataclass(slots=True)
class _Visit:
    """A module that is running, and the row that its own operators go to; None after one of its children ran."""

    name: str
    module: nn.Module | None
    row: Row | None = None


@dataclass(slots=True)
class _Product:
    """A product of two tensors: where it was made, and how many of its elements are not summed yet."""

    row: Row
    elements: int


class Counter(TorchDispatchMode):
    """Counts what runs inside it.

    Args:
        modules: the module whose names and parameters label the rows, or several by the prefix of their names.
        convention: "exact" or "paper".

    Attributes:
        stage: to which rows belong at present (see `enter_stage`).
    """

    supports_higher_order_operators = True

    def __init__(self, modules: nn.Module | Mapping[str, nn.Module], convention: str) -> None:
        super().__init__()
        if isinstance(modules, nn.Module):
            modules = {"": modules}
        self.convention = convention
        self.rows: list[Row] = []
        self.unknown: dict[tuple[str, str], int] = {}
        self._modules = {name: m for prefix, root in modules.items() for name, m in root.named_modules(prefix=prefix)}
        self._names = {id(module): name for name, module in self._modules.items()}
        parameters = (named for prefix, root in modules.items() for named in root.named_parameters(prefix=prefix))
        self._unused = {id(parameter): (name, parameter) for name, parameter in parameters}
        self.stage = ""
        self._open = [_Visit("", self._modules.get(""))]
        self._rules: dict[Any, Rule] = {}
        self._products: dict[int, tuple[StorageWeakRef, _Product]] = {}  # by the address of their storage

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would import its whole compiler to keep out of this mode; the counter runs with compilation off.
        return False

    def enter_module(self, module: nn.Module, _: Any) -> None:
        """Global forward pre-hook: what follows is charged to this module."""
        caller = self._open[-1]
        caller.row = None
        self._open.append(_Visit(self._names.get(id(module), caller.name), module))

    def leave_module(self, module: nn.Module, _: Any, __: Any) -> None:
        """Global forward hook: what follows is charged to the caller again."""
        row = self._open.pop().row
        if row:
            row.type = type(module).__name__  # a lazy module has become another by now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator and charge it to the module that is open."""
        if any(kind.__torch_dispatch__ is not Tensor.__torch_dispatch__ for kind in types):
            return NotImplemented  # a tensor that consists of others, as a nested one: it runs operators on these
        kwargs = kwargs or {}
        rule = self._rules.get(func)
        if rule is None:
            rule = self._rules[func] = rule_for(func)
        tensors = list(_tensors((*args, *kwargs.values())))
        if self._unused:
            self._claim_parameters(tensors)
        if rule.splits:
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = _run(func, rule, args, kwargs, tensors)
        results = [out] if isinstance(out, Tensor) else list(_tensors((out,)))
        if rule.is_free:
            if rule.is_mutable or _moves(tensors, results):
                self._row().bytes += _bytes(tensors) + _bytes(results)
        elif rule.formula is None or not all(map(is_plain, (*tensors, *results))):
            self._report_unknown(rule, tensors, results)
        else:
            cost = rule.formula(*args, **{**kwargs, "out": out})
            self._charge(rule, Cost(cost) if isinstance(cost, int) else cost, args, out, tensors, results)
        self._follow_products(rule, args, tensors, results)
        return out

    def enter_stage(self, stage: str) -> None:
        """Charge what follows to rows of their own, which belong to this stage."""
        self._open[-1].row = None
        self.stage = stage

    def new_row(self) -> int:
        """Charge what follows to rows of their own; returns the number of rows so far."""
        self._open[-1].row = None
        return len(self.rows)

    def unused(self, parts: Iterable[str]) -> frozenset[str]:
        """Names of parameters of these parts that nothing has used yet."""
        names = [name for name, _ in self._unused.values()]
        return frozenset(name for name in names if name.startswith(tuple(f"{part}." for part in parts)))

    def charge_again(self, rows: list[Row]) -> None:
        """Charge what was counted in another model of which this part is the same; the rows become part of both."""
        self._open[-1].row = None
        used = {name for row in rows for name in row.parameters}
        self._unused = {key: named for key, named in self._unused.items() if named[0] not in used}
        self.rows += rows

    def profile(self) -> Profile:
        """What was counted so far; modules whose parameters nothing used are listed last."""
        uncalled: dict[str, Row] = {}
        for full_name, parameter in self._unused.values():
            owner, _, _ = full_name.rpartition(".")
            row = uncalled.setdefault(owner, Row(owner, type(self._modules[owner]).__name__))
            row.parameters[full_name] = 0 if is_lazy(parameter) else parameter.numel()
        unknown = [Unknown(layer, operator, calls) for (layer, operator), calls in self.unknown.items()]
        return Profile(self.convention, [*self.rows, *uncalled.values()], unknown, list(uncalled))

    def _row(self) -> Row:
        visit = self._open[-1]
        if visit.row is None:
            kind = "function" if visit.module is None else type(visit.module).__name__
            visit.row = Row(visit.name, kind, stage=self.stage)
            self.rows.append(visit.row)
        return visit.row

    def _claim_parameters(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            if id(tensor) in self._unused and not is_lazy(tensor):
                name, _ = self._unused.pop(id(tensor))
                self._row().parameters[name] = tensor.numel()

    def _report_unknown(self, rule: Rule, tensors: list[Tensor], results: list[Tensor]) -> None:
        """Note an operator without formula, unless torch has it to describe tensors, or all of them are integers."""
        if (results or rule.is_mutable or not rule.is_torchs) and not all(map(_is_integer, (*tensors, *results))):
            row = self._row()
            row.bytes += _bytes(tensors) + _bytes(results)
            self.unknown[row.name, rule.family] = self.unknown.get((row.name, rule.family), 0) + 1

    def _charge(
        self, rule: Rule, cost: Cost, args: Any, out: Any, tensors: list[Tensor], results: list[Tensor]
    ) -> None:
        if rule.is_torchs:
            cost = _in_real_numbers(cost, rule.family, tensors, results)
        if self._products and rule.family in ("sum", "mean"):
            cost = self._join_product(cost, tensors[0])
        if not cost.flops and not _moves(tensors, results):  # dropout in evaluation
            return
        row = self._row()
        row.bytes += _bytes(tensors) + _bytes(results)
        if cost.macs and results:
            row.activations += results[0].numel()
        flops = cost.flops
        if self.convention == "paper":
            seen = not rule.is_torchs or _is_layer_of_torch(self._open[-1].module)
            flops = rule.paper(cost, args, out) if rule.paper and seen else 0
        if flops or cost.flops:
            op = row.ops.setdefault(rule.family, OperatorCount())
            op.macs += cost.macs
            op.exact += cost.flops
            op.flops += flops
            op.calls += 1

    def _follow_products(self, rule: Rule, args: Any, tensors: list[Tensor], results: list[Tensor]) -> None:
        """Note which tensors are products of two: one that is just made, or moved, and not written to since."""
        product = None
        if rule.family == "mul" and isinstance(args[1], Tensor) and not _is_integer(results[0]):
            product = _Product(self._row(), results[0].numel())
        elif not self._products:
            return
        elif rule.is_free and results and tensors and results[0].numel() == tensors[0].numel():
            product = self._product(tensors[0])
        if rule.is_mutable:
            for written in results or tensors:
                self._products.pop(_storage(written), None)
        if product and is_plain(results[0]):
            storage = StorageWeakRef(results[0].untyped_storage())
            self._products[storage.cdata] = (storage, product)

    def _product(self, x: Tensor) -> _Product | None:
        storage, product = self._products.get(_storage(x), (None, None))
        return None if storage is None or storage.expired() else product

    def _join_product(self, cost: Cost, x: Tensor) -> Cost:
        """A product of two tensors that is then summed is one multiply-accumulate each, charged where the sum is."""
        product = self._product(x)
        elements = min(x.numel(), product.elements) if product else 0
        if not product or not elements:
            return cost
        product.elements -= elements
        additions = elements * (2 if x.is_complex() else 1)
        macs = elements * (4 if x.is_complex() else 1)
        multiplications = product.row.ops["mul"]
        multiplications.exact -= 2 * macs - additions
        if self.convention == "exact":
            multiplications.flops -= 2 * macs - additions
        return Cost(macs, cost.other - additions)


@contextmanager
def counting(counter: Counter) -> Iterator[Counter]:
    """Count what runs inside; torch's global hooks are as before afterwards, also after an exception."""
    with ExitStack() as hooks:
        hooks.callback(register_module_forward_pre_hook(counter.enter_module).remove)
        hooks.callback(register_module_forward_hook(counter.leave_module, always_call=True).remove)
        hooks.enter_context(counter)
        yield counter


def _run(func: Any, rule: Rule, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
    device = tensors[0].device if tensors else kwargs.get("device")
    if rule.quick_result and device == torch.device("meta"):
        out = rule.quick_result(*args, **kwargs)
        if out is not NotImplemented:
            return out
    try:
        return func(*args, **kwargs)
    except RuntimeError:
        # A constant that the model made on a device of its own choice meets a meta tensor.
        devices = {tensor.is_meta for tensor in tensors}
        if len(devices) < 2 or (rule.is_mutable and not tensors[0].is_meta):
            raise
        args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
        return func(*args, **kwargs)


def _is_layer_of_torch(module: nn.Module | None) -> bool:
    """Whether it is a layer that the published counter could have a hook on: it does not see functional calls."""
    bases = type(module).__mro__
    return any(base is not nn.Module and base.__module__.startswith("torch.nn.modules.") for base in bases)


def _in_real_numbers(cost: Cost, family: str, tensors: list[Tensor], results: list[Tensor]) -> Cost:
    """Operations on integers are free; one on complex numbers is two, a product six, a multiply-accumulate four."""
    if any(tensor.is_complex() for tensor in (*tensors, *results)):
        is_product = family == "mul" and [tensor.is_complex() for tensor in tensors] == [True, True]
        return Cost(4 * cost.macs, (6 if is_product else 2) * cost.other)
    return Cost(cost.macs) if all(map(_is_integer, (*tensors, *results))) else cost


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _moves(tensors: list[Tensor], results: list[Tensor]) -> bool:
    """Whether there is a result, and it is not only another view of the first tensor."""
    if not results or not tensors:
        return bool(results)
    return results[0] is not tensors[0] and _storage(results[0]) != _storage(tensors[0])


def _storage(tensor: Tensor) -> int:
    """The address of a tensor's storage; 0 for what has none of its own."""
    return tensor.untyped_storage()._cdata if is_plain(tensor) else 0


def _bytes(tensors: list[Tensor]) -> int:
    """Bytes that the tensors span, a broadcast dimension once."""
    total = 0
    for tensor in tensors:
        if not is_plain(tensor) or 0 not in tensor.stride():
            total += tensor.numel() * tensor.element_size()
        else:
            sides = zip(tensor.shape, tensor.stride(), strict=True)
            total += prod(size for size, stride in sides if stride or not size) * tensor.element_size()
    return total
