"""AdaFocus (Wang et al., "Adaptive Focus for Efficient Video Recognition", ICCV 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.mobilenetv2 import MobileNetV2
from baselines.resnet import ResNet50

FRAMES = 16
PATCH = 128
"""Side of the patch in pixels; 160 and 192 are published too."""

HIDDEN, ENCODED, PLACES, MAP = 1024, 32, 49, 7


class AdaFocus(nn.Module):
    """MobileNetV2 glances at each frame, a GRU places a patch, and ResNet-50 looks at that; a GRU classifies both.

    Args:
        classes: 200 activities for ActivityNet.
    """

    def __init__(self, classes: int = 200) -> None:
        super().__init__()
        self.glancer = MobileNetV2(None)
        features = self.glancer.features
        self.encoder = nn.Sequential(
            nn.Conv2d(features, ENCODED, 1, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(ENCODED * MAP**2, HIDDEN),
            nn.ReLU(),
        )
        self.policy = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.places = nn.Linear(HIDDEN, PLACES)
        self.focuser = ResNet50(None)
        self.memory = nn.GRU(features + self.focuser.features, HIDDEN, batch_first=True)
        self.fc = nn.Linear(HIDDEN, classes)

    def forward(self, frames: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of places (N, T, 49), of which patches come, and of classes (N, T, classes), the last the prediction.

        Args:
            frames: (N, T, 3, 224, 224).
            patches: (N, T, 3, 128, 128), cut out at the places; where they are cut costs nothing.
        """
        count = frames.shape[:2]
        maps = self.glancer.last(self.glancer.blocks(self.glancer.stem(frames.flatten(0, 1))))
        places, _ = self.policy(self.encoder(maps).unflatten(0, count))
        glances = self.glancer.avgpool(maps).flatten(1)
        looks = self.focuser(patches.flatten(0, 1))
        hidden, _ = self.memory(torch.cat([glances, looks], dim=1).unflatten(0, count))
        return self.places(places), self.fc(hidden)
