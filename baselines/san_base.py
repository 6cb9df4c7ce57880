"""SAN19-base: the paper's own baseline, SAN19 on every frame at full resolution (section IV, Tables I and IV)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adaptive_models import build_backbone
from baselines.tsn import fold_segments

CHANNELS = {"rgb": 3, "spectrogram": 1}


class SANBase(nn.Module):
    """A SAN on the frame of each segment and, with sound, one on its spectrogram; logits averaged over segments.

    Args:
        classes: number of classes of each label.
        audio: whether there are spectrograms; their features are concatenated to those of the frames.
        hidden: width of the fusion layer before the classifiers, or None for classifiers right on the features.
        backbone: name for `build_backbone`.
    """

    def __init__(self, classes: Sequence[int], audio: bool, hidden: int | None, backbone: str = "san19") -> None:
        super().__init__()
        names = ("rgb", "spectrogram") if audio else ("rgb",)
        backbones = {name: build_backbone(backbone, CHANNELS[name]) for name in names}
        width = sum(net.features for net in backbones.values())
        self.backbones = nn.ModuleDict(backbones)
        self.fusion = nn.Sequential(nn.Linear(width, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.classifiers = nn.ModuleList(nn.Linear(hidden or width, count) for count in classes)

    def forward(self, rgb: Tensor, spectrogram: Tensor | None = None) -> tuple[Tensor, ...]:
        """Map T segments of N videos to logits, averaged over segments: one (N, count) for each entry of `classes`.

        Args:
            rgb: (N, T, 3, H, W), H and W at least 32, and 224 in the paper.
            spectrogram: (N, T, 1, H, W), H and W at least 32, and 256 in the paper; None without sound.

        Raises:
            ValueError: spectrograms that are missing or superfluous, or a shape that does not fit.
        """
        clips = {"rgb": rgb} if spectrogram is None else {"rgb": rgb, "spectrogram": spectrogram}
        if clips.keys() != set(self.backbones):
            raise ValueError(f"this SAN19-base takes {' and '.join(self.backbones)}, got {' and '.join(clips)}")
        images = [fold_segments(name, clip, CHANNELS[name]) for name, clip in clips.items()]
        if spectrogram is not None and spectrogram.shape[:2] != rgb.shape[:2]:
            raise ValueError(
                "rgb and spectrogram must agree in videos and segments (N, T), "
                f"got {tuple(rgb.shape[:2])} and {tuple(spectrogram.shape[:2])}"
            )
        features = [net(image) for net, image in zip(self.backbones.values(), images, strict=True)]
        hidden = self.fusion(torch.cat(features, dim=1))
        return tuple(classifier(hidden).unflatten(0, rgb.shape[:2]).mean(dim=1) for classifier in self.classifiers)
