"""What of a system is deterministic, and how it differs from what it was, in words that name the layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, TypeVar

import torch

from adaptive_models.policies import GivenNumber, GivenShares
from bench.counting.profile import Profile
from bench.errors import UsageError
from bench.records.counts import STRICT, Stages
from bench.systems.accounting import KEPT
from bench.systems.costs import count_system, operating_point
from bench.systems.registry import PRESCAN_STAGES, System
from bench.systems.workloads import WORKLOADS

T = TypeVar("T")

VIDEOS = 16
"""For so many videos the decisions of the seeded policy are kept."""

SHOWN = 10
"""Differences that a message shows."""


class Costs(NamedTuple):
    """What is counted of a layer, or of several."""

    macs: int = 0
    exact: int = 0
    paper: int = 0
    params: int = 0
    activations: int = 0

    @property
    def runs(self) -> bool:
        """Whether anything is computed."""
        return self.exact > 0 or self.paper > 0


UNITS = {
    "macs": "MACs",
    "exact": "operations (exact)",
    "paper": "operations (paper)",
    "params": "parameters",
    "activations": "activations",
}


class Layer(NamedTuple):
    """One visit of a layer; `exact` and `paper` are operations in these conventions."""

    stage: str
    name: str
    type: str
    macs: int
    exact: int
    paper: int
    params: int
    activations: int

    @property
    def costs(self) -> Costs:
        """Its numbers."""
        return Costs._make(self[3:])


@dataclass(frozen=True)
class Fingerprint:
    """All of a system that is the same on every machine.

    Attributes:
        inputs: of one call, in words.
        policy: who decides in an adaptive system, else empty.
        shares: per cent of frames {"skip", "prescan", "full"} under the policy, if adaptive.
        decisions: of the policy `published` with seed 0, a line per video and a character per frame: "." if it is
            skipped, else the choice.
        unknown: operators without a formula, as "layer: operator".
        layers: visits of layers that cost something, in execution order.
    """

    __pydantic_config__ = STRICT

    inputs: str
    policy: str
    shares: dict[str, float] | None
    decisions: list[str]
    unknown: list[str]
    layers: list[Layer]

    def total(self, stages: Iterable[str] | None = None) -> Costs:
        """Of one call, or of some stages of it."""
        return add(layer.costs for layer in self.layers if stages is None or layer.stage in stages)

    @property
    def stages(self) -> list[str]:
        """Of an adaptive system, in the order in which they run; what never runs has none."""
        return list(dict.fromkeys(layer.stage for layer in self.layers if layer.stage))

    @property
    def weighed(self) -> float | None:
        """Operations of a step of an adaptive system, mostly a frame, in the `exact` convention, at its shares."""
        if self.shares is None:
            return None
        prescan = self.total(PRESCAN_STAGES).exact
        return Stages(prescan, self.total().exact - prescan).per_frame(self.shares)


def fingerprint(system: System) -> Fingerprint:
    """Count a system and let the policy `published` decide; where nothing is published for it, every frame is full.

    Raises:
        UsageError, RunError: as `count_system`.
    """
    policy = _policy(system)
    cost = count_system(system, "paper", policy)
    shares = {name: round(share, 6) for name, share in asdict(cost.shares).items()} if cost.shares else None
    return Fingerprint(
        inputs=system.shapes,
        policy=policy if system.adaptive else "",
        shares=shares,
        decisions=_decisions(system) if policy == "published" and system.decides else [],
        unknown=_unknown(cost.profile),
        layers=_layers(cost.profile),
    )


def fingerprint_of_call(profile: Profile, inputs: str) -> Fingerprint:
    """The same of a call that was counted in the `paper` convention."""
    return Fingerprint(inputs, "", None, [], _unknown(profile), _layers(profile))


def _policy(system: System) -> str:
    try:
        if system.adaptive:
            operating_point(system, "published")
    except UsageError:
        return "always-full"
    return "published"


def _decisions(system: System) -> list[str]:
    if kept := KEPT.get(system.id):
        chosen = GivenNumber(kept.number, kept.of)
        asked = [chosen.choose(range(VIDEOS), t, torch.empty(VIDEOS, 2)) for t in range(kept.of)]
        return ["".join(map(str, choices)) for choices in zip(*asked, strict=True)]
    shares, _ = operating_point(system)
    frames = WORKLOADS.get(system.workload, WORKLOADS["epic"]).frames
    policy = GivenShares(shares, system.max_skip or 0, frames)
    return ["".join("." if c < 0 else str(c) for c in policy.sequence(video)) for video in range(VIDEOS)]


def _unknown(profile: Profile) -> list[str]:
    return sorted({f"{entry.layer or 'the model itself'}: {entry.operator}" for entry in profile.unknown})


def _layers(profile: Profile) -> list[Layer]:
    rows = [(row, sum(op.exact for op in row.ops.values())) for row in profile.rows]
    layers = [
        Layer(row.stage, row.name, row.type, row.macs, exact, row.flops, row.params, row.activations)
        for row, exact in rows
    ]
    return [layer for layer in layers if any(layer.costs)]


def add(costs: Iterable[Costs]) -> Costs:
    """The sum."""
    return Costs._make(map(sum, zip(Costs(), *costs, strict=True)))


def differences(old: Fingerprint, new: Fingerprint) -> list[str]:
    """What changed, a line each, in execution order: the first layer that is named is where it began.

    Layers of another type, or in another order, that cost the same are no difference.
    """
    if old == new:
        return []
    lines = [f"inputs: {old.inputs} -> {new.inputs}"] if old.inputs != new.inputs else []
    lines += _layer_differences(old.layers, new.layers)
    lines += [f"operator without a formula, in {entry}" for entry in new.unknown if entry not in old.unknown]
    lines += [f"no longer without a formula, {entry}" for entry in old.unknown if entry not in new.unknown]
    if (old.policy, old.shares) != (new.policy, new.shares):
        lines.append(f"shares of frames: {_shares(old)} -> {_shares(new)}")
    lines += _decision_differences(old.decisions, new.decisions)
    return lines


def totals(old: Fingerprint, new: Fingerprint) -> list[str]:
    """What the differences come to, by stage of an adaptive system and in all; empty where only their place changed."""
    named = {f"stage {stage}": (old.total([stage]), new.total([stage])) for stage in _merged(old.stages, new.stages)}
    named["in all"] = old.total(), new.total()
    lines = [f"{name}: {_change(*both, percent=True)}" for name, both in named.items() if both[0] != both[1]]
    if old.weighed is not None and new.weighed is not None and old.weighed != new.weighed:
        lines.append(f"at the operating point: {_number(old.weighed, new.weighed, True)} operations (exact)")
    return lines


def is_better(old: Fingerprint, new: Fingerprint) -> bool:
    """Whether something in all became less, and nothing more."""
    was, now = old.total(), new.total()
    return was != now and all(after <= before for before, after in zip(was, now, strict=True))


def shortened(lines: Sequence[str]) -> list[str]:
    """The first ten, and how many more there are."""
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"and {more} more"] if more > 0 else list(lines)


def _layer_differences(old: Sequence[Layer], new: Sequence[Layer]) -> list[str]:
    before, after = _visits(old), _visits(new)
    common = _running_modules(old) & _running_modules(new)
    names: list[str] = []
    for visit in _merged(list(before), list(after)):
        was, now = before.get(visit, Costs()), after.get(visit, Costs())
        if was != now:
            names.append(_outermost_outside(common, visit[1]) if was.runs != now.runs else visit[1])
    return [f"{name or 'the model itself'}: {_module(name, name in common, old, new)}" for name in dict.fromkeys(names)]


def _visits(layers: Iterable[Layer]) -> dict[tuple[str, str, int], Costs]:
    """Costs by stage, name, and how often the layer was visited before."""
    visits: dict[tuple[str, str, int], Costs] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for layer in layers:
        visits[layer.stage, layer.name, seen[layer.stage, layer.name]] = layer.costs
        seen[layer.stage, layer.name] += 1
    return visits


def _running_modules(layers: Iterable[Layer]) -> set[str]:
    """Layers that compute something, and all modules round them."""
    return {module for layer in layers if layer.costs.runs for module in _modules_round(layer.name)}


def _modules_round(name: str) -> list[str]:
    """The outermost first, the layer itself last."""
    parts = name.split(".")
    return [".".join(parts[: depth + 1]) for depth in range(len(parts))]


def _outermost_outside(modules: set[str], name: str) -> str:
    return next((module for module in _modules_round(name) if module not in modules), name)


def _module(name: str, alone: bool, old: Sequence[Layer], new: Sequence[Layer]) -> str:
    """How a layer changed, alone or with all layers within it, over all its visits."""
    sides = [
        [layer for layer in side if layer.name == name or (not alone and layer.name.startswith(f"{name}."))]
        for side in (old, new)
    ]
    was, now = (add(layer.costs for layer in side) for side in sides)
    if was == now:
        return "the same in all, at another place in the call"
    if was.runs == now.runs:
        return _change(was, now)
    ran = {layer.name for layer in sides[now.runs] if layer.costs.runs}
    layers = f", with its {len(ran)} layers" if len(ran) > 1 else ""
    return f"{_change(was, now)} ({'new' if now.runs else 'no longer runs'}{layers})"


def _change(was: Costs, now: Costs, percent: bool = False) -> str:
    """The most telling of the operations that changed, and the parameters; activations where nothing else did."""
    changed = [name for name in Costs._fields if getattr(was, name) != getattr(now, name)]
    operations = [name for name in changed if name in ("macs", "exact", "paper")]
    named = operations[:1] + [name for name in changed if name == "params"] or changed
    return ", ".join(f"{_number(getattr(was, name), getattr(now, name), percent)} {UNITS[name]}" for name in named)


def _number(was: float, now: float, percent: bool) -> str:
    part = f" ({100 * (now / was - 1):+.3g} %)" if percent and was else ""
    return f"{was:,.0f} -> {now:,.0f}{part}"


def _shares(side: Fingerprint) -> str:
    if side.shares is None:
        return "none"
    return f"{', '.join(f'{name} {share:g} %' for name, share in side.shares.items())} ({side.policy})"


def _decision_differences(old: Sequence[str], new: Sequence[str]) -> list[str]:
    changed = [video for video in range(max(len(old), len(new))) if old[video : video + 1] != new[video : video + 1]]
    if not changed:
        return []
    was, now = ("".join(side[changed[0] : changed[0] + 1]) or "none" for side in (old, new))
    return [f"decisions: {len(changed)} of {VIDEOS} videos, the first is video {changed[0]}: {was} -> {now}"]


def _merged(old: Sequence[T], new: Sequence[T]) -> list[T]:
    """Both orders in one: what is new stands behind what it follows."""
    merged = list(old)
    place = 0
    for key in new:
        if key in merged:
            place = merged.index(key) + 1
        else:
            merged.insert(place, key)
            place += 1
    return merged
