"""What the adaptive system asks of its backbone: here goes a third one, beside SAN and the vision transformer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class AttentionBackbone(nn.Module, ABC):
    """A network without classifier that can stop half-way, show what it attends to, and go on later.

    The method of the paper fits any network with attention (section III.A): derive from this class, and give
    `AdaptiveSystem` a function that makes the network for 3 channels, of an image, or 1, of a spectrogram. It runs on
    images of 112 pixels, crops of 64 and, with sound, spectrograms of 256.

    Attributes:
        features: how many there are, F.
        split: where `prescan` stops, in words.
    """

    features: int
    split: str

    @abstractmethod
    def prescan(self, x: Tensor) -> tuple[Any, Tensor]:
        """Run the first half.

        Args:
            x: (N, channels, H, W).

        Returns:
            The state to resume from, a tensor whose first dimension is N, so that single frames can go on; and the
            attention (N, C, h, w), of `attention_shape`, which is the higher where the network attends more. Its mean
            is about 1, whatever the size, for SSIM, by which attentions are compared, takes values of that order.
        """

    @abstractmethod
    def resume(self, state: Any) -> Tensor:
        """Run the second half on what `prescan` returned; gives features (N, F)."""

    @abstractmethod
    def attention_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (C, h, w) of the attention that `prescan` makes of an image of this height and width."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> features (N, F); the same as both halves."""
        return self.resume(self.prescan(x)[0])
