"""Several processes, on one machine or many, that train one network together, each on its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

TIMEOUT = timedelta(hours=2)
"""For which processes wait for each other: the first of them validates while the others wait."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: number of this process, from 0; the first one writes files.
        world: number of all.
        device: through whose memory they talk.
    """

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def sums(self, *numbers: float) -> list[float]:
        """The sum over all processes of each number."""
        if self.world == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(values)
        return values.tolist()

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.world > 1:
            dist.barrier()

    def share(self, module: nn.Module) -> None:
        """Give the module in every process the parameters, buffers and batch statistics of the first's."""
        if self.world == 1:
            return
        with torch.no_grad():
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                # Not a new layer in its place, so that whoever holds this one goes on with it.
                layer.__class__ = SynchronisedBatchNorm

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum each parameter's gradient over all processes; one that no process has a gradient of keeps none."""
        parameters = list(parameters)
        if self.world == 1 or not parameters:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        counts = gradients[0].new_tensor([p.grad is not None for p in parameters])
        summed = torch.cat([counts, *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(summed)
        has_gradient = summed[: len(parameters)].tolist()
        pieces = summed[len(parameters) :].split([p.numel() for p in parameters])
        for parameter, piece, count in zip(parameters, pieces, has_gradient, strict=True):
            parameter.grad = piece.view_as(parameter) if count else None


ALONE = Processes()
"""A process without others."""


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that `torchrun` started with this one; alone without it.

    They talk over NCCL if the device is a GPU, over Gloo else.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Processes(dist.get_rank(), world, str(device))
    finally:
        dist.destroy_process_group()


def own_device(name: str) -> str:
    """The device of this process: where it is "cuda", the GPU of its number on this machine."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if name == "cuda" else name


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()  # each process's loss depends on every process's values
        dist.all_reduce(gradient)
        return gradient


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of the whole batch, of which each process has a share.

    torch.nn.SyncBatchNorm does this on GPUs only. Every process must come here as often as the others.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if not (self.training and self.track_running_stats):
            return super().forward(input)
        x = input.float()
        values = x.new_tensor([x.numel() / x.shape[1]])
        *_, count = sums = _SumOverProcesses.apply(torch.cat([x.sum(dim=(0, 2, 3)), values]))
        mean = sums[:-1] / count
        centred = x - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            self._remember(mean, variance * count / (count - 1))
        normed = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normed = normed * self.weight[:, None, None] + self.bias[:, None, None]
        return normed.to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)
