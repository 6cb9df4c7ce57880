"""AR-Net (Meng et al., "AR-Net: Adaptive Frame Resolution for Efficient Action Recognition", ECCV 2020) of ResNets."""

from __future__ import annotations

from torch import Tensor, nn

from baselines.mobilenetv2 import MobileNetV2
from baselines.resnet import ResNet18, ResNet34, ResNet50

FRAMES = 16
SKIPS = (1, 2, 4)
SIDES = (224, 168, 112, 84)
"""In pixels; the last is what the policy network sees."""

HIDDEN = 512


class ARNet(nn.Module):
    """A policy network sees each frame small, and decides how large a frame is classified, or how many are skipped.

    A ResNet-50, -34 or -18 classifies at 224, 168 or 112 pixels; at 84 it is the policy network, MobileNetV2, itself.

    Args:
        classes: 200 activities for ActivityNet.
    """

    def __init__(self, classes: int = 200) -> None:
        super().__init__()
        self.policy = MobileNetV2(None)
        self.lstm = nn.LSTMCell(self.policy.features, HIDDEN)
        self.choice = nn.Linear(HIDDEN, len(SIDES) + len(SKIPS))
        self.own = nn.Linear(self.policy.features, classes)
        self.networks = nn.ModuleDict(
            {str(side): make(classes) for side, make in zip(SIDES, (ResNet50, ResNet34, ResNet18), strict=False)}
        )

    def scan(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 1280) of frames (N, 3, 84, 84), and logits (N, 7) of the choices, as at a video's first frame.

        What was seen before changes no operation, only the state that the LSTM starts with.
        """
        features = self.policy(images)
        hidden, _ = self.lstm(features)
        return features, self.choice(hidden)

    def look(self, images: Tensor, features: Tensor) -> Tensor:
        """Logits (N, classes) of frames (N, 3, side, side) at one of the sides; at 84, of their features alone."""
        side = images.shape[-1]
        return self.own(features) if side == SIDES[-1] else self.networks[str(side)](images)

    def forward(self, image: Tensor, small: Tensor) -> Tensor:
        """Logits (N, classes) of frames (N, 3, side, side) whose side was chosen by (N, 3, 84, 84) of them."""
        features, _ = self.scan(small)
        return self.look(image, features)
