"""BN-Inception (Ioffe and Szegedy, "Batch Normalization", appendix), the backbone of TBN."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Branches(NamedTuple):
    """Output channels of the convolutions of one inception block, branch by branch.

    `single` and `projection` are None in the blocks that halve the resolution: these have no 1x1 branch and
    hand on their pooled input unprojected.
    """

    single: int | None  # 1x1
    triple: tuple[int, int]  # 1x1, 3x3
    double: tuple[int, int, int]  # 1x1, 3x3, 3x3
    pool: type[nn.AvgPool2d] | type[nn.MaxPool2d]  # 3x3
    projection: int | None  # 1x1 after the pool

    def scaled(self, width: float) -> Branches:
        """With that many times the channels."""
        single, triple, double, pool, projection = self

        def times(channels: int) -> int:
            return round(channels * width)

        return Branches(
            single and times(single),
            (times(triple[0]), times(triple[1])),
            (times(double[0]), times(double[1]), times(double[2])),
            pool,
            projection and times(projection),
        )


# Figure 5 of Ioffe and Szegedy, with the channels of the published TBN.
BLOCKS = {
    "3a": Branches(64, (64, 64), (64, 96, 96), nn.AvgPool2d, 32),
    "3b": Branches(64, (64, 96), (64, 96, 96), nn.AvgPool2d, 64),
    "3c": Branches(None, (128, 160), (64, 96, 96), nn.MaxPool2d, None),
    "4a": Branches(224, (64, 96), (96, 128, 128), nn.AvgPool2d, 128),
    "4b": Branches(192, (96, 128), (96, 128, 128), nn.AvgPool2d, 128),
    "4c": Branches(160, (128, 160), (128, 160, 160), nn.AvgPool2d, 128),
    "4d": Branches(96, (128, 192), (160, 192, 192), nn.AvgPool2d, 128),
    "4e": Branches(None, (128, 192), (192, 256, 256), nn.MaxPool2d, None),
    "5a": Branches(352, (192, 320), (160, 224, 224), nn.AvgPool2d, 128),
    "5b": Branches(352, (192, 320), (192, 224, 224), nn.MaxPool2d, 128),
}


def _convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution with bias, batch norm and ReLU: (N, in, H, W) -> (N, out, H / stride, W / stride)."""
    layers: list[tuple[str, nn.Module]] = [
        ("conv", nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2)),
        ("bn", nn.BatchNorm2d(out_channels)),
        ("relu", nn.ReLU(inplace=True)),
    ]
    return nn.Sequential(OrderedDict(layers))


class InceptionBlock(nn.ModuleDict):
    """Parallel branches over one input, concatenated along the channels in the order of `Branches`."""

    def __init__(self, in_channels: int, branches: Branches) -> None:
        super().__init__()
        single, triple, double, pool, projection = branches
        stride = 2 if single is None else 1
        if single is not None:
            self["1x1"] = _convolution(in_channels, single, 1)
        self["3x3"] = nn.Sequential(
            _convolution(in_channels, triple[0], 1), _convolution(triple[0], triple[1], 3, stride)
        )
        self["double_3x3"] = nn.Sequential(
            _convolution(in_channels, double[0], 1),
            _convolution(double[0], double[1], 3),
            _convolution(double[1], double[2], 3, stride),
        )
        self["pool"] = nn.Sequential(pool(3, stride, padding=1 if stride == 1 else 0, ceil_mode=True))
        if projection is not None:
            self["pool"].add_module("projection", _convolution(in_channels, projection, 1))
        self.out_channels = (single or 0) + triple[-1] + double[-1] + (projection or in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W); 3c and 4e halve H and W, both even."""
        return torch.cat([branch(x) for branch in self.values()], dim=1)


class BNInception(nn.Module):
    """BN-Inception without classifier.

    The two halving blocks concatenate strided convolutions (which round odd sizes up) with a max-pool (which
    rounds them down), so heights and widths must be 32 j - 1 to 32 j + 6 pixels for some j >= 1.

    Args:
        channels: input channels: 3 for RGB, 10 for five x/y pairs of optical flow, 1 for a spectrogram.
        width: factor on the channels of all layers.

    Attributes:
        features: of an image; 1024 at width 1.
    """

    def __init__(self, channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        first, second = round(64 * width), round(192 * width)
        self.stem = nn.Sequential(
            _convolution(channels, first, 7, stride=2),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            _convolution(first, first, 1),
            _convolution(first, second, 3),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
        )
        self.blocks = nn.Sequential()
        in_channels = second
        for name, branches in BLOCKS.items():
            block = InceptionBlock(in_channels, branches.scaled(width))
            self.blocks.add_module(name, block)
            in_channels = block.out_channels
        self.features = in_channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to pooled features (N, features).

        Raises:
            ValueError: if H or W is a size that the halving blocks cannot take.
        """
        height, width = images.shape[-2:]
        if min(height, width) < 31 or any((side + 1) // 8 % 4 for side in (height, width)):
            raise ValueError(
                "BNInception takes heights and widths of 32 j - 1 to 32 j + 6 pixels (224 or 256, say), "
                f"got {height} x {width}"
            )
        return torch.flatten(self.avgpool(self.blocks(self.stem(images))), 1)


def widen_first_conv(weight_rgb: Tensor, channels: int) -> Tensor:
    """Kernels for an input of `channels` channels from RGB kernels: their mean over RGB, repeated (TBN, TSN).

    Args:
        weight_rgb: (out, 3, k, k), such as `BNInception().stem[0].conv.weight`.
        channels: channels of the new input, for example 10 (flow) or 1 (spectrogram).

    Returns:
        A new tensor (out, channels, k, k).
    """
    return weight_rgb.mean(dim=1, keepdim=True).repeat(1, channels, 1, 1)
