"""AVSlowFast (Xiao et al., "Audiovisual SlowFast Networks for Video Recognition", Table 1) with ResNet-101, 8x8."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from baselines.resnet import Bottleneck
from baselines.slowfast import STAGES, TEMPORAL_BLOCKS, SlowFastTrunk

AUDIO_BLOCKS = tuple(blocks for _, blocks, _ in STAGES)
"""Of each stage: one depth for all three pathways, as in the published code."""
FUSED = ("res3", "res4")
"""Stages after which sound is added to the Slow pathway."""
FUSION_CHANNELS = 64


class TimeFrequencyBottleneck(nn.Module):
    """1x1, then 3x1 and 1x3 side by side (with the stride), concatenated, then 1x1, beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = 4 * channels
        self.reduce = _convolution(in_channels, channels, (1, 1))
        self.frequency = _convolution(channels, channels, (3, 1), stride)
        self.time = _convolution(channels, channels, (1, 3), stride)
        self.expand = nn.Sequential(nn.Conv2d(2 * channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.downsample: nn.Sequential | None = None
        if in_channels != out_channels or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, F, T) to (N, 4 channels, F / stride, T / stride), sizes rounded up."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.reduce(x)
        x = torch.cat([self.frequency(x), self.time(x)], dim=1)
        return self.relu(self.expand(x) + shortcut)


def _convolution(in_channels: int, out_channels: int, kernel: tuple[int, int], stride: int = 1) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class AudioPathway(nn.Module):
    """A ResNet of half the channels on a spectrogram; its first two stages treat time and frequency apart.

    Args:
        width: factor on the channels of all layers.
        blocks: of each stage.

    Attributes:
        features: of a spectrogram; 1024 at width 1.
        channels: of the output of each stage, by its name.
    """

    def __init__(self, width: float = 1.0, blocks: Sequence[int] = AUDIO_BLOCKS) -> None:
        super().__init__()
        in_channels = round(STAGES[0][0] // 2 * width)
        self.frequency = nn.Conv2d(1, in_channels, (9, 1), padding=(4, 0), bias=False)
        self.time = nn.Conv2d(1, in_channels, (1, 9), padding=(0, 4), bias=False)
        self.bn = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.stages = nn.ModuleDict()
        self.channels: dict[str, int] = {}
        for number, ((inner, _, stride), count) in enumerate(zip(STAGES, blocks, strict=True)):
            block = TimeFrequencyBottleneck if number < 2 else Bottleneck
            channels = round(inner // 2 * width)
            stage = nn.Sequential(block(in_channels, channels, stride))
            stage.extend(block(4 * channels, channels, 1) for _ in range(count - 1))
            self.stages[f"res{number + 2}"] = stage
            self.channels[f"res{number + 2}"] = in_channels = 4 * channels
        self.features = in_channels

    def forward(self, log_mel: Tensor) -> dict[str, Tensor]:
        """Map (N, 1, F, T) to the outputs (N, channels, f, t) of the stages, by their names."""
        x = self.relu(self.bn(self.frequency(log_mel) + self.time(log_mel)))
        outputs = {}
        for name, stage in self.stages.items():
            outputs[name] = x = stage(x)
        return outputs


class AudioFusion(nn.Module):
    """Sound for the Slow pathway: the mean over frequency, and two convolutions over five steps of time."""

    def __init__(self, in_channels: int, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(in_channels, channels, 5, padding=2, bias=False),
            nn.BatchNorm1d(channels),
            nn.ReLU(inplace=True),
            nn.Conv1d(channels, out_channels, 5, stride, padding=2, bias=False),
            nn.BatchNorm1d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, F, T) to (N, out_channels, T / stride, 1, 1)."""
        return self.convolutions(x.mean(dim=-2))[..., None, None]


class AVSlowFast(nn.Module):
    """AVSlowFast R101 8x8: SlowFast, and a pathway for sound that is added to the Slow one after res3 and res4.

    How deep the pathways of the published R101 are is not told: by default the visual ones are those of SlowFast R101
    8x8, and the audio one has as many blocks. The published 129 GMACs fit temporal kernels in all blocks of res4 and an
    audio pathway of ResNet-50's depth.

    Args:
        classes: number of classes of each label: 125 verbs and 352 nouns for EPIC-KITCHENS-55.
        width: factor on the channels of all layers.
        temporal_blocks: of the visual pathways, see `SlowFastTrunk`.
        audio_blocks: of each stage of the audio pathway.
    """

    def __init__(
        self,
        classes: Sequence[int] = (125, 352),
        width: float = 1.0,
        temporal_blocks: Sequence[int] = TEMPORAL_BLOCKS,
        audio_blocks: Sequence[int] = AUDIO_BLOCKS,
    ) -> None:
        super().__init__()
        self.trunk = SlowFastTrunk(width, temporal_blocks)
        self.audio = AudioPathway(width, audio_blocks)
        # 16 steps of sound for a frame of the Slow pathway, halved by each stage from res3 on
        self.fusions = nn.ModuleDict(
            {
                name: AudioFusion(
                    self.audio.channels[name], round(FUSION_CHANNELS * width), self.trunk.fused_channels[name], stride
                )
                for name, stride in zip(FUSED, (8, 4), strict=True)
            }
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        features = self.trunk.features + self.audio.features
        self.classifiers = nn.ModuleList(nn.Linear(features, count) for count in classes)

    def forward(self, rgb: Tensor, log_mel: Tensor) -> tuple[Tensor, ...]:
        """Map clips and their sound to logits: (N, count) per label.

        Args:
            rgb: (N, T, 3, H, W), T 32 and H and W 256 in the published network.
            log_mel: (N, 1, F, 4 T): F mel bands, 80 in the published network, at four steps of time for a frame.

        Raises:
            ValueError: shapes that are not these.
        """
        wanted = (rgb.shape[0], 1, 4 * rgb.shape[1])
        if log_mel.ndim != 4 or (*log_mel.shape[:2], log_mel.shape[3]) != wanted:
            raise ValueError(
                f"log_mel must have shape ({wanted[0]}, 1, F, {wanted[2]}) for rgb of shape {tuple(rgb.shape)}, "
                f"got {tuple(log_mel.shape)}"
            )
        sound = self.audio(log_mel)
        visual = self.trunk(rgb, {name: fusion(sound[name]) for name, fusion in self.fusions.items()})
        heard = self.avgpool(sound["res5"]).flatten(1)
        features = self.dropout(torch.cat([visual, heard], dim=1))
        return tuple(classifier(features) for classifier in self.classifiers)
