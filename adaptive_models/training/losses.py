"""What the phases of training minimise, and the accuracy that they report (paper, Eqs. 5 and 7, section IV.A).

Every loss is a mean over the clips of the batch, so that the mean of several processes' losses is that of all clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from adaptive_models.ssim import ssim

Logits = tuple[Tensor, ...]
"""Of N clips, (N, classes) for each group of classes."""

THETA = (0.3, 0.3, 0.4)
"""theta_h of the global and the local head and of both together, as in the published code; the paper names none."""


def cross_entropy(logits: Logits, labels: Tensor) -> Tensor:
    """Sum of the groups' cross entropies.

    The published code divides the sum by the number of groups, which is a factor of the learning rate of SGD alone.

    Args:
        logits: (N, classes) of each group.
        labels: (N, groups) int64.
    """
    return torch.stack([F.cross_entropy(group, own) for group, own in zip(logits, labels.T, strict=True)]).sum()


def heads_loss(heads: Sequence[Logits], labels: Tensor, theta: Sequence[float] = THETA) -> Tensor:
    """L_class = sum over heads of theta_h L_h; a global head without others weighs 1.

    Args:
        heads: the logits of each head.
        labels: (N, groups) int64.
        theta: weight of each of the three heads.

    Raises:
        ValueError: not as many weights as heads.
    """
    weights = [1.0] if len(heads) == 1 else theta
    if len(weights) != len(heads):
        raise ValueError(f"theta has {len(weights)} weights for {len(heads)} heads")
    losses = [weight * cross_entropy(head, labels) for weight, head in zip(weights, heads, strict=True)]
    return torch.stack(losses).sum()


def belief_loss(hallucinations: Tensor, attention: Tensor) -> Tensor:
    """L_b of Eq. 5: the negative mean SSIM of hallucinations (N, T, C, h, w) and the attention that came."""
    return -ssim(hallucinations.flatten(0, 1), attention.flatten(0, 1)).mean()


def efficiency_loss(looked: Tensor, full: Tensor, prescan_cost: float, full_cost: float) -> Tensor:
    """L_e of Eq. 7, n_full O_full + n_pre O_pre, as the mean over clips; differentiable in the decisions.

    Args:
        looked: (N, T), 1 where a frame is looked at.
        full: (N, T), 1 where it is processed fully.
        prescan_cost: O_pre, of a frame that is only pre-scanned.
        full_cost: O_full, of a frame that is processed fully.
    """
    n_full, n_prescan = full.sum(dim=1), (looked - full).sum(dim=1)
    return (n_full * full_cost + n_prescan * prescan_cost).mean()


def usage_loss(choices: Tensor, looked: Tensor) -> Tensor:
    """How far the choices are from being used equally: ||mean(r) - uniform||, a term of the published code alone.

    The mean is over all looks of the batch, of all processes together: a norm of means is no mean of norms.

    Args:
        choices: (N, T, M + 1), one-hot r of frames at which the sampler is asked if they are looked at.
        looked: (N, T), 1 where they are.
    """
    used, looks = (choices * looked[:, :, None]).sum(dim=(0, 1)), looked.sum()
    if dist.is_available() and dist.is_initialized():
        from torch.distributed.nn.functional import all_reduce  # torch may have been built without it

        used, looks = all_reduce(used), all_reduce(looks)
    return (used / looks - 1 / choices.shape[-1]).norm()


def accuracy(logits: Logits, labels: Tensor) -> dict[str, float]:
    """Top-1 accuracy in per cent: of each group, and of all together where there are several (the paper's action).

    Args:
        logits: (N, classes) of each group: verbs and nouns, or classes.
        labels: (N, groups) int64.
    """
    right = torch.stack([group.argmax(dim=1) for group in logits], dim=1) == labels
    names = {1: ("class",), 2: ("verb", "noun")}.get(len(logits), tuple(f"group {i}" for i in range(len(logits))))
    shares = dict(zip(names, right.double().mean(dim=0).tolist(), strict=True))
    if len(logits) > 1:
        shares["action"] = right.all(dim=1).double().mean().item()
    return {f"top1 {name}": 100 * share for name, share in shares.items()}
