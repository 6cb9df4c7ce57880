"""A run of the temporal sampler over kept features, differentiable in its choices (section III.D, Fig. 10).

It makes the decisions and logits of `AdaptiveSystem.run`. But all stages run on every frame of every clip, and products
with the choices say which results count: 1 or 0 going forward, while going backward a frame that was skipped knows
what it would have changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptive_models.spatial_sampler import crops_in_order, follow_boxes
from adaptive_models.system import AdaptiveSystem
from adaptive_models.temporal_sampler import greedy
from adaptive_models.training.cache import ClipFeatures
from adaptive_models.training.losses import Logits

Choose = Callable[[Tensor, int], Tensor]
"""From scores (N, M + 1) of frame t to choices (N, M + 1)."""


@dataclass(frozen=True)
class Decisions:
    """What happens to T frames of N clips.

    Attributes:
        looked: (N, T), 1 where a frame is looked at, 0 where it is skipped.
        full: (N, T), 1 where it is processed fully.
        choices: (N, T - 1, M + 1), one-hot r of the frames from the second on, whether looked at or not.
    """

    looked: Tensor
    full: Tensor
    choices: Tensor


def best(scores: Tensor, t: int) -> Tensor:
    """The sampler's best choices, as one-hot (N, M + 1): those of evaluation."""
    return F.one_hot(greedy(scores), scores.shape[1]).to(scores.dtype)


def straight_through(scores: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Gumbel softmax (Jang et al. 2017): a sample going forward, its softmax at a temperature going backward.

    Args:
        scores: (N, M + 1).
        noise: (N, M + 1), Gumbel variates.
        temperature: tau, above 0.

    Returns:
        (N, M + 1), exactly one-hot.
    """
    soft = ((scores + noise) / temperature).softmax(dim=1)
    return best(soft, 0) + (soft - soft.detach())


def decide(system: AdaptiveSystem, attention: Tensor, choose: Choose) -> Decisions:
    """Let hallucinator and temporal sampler go along clips; the first frame is full, and the sampler is not asked.

    Args:
        system: with a temporal sampler T_M.
        attention: (N, T, C, h, w).
        choose: makes choices of the sampler's scores.
    """
    assert system.max_skip is not None
    first = attention.new_zeros(len(attention), system.max_skip + 1)
    first[:, 0] = 1
    waiting = first[:, :-1]  # entry j is 1 where j frames are yet to be skipped
    hallucination = memory = sampler_memory = None
    looked, choices = [], []
    for t, now in enumerate(attention.unbind(dim=1)):
        look, choice = waiting[:, 0], first
        if hallucination is not None:
            scores, remembered, _ = system.decide(now, hallucination, sampler_memory)
            sampler_memory = _where(look, remembered, sampler_memory, dim=1)
            choice = choose(scores, t)
        predicted, (hidden, cell) = system.hallucinate(now, memory)
        hallucination = _where(look, predicted, hallucination)
        before = (None, None) if memory is None else memory
        memory = _where(look, hidden, before[0]), _where(look, cell, before[1])
        looked.append(look)
        choices.append(choice)
        # After the choices 0 and 1 the next frame is looked at, after m the next m - 1 are skipped.
        after = torch.cat([choice[:, :2].sum(dim=1, keepdim=True), choice[:, 2:]], dim=1)
        waiting = look[:, None] * after + F.pad(waiting[:, 1:], (0, 1))
    looks, chosen = torch.stack(looked, dim=1), torch.stack(choices, dim=1)
    return Decisions(looks, looks * chosen[:, :, 0], chosen[:, 1:])


def classify(system: AdaptiveSystem, clips: ClipFeatures, full: Tensor) -> list[Logits]:
    """Logits of every head, averaged over the frames that are processed fully; boxes follow those of such frames.

    Args:
        system: S_k with k up to the crops that are kept.
        clips: features of N clips.
        full: (N, T), 1 where a frame is processed fully; the first of every clip is.
    """
    memory = boxes = crops = None
    logits = []
    for t, now in enumerate(full.unbind(dim=1)):
        if system.crops:
            salient = clips.boxes[:, t, : system.crops]
            followed = salient if boxes is None else follow_boxes(boxes, salient)
            crops = crops_in_order(clips.crops[:, t, : system.crops], salient, followed)
            boxes = followed if boxes is None else torch.where(now[:, None, None] > 0.5, followed, boxes)
        audio = None if clips.audio is None else clips.audio[:, t]
        heads, remembered = system.classifier.per_head(clips.image[:, t], audio, crops, memory)
        memory = _where(now, remembered, memory, dim=2)
        logits.append(heads)
    weights = (full / full.sum(dim=1, keepdim=True))[:, :, None]

    def mean(head: int, group: int) -> Tensor:
        return (weights * torch.stack([frame[head][group] for frame in logits], dim=1)).sum(dim=1)

    return [tuple(mean(head, group) for group in range(len(own))) for head, own in enumerate(logits[0])]


def average(heads: list[Logits]) -> Logits:
    """The prediction: for each group of classes, the mean of the heads' logits (N, classes)."""
    return tuple(torch.stack(group).mean(dim=0) for group in zip(*heads, strict=True))


def _where(gate: Tensor, new: Tensor, old: Tensor | None, dim: int = 0) -> Tensor:
    """New where the gate (N,) is 1, old where it is 0, with the clips in dimension `dim`; new where there is no old."""
    if old is None:
        return new
    shape = [1] * new.ndim
    shape[dim] = -1
    open_ = gate.view(shape)
    return open_ * new + (1 - open_) * old
