"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", Table 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Table 2 of Sandler et al.: expansion t, output channels c, blocks n, stride s of the first block.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM, FEATURES = 32, 1280


def _convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, ...]:
    """Convolution, batch norm and ReLU6: (N, in, H, W) -> (N, out, H / stride, W / stride), sizes rounded up."""
    return (
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the channels, 3x3 of each channel alone, and 1x1 without activation.

    With a shortcut where the shape stays.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * in_channels
        expand = _convolution(in_channels, inner, 1) if expansion > 1 else ()
        self.convolutions = nn.Sequential(
            *expand,
            *_convolution(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride), sizes rounded up."""
        return x + self.convolutions(x) if self.shortcut else self.convolutions(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 on images of any size.

    Args:
        classes: size of the final linear layer; None for none, which gives the pooled features.
        width: factor on the channels of all layers.

    Attributes:
        features: of an image; 1280 at width 1.
    """

    def __init__(self, classes: int | None = 1000, width: float = 1.0) -> None:
        super().__init__()
        in_channels = round(STEM * width)
        self.stem = nn.Sequential(*_convolution(3, in_channels, 3, stride=2))
        self.blocks = nn.Sequential()
        for expansion, channels, count, stride in STAGES:
            for number in range(count):
                block = InvertedResidual(in_channels, round(channels * width), 1 if number else stride, expansion)
                self.blocks.append(block)
                in_channels = round(channels * width)
        self.features = round(FEATURES * width)
        self.last = nn.Sequential(*_convolution(in_channels, self.features, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Identity() if classes is None else nn.Linear(self.features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, classes), or to features (N, features) where classes is None."""
        return self.fc(self.dropout(self.pooled(images)))

    def pooled(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to the features (N, features) that the final linear layer sees."""
        return torch.flatten(self.avgpool(self.last(self.blocks(self.stem(images)))), 1)
