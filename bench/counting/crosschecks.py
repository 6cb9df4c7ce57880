"""The counts of fvcore, thop and torch's own counter beside ours, and why they differ, layer by layer."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.flop_counter import FlopCounterMode

from adaptive_models.recurrent import GRU
from bench.counting.copies import Copier
from bench.counting.count import CROSS_CHECKS, count_flops, modules_of
from bench.counting.isolation import undisturbed
from bench.counting.profile import OperatorCount, Profile, Row, Unknown

ByLayer = dict[str, Counter[str]]  # of each layer, what it does itself: operators and their figures


@dataclass(frozen=True)
class Difference:
    """A layer to which a library gives other multiply-accumulates than we do.

    Attributes:
        layer: its name; "" is what the model itself computes.
        type: its class.
        ours: multiply-accumulates that we count.
        theirs: multiply-accumulates that the library counts.
        library: "fvcore", "thop" or "torch".
        reason: why, in a sentence.
    """

    layer: str
    type: str
    ours: int
    theirs: int
    library: str
    reason: str


def count_with(library: str, module: Callable[..., Any], *args: Any, **kwargs: Any) -> Profile:
    """Count `module(*args, **kwargs)` with another library, on a copy of the model and of the data.

    `flops` is the figure that the library prints: multiply-accumulates (fvcore, thop), or two for each (torch); `macs`
    is that in multiply-accumulates. There is one row per layer, in the order of registration. `unknown` lists what the
    library leaves out: operators (fvcore) or layers (thop) that it does not know; torch does not tell.

    Raises:
        ValueError: an unknown library.
        RuntimeError: the library cannot count this model; it says which and why.
    """
    if library not in CROSS_CHECKS:
        raise ValueError(f"unknown library {library!r}: use one of {', '.join(CROSS_CHECKS)}")
    call = _Call(*Copier(torch.clone).copy((module, args, kwargs)))
    try:
        with undisturbed(), torch.no_grad(), _silence():
            counts, unknown = _COUNTERS[library](call)
    except Exception as error:
        cause = next(iter(str(error).splitlines()), "")
        raise RuntimeError(f"{library} cannot count this model: {type(error).__name__}: {cause}") from error
    rows = call.rows(counts, flops_per_mac=2 if library == "torch" else 1)
    device = next((tensor.device.type for tensor in (*call.parameters(), *call.tensors)), "cpu")
    return Profile(library, rows, unknown, device=device)


def compare(module: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Difference]:
    """Layers to which fvcore, thop or torch give other multiply-accumulates than we do, with the reason.

    A library that cannot count the model at all gives one difference, for the whole.
    """
    profile = count_flops(module, *args, **kwargs)
    ours = _by_layer(profile)
    differences = []
    for library in CROSS_CHECKS:
        try:
            theirs = _by_layer(count_with(library, module, *args, **kwargs))
        except RuntimeError as error:
            differences.append(Difference("", type(module).__name__, profile.macs, 0, library, str(error)))
            continue
        for name in {**ours, **theirs}:
            our, their = ours.get(name, _Layer("")), theirs.get(name, _Layer(""))
            if our.total != their.total:
                reason = _reason(library, our, their)
                differences.append(Difference(name, our.type or their.type, our.total, their.total, library, reason))
    return differences


class _Call(nn.Module):
    """A call as a module that takes tensors alone, which is what fvcore and thop can count."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        super().__init__()
        self.called = nn.Module()
        roots = modules_of(function, args, kwargs)
        if "" in roots:
            self.called = roots[""]
        else:
            self.called._modules.update(roots)
        leaves, self._structure = tree_flatten((args, kwargs))
        self._leaves = leaves
        self._function = [function]  # in a list, so that it is no child
        self.tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))

    def forward(self, *tensors: Tensor) -> Any:
        """Call the function with these tensors in the place of its own."""
        remaining = iter(tensors)
        leaves = [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        args, kwargs = tree_unflatten(leaves, self._structure)
        return self._function[0](*args, **kwargs)

    def rows(self, counts: ByLayer, flops_per_mac: int) -> list[Row]:
        """A row for each layer that has a count or parameters."""
        rows = {layer_name(name): Row(layer_name(name), type(m).__name__) for name, m in self.named_modules()}
        for name, parameter in self.named_parameters():
            owner, _, _ = name.rpartition(".")
            rows[layer_name(owner)].parameters[layer_name(name)] = parameter.numel()
        for name, operators in counts.items():
            row = rows.setdefault(name, Row(name, type(self.called.get_submodule(name)).__name__))  # a second name
            for operator, figure in (+operators).items():
                row.ops[operator] = OperatorCount(figure // flops_per_mac, figure, figure, 1)
        return [row for row in rows.values() if row.ops or row.parameters]


def layer_name(name: str) -> str:
    """The name of a layer of a `_Call` without that around it."""
    return name.removeprefix("called").removeprefix(".")


@contextmanager
def _silence() -> Iterator[None]:
    """What libraries print, log and warn is not ours to say."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


# --- the libraries -----------------------------------------------------------------------------------------------


def _with_fvcore(call: _Call) -> tuple[ByLayer, list[Unknown]]:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(call, call.tensors)
    counts = _without_children(analysis.by_module_and_operator())
    unsupported = _without_children({name: analysis.unsupported_ops(name) for name in analysis.by_module()})
    unknown = [Unknown(name, op, calls) for name, operators in unsupported.items() for op, calls in operators.items()]
    return counts, unknown


def _without_children(inclusive: Mapping[str, Mapping[str, float]]) -> ByLayer:
    """What each layer does itself, from what it does with all that it contains."""
    own = {
        name: Counter({op: int(figure) for op, figure in operators.items()}) for name, operators in inclusive.items()
    }
    for name in inclusive:
        if name:
            parent, _, _ = name.rpartition(".")
            own[parent].subtract({op: int(figure) for op, figure in inclusive[name].items()})
    counts: ByLayer = {}
    for name, operators in own.items():
        counts[layer_name(name)] = counts.get(layer_name(name), Counter()) + operators
    return counts


def _with_thop(call: _Call) -> tuple[ByLayer, list[Unknown]]:
    import thop
    from thop.rnn_hooks import count_gru

    counts: ByLayer = {}

    def visit(parent: str, children: Mapping[str, Any]) -> None:
        for child, (figure, _, grandchildren) in children.items():
            name = f"{parent}.{child}".removeprefix(".")
            if grandchildren:
                visit(name, grandchildren)
            else:
                counts[layer_name(name)] = Counter({type(call.get_submodule(name)).__name__: int(figure)})

    _, _, children = thop.profile(call, call.tensors, {GRU: count_gru}, verbose=False, ret_layer_info=True)
    visit("", children)
    unknown = [
        Unknown(layer_name(name), type(module).__name__)
        for name, module in call.named_modules()
        if not _thop_knows(type(module).__name__) and next(module.parameters(recurse=False), None) is not None
    ]
    return counts, unknown


def _thop_knows(kind: str) -> bool:
    from thop.profile import register_hooks

    return any(known.__name__ == kind for known in register_hooks)


def _with_torch(call: _Call) -> tuple[ByLayer, list[Unknown]]:
    names = {id(module): layer_name(name) for name, module in call.named_modules()}
    counts: ByLayer = {}
    running = [""]
    counted: Counter[str] = Counter()

    def charge() -> None:
        """What was counted since the last time is the running layer's."""
        figures = Counter(
            {str(op).removeprefix("aten."): n for op, n in mode.get_flop_counts().get("Global", {}).items()}
        )
        counts[running[-1]] = counts.get(running[-1], Counter()) + (figures - counted)
        counted.update(figures - counted)

    def enter(module: nn.Module, _: Any) -> None:
        charge()
        running.append(names.get(id(module), running[-1]))

    def leave(module: nn.Module, _: Any, __: Any) -> None:
        charge()
        running.pop()

    with FlopCounterMode(display=False) as mode, ExitStack() as hooks:
        hooks.callback(register_module_forward_pre_hook(enter).remove)
        hooks.callback(register_module_forward_hook(leave).remove)
        call(*call.tensors)
        charge()
    return counts, []


_COUNTERS: dict[str, Callable[[_Call], tuple[ByLayer, list[Unknown]]]] = {
    "fvcore": _with_fvcore,
    "thop": _with_thop,
    "torch": _with_torch,
}


# --- why they differ ---------------------------------------------------------------------------------------------

# What operators are, by our names for them and by those of fvcore and torch.
KINDS = {
    **dict.fromkeys(("convolution", "conv"), "convolutions"),
    **dict.fromkeys(("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum"), "matrix products"),
    **dict.fromkeys(("rnn", "gru", "lstm"), "recurrent layers"),
    **dict.fromkeys(("sum", "mean"), "products that are summed"),
    "attention": "attention",
    "bilinear": "bilinear products",
    "cdist": "distances",
}
MULTIPLYING = re.compile("attention|rnn|gru|lstm|conv|linear|mm|mv|matmul|dot|cdist")


@dataclass
class _Layer:
    """What one library, or we, know of a layer."""

    type: str
    macs: Counter[str] = field(default_factory=Counter)  # by operator
    unknown: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.macs.values())

    @property
    def by_kind(self) -> Counter[str]:
        kinds: Counter[str] = Counter()
        for operator, macs in self.macs.items():
            kinds[KINDS.get(operator, operator)] += macs
        return kinds


def _by_layer(profile: Profile) -> dict[str, _Layer]:
    layers: dict[str, _Layer] = {}
    for row in profile.rows:
        layer = layers.setdefault(row.name, _Layer(row.type))
        layer.macs.update({name: op.macs for name, op in row.ops.items() if op.macs})
    for entry in profile.unknown:
        layers.setdefault(entry.layer, _Layer("")).unknown.append(entry.operator)
    return layers


def _reason(library: str, ours: _Layer, theirs: _Layer) -> str:
    if library == "thop":
        return f"thop {_why_thop_differs(ours, theirs)}"
    our_kinds, their_kinds = ours.by_kind, theirs.by_kind
    if "attention" not in their_kinds and their_kinds["matrix products"] > our_kinds["matrix products"]:
        our_kinds["matrix products"] += our_kinds.pop("attention", 0)  # which the library saw as its parts
    missing = [kind for kind in our_kinds if not their_kinds[kind]]
    reasons = [_why_missing(missing, theirs.unknown)] if missing else []
    for kind, macs in their_kinds.items():
        if not our_kinds[kind] and macs:
            reasons.append(f"takes the operations of {kind} for multiply-accumulates")
        elif our_kinds[kind] != macs and "attention" in ours.by_kind:
            reasons.append("counts all pairs of query and key, also those that a causal mask hides")
        elif our_kinds[kind] != macs:
            is_einsum = "einsum" in theirs.macs
            reasons.append("knows einsum to few digits" if is_einsum else f"counts {kind} by another formula")
    return f"{library} {' and '.join(reasons)}"


def _why_missing(kinds: list[str], unknown: list[str]) -> str:
    if kinds == ["products that are summed"]:
        return "does not see that a multiplication followed by a sum is multiply-accumulates"
    multiplying = [operator for operator in unknown if MULTIPLYING.search(operator)]
    return f"has no formula for {', '.join(multiplying) or 'the operator that ran the ' + ' and '.join(kinds)}"


def _why_thop_differs(ours: _Layer, theirs: _Layer) -> str:
    if not theirs.total and _thop_knows(ours.type):
        return f"counts layers when they are called, and this {ours.type} ran without"
    if not theirs.total:
        return f"counts layers that it knows, and not what {ours.type} computes itself"
    if not ours.total and "Norm" in ours.type:
        return "takes normalisation for multiply-accumulates, 2 per element, 4 with weight and bias"
    if not ours.total:
        return f"takes the operations of {theirs.type} for multiply-accumulates"
    if "recurrent layers" in ours.by_kind:
        return "adds biases and gates to the products of recurrent layers"
    if ours.type.startswith("ConvTranspose"):
        return "counts a transposed convolution by its outputs, not its inputs"
    return f"counts {ours.type} by another formula"
