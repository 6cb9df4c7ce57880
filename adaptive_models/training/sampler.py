"""The last phase: the temporal sampler learns what to skip, together with the heads (section III.D, Eq. 7)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaptive_models.parts import SUFFIX, sampler_part, save_part
from adaptive_models.ssim import ssim
from adaptive_models.system import AdaptiveSystem
from adaptive_models.training.cache import ClipFeatures, FeatureCache, generators
from adaptive_models.training.decisions import Choose, Decisions, average, best, classify, decide, straight_through
from adaptive_models.training.dropout import dropout_by_clip
from adaptive_models.training.hallucinator import hallucinate_along
from adaptive_models.training.losses import (
    THETA,
    Logits,
    accuracy,
    cross_entropy,
    efficiency_loss,
    heads_loss,
    usage_loss,
)


@dataclass(frozen=True)
class Costs:
    """Operations of a frame, in GFLOPs: O_pre where it is only pre-scanned, and O_full."""

    prescan: float
    full: float


class SamplerPhase:
    """Trains the temporal sampler and the classifier of (S_k, T_M); features and hallucinator stay as they are.

    Args:
        system: its hallucinator and classifier are trained already.
        train: features of the clips to train on.
        validation: those of the clips to validate on, or None.
        costs: of a frame.
        batch: clips of a batch, of all processes together.
        seed: of the order of the clips, of the choices and of dropout.
        theta: weights of the losses of the global and the local head, and of both together.
        theta_efficiency: theta_e, weight of the efficiency loss.
        relative: whether L_e is divided by what the clip costs with every frame full; else it is in GFLOPs.
        theta_usage: weight of the term that asks for equal use of all choices, 3.0 in the published code; the paper has
            none.
        temperature: tau of the Gumbel softmax in the first epoch.
        cooling: it is multiplied by exp(-cooling) from epoch to epoch.

    Raises:
        ValueError: a system without temporal sampler, or clips of a single frame.
    """

    def __init__(
        self,
        system: AdaptiveSystem,
        train: FeatureCache,
        validation: FeatureCache | None,
        costs: Costs,
        *,
        batch: int,
        seed: int,
        theta: Sequence[float] = THETA,
        theta_efficiency: float = 0.1,
        relative: bool = False,
        theta_usage: float = 0.0,
        temperature: float = 5.0,
        cooling: float = 0.045,
    ) -> None:
        if system.temporal_sampler is None or system.hallucinator is None or train.frames < 2:
            raise ValueError("there is nothing to sample without a temporal sampler, or in clips of a single frame")
        self.name = f"sampler-s{system.crops}-t{system.max_skip}"
        self.system, self.module, self.hallucinator = system, sampler_part(system), system.hallucinator
        self.train, self.validation, self.costs = train, validation, costs
        self.batch, self.seed, self.theta = batch, seed, theta
        self.theta_efficiency, self.relative, self.theta_usage = theta_efficiency, relative, theta_usage
        self.temperature, self.cooling = temperature, cooling

    def batches(self, epoch: int, rank: int, world: int) -> Iterator[ClipFeatures]:
        """Features of every training clip."""
        return self.train.batches(self.batch, self.seed, epoch, rank, world)

    def size(self, batch: ClipFeatures) -> int:
        """Clips in a batch."""
        return len(batch.labels)

    def loss(self, batch: ClipFeatures, epoch: int) -> tuple[Tensor, dict[str, float]]:
        """L_class + theta_e L_e, and the usage term if there is one."""
        temperature = self.temperature * math.exp(-self.cooling * epoch)
        assert self.system.max_skip is not None
        shape = (self.train.frames, self.system.max_skip + 1)
        sources = generators(self.seed, epoch, batch.positions)
        noise = torch.from_numpy(np.stack([source.gumbel(size=shape) for source in sources])).float()

        def sample(scores: Tensor, t: int) -> Tensor:
            return straight_through(scores, noise[:, t].to(scores.device), temperature)

        with dropout_by_clip(self.module, sources):
            batch, decisions, heads = self._run(batch, sample)
        looked, full = decisions.looked, decisions.full
        class_loss = heads_loss(heads, batch.labels, self.theta)
        efficiency = efficiency_loss(looked, full, self.costs.prescan, self.costs.full)
        if self.relative:
            efficiency = efficiency / (looked.shape[1] * self.costs.full)
        loss = class_loss + self.theta_efficiency * efficiency
        scalars = {"class loss": class_loss.item(), "efficiency loss": efficiency.item(), "temperature": temperature}
        if self.theta_usage:
            usage = usage_loss(decisions.choices, looked[:, 1:])
            loss = loss + self.theta_usage * usage
            scalars["usage loss"] = usage.item()
        return loss, scalars | _shares(looked, full) | accuracy(average(heads), batch.labels)

    def validate(self) -> dict[str, float]:
        """Loss, top-1 accuracy and shares of the decisions in per cent, and GFLOPs per frame, of greedy choices."""
        if self.validation is None:
            return {}
        found = [self._run(batch, best) for batch in self.validation.batches(self.batch)]
        labels = torch.cat([batch.labels for batch, _, _ in found])
        logits = tuple(torch.cat(group) for group in zip(*(average(heads) for _, _, heads in found), strict=True))
        looked = torch.cat([decisions.looked for _, decisions, _ in found])
        full = torch.cat([decisions.full for _, decisions, _ in found])
        gflops = efficiency_loss(looked, full, self.costs.prescan, self.costs.full).item() / looked.shape[1]
        scalars = {"loss": cross_entropy(logits, labels).item(), "gflops per frame": gflops}
        return scalars | _shares(looked, full) | accuracy(logits, labels)

    def finish(self, folder: Path) -> None:
        """Write the temporal sampler and the heads."""
        save_part(self.module, folder / f"{self.name}{SUFFIX}")

    def _run(self, batch: ClipFeatures, choose: Choose) -> tuple[ClipFeatures, Decisions, list[Logits]]:
        self.hallucinator.requires_grad_(False).eval()
        batch = batch.to(next(self.module.parameters()).device)
        with torch.autocast(batch.image.device.type, enabled=False):  # SSIM needs its digits
            decisions = decide(self.system, batch.attention, choose)
            return batch, decisions, classify(self.system, batch, decisions.full)


@torch.no_grad()
def start_balanced(system: AdaptiveSystem, clips: FeatureCache, batch: int) -> None:
    """Let attention, hallucination and their similarity weigh alike in a new temporal sampler.

    The similarity is one input among many and spreads little, though it says most. So the first layer's weights start
    at random for inputs of mean 0 and of one spread for each of the three, of which those of a map share one.

    Args:
        system: with a trained hallucinator; its temporal sampler is changed.
        clips: features of the clips to train on.
        batch: clips at once.
    """
    assert system.hallucinator is not None
    assert system.temporal_sampler is not None
    seen = []
    for features in clips.batches(batch):
        attention = features.attention
        forced = torch.ones(attention.shape[:2], dtype=torch.bool)
        foreseen = hallucinate_along(system.hallucinator.eval(), attention, forced).flatten(0, 1)
        came = attention[:, 1:].flatten(0, 1)
        seen.append(torch.cat([came.flatten(1), foreseen.flatten(1), -ssim(came, foreseen)[:, None]], dim=1))
    inputs = torch.cat(seen)
    cells = (inputs.shape[1] - 1) // 2
    spread = torch.cat(
        [part.std(dim=0).square().mean().sqrt().expand(part.shape[1]) for part in inputs.split((cells, cells, 1), 1)]
    )
    sizes = inputs.new_tensor([cells] * 2 * cells + [1])
    weight, bias = (system.temporal_sampler.rnn.get_parameter(name) for name in ("weight_ih_l0", "bias_ih_l0"))
    weight.uniform_(-1, 1).div_(spread * sizes.sqrt())
    bias.sub_(weight @ inputs.mean(dim=0))


def _shares(looked: Tensor, full: Tensor) -> dict[str, float]:
    shares = {"full": full, "prescan": looked - full, "skip": 1 - looked}
    return {f"{name} %": 100 * share.mean().item() for name, share in shares.items()}
