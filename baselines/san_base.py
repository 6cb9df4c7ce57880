"""SAN19-base: the paper's own baseline, SAN19 on every frame at full resolution (section IV, Tables I and IV)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adaptive_models import build_backbone
from baselines.tsn import fold_segments

CHANNELS = {"rgb": 3, "spectrogram": 1}


class SANBase(nn.Module):
    """One SAN per modality, their features concatenated, and a classifier; logits averaged over segments.

    Args:
        modalities: names out of "rgb" and "spectrogram", in the order of concatenation.
        classes: number of classes of each label.
        hidden: width of the fusion layer before the classifiers, or None for classifiers right on the features.
        backbone: name for `build_backbone`.
    """

    def __init__(
        self, modalities: Sequence[str], classes: Sequence[int], hidden: int | None, backbone: str = "san19"
    ) -> None:
        super().__init__()
        self.backbones = nn.ModuleDict({name: build_backbone(backbone, CHANNELS[name]) for name in modalities})
        width = sum(net.features for net in self.backbones.values())
        self.fusion = nn.Sequential(nn.Linear(width, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.classifiers = nn.ModuleList(nn.Linear(hidden or width, count) for count in classes)

    def forward(self, rgb: Tensor, spectrogram: Tensor | None = None) -> tuple[Tensor, ...]:
        """Map T segments of N videos to logits, averaged over segments: one (N, count) for each entry of `classes`.

        Args:
            rgb: (N, T, 3, 224, 224).
            spectrogram: (N, T, 1, 256, 256), if the network takes sound.

        Raises:
            ValueError: if a modality is missing or superfluous, or a shape does not fit.
        """
        clips = {"rgb": rgb} if spectrogram is None else {"rgb": rgb, "spectrogram": spectrogram}
        if set(clips) != set(self.backbones):
            raise ValueError(f"this SAN19-base takes the modalities {list(self.backbones)}, got {list(clips)}")
        features = [net(fold_segments(name, clips[name], CHANNELS[name])) for name, net in self.backbones.items()]
        hidden = self.fusion(torch.cat(features, dim=1))
        return tuple(classifier(hidden).unflatten(0, rgb.shape[:2]).mean(dim=1) for classifier in self.classifiers)
