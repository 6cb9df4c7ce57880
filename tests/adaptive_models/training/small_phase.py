"""A phase that trains in milliseconds and draws from every default generator, for the tests of the loop."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_models.training.config import Schedule
from adaptive_models.training.distributed import processes
from adaptive_models.training.loop import Reports, train

SCHEDULE = Schedule(epochs=4, batch=6, optimizer="sgd", lr=0.05, milestones=(2,))
Batch = tuple[Tensor, Tensor]


class SmallPhase:
    """A classifier of random images; 21 clips, so that the last batch of 6 has 3.

    Args:
        noisy: whether there are dropout and noise, from all default generators.
        batch: clips of a batch.
        clips: how many there are.
    """

    name = "small"

    def __init__(self, noisy: bool = True, batch: int = 6, clips: int = 21) -> None:
        torch.manual_seed(0)
        self.noisy, self.batch, self.finished = noisy, batch, 0
        self.images, self.labels = torch.randn(clips, 2, 4, 4), torch.arange(clips) % 3
        self.module = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5 * noisy), nn.Linear(16, 3)
        )

    def batches(self, epoch: int, rank: int, world: int) -> Iterator[Batch]:
        order = np.random.default_rng(epoch).permutation(len(self.images))
        for start in range(0, len(order), self.batch):
            share = order[start : start + self.batch][rank::world]
            noise = random.random() * np.random.rand() * self.noisy
            if len(share):
                yield self.images[share] + noise, self.labels[share]

    def size(self, batch: Batch) -> int:
        return len(batch[1])

    def loss(self, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, float]]:
        logits = self.module(batch[0])
        right = (logits.argmax(dim=1) == batch[1]).float().mean().item()
        return nn.functional.cross_entropy(logits.float(), batch[1]), {"accuracy": right}

    def validate(self) -> dict[str, float]:
        random.random()
        return {"loss": nn.functional.cross_entropy(self.module(self.images).float(), self.labels).item()}

    def finish(self, folder: Path) -> None:
        self.finished += 1
        torch.save(self.module.state_dict(), folder / "small.pt")


def run(phase: Any, out: Path, schedule: Schedule = SCHEDULE, **options: Any) -> list[Any]:
    return train(phase, schedule, out, settings={"data": {"name": "small"}}, **options)


if __name__ == "__main__":  # folder to train in, seconds to wait at each step; prints a line at each
    torch.set_num_threads(1)
    pause = float(sys.argv[2])

    def on_step(step: Any) -> None:
        print(step.epoch, step.step, flush=True)
        time.sleep(pause)

    with processes(torch.device("cpu")) as group:
        run(SmallPhase(noisy=pause > 0), Path(sys.argv[1]), processes=group, resume=True, reports=Reports(on_step))
