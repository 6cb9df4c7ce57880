from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from adaptive_models.training.losses import (
    accuracy,
    belief_loss,
    cross_entropy,
    efficiency_loss,
    heads_loss,
    usage_loss,
)

LABELS = torch.tensor([[1, 0], [0, 2]])


def logits_of(*probabilities: list[list[float]]) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(own).log() for own in probabilities)


VERBS, NOUNS = [[0.5, 0.5], [0.25, 0.75]], [[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]


def test_cross_entropy_is_summed_over_verb_and_noun() -> None:
    expected = (math.log(2) + math.log(4)) / 2 + (math.log(2) - math.log(0.8)) / 2
    assert cross_entropy(logits_of(VERBS, NOUNS), LABELS).item() == pytest.approx(expected)


def test_heads_are_weighted_and_a_single_one_is_not() -> None:
    heads = [logits_of(VERBS, NOUNS), logits_of(VERBS[::-1], NOUNS), logits_of(VERBS, NOUNS[::-1])]
    own = [cross_entropy(head, LABELS).item() for head in heads]
    assert heads_loss(heads, LABELS).item() == pytest.approx(0.3 * own[0] + 0.3 * own[1] + 0.4 * own[2])
    assert heads_loss(heads[:1], LABELS).item() == pytest.approx(own[0])
    with pytest.raises(ValueError, match="theta has 2 weights for 3 heads"):
        heads_loss(heads, LABELS, (0.5, 0.5))


def test_belief_is_minus_one_where_hallucinations_come_true() -> None:
    attention = torch.rand(2, 3, 4, 7, 7)
    assert belief_loss(attention, attention).item() == pytest.approx(-1)
    assert belief_loss(torch.rand(2, 3, 4, 7, 7), attention).item() > -0.5


def test_efficiency_is_the_cost_of_full_and_of_prescanned_frames() -> None:
    looked = torch.tensor([[1.0, 1, 1, 0], [1.0, 1, 1, 1]])
    full = torch.tensor([[1.0, 0, 0, 0], [1.0, 1, 1, 0]])
    assert efficiency_loss(looked, full, 0.5, 6.0).item() == pytest.approx(((6 + 2 * 0.5) + (3 * 6 + 0.5)) / 2)


def test_usage_counts_the_choices_of_frames_that_are_looked_at() -> None:
    choices = torch.eye(3)[torch.tensor([[0, 2, 1], [0, 0, 2]])]
    looked = torch.tensor([[1.0, 1, 0], [1.0, 1, 0]])
    expected = math.sqrt((3 / 4 - 1 / 3) ** 2 + (0 - 1 / 3) ** 2 + (1 / 4 - 1 / 3) ** 2)
    assert usage_loss(choices, looked).item() == pytest.approx(expected)
    assert usage_loss(torch.eye(3)[None], torch.ones(1, 3)).item() == pytest.approx(0, abs=1e-6)


def _usage_of_a_share(rank: int, world: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    scores, looked = _made_up()
    loss = usage_loss(scores[rank::world].softmax(dim=2), looked[rank::world])
    loss.backward()
    torch.save((loss.detach(), scores.grad), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _made_up() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 4, 3, generator=generator).requires_grad_(), torch.ones(5, 4)


def test_usage_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    scores, looked = _made_up()
    usage_loss(scores.softmax(dim=2), looked).backward()
    mp.start_processes(_usage_of_a_share, (2, str(tmp_path)), nprocs=2, start_method="fork")
    shares = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for loss, _ in shares:
        torch.testing.assert_close(loss, usage_loss(scores.softmax(dim=2), looked).detach())
    # The loop weighs a process's loss by its share of the clips, and the same loss is every process's.
    gradient = shares[0][1] + shares[1][1]
    torch.testing.assert_close(gradient / 2, scores.grad)


def test_an_action_is_right_where_verb_and_noun_are() -> None:
    assert accuracy(logits_of(VERBS, NOUNS), LABELS) == {"top1 verb": 0, "top1 noun": 100, "top1 action": 0}
    assert accuracy(logits_of(NOUNS, NOUNS), torch.tensor([[0, 0], [2, 1]])) == {
        "top1 verb": 100,
        "top1 noun": 50,
        "top1 action": 50,
    }
    assert accuracy(logits_of(NOUNS), torch.tensor([[0], [2]])) == {"top1 class": 100}
