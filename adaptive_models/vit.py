"""Vision transformers, which can stop half-way and go on later, with the attention of their class token.

Source: Dosovitskiy et al., "An image is worth 16x16 words" (ICLR 2021), at the sizes of Touvron et al., "Training
data-efficient image transformers" (ICML 2021). Parameters have the names of timm, whose weights therefore load.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_models.backbone import AttentionBackbone

SIZES = {"vit-tiny": (192, 3), "vit-small": (384, 6), "vit-base": (768, 12)}
"""Width, and number of heads."""
DEPTH = 12
PATCH = 16
SPLIT = "blocks.5"
GRID = 14
"""Side of the grid of patches of which positions are learned; of other grids they are interpolated."""


class SelfAttention(nn.Module):
    """Multi-head self-attention, which can say how much the class token looks at every token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, tell: bool = False) -> tuple[Tensor, Tensor | None]:
        """(N, T, D) -> the same shape and, if it is to tell, the weights of the class token (N, heads, T)."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        values = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        weights = None
        if tell:
            scores = query[:, :, :1] @ key.transpose(2, 3) * query.shape[3] ** -0.5
            weights = scores.softmax(dim=3).squeeze(2)
        return self.proj(values), weights


class Block(nn.Module):
    """Layer norm and self-attention, layer norm and two linear layers with GELU, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(width, 4 * width))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(4 * width, width))

    def forward(self, x: Tensor, tell: bool = False) -> tuple[Tensor, Tensor | None]:
        """As `SelfAttention.forward`."""
        values, weights = self.attn(self.norm1(x), tell)
        x = x + values
        return x + self.mlp(self.norm2(x)), weights


class VisionTransformer(AttentionBackbone):
    """A vision transformer without classifier: an image (N, channels, H, W) -> its class token (N, width).

    Args:
        width: of the tokens.
        heads: of every block, which divide the width.
        channels: input channels, 3 for RGB and 1 for a spectrogram.
        depth: number of blocks.
        split: the block after which `prescan` stops, as "blocks.<block>".

    Raises:
        ValueError: heads that do not divide the width, or a split that is none of the blocks.
    """

    REFERENCE_EXTRAS: ClassVar[tuple[str, ...]] = ("head.weight", "head.bias")

    def __init__(self, width: int, heads: int, channels: int = 3, depth: int = DEPTH, split: str = SPLIT) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        splits = [f"blocks.{block}" for block in range(depth)]
        if split not in splits:
            raise ValueError(f"no block {split!r} to split after: use one of {', '.join(splits)}")
        self.features, self.heads, self.channels, self.split = width, heads, channels, split
        self._first = splits.index(split) + 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, width))
        self.patch_embed = nn.Sequential()
        self.patch_embed.add_module("proj", nn.Conv2d(channels, width, PATCH, stride=PATCH))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        for name, parameter in self.named_parameters():
            if parameter.ndim in (2, 3):
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def prescan(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the first half, up to and including the split block.

        Args:
            x: (N, channels, H, W), H and W multiples of 16.

        Returns:
            The tokens (N, 1 + h * w, width), and the attention (N, heads, h, w): the weights with which the class token
            looks at the patches in the split block, times the number of patches, so that 1 is an even look at all.

        Raises:
            ValueError: an input that is not of that shape.
        """
        tokens = self._embed(x)
        *before, last = self.blocks[: self._first]
        for block in before:
            tokens, _ = block(tokens)
        tokens, weights = last(tokens, tell=True)
        _, height, width = self.attention_shape(*x.shape[2:])
        return tokens, (weights[:, :, 1:] * (height * width)).unflatten(2, (height, width))

    def attention_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (heads, h, w) of the attention that `prescan` makes of an image of this height and width."""
        return self.heads, height // PATCH, width // PATCH

    def resume(self, state: Tensor) -> Tensor:
        """Run the second half on what `prescan` returned; gives features (N, width)."""
        for block in self.blocks[self._first :]:
            state, _ = block(state)
        return self.norm(state)[:, 0]

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> features (N, width); equals `resume(prescan(x)[0])` without the attention."""
        tokens = self._embed(x)
        for block in self.blocks[: self._first]:
            tokens, _ = block(tokens)
        return self.resume(tokens)

    def _embed(self, x: Tensor) -> Tensor:
        fits = x.ndim == 4 and x.shape[1] == self.channels
        if not fits or min(x.shape[2:]) < PATCH or any(side % PATCH for side in x.shape[2:]):
            raise ValueError(
                f"input of shape {tuple(x.shape)}: a vision transformer takes (N, {self.channels}, H, W)"
                f" with H and W multiples of {PATCH}"
            )
        patches = self.patch_embed(x)
        positions = self._positions(patches.shape[2], patches.shape[3])
        tokens = torch.cat((self.cls_token.expand(len(x), -1, -1), patches.flatten(2).transpose(1, 2)), dim=1)
        return tokens + positions

    def _positions(self, height: int, width: int) -> Tensor:
        """(1, 1 + height * width, D)."""
        if (height, width) == (GRID, GRID):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (GRID, GRID))
        grid = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
        return torch.cat((self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)), dim=1)
