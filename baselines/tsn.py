"""TSN (Wang et al., "Temporal Segment Networks"): one image network per segment, logits averaged."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from baselines.resnet import ResNet50


def checked_clips(name: str, clips: Tensor, channels: int) -> Tensor:
    """The clips, which are (N, T, `channels`, H, W).

    Raises:
        ValueError: if `clips` has another shape; `name` is what the message calls it.
    """
    if clips.ndim != 5 or clips.shape[2] != channels:
        raise ValueError(f"{name} must have shape (N, T, {channels}, H, W), got {tuple(clips.shape)}")
    return clips


def fold_segments(name: str, clips: Tensor, channels: int) -> Tensor:
    """View clips (N, T, `channels`, H, W) as images (N T, `channels`, H, W).

    Raises:
        ValueError: as `checked_clips`.
    """
    return checked_clips(name, clips, channels).flatten(0, 1)


class TSN(nn.Module):
    """ResNet-50 on one RGB frame of each segment; the consensus is the mean of the segments' logits.

    Args:
        classes: number of classes of each label: 101 actions for UCF-101.
        width: factor on the channels of the network.
    """

    def __init__(self, classes: Sequence[int] = (101,), width: float = 1.0) -> None:
        super().__init__()
        self.backbone = ResNet50(None, width=width)
        self.classifiers = nn.ModuleList(nn.Linear(self.backbone.features, count) for count in classes)

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """Map frames (N, T, 3, H, W), T segments of N videos, to logits: one (N, count) for each entry of `classes`.

        Raises:
            ValueError: if `rgb` has another shape.
        """
        features = self.backbone(fold_segments("rgb", rgb, 3))
        return tuple(classifier(features).unflatten(0, rgb.shape[:2]).mean(dim=1) for classifier in self.classifiers)
