"""Res3D-18 (Tran et al., "ConvNet Architecture Search for Spatiotemporal Feature Learning", Table 4)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from baselines.tsn import checked_clips

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Channels, and stride of the first of two blocks in time and space, of res2 to res5."""


class BasicBlock3d(nn.Module):
    """Two 3x3x3 convolutions beside a shortcut, which is a 1x1x1 convolution where `projected`."""

    def __init__(self, in_channels: int, channels: int, stride: int, projected: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if projected:
            self.downsample = nn.Sequential(
                nn.Conv3d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm3d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, T, H, W) to (N, channels, T / stride, H / stride, W / stride), sizes rounded up."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Res3D18(nn.Module):
    """A ResNet-18 whose convolutions are three-dimensional, on clips of 8 frames of 112 x 112 pixels.

    The first block of every stage projects its shortcut, that of res2 too, which needs none. It has 20.45 GMACs, where
    19.3 are published.

    Args:
        classes: number of classes of each label: 101 actions for UCF-101.
        width: factor on the channels of all layers.
        projected_res2: False for the 3D ResNet-18 of torchvision and others, which projects where shapes change alone;
            it has 20.35 GMACs.
    """

    def __init__(self, classes: Sequence[int] = (101,), width: float = 1.0, projected_res2: bool = True) -> None:
        super().__init__()
        in_channels = round(64 * width)
        self.stem = nn.Sequential(
            nn.Conv3d(3, in_channels, (3, 7, 7), (1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(in_channels),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential()
        for channels, stride in STAGES:
            channels = round(channels * width)
            first = BasicBlock3d(in_channels, channels, stride, projected=projected_res2 or stride > 1)
            self.stages.append(nn.Sequential(first, BasicBlock3d(channels, channels, 1, projected=False)))
            in_channels = channels
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.classifiers = nn.ModuleList(nn.Linear(in_channels, count) for count in classes)

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """Map clips (N, T, 3, H, W), T 8 and H and W 112 in the published network, to logits: (N, count) per label.

        Raises:
            ValueError: if `rgb` has another shape.
        """
        clips = checked_clips("rgb", rgb, 3)
        features = self.avgpool(self.stages(self.stem(clips.transpose(1, 2)))).flatten(1)
        return tuple(classifier(features) for classifier in self.classifiers)
