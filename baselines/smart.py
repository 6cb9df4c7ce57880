"""SMART (Gowda et al., "SMART Frame Selection for Action Recognition", AAAI 2021)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from baselines.mobilenetv2 import MobileNetV2
from baselines.resnet import ResNet152
from baselines.selecting import Selecting

IMAGENET_CLASSES, NAMED = 1000, 10
"""Classes of the network that looks at every frame, and how many of the likeliest name a frame."""
WORD = 300
"""Length of a word's vector (GloVe)."""


class GlobalSelector(nn.Module):
    """Scores frames by what they are to the whole video: attention over pairs of frames, and an LSTM along them.

    Each frame is paired with a later one, drawn at random; here once, so that a video is always decided about alike.

    Args:
        frames: of a video.
        features: of a frame.
        hidden: width of the LSTM.
    """

    partners: Tensor

    def __init__(self, frames: int, features: int, hidden: int) -> None:
        super().__init__()
        draw = random.Random(0)
        later = [draw.randrange(min(t + 1, frames - 1), frames) for t in range(frames)]
        self.register_buffer("partners", torch.tensor(later), persistent=False)
        pair = 2 * features
        self.attention = nn.Linear(pair, 1)
        self.relation = nn.Linear(2 * pair, 1)
        self.lstm = nn.LSTM(pair, hidden, batch_first=True)
        self.temporal = nn.Linear(hidden + pair, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, frames, features) to scores (N, frames) in 0..1."""
        pairs = torch.cat([features, features.index_select(1, self.partners)], dim=-1)
        attention = self.attention(pairs).sigmoid()
        video = (attention * pairs).sum(dim=1, keepdim=True) / attention.sum(dim=1, keepdim=True)
        related = torch.cat([pairs, video.expand_as(pairs)], dim=-1)
        weight = attention * self.relation(related).sigmoid()
        hidden, _ = self.lstm(weight * pairs)
        return self.temporal(torch.cat([hidden, video.expand_as(pairs)], dim=-1)).sigmoid().squeeze(-1)


class SMART(Selecting):
    """MobileNetV2 looks at every frame, two selectors score them, and ResNet-152 classifies the best.

    The features of a frame are MobileNetV2's and the mean word vector of its ten likeliest ImageNet classes. A frame's
    score is that of an MLP on it alone, times that of the global selector. Widths of the selectors are not told where
    we could read it and are ours; they cost little beside MobileNetV2.

    Args:
        classes: number of classes of each label: 101 actions for UCF-101.
        width: factor on the channels of all layers.
        frames: of a video, among which it chooses.
        kept: frames that the network itself keeps.
        hidden: width of the selectors.
    """

    def __init__(
        self,
        classes: Sequence[int] = (101,),
        width: float = 1.0,
        frames: int = 16,
        kept: int = 2,
        hidden: int = 256,
    ) -> None:
        super().__init__(frames, 1, kept)
        self.observation = MobileNetV2(IMAGENET_CLASSES, width)
        self.words = nn.Embedding(IMAGENET_CLASSES, WORD)
        features = self.observation.features + WORD
        self.alone = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, 1))
        self.together = GlobalSelector(frames, features, hidden)
        self.backbone = ResNet152(None, width=width)
        self.classifiers = nn.ModuleList(nn.Linear(self.backbone.features, count) for count in classes)

    def scan(self, frames: Tensor) -> Tensor:
        """Features (N, 1580) of frames (N, 1, 3, 224, 224)."""
        seen = self.observation.pooled(frames.squeeze(1))
        likeliest = self.observation.fc(seen).topk(NAMED, dim=1).indices
        return torch.cat([seen, self.words(likeliest).mean(dim=1)], dim=1)

    def decide(self, features: Tensor) -> Tensor:
        """Scores (N, frames) in 0..1 from features (N, frames, 1580)."""
        return self.alone(features).sigmoid().squeeze(-1) * self.together(features)

    def look(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Logits (N, count) per label of frames (N, 1, 3, 224, 224)."""
        features = self.backbone(frames.squeeze(1))
        return tuple(classifier(features) for classifier in self.classifiers)
