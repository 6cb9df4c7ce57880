"""What a system costs: counted once, stage by stage where it is adaptive, and weighed by what a policy does."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adaptive_models.policies import Shares
from adaptive_models.stepwise import Stepwise
from adaptive_models.system import AdaptiveSystem
from bench.counting.count import CROSS_CHECKS, count_flops
from bench.counting.counter import Counter, counting
from bench.counting.isolation import operators_whole, undisturbed
from bench.counting.meta import unfilled
from bench.counting.profile import Grouping, Profile
from bench.counting.shared import count_shared, description
from bench.errors import RunError, UsageError, in_words
from bench.published.tables import FRAMES, VALIDATION_CLIPS, published_shares, read_table
from bench.records.counts import Stages
from bench.systems.accounting import KEPT, published_stages
from bench.systems.registry import PRESCAN_STAGES, System

if TYPE_CHECKING:
    from bench.counting.crosschecks import Difference

FIXED_POLICIES = ("published", "always-full")
"""Policies whose shares of frames are known without a video."""


@dataclass(frozen=True)
class SystemCost:
    """The count of one call of a system: of an adaptive one, a step in which every frame is processed fully.

    Attributes:
        system: which.
        profile: its rows, with stages if it is adaptive.
        policy: who decides, if the system is adaptive.
        shares: what the policy does with frames, in per cent.
        shares_source: where the shares come from.
    """

    system: System
    profile: Profile
    policy: str | None = None
    shares: Shares | None = None
    shares_source: str = ""

    @property
    def stages(self) -> Stages | None:
        """Operations of a step of an adaptive system, in the profile's convention."""
        if self.shares is None:
            return None
        prescan = sum(row.flops for row in self.profile.rows if row.stage in PRESCAN_STAGES)
        return Stages(prescan, self.profile.flops - prescan)

    @property
    def macs_stages(self) -> Stages | None:
        """Multiply-accumulates of a step of an adaptive system."""
        if self.shares is None:
            return None
        prescan = sum(row.macs for row in self.profile.rows if row.stage in PRESCAN_STAGES)
        return Stages(prescan, self.profile.macs - prescan)

    @property
    def per_frame(self) -> float:
        """Operations per frame of video, in the profile's convention."""
        if self.stages is None or self.shares is None:
            return self.profile.flops / self.system.frames
        return self.stages.per_frame(asdict(self.shares)) / self.system.frames

    @property
    def exact(self) -> SystemCost:
        """The same in the `exact` convention, which every count keeps beside its own."""
        rows = [
            replace(row, ops={name: replace(op, flops=op.exact) for name, op in row.ops.items()})
            for row in self.profile.rows
        ]
        return replace(self, profile=replace(self.profile, convention="exact", rows=rows))

    def to_json(self, by: Grouping = "layer") -> dict[str, Any]:
        """Plain data, as `foveabench flops --json` prints it."""
        data: dict[str, Any] = {
            "system": self.system.id,
            "input": {name: list(shape) for name, shape in self.system.inputs.items()},
            "frames": self.system.frames,
            "per_frame": {"flops": self.per_frame},
            **self.profile.to_json(by),
        }
        if self.stages is not None and self.shares is not None:
            if by == "stage":
                data["by_stage"] = data["stages"]
            stages, frames = {**asdict(self.stages), "full": self.stages.full}, self.system.frames
            data["stages"] = stages if frames == 1 else {name: flops / frames for name, flops in stages.items()}
            data["shares"] = asdict(self.shares)
            data["policy"] = self.policy
            data["shares_source"] = self.shares_source
        return data


def count_system(system: System, convention: str = "exact", policy: str = "published") -> SystemCost:
    """Count one call of a system with batch 1, in evaluation mode.

    Args:
        system: which.
        convention: as of `count_flops`; an adaptive system, which is no single call, has "exact" and "paper" only.
        policy: "published" or "always-full", whose shares weigh the stages of an adaptive system; what other policies
            do depends on the video.

    Raises:
        UsageError: a convention or policy that it does not have, or inputs that its model rejects.
        RunError: its model cannot be built or run.
    """
    if not system.adaptive:
        return SystemCost(system, _count(system, convention))
    if convention in CROSS_CHECKS:
        raise UsageError(f"{convention} counts one call of a module; {system.id} is adaptive and runs in stages")
    shares, source = operating_point(system, policy)
    return SystemCost(system, _count(system, convention), policy, shares, source)


def cross_check(system: System) -> list[Difference]:
    """Layers where fvcore, thop or torch count other MACs than we do, with the reason.

    Raises:
        UsageError: an adaptive system, which is no single call of a module, or inputs that the model rejects.
        RunError: its model cannot be built or run.
    """
    if system.adaptive:
        raise UsageError(f"{system.id} is adaptive and runs in stages: cross-check its backbones, or a fixed system")
    from bench.counting.crosschecks import compare

    model = build_model(system)
    with _blaming(system):
        args, kwargs = _inputs(system, torch.device("cpu"))
        return compare(model, *args, **kwargs)


