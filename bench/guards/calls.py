"""One call of a system, ready to be repeated, timed, or watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from adaptive_models.data.clips import TensorClip
from adaptive_models.policies import AlwaysFull
from bench.measuring.subject import Footage, Subject
from bench.systems.registry import System

ADAPTIVE_FRAMES = 2
"""Full frames of an adaptive system: the first of a video, and one that the temporal sampler decides about."""


def one_call(system: System) -> Callable[[], None]:
    """A system with random weights, ready to be called on random images, on the CPU.

    A call of an adaptive system is two full frames, or a step where that decides about several frames.

    Raises:
        RunError: its model cannot be built.
    """
    frames = max(ADAPTIVE_FRAMES, system.clip_frames)
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 224, 224), (1, 256, 256), (1, 80, 128)
    footage = Footage([TensorClip(*(torch.rand(frames, *shape, generator=generator) for shape in shapes))], [], [])
    subject = Subject(system, footage, "always-full", torch.device("cpu"), "float32")
    calls = subject.stream(AlwaysFull())

    def call() -> None:
        for _ in range(1 if system.crops is None else ADAPTIVE_FRAMES):
            next(calls)

    return call


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: on cores that others use too, threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
