"""Self-attention networks SAN10, SAN15 and SAN19, pairwise and patchwise, that can stop half-way and go on later.

Source: Zhao, Jia, Koltun (CVPR 2020); paper, section III.A and Fig. 13. Modules are registered in the order of the
published implementation, with its shared ReLU and max-pool last, because the published operation counts follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_models import fused
from adaptive_models.attention import cumulative_attention, pairwise_attention, patchwise_attention
from adaptive_models.backbone import AttentionBackbone

BLOCKS = {"san10": (2, 1, 2, 4, 1), "san15": (3, 2, 3, 5, 2), "san19": (3, 3, 4, 6, 3), "san-mini": (0, 0, 1, 1, 1)}
KINDS = ("pairwise", "patchwise")
NAMES = (*BLOCKS, *(f"{name}-patchwise" for name in BLOCKS))
"""Pairwise but for the latter."""
WIDTHS = (64, 256, 512, 1024, 2048)
NARROW = {"san-mini": (16, 32, 128, 128, 64)}
"""Widths of backbones that are not of `WIDTHS`: a network for the small data set `mini`, which trains on a CPU."""
SPLIT = "layer3.0"
SPLITS = {"san-mini": "layer2.0"}
"""Where backbones are split that are not split at `SPLIT`: so narrow a network tells more by a map of 14 x 14."""
KERNEL_SIZES = (3, 7, 7, 7, 7)
SMALLEST_INPUT = 32


class SelfAttention(nn.Module):
    """Local self-attention of `channels` -> `channels / 4`, with weights shared by 8 value channels."""

    def __init__(self, channels: int, kernel_size: int, kind: str) -> None:
        super().__init__()
        relation, values = channels // 16, channels // 4
        groups = values // 8
        self.kind, self.kernel_size = kind, kernel_size
        self.query = nn.Conv2d(channels, relation, 1)
        self.key = nn.Conv2d(channels, relation, 1)
        self.value = nn.Conv2d(channels, values, 1)
        if kind == "pairwise":
            inputs, hidden, outputs = relation + 2, relation, groups
            self.position = nn.Conv2d(2, 2, 1)
        else:
            inputs, hidden, outputs = relation * (kernel_size**2 + 1), groups, groups * kernel_size**2
        self.weigh = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, outputs, 1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> values (N, C/4, H, W) and weights (N, C/32, k*k, H*W)."""
        query, key, value = self.query(x), self.key(x), self.value(x)
        if self.kind == "pairwise":
            return pairwise_attention(query, key, value, self.position, self.weigh, self.kernel_size)
        return patchwise_attention(query, key, value, self.weigh, self.kernel_size)


