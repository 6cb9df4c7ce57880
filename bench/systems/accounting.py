"""How the published tables were made: the accounting of the published code, rebuilt from our own counts.

It differs from the cost of the system as the paper describes it:

- the first half of SAN19 ends at layer3.0 in the order in which modules are *registered*: it has bn3, which runs after
  the last block of its stage, and lacks the shared ReLU and max-pool, registered last though they run all along;
- Tables I and IV have three GRU heads and leave hallucinator and temporal sampler out; Table II (and V) has these two,
  and for k >= 1 a single GRU head on all features;
- classifier layers count nowhere, and the first frame is charged for the temporal sampler, which is not asked there;
- some figures that are called GFLOPs per frame are of a whole clip, or of a frame or clip that is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from adaptive_models import build_backbone
from adaptive_models.hallucinator import Hallucinator
from adaptive_models.system import CROP_SIZE, LOW_SIZE, SPECTROGRAM_SIZE
from adaptive_models.temporal_sampler import TemporalSampler
from bench.counting.count import count_flops
from bench.counting.meta import unfilled
from bench.counting.profile import Profile
from bench.records.counts import Stages
from bench.systems.workloads import WORKLOADS

FEATURES = 2048
ATTENTION = (32, 7, 7)
HIDDEN = 1024
UNDIVIDED = frozenset({"ucf101/res3d-18"})
"""Systems whose published figure per frame is that of a whole call, which stands for several frames."""


@dataclass(frozen=True)
class Kept:
    """The operating point of a system that chooses among frames or clips: so many are kept of so many, and why."""

    number: int
    of: int
    source: str


KEPT = {
    "ucf101/dsn": Kept(1, 2, "one clip of a section, of the two that 16 frames hold; none is published"),
    "ucf101/smart": Kept(2, 16, "one frame of 8, inferred from the GFLOPs in Table IV; none is published"),
}
"""Systems whose published figure is of one that is kept, with what is looked at for each that is."""


def published_spatial(workload: str, crops: int) -> int:
    """Operations per frame of S_k in Tables I and IV."""
    audio = FEATURES if WORKLOADS[workload].audio else 0
    local = FEATURES * crops
    heads = [FEATURES + audio] if crops == 0 else [FEATURES + audio, audio + local, FEATURES + audio + local]
    return _networks(workload, crops) + sum(_gru(inputs, workload) for inputs in heads)


def published_stages(workload: str, crops: int) -> Stages:
    """O_pre and O_full of Tables II and V."""
    hallucinator, sampler = _hallucinator(), _temporal_sampler()
    audio = FEATURES if WORKLOADS[workload].audio else 0
    head = _gru(FEATURES + audio + FEATURES * crops, workload)
    prescan = _first_half() + hallucinator + sampler
    return Stages(prescan, _networks(workload, crops) + head + hallucinator + sampler - prescan)


def _networks(workload: str, crops: int) -> int:
    spectrogram = _san19(1, SPECTROGRAM_SIZE) if WORKLOADS[workload].audio else 0
    return _san19(3, LOW_SIZE) + spectrogram + crops * _san19(3, CROP_SIZE)


@cache
def _hallucinator() -> int:
    return _count(Hallucinator, ATTENTION).flops


@cache
def _temporal_sampler() -> int:
    return _count(lambda: TemporalSampler(max_skip=1), ATTENTION, ATTENTION, ()).flops


@cache
def _san19(channels: int, side: int) -> int:
    return _count(lambda: build_backbone("san19", channels), (channels, side, side)).flops


@cache
def _first_half() -> int:
    profile = _count(lambda: build_backbone("san19"), (3, LOW_SIZE, LOW_SIZE))
    with torch.device("meta"), unfilled():
        names = [name for name, _ in build_backbone("san19").named_modules()]
    last = max(index for index, name in enumerate(names) if name.startswith("layer3.0"))
    return sum(row.flops for row in profile.rows if row.name in names[: last + 1])


@cache
def _gru(features: int, workload: str) -> int:
    layers = WORKLOADS[workload].head_layers
    return _count(lambda: nn.GRU(features, HIDDEN, layers, batch_first=True), (1, features)).flops


def _count(build: Callable[[], nn.Module], *shapes: tuple[int, ...]) -> Profile:
    """Count a model on one sample of these shapes in the `paper` convention, without memory for its weights."""
    with torch.device("meta"), unfilled():
        model = build().eval()
        return count_flops(model, *(torch.empty(1, *shape) for shape in shapes), convention="paper")
