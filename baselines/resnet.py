"""ResNets (He et al., "Deep Residual Learning for Image Recognition", Table 1), in their version 1.5."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

# Table 1 of He et al., conv2_x to conv5_x: inner channels, and stride of the first block.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H / stride, W / stride), sizes rounded up."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1 (to four times their channels) beside a shortcut.

    The stride is on the 3x3 convolution (version 1.5, as in torchvision), not on the first 1x1 (version 1).
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = self.expansion * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, 4 channels, H / stride, W / stride), sizes rounded up."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """The shortcut of a block that changes the shape."""
    if in_channels == out_channels and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class ResNet(nn.Module):
    """A ResNet on images of any size.

    Parameters are named as in torchvision, so `load_state_dict` takes torchvision's checkpoints.

    Args:
        block: of which it is made.
        blocks: of each of the four stages.
        classes: size of the final linear layer; None for none, which gives the pooled features.
        channels: of the input.
        width: factor on the channels of all layers.

    Attributes:
        features: of an image; at width 1, 512 of basic blocks and 2048 of bottlenecks.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        blocks: Sequence[int],
        classes: int | None = 1000,
        channels: int = 3,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        in_channels = round(64 * width)
        self.conv1 = nn.Conv2d(channels, in_channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for number, ((inner, stride), count) in enumerate(zip(STAGES, blocks, strict=True), 1):
            inner = round(inner * width)
            stage = nn.Sequential(block(in_channels, inner, stride))
            in_channels = block.expansion * inner
            stage.extend(block(in_channels, inner, stride=1) for _ in range(count - 1))
            self.add_module(f"layer{number}", stage)
        self.features = in_channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Identity() if classes is None else nn.Linear(self.features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to logits (N, classes), or to features (N, features) where classes is None."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for number in range(1, len(STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


ResNet18 = partial(ResNet, BasicBlock, (2, 2, 2, 2))
ResNet34 = partial(ResNet, BasicBlock, (3, 4, 6, 3))
ResNet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))
ResNet152 = partial(ResNet, Bottleneck, (3, 8, 36, 3))
