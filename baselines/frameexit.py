"""FrameExit (Ghodrati et al., "FrameExit: Conditional Early Exiting for Efficient Video Recognition", CVPR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.resnet import ResNet50

FRAMES = 10
FEATURES, GATE = 4096, (128, 64)


class ExitingGate(nn.Module):
    """Whether to stop, from what was known before a frame and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        inputs = FEATURES
        for outputs in GATE:
            self.layers.extend([nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU()])
            inputs = outputs
        self.linear = nn.Linear(2 * inputs, 1)

    def forward(self, known: Tensor, before: Tensor) -> Tensor:
        """Map twice (N, 4096) to (N, 1) in 0..1; more than a half stops."""
        both = [self.layers(features[..., None, None]).flatten(1) for features in (known, before)]
        return self.linear(torch.cat(both, dim=1)).sigmoid()


class FrameExit(nn.Module):
    """ResNet-50 on frame after frame, in an order from coarse to fine, until a gate says that it is enough.

    Args:
        classes: 200 activities for ActivityNet.
    """

    def __init__(self, classes: int = 200) -> None:
        super().__init__()
        self.backbone = ResNet50(None)
        self.mlp = nn.Sequential(nn.Linear(self.backbone.features, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU())
        self.gates = nn.ModuleList(ExitingGate() for _ in range(FRAMES - 2))
        self.classifiers = nn.ModuleList(nn.Linear(FEATURES, classes) for _ in range(FRAMES))

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (N, classes) of T frames (N, T, 3, 224, 224) after the last of which it stops.

        The first frame is classified at once, and its confidence says whether to stop; gates say it at the others but
        the last of all, which needs none.
        """
        known, logits = None, None
        for t, images in enumerate(frames.unbind(1)):
            features = self.mlp(self.backbone(images))
            if known is None:
                known, logits = features, self.classifiers[0](features)
                continue
            before, known = known, torch.maximum(known, features)
            if t < FRAMES - 1:
                self.gates[t - 1](known, before)
        assert known is not None
        return logits if frames.shape[1] == 1 and logits is not None else self.classifiers[frames.shape[1] - 1](known)
