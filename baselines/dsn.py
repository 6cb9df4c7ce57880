"""DSN (Zheng et al., "Dynamic Sampling Networks for Efficient Action Recognition in Videos", IEEE TIP 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.res3d import Res3D18
from baselines.resnet import ResNet18
from baselines.selecting import Selecting

CLIP_FRAMES = 8
SIZE = 112
"""Side in pixels of what both networks see: that of Res3D-18, whose cost for a clip is the published figure."""


class DSN(Selecting):
    """A 2D ResNet-18 observes the clips of a section of the video, and a 3D ResNet-18 classifies the one kept.

    The observation network sees the middle frame of each clip; its scores are a distribution over the clips of the
    section. How many clips a section has, and what of a clip is observed, is not told where we could read it: there are
    two of eight frames here, all that sixteen sampled frames hold, of which one is kept ("less than half of the clips"
    is what the authors say of longer videos).

    Args:
        classes: number of classes of each label: 101 actions for UCF-101.
        width: factor on the channels of all layers.
        clips: of a section.
        kept: clips of a section that the network itself keeps.
    """

    def __init__(self, classes: Sequence[int] = (101,), width: float = 1.0, clips: int = 2, kept: int = 1) -> None:
        super().__init__(clips, CLIP_FRAMES, kept)
        self.observation = ResNet18(None, width=width)
        self.score = nn.Linear(self.observation.features, 1)
        self.classifier = Res3D18(classes, width, projected_res2=False)

    def scan(self, frames: Tensor) -> Tensor:
        """Features (N, 512) of the middle frames of clips (N, 8, 3, 224, 224)."""
        return self.observation(_resized(frames[:, CLIP_FRAMES // 2]))

    def decide(self, features: Tensor) -> Tensor:
        """The probability (N, clips) of each clip of a section, from their features (N, clips, 512)."""
        return self.score(features).squeeze(-1).softmax(dim=1)

    def look(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Logits (N, count) per label of clips (N, 8, 3, 224, 224)."""
        return self.classifier(_resized(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]))


def _resized(images: Tensor) -> Tensor:
    return F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
