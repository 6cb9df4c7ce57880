"""A small data set in memory, and small systems, that the tests of training share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_models.data.clips import TensorClip
from adaptive_models.data.datasets import LabelledClip
from adaptive_models.san import SAN
from adaptive_models.system import AdaptiveSystem

FRAMES = 6
CLASSES = (4, 3)


class OpenClip(TensorClip):
    def __enter__(self) -> OpenClip:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class SmallDataset:
    """Clips of coarse random patterns, labelled at random; `opened` says which were opened."""

    name, classes, audio = "small", (("a", "b", "c", "d"), ("x", "y", "z")), True

    def __init__(self, clips: int, first: int = 0, split: str = "train") -> None:
        self.split = split
        self.clips: Sequence[LabelledClip] = [
            LabelledClip(str(i), (i % CLASSES[0], i % CLASSES[1])) for i in range(first, first + clips)
        ]
        self.left_out: Mapping[str, str] = {}
        self.opened: list[str] = []

    def open(self, clip: LabelledClip, frames: int, seed: int | None = None) -> OpenClip:
        self.opened.append(clip.id)
        return OpenClip(*material(int(clip.id) + (0 if seed is None else 1000 + seed), frames))


@cache
def material(seed: int, frames: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tint = 60 * torch.randn(3, 1, 1, generator=generator)  # by which clips can be told apart
    coarse = tint + 60 * torch.randn(frames, 3, 7, 7, generator=generator)
    return F.interpolate(coarse, size=(224, 224), mode="bicubic"), torch.randn(frames, 1, 32, 32, generator=generator)


def narrow(channels: int) -> SAN:
    return SAN((0, 0, 0, 1, 0), channels=channels, widths=(32, 32, 32, 64, 64))


def make_system(crops: int, max_skip: int | None, audio: bool = True, hidden: int = 16) -> AdaptiveSystem:
    """A small system whose weights let attention and decisions vary; those of equal networks are equal."""
    system = AdaptiveSystem(crops, max_skip, CLASSES, audio, 2, narrow, hidden).eval()
    for name, module in system.named_children():
        torch.manual_seed(sum(name.encode()))
        for parameter_name, parameter in module.named_parameters():
            if parameter.ndim in (2, 4):
                nn.init.kaiming_normal_(parameter)
            elif "bias" in parameter_name:
                nn.init.normal_(parameter, std=0.1)
        if isinstance(module, SAN):
            module.bn4.weight.data.fill_(0.02)  # features near 1, as those of trained networks
    if system.temporal_sampler is not None:
        system.temporal_sampler.fc_out.weight.data *= 4
    return system


def without_dropout(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
