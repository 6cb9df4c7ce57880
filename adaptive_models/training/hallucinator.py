"""The second phase: the hallucinator learns to foresee attention (section III.C, Eqs. 5 and 6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaptive_models.hallucinator import Hallucinator
from adaptive_models.parts import SUFFIX, save_part
from adaptive_models.ssim import ssim
from adaptive_models.training.cache import ClipFeatures, FeatureCache, generators
from adaptive_models.training.losses import belief_loss


class HallucinatorPhase:
    """Trains a hallucinator on the attention of frozen networks, with teacher forcing.

    Args:
        hallucinator: what to train.
        train: features of the clips to train on.
        validation: those of the clips to validate on, or None.
        batch: clips of a batch, of all processes together.
        seed: of the order of the clips and of teacher forcing.
        forcing_decay: factor of F_r, the probability of feeding the attention itself, from epoch to epoch; the first
            has 1.
        warm_up: frames at the start of a clip whose attention is always fed.
        loss_in_warm_up: whether hallucinations of frames of the warm-up count, as in Eq. 5; in the published code they
            do not.

    Raises:
        ValueError: clips without a hallucination that counts.
    """

    name = "hallucinator"

    def __init__(
        self,
        hallucinator: Hallucinator,
        train: FeatureCache,
        validation: FeatureCache | None,
        *,
        batch: int,
        seed: int,
        forcing_decay: float = 0.95,
        warm_up: int = 5,
        loss_in_warm_up: bool = True,
    ) -> None:
        self.module, self.train, self.validation = hallucinator, train, validation
        self.batch, self.seed = batch, seed
        self.forcing_decay, self.warm_up = forcing_decay, warm_up
        self._first = 1 if loss_in_warm_up else max(warm_up, 1)
        if train.frames <= self._first:
            raise ValueError(
                f"clips of {train.frames} frames have none to hallucinate from frame {self._first} on:"
                " use more frames, or a shorter warm-up"
            )

    def batches(self, epoch: int, rank: int, world: int) -> Iterator[ClipFeatures]:
        """Features of every training clip."""
        return self.train.batches(self.batch, self.seed, epoch, rank, world)

    def size(self, batch: ClipFeatures) -> int:
        """Clips in a batch."""
        return len(batch.labels)

    def loss(self, batch: ClipFeatures, epoch: int) -> tuple[Tensor, dict[str, float]]:
        """L_b of Eq. 5."""
        attention = batch.attention.to(next(self.module.parameters()).device)
        ratio = self.forcing_decay**epoch
        draws = [generator.random(self.train.frames) for generator in generators(self.seed, epoch, batch.positions)]
        forced = torch.from_numpy(np.stack(draws) <= ratio).to(attention.device)
        forced[:, : self.warm_up] = True
        with torch.autocast(attention.device.type, enabled=False):  # SSIM needs its digits
            hallucinations = hallucinate_along(self.module, attention, forced)
            loss = belief_loss(hallucinations[:, self._first - 1 :], attention[:, self._first :])
        return loss, {"ssim": -loss.item(), "teacher forcing": ratio}

    def validate(self) -> dict[str, float]:
        """Mean SSIM to the attention that came, of hallucinations and of copies of the last attention.

        "ssim" is of hallucinations from the attention of the frame before, which is what the system makes. "ssim free"
        is of those from hallucinations once the warm-up is over, as the paper evaluates.
        """
        if self.validation is None:
            return {}
        similarities = foresight(self.module, self.validation, self.batch, self.warm_up)
        return {name: values.mean().item() for name, values in similarities.items()}

    def finish(self, folder: Path) -> None:
        """Write the hallucinator."""
        save_part(self.module, folder / f"{self.name}{SUFFIX}")


@torch.no_grad()
def start_at_mean(hallucinator: Hallucinator, clips: FeatureCache, batch: int) -> None:
    """Let a new hallucinator say about what attention is on average, with its spread, channel by channel.

    Its last layer is a norm before a ReLU: where it starts at 0, a channel whose attention is hardly ever 0 may fall
    silent, and then learns no more.

    Args:
        hallucinator: whose last norm is set.
        clips: features of the clips to train on.
        batch: clips at once.
    """
    norm = hallucinator.decoder[1]
    assert isinstance(norm, torch.nn.BatchNorm2d)
    means = [features.attention.mean(dim=(0, 1, 3, 4)) for features in clips.batches(batch)]
    squares = [features.attention.square().mean(dim=(0, 1, 3, 4)) for features in clips.batches(batch)]
    mean = torch.stack(means).mean(dim=0)
    norm.bias.copy_(mean)
    norm.weight.copy_((torch.stack(squares).mean(dim=0) - mean.square()).clamp(min=0).sqrt())


def hallucinate_along(hallucinator: Hallucinator, attention: Tensor, forced: Tensor) -> Tensor:
    """Hallucinate every frame but the first from the frame before it, as it was or as it was hallucinated (Eq. 6).

    Args:
        hallucinator: with its memory empty at the start.
        attention: (N, T, C, h, w).
        forced: (N, T), where attention is fed; elsewhere, except at the first frame, the hallucination is.

    Returns:
        (N, T - 1, C, h, w), of the frames from the second on.
    """
    memory = None
    hallucinations: list[Tensor] = []
    for now, force in zip(attention[:, :-1].unbind(dim=1), forced.unbind(dim=1), strict=False):
        fed = torch.where(force[:, None, None, None], now, hallucinations[-1]) if hallucinations else now
        hallucination, memory = hallucinator(fed, memory)
        hallucinations.append(hallucination)
    return torch.stack(hallucinations, dim=1)


@torch.inference_mode()
def foresight(hallucinator: Hallucinator, clips: FeatureCache, batch: int, warm_up: int = 5) -> dict[str, Tensor]:
    """How similar hallucinations are to the attention that came, beside copying the last attention.

    Args:
        hallucinator: is put into evaluation mode.
        clips: features of the clips.
        batch: clips at once.
        warm_up: frames whose attention is fed before "ssim free" feeds hallucinations.

    Returns:
        "ssim", "ssim copy" and "ssim free" (see `HallucinatorPhase.validate`), each (clips, T - 1).
    """
    hallucinator.eval()
    device = next(hallucinator.parameters()).device
    found: dict[str, list[Tensor]] = {"ssim": [], "ssim copy": [], "ssim free": []}
    for features in clips.batches(batch):
        attention = features.attention.to(device)
        fed = torch.ones(attention.shape[:2], dtype=torch.bool, device=device)
        free = fed.clone()
        free[:, warm_up:] = False
        with torch.autocast(device.type, enabled=False):  # SSIM needs its digits
            guesses = {
                "ssim": hallucinate_along(hallucinator, attention, fed),
                "ssim copy": attention[:, :-1],
                "ssim free": hallucinate_along(hallucinator, attention, free),
            }
            for name, guess in guesses.items():
                similarity = ssim(guess.flatten(0, 1), attention[:, 1:].flatten(0, 1))
                found[name].append(similarity.unflatten(0, guess.shape[:2]).cpu())
    return {name: torch.cat(values) for name, values in found.items()}