class Bottleneck(nn.Module):
    """BN, ReLU, self-attention, BN, ReLU, 1x1 convolution back to `channels`, plus the identity."""

    def __init__(self, channels: int, kernel_size: int, kind: str) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.sam = SelfAttention(channels, kernel_size, kind)
        self.bn2 = nn.BatchNorm2d(channels // 4)
        self.conv = nn.Conv2d(channels // 4, channels, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> the same shape, and the attention weights (N, C/32, k*k, H*W)."""
        values, weights = self.sam(self.relu(self.bn1(x)))
        return self.conv(self.relu(self.bn2(values))) + x, weights


class SAN(AttentionBackbone):
    """A self-attention network without classifier: an image (N, channels, H, W) -> features (N, widths[-1]).

    Args:
        blocks: bottlenecks in each of the five stages.
        kind: "pairwise" or "patchwise".
        channels: input channels, 3 for RGB and 1 for a spectrogram.
        widths: channels of each stage, multiples of 32 where the stage has bottlenecks.
        split: the block after which `prescan` stops, as "layer<stage>.<block>" (paper: layer3.0).

    Raises:
        ValueError: unknown kind, stages that are not five or of odd widths, or a split that is none of the blocks.
    """

    REFERENCE_NAMES: ClassVar[dict[str, str]] = {
        ".sam.conv1.": ".sam.query.",
        ".sam.conv2.": ".sam.key.",
        ".sam.conv3.": ".sam.value.",
        ".sam.conv_p.": ".sam.position.",
        ".sam.conv_w.": ".sam.weigh.",
    }
    REFERENCE_EXTRAS: ClassVar[tuple[str, ...]] = ("fc.weight", "fc.bias")

    def __init__(
        self,
        blocks: tuple[int, ...] = BLOCKS["san19"],
        kind: str = "pairwise",
        channels: int = 3,
        widths: tuple[int, ...] = WIDTHS,
        split: str = SPLIT,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"unknown kind of self-attention {kind!r}: use one of {', '.join(KINDS)}")
        odd = any(width < 1 or (count and width % 32) for width, count in zip(widths, blocks, strict=False))
        if not len(blocks) == len(widths) == len(KERNEL_SIZES) or odd:
            raise ValueError(f"SAN has five stages, widths are multiples of 32: got blocks {blocks}, widths {widths}")
        self.features = widths[-1]
        self.conv_in = nn.Conv2d(channels, widths[0], 1, bias=False)
        self.bn_in = nn.BatchNorm2d(widths[0])
        order = ["conv_in", "bn_in", "relu"]
        for stage, width in enumerate(widths):
            layer = nn.Sequential(*(Bottleneck(width, KERNEL_SIZES[stage], kind) for _ in range(blocks[stage])))
            narrower = widths[max(stage - 1, 0)]
            self.add_module(f"conv{stage}", nn.Conv2d(narrower, width, 1, bias=False))
            self.add_module(f"bn{stage}", nn.BatchNorm2d(width))
            self.add_module(f"layer{stage}", layer)
            order += ["pool", f"conv{stage}"]
            order += [f"layer{stage}.{block}" for block in range(blocks[stage])]
            order += [f"bn{stage}", "relu"]
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        splits = [name for name in order if "." in name]
        if split not in splits:
            raise ValueError(f"no block {split!r} to split after: use one of {', '.join(splits)}")
        self._order = tuple(order)
        self.split = split

    def prescan(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the first half, up to and including the split block.

        Args:
            x: (N, channels, H, W), H and W at least 32.

        Returns:
            The state to resume from, and the cumulative global attention of the split block (N, C/32, H', W');
            after layer3.0 that is (N, 32, H/16, W/16).

        Raises:
            ValueError: an input that is not of that shape.
        """
        return self._run_split(self._before_split(x))

    def attention_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (C, h, w) of the attention map that `prescan` makes of an image of this height and width."""
        halvings = self._order[: self._order.index(self.split)].count("pool")
        return self._split_block().conv.out_channels // 32, height >> halvings, width >> halvings

    def resume(self, state: Tensor) -> Tensor:
        """Run the second half on what `prescan` returned; gives features (N, widths[-1])."""
        return self.avgpool(self._run(self._order[self._order.index(self.split) + 1 :], state)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> features (N, widths[-1]); equals `resume(prescan(x)[0])` without the attention map."""
        return self.resume(self._run([self.split], self._before_split(x)))

    def attentions(self, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Run the whole network for the attention of its blocks (paper, Figs. 5 and 11).

        Args:
            x: (N, channels, H, W), H and W at least 32.

        Returns:
            For each block in order, by its name: the local attentions (N, C/32, k, k, H', W') of Eq. 2, the place in
            the footprint before the position, and the cumulative global attention (N, C/32, H', W') of Eq. 3.

        Raises:
            ValueError: an input that is not of that shape.
        """
        self._check(x)
        found = {}
        for name in self._order:
            module = self.get_submodule(name)
            if isinstance(module, Bottleneck):
                x, weights = module(x)
                size, side = (x.shape[2], x.shape[3]), module.sam.kernel_size
                local = weights.unflatten(3, size).unflatten(2, (side, side))
                found[name] = local, cumulative_attention(weights, size, side)
            else:
                x = module(x)
        return found

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.conv_in.in_channels or min(x.shape[2:]) < SMALLEST_INPUT:
            raise ValueError(
                f"input of shape {tuple(x.shape)}: SAN takes (N, {self.conv_in.in_channels}, H, W)"
                f" with H and W at least {SMALLEST_INPUT}"
            )

    def _before_split(self, x: Tensor) -> Tensor:
        self._check(x)
        names = self._order[: self._order.index(self.split)]
        as_written = x.is_meta or torch.is_autocast_enabled(x.device.type)
        if self.bn_in.training and torch.is_grad_enabled() and not as_written:
            # What is 0 before ReLU and max-pool is so after them, in either order.
            x, names = self.relu(self.pool(normalised(self.conv_in, self.bn_in, x))), names[4:]
        return self._run(names, x)

    def _split_block(self) -> Bottleneck:
        block = self.get_submodule(self.split)
        assert isinstance(block, Bottleneck)
        return block

    def _run_split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the split block, and sum up its attention."""
        block = self._split_block()
        if fused.suits(self, [self.split], x):
            return fused.attend(block, x)
        x, weights = block(x)
        return x, cumulative_attention(weights, (x.shape[2], x.shape[3]), block.sam.kernel_size)

    def _run(self, names: Sequence[str], x: Tensor) -> Tensor:
        """Run layers one after another."""
        if fused.suits(self, names, x):
            return fused.run(self, names, x)
        for name in names:
            module = self.get_submodule(name)
            x = module(x)[0] if isinstance(module, Bottleneck) else module(x)
        return x


def normalised(convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """What batch normalisation in training makes of a 1x1 convolution without bias, for few channels of large images.

    Mean and variance of the outputs follow from mean and covariance of the inputs, so that the weights take the scale
    and the shift, and batch norm keeps nothing of the outputs' size for the gradients. Running statistics follow as
    well.

    Args:
        convolution: of C inputs and D outputs.
        norm: in training mode.
        x: (N, C, H, W).

    Returns:
        (N, D, H, W), with channels last in memory.
    """
    pixels = x.movedim(1, -1).flatten(0, -2)
    mean = pixels.mean(dim=0)
    centred = pixels - mean
    weight = convolution.weight.flatten(1)
    means = weight @ mean
    variances = ((weight @ (centred.T @ centred / len(pixels))) * weight).sum(dim=1)
    with torch.no_grad():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.momentum is not None
        assert norm.num_batches_tracked is not None
        norm.running_mean.lerp_(means, norm.momentum)
        norm.running_var.lerp_(variances * (len(pixels) / (len(pixels) - 1)), norm.momentum)
        norm.num_batches_tracked.add_(1)
    scale = norm.weight * (variances + norm.eps).rsqrt()
    made = F.linear(pixels, weight * scale[:, None], norm.bias - scale * means)
    return made.unflatten(0, (len(x), *x.shape[2:])).movedim(-1, 1)


def build_san(name: str, channels: int = 3, split: str | None = None) -> SAN:
    """Build a SAN by name, one of `NAMES`; see `build_backbone`."""
    base = name.removesuffix("-patchwise")
    kind = "pairwise" if base == name else "patchwise"
    if split is None:
        split = SPLITS.get(base, SPLIT)
    return SAN(BLOCKS[base], kind, channels, NARROW.get(base, WIDTHS), split)
