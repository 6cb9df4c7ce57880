"""Networks that take a clip in another layout than ours, which is (N, T, 3, H, W)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ChannelsFirst(nn.Module):
    """Runs a network that takes clips (N, 3, T, H, W)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, rgb: Tensor) -> Any:
        """(N, T, 3, H, W) -> what the network returns."""
        return self.model(rgb.transpose(1, 2))


class TwoPathways(nn.Module):
    """Runs a SlowFast network: its Fast pathway sees all frames, its Slow one every `alpha`-th.

    Source: Feichtenhofer et al., "SlowFast networks for video recognition" (ICCV 2019).
    """

    def __init__(self, model: nn.Module, alpha: int = 4) -> None:
        super().__init__()
        self.model, self.alpha = model, alpha

    def forward(self, rgb: Tensor) -> Any:
        """(N, T, 3, H, W) -> what the network returns."""
        fast = rgb.transpose(1, 2)
        frames = fast.shape[2]
        slow = frames // self.alpha
        # The published sampling, which begins at the first frame and ends at the last.
        chosen = [t * (frames - 1) // (slow - 1) for t in range(slow)]
        return self.model([torch.stack([fast[:, :, t] for t in chosen], dim=2), fast])
