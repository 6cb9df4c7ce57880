"""What a system costs: counted once, stage by stage where it is adaptive, and weighed by what a policy does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adaptive_models.policies import Shares
from adaptive_models.system import AdaptiveSystem
from bench.counting.count import CROSS_CHECKS, count_flops
from bench.counting.profile import Grouping, Profile, join
from bench.errors import UsageError
from bench.published.tables import FRAMES, VALIDATION_CLIPS, published_shares, read_table
from bench.systems.accounting import StageFlops, published_stages
from bench.systems.registry import System

if TYPE_CHECKING:
    from bench.counting.crosschecks import Difference

PRESCAN_STAGES = ("scan", "decide", "hallucinate")
REST_STAGES = ("look", "classify")


@dataclass(frozen=True)
class SystemCost:
    """The count of one call of a system: one full frame of an adaptive one.

    Attributes:
        system: which.
        profile: its rows, with stages if it is adaptive.
        stages: of an adaptive system.
        shares: what the policy does with frames, if the system is adaptive.
        policy: whose shares.
        shares_source: where the shares come from.
    """

    system: System
    profile: Profile
    stages: StageFlops | None = None
    shares: Shares | None = None
    policy: str | None = None
    shares_source: str = ""

    @property
    def per_frame(self) -> float:
        """Operations per frame of video, in the profile's convention."""
        if self.stages is not None and self.shares is not None:
            return self.stages.per_frame(self.shares)
        return self.profile.flops / self.system.frames

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
            data["stages"] = {
                "prescan": self.stages.prescan,
                "rest": self.stages.rest,
                "full": self.stages.full,
            }
            data["shares"] = {"skip": self.shares.skip, "prescan": self.shares.prescan, "full": self.shares.full}
            data["policy"] = self.policy
            data["shares_source"] = self.shares_source
        return data


def count_system(system: System, convention: str = "exact", policy: str = "published") -> SystemCost:
    """Count one call of a system with batch 1, in evaluation mode.

    Args:
        system: which.
        convention: as of `count_flops`.
        policy: "published" or "always-full", whose shares weigh the stages of an adaptive system. What other policies do
            depends on the video.

    Raises:
        UsageError: another policy, or inputs that the model does not take.
    """
    try:
        return _count_on(build_on_meta(system), system, convention, policy)
    except NotImplementedError:  # control flow that needs values
        return _count_on(system.build().eval(), system, convention, policy)


def _count_on(model: nn.Module, system: System, convention: str, policy: str) -> SystemCost:
    if isinstance(model, AdaptiveSystem):
        if convention in CROSS_CHECKS:
            raise UsageError(f"{convention} counts one call of a module; {system.id} is adaptive and runs in stages")
        stages = count_stages(model, system.inputs, convention)
        shares, source = operating_point(system, policy)
        prescan, rest = (
            sum(profile.flops for stage, profile in stages.items() if stage in group)
            for group in (PRESCAN_STAGES, REST_STAGES)
        )
        return SystemCost(system, join(stages), StageFlops(prescan, rest), shares, policy, source)
    args, kwargs = _inputs(system)
    return SystemCost(system, count_flops(model, *args, convention=convention, **kwargs))


def count_stages(model: AdaptiveSystem, inputs: Mapping[str, tuple[int, ...]], convention: str) -> dict[str, Profile]:
    """Count the stages of one full frame of one video, in the order in which they run; nothing is computed."""
    profiles: dict[str, Profile] = {}

    def count(stage: str, *args: Any) -> Any:
        method = getattr(model, stage)
        profiles[stage] = count_flops(method, *args, convention=convention)
        with torch.inference_mode():
            return method(*args)

    images = torch.empty(1, *inputs["rgb"], device="meta")
    spectrograms = torch.empty(1, *inputs["spectrogram"], device="meta") if "spectrogram" in inputs else None
    state, attention = count("scan", images)
    if model.temporal_sampler is not None:
        with torch.inference_mode():
            hallucination, memory = model.hallucinate(attention, None)
        count("decide", attention, hallucination, None)
        count("hallucinate", attention, memory)
    features, _ = count("look", state, attention, images, spectrograms, None)
    count("classify", features, None)
    return profiles


def build_on_meta(system: System) -> nn.Module:
    """The system's model in evaluation mode without memory for its weights; with it where that cannot be done."""
    try:
        with torch.device("meta"):
            return system.build().eval()
    except Exception:  # a builder that loads weights, say
        return system.build().eval()


def operating_point(system: System, policy: str = "published") -> tuple[Shares, str]:
    """Shares of frames under a policy, and where they come from.

    Args:
        system: an adaptive one.
        policy: "published" or "always-full".

    Raises:
        UsageError: a policy whose shares depend on the video.
    """
    if system.max_skip is None:
        return Shares(0.0, 0.0, 100.0), "no temporal sampler: every frame is full"
    if policy == "always-full":
        return Shares(0.0, 0.0, 100.0), "every frame is full"
    if policy != "published":
        raise UsageError(
            f"policy {policy!r} has no fixed shares: use published or always-full, or `foveabench stream` on a clip"
        )
    printed = published_shares(system.id)
    if printed is not None:
        return Shares(**printed), "Table II"
    if system.max_skip == 1:
        return implied_shares(system), "implied by Table V's total, in the published accounting"
    same = f"epic/{system.id.rpartition('/')[2]}"
    return Shares(**published_shares(same) or {}), f"not published for {system.workload}: those of {same} in Table II"


def implied_shares(system: System) -> Shares:
    """Shares of a T_1 system of `ucf101`, which only pre-scans or processes fully, from its total in Table V."""
    stages = published_stages(system.workload, system.crops or 0)
    frames = VALIDATION_CLIPS[system.workload] * FRAMES[system.workload]
    per_frame = float(read_table(5)[system.id]["total_tflops"].value) * 1e12 / frames
    full = 100 * (per_frame - stages.prescan) / stages.rest
    return Shares(0.0, 100 - full, full)


def cross_check(system: System) -> list[Difference]:
    """Layers where fvcore, thop or torch count other MACs than we do, with the reason.

    Raises:
        UsageError: an adaptive system, which is no single call of a module.
    """
    if system.adaptive:
        raise UsageError(f"{system.id} is adaptive and runs in stages: cross-check its backbones, or a fixed system")
    from bench.counting.crosschecks import compare

    model = system.build().eval()
    args, kwargs = _inputs(system)
    return compare(model, *args, **kwargs)


def _inputs(system: System) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    inputs = {name: torch.zeros(1, *shape) for name, shape in system.inputs.items()}
    return (tuple(inputs.values()), {}) if len(inputs) == 1 else ((), inputs)
