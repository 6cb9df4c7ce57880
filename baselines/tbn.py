"""TBN (Kazakos et al., "EPIC-Fusion: Audio-Visual Temporal Binding"): modalities fused in each segment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from baselines.bninception import BNInception
from baselines.tsn import fold_segments

# Input channels; flow has the x and y components of five consecutive fields.
CHANNELS = {"rgb": 3, "flow": 10, "spectrogram": 1}


class TBN(nn.Module):
    """One BN-Inception per modality, one hidden layer over all of them, one linear classifier per label.

    Args:
        modalities: names out of "rgb", "flow" and "spectrogram", in the order of concatenation.
        classes: number of classes of each label: 125 verbs and 352 nouns for EPIC-KITCHENS-55.
        width: factor on the channels of all layers, the hidden one included.

    Raises:
        ValueError: if a modality is unknown or named twice, or none is given.
    """

    def __init__(
        self,
        modalities: Sequence[str] = ("rgb", "spectrogram"),
        classes: Sequence[int] = (125, 352),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if not modalities or len(set(modalities)) < len(modalities) or not set(modalities) <= set(CHANNELS):
            raise ValueError(f"modalities must be distinct, out of {list(CHANNELS)}, got {list(modalities)}")
        backbones = {name: BNInception(CHANNELS[name], width) for name in modalities}
        features, hidden = sum(backbone.features for backbone in backbones.values()), round(512 * width)
        self.backbones = nn.ModuleDict(backbones)
        self.fusion = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(0.5))
        self.classifiers = nn.ModuleList(nn.Linear(hidden, count) for count in classes)

    def forward(self, **clips: Tensor) -> tuple[Tensor, ...]:
        """Map clips to logits, averaged over segments: one (N, count) for each entry of `classes`.

        Args:
            clips: T segments of N videos for each modality of this network: `rgb` (N, T, 3, H, W),
                `flow` (N, T, 10, H, W), `spectrogram` (N, T, 1, H, W). H and W are 224 for RGB and flow and
                256 for the spectrogram in the published TBN, and else as `BNInception` takes them.

        Raises:
            ValueError: if the modalities are not those of this network, or a shape does not fit.
        """
        if set(clips) != set(self.backbones):
            raise ValueError(f"this TBN takes the modalities {list(self.backbones)}, got {list(clips)}")
        images = {name: fold_segments(name, clip, CHANNELS[name]) for name, clip in clips.items()}
        segments = {name: tuple(clip.shape[:2]) for name, clip in clips.items()}
        if len(set(segments.values())) > 1:
            raise ValueError(f"modalities must agree in videos and segments (N, T), got {segments}")
        features = [backbone(images[name]) for name, backbone in self.backbones.items()]
        hidden = self.fusion(torch.cat(features, dim=1))
        shape = next(iter(segments.values()))
        return tuple(classifier(hidden).unflatten(0, shape).mean(dim=1) for classifier in self.classifiers)
