"""SlowFast (Feichtenhofer et al., "SlowFast Networks for Video Recognition", Table 1) with ResNet-101, 8x8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from baselines.tsn import checked_clips

ALPHA = 4
"""Frames of the Fast pathway for each of the Slow one."""
BETA = 8
"""Channels of the Slow pathway for each of the Fast one; twice as many come over by a lateral connection."""
STAGES = ((64, 3, 1), (128, 4, 2), (256, 23, 2), (512, 3, 2))
"""res2 to res5: inner channels of the Slow pathway, blocks, spatial stride of the first block."""
SLOW_KERNELS, FAST_KERNELS = (1, 1, 3, 3), (3, 3, 3, 3)
"""Frames that the first convolution of a block looks at, by stage."""
TEMPORAL_BLOCKS = (3, 4, 6, 3)
"""How many blocks of each stage, the first ones, look at more than one frame: in res4 as many as ResNet-50 has."""


class Bottleneck3d(nn.Module):
    """Convolutions over time, over space (with the stride), and to four times the channels, beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, frames: int, stride: int) -> None:
        super().__init__()
        out_channels = 4 * channels
        self.conv1 = nn.Conv3d(in_channels, channels, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False)
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, (1, 3, 3), (1, stride, stride), padding=(0, 1, 1), bias=False)
        self.bn2 = nn.BatchNorm3d(channels)
        self.conv3 = nn.Conv3d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if in_channels != out_channels or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, (1, stride, stride), bias=False), nn.BatchNorm3d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, T, H, W) to (N, 4 channels, T, H / stride, W / stride), sizes rounded up."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


def _convolution(
    in_channels: int, out_channels: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False),
        nn.BatchNorm3d(out_channels),
        nn.ReLU(inplace=True),
    )


def _stem(channels: int, frames: int) -> nn.Sequential:
    stem = _convolution(3, channels, (frames, 7, 7), (1, 2, 2))
    return stem.append(nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1)))


def _stage(
    in_channels: int, channels: int, frames: int, temporal_blocks: int, blocks: int, stride: int
) -> nn.Sequential:
    made = nn.Sequential()
    for number in range(blocks):
        looks_at = frames if number < temporal_blocks else 1
        made.append(Bottleneck3d(in_channels, channels, looks_at, stride if number == 0 else 1))
        in_channels = 4 * channels
    return made


class SlowFastTrunk(nn.Module):
    """The two pathways of SlowFast, R101 8x8, up to their pooled features.

    Args:
        width: factor on the channels of all layers.
        temporal_blocks: of each stage, how many blocks look at more than one frame.

    Attributes:
        features: of a clip, of both pathways; 2304 at width 1.
        fused_channels: of the Slow pathway with what came over by lateral connections, by the stages before.
    """

    def __init__(self, width: float = 1.0, temporal_blocks: Sequence[int] = TEMPORAL_BLOCKS) -> None:
        super().__init__()
        slow = round(STAGES[0][0] * width)
        fast = slow // BETA
        self.slow_stem, self.fast_stem = _stem(slow, 1), _stem(fast, 5)
        self.laterals, self.slow_stages, self.fast_stages = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.fused_channels: dict[str, int] = {}
        for number, (inner, blocks, stride) in enumerate(STAGES):
            self.laterals.append(_convolution(fast, 2 * fast, (5, 1, 1), (ALPHA, 1, 1)))
            self.fused_channels[f"res{number + 1}"] = fused = slow + 2 * fast
            channels, temporal = round(inner * width), temporal_blocks[number]
            self.slow_stages.append(_stage(fused, channels, SLOW_KERNELS[number], temporal, blocks, stride))
            self.fast_stages.append(_stage(fast, channels // BETA, FAST_KERNELS[number], temporal, blocks, stride))
            slow, fast = 4 * channels, 4 * (channels // BETA)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.features = slow + fast

    def forward(self, rgb: Tensor, added: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map clips (N, T, 3, H, W) to features (N, features) of the Slow, then the Fast pathway.

        Args:
            rgb: consecutive frames for the Fast pathway; every fourth, from the first on, is for the Slow one.
            added: after a stage, "res1" (the stem) to "res4", what is added to the fused Slow pathway, of shapes that
                broadcast to (N, `fused_channels`, T / 4, h, w).

        Raises:
            ValueError: another shape, or a number of frames that is no multiple of four.
        """
        clips = checked_clips("rgb", rgb, 3)
        if rgb.shape[1] % ALPHA:
            raise ValueError(f"rgb has {rgb.shape[1]} frames; SlowFast takes a multiple of {ALPHA}")
        frames = clips.transpose(1, 2)
        slow, fast = self.slow_stem(frames[:, :, ::ALPHA]), self.fast_stem(frames)
        stages = zip(self.fused_channels, self.laterals, self.slow_stages, self.fast_stages, strict=True)
        for name, lateral, slow_stage, fast_stage in stages:
            slow = torch.cat([slow, lateral(fast)], dim=1)
            if added and name in added:
                slow = slow + added[name]
            slow, fast = slow_stage(slow), fast_stage(fast)
        return torch.cat([self.avgpool(pathway).flatten(1) for pathway in (slow, fast)], dim=1)


class SlowFast(nn.Module):
    """SlowFast R101 8x8: 8 frames for the Slow pathway, 32 for the Fast one.

    Args:
        classes: number of classes of each label: 125 verbs and 352 nouns for EPIC-KITCHENS-55.
        width: factor on the channels of all layers.
    """

    def __init__(self, classes: Sequence[int] = (125, 352), width: float = 1.0) -> None:
        super().__init__()
        self.trunk = SlowFastTrunk(width)
        self.dropout = nn.Dropout(0.5)
        self.classifiers = nn.ModuleList(nn.Linear(self.trunk.features, count) for count in classes)

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """Map clips (N, T, 3, H, W), T 32 and H and W 256 in the published network, to logits: (N, count) per label.

        Raises:
            ValueError: another shape, or a number of frames that is no multiple of four.
        """
        features = self.dropout(self.trunk(rgb))
        return tuple(classifier(features) for classifier in self.classifiers)