def build_model(system: System) -> nn.Module:
    """The system's model, in evaluation mode.

    Raises:
        RunError: its builder fails, or makes something else.
    """
    try:
        model = system.build()
    except Exception as error:
        raise RunError(f"{system.id} cannot be built: {in_words(error)}") from error
    wanted = AdaptiveSystem if system.crops is not None else Stepwise if system.stepwise else nn.Module
    if not isinstance(model, wanted):
        raise RunError(f"{system.id} cannot be built: its builder made a {type(model).__name__}, no {wanted.__name__}")
    if isinstance(model, Stepwise) and system.adaptive and model.window != system.frames:
        raise RunError(
            f"{system.id} cannot be built: a step of its {type(model).__name__} decides about {model.window} frames,"
            f" the system says {system.frames}"
        )
    return model.eval()


def _count(system: System, convention: str) -> Profile:
    """Count without memory for weights and data; with it where a builder or control flow needs values."""
    with undisturbed():
        return _count_undisturbed(system, convention)


def _count_undisturbed(system: System, convention: str) -> Profile:
    try:
        with torch.device("meta"), unfilled(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights that are loaded into nothing
            model = build_model(system)
        return _count_model(model, system, convention)
    except Exception:
        model = build_model(system)
    with _blaming(system):
        return _count_model(model, system, convention)


def _count_model(model: nn.Module, system: System, convention: str) -> Profile:
    if isinstance(model, Stepwise) and system.adaptive:
        return count_stages(model, system.inputs, convention)
    device = _device_of(model)
    args, kwargs = _inputs(system, device)
    if device.type != "meta" or convention in CROSS_CHECKS:
        return count_flops(model, *args, convention=convention, **kwargs)
    counter = Counter(model, convention)  # no need of a copy: the model was built to be counted
    with operators_whole(), torch.inference_mode(), counting(counter):
        model(*args, **kwargs)
    return counter.profile()


def _inputs(system: System, device: torch.device) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    inputs = {name: torch.zeros(1, *shape, device=device) for name, shape in system.inputs.items()}
    return (tuple(inputs.values()), {}) if len(inputs) == 1 else ((), inputs)


def _device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@contextmanager
def _blaming(system: System) -> Iterator[None]:
    """What a model raises, in one line that names the system; a ValueError says that the input is wrong."""
    try:
        yield
    except Exception as error:
        kind = UsageError if isinstance(error, ValueError) else RunError
        raise kind(f"{system.id} cannot be run on {system.shapes}: {in_words(error)}") from error


def count_stages(model: Stepwise, inputs: Mapping[str, Sequence[int]], convention: str) -> Profile:
    """Count the stages of one step of one video with every frame full, in the order in which they run."""
    device = _device_of(model)
    counter = Counter(model, convention)
    parts = _described_parts(model) if device.type == "meta" else {}

    def count(stage: str, *args: Any) -> Any:
        counter.enter_stage(stage)
        function = getattr(model, stage)
        if stage in parts:
            return count_shared(counter, parts[stage], function, *args)
        with counting(counter):
            return function(*args)

    with torch.inference_mode():
        model.trace(count, {name: torch.zeros(1, *shape, device=device) for name, shape in inputs.items()})
    return replace(counter.profile(), device=device.type)


def _described_parts(model: Stepwise) -> dict[str, dict[str, Hashable]]:
    """Of each stage that says what it depends on, descriptions of that; of none, if that is not possible."""
    names = {name for depends in model.depends_on.values() for name in depends}
    try:
        of_all = {name: description(getattr(model, name)) for name in names} | {"": description(type(model))}
    except TypeError:
        return {}
    return {stage: {name: of_all[name] for name in ("", *depends)} for stage, depends in model.depends_on.items()}


def operating_point(system: System, policy: str = "published") -> tuple[Shares, str]:
    """Shares of frames under a policy, and where they come from.

    Args:
        system: an adaptive one.
        policy: "published" or "always-full".

    Raises:
        UsageError: another policy, whose shares depend on the video, or a system for which no shares are published.
    """
    if policy == "always-full":
        return Shares(0.0, 0.0, 100.0), "every frame is full"
    if policy != "published":
        raise UsageError(
            f"policy {policy!r} has no fixed shares: use published or always-full, or `foveabench stream` on a clip"
        )
    if system.stepwise:
        if (kept := KEPT.get(system.id)) is None:
            raise UsageError(f"no shares are published for {system.id}: use the policy always-full")
        full = 100 * kept.number / kept.of
        return Shares(0.0, 100 - full, full), kept.source
    if system.max_skip is None:
        return Shares(0.0, 0.0, 100.0), "no temporal sampler: every frame is full"
    if printed := published_shares(system.id):
        return Shares(**printed), "Table II"
    if system.id in read_table(5):
        return _implied_shares(system), "implied by Table V's total, in the published accounting"
    same = f"epic/s{system.crops}-t{system.max_skip}"
    if printed := published_shares(same):
        return Shares(**printed), f"those of {same} in Table II, as none are published for {system.id}"
    raise UsageError(f"no shares are published for {system.id} or for {same}: use the policy always-full")


def _implied_shares(system: System) -> Shares:
    """Shares of a T_1 system of `ucf101`, which only pre-scans or processes fully, from its total in Table V."""
    stages = published_stages(system.workload, system.crops or 0)
    frames = VALIDATION_CLIPS[system.workload] * FRAMES[system.workload]
    per_frame = float(read_table(5)[system.id]["total_tflops"].value) * 1e12 / frames
    full = 100 * (per_frame - stages.prescan) / stages.rest
    return Shares(0.0, 100 - full, full)
