"""Local self-attention over a k x k footprint, and the cumulative global attention map.

The two functions `pairwise_attention` and `patchwise_attention` are the only places where a footprint is opened, so
that a faster kernel can take their place. What stands here is the plain version (unfold, subtract, weigh, sum), which
can be exported for any batch size: `shape[0]` may be a symbol there, `len` never.
Source: Zhao, Jia, Koltun, "Exploring self-attention for image recognition" (CVPR 2020); paper, Eqs. 1 to 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_models import native


def pad_by_reflection(x: Tensor, padding: int) -> Tensor:
    """Pad a map (N, C, H, W) on all sides by reflection, whatever its size.

    A map with a side that is not longer than the padding is reflected one pixel at a time, as often as it takes; a side
    of one pixel repeats itself.
    """
    height, width = x.shape[-2:]
    if min(height, width) > padding:
        return F.pad(x, (padding,) * 4, mode="reflect")
    horizontal = "reflect" if width > 1 else "replicate"
    vertical = "reflect" if height > 1 else "replicate"
    for _ in range(padding):
        x = F.pad(F.pad(x, (1, 1, 0, 0), mode=horizontal), (0, 0, 1, 1), mode=vertical)
    return x


def footprints(x: Tensor, kernel_size: int) -> Tensor:
    """The k x k neighbours of every position: (N, C, H, W) -> (N, C, k*k, H*W)."""
    windows = F.unfold(pad_by_reflection(x, kernel_size // 2), kernel_size)
    return windows.unflatten(1, (x.shape[1], kernel_size**2))


def position_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Horizontal and vertical coordinates in [-1, 1]: (1, 2, H, W), on the device and in the type of `like`."""
    across = torch.linspace(-1, 1, width, device=like.device, dtype=like.dtype).expand(height, width)
    down = torch.linspace(-1, 1, height, device=like.device, dtype=like.dtype).unsqueeze(1).expand(height, width)
    return torch.stack((across, down)).unsqueeze(0)


def aggregate(value: Tensor, weights: Tensor, kernel_size: int) -> Tensor:
    """Weighted sum over the footprint (Eq. 1); each weight channel serves every (C / G)-th value channel.

    Args:
        value: (N, C, H, W).
        weights: (N, G, k*k, H*W) with G dividing C.
        kernel_size: k.

    Returns:
        (N, C, H, W).
    """
    groups, padding = weights.shape[1], kernel_size // 2
    if native.suits_training(value, weights):
        padded = pad_by_reflection(value, padding)
        return native.Aggregate.apply(padded, weights, value.shape[2:])
    windows = pad_by_reflection(value, padding).unfold(2, kernel_size, 1).unfold(3, kernel_size, 1)
    # Summing over the last dimension is what loses least precision, and the attention of SAN19 has little to spare.
    shared = windows.reshape(value.shape[0], -1, groups, weights.shape[3], kernel_size**2)
    return (shared * weights.transpose(2, 3).unsqueeze(1)).sum(-1).reshape(value.shape)


def pairwise_attention(
    query: Tensor, key: Tensor, value: Tensor, position: nn.Module, weigh: nn.Module, kernel_size: int
) -> tuple[Tensor, Tensor]:
    """Pairwise self-attention: weights from query minus key and from relative position, softmax over the footprint.

    Args:
        query: (N, D, H, W).
        key: (N, D, H, W).
        value: (N, C, H, W).
        position: maps the coordinate grid (1, 2, H, W) to position features of the same shape.
        weigh: maps differences (N, D + 2, k*k, H*W) to scores (N, G, k*k, H*W).
        kernel_size: k, the side of the footprint.

    Returns:
        The aggregated values (N, C, H, W) and the weights (N, G, k*k, H*W), which sum to 1 over the footprint.
    """
    places = position(position_grid(query.shape[2], query.shape[3], like=query))
    if native.suits_training(query, key):
        places = places.expand(query.shape[0], -1, -1, -1)
        keys = pad_by_reflection(torch.cat((key, places), dim=1), kernel_size // 2)
        weights = weigh(native.Subtract.apply(torch.cat((query, places), dim=1), keys)).softmax(dim=2)
        return aggregate(value, weights, kernel_size), weights
    differences = query.flatten(2).unsqueeze(2) - footprints(key, kernel_size)
    shifts = places.flatten(2).unsqueeze(2) - footprints(places, kernel_size)
    scores = weigh(torch.cat((differences, shifts.expand(query.shape[0], -1, -1, -1)), dim=1))
    weights = scores.softmax(dim=2)
    return aggregate(value, weights, kernel_size), weights


def patchwise_attention(
    query: Tensor, key: Tensor, value: Tensor, weigh: nn.Module, kernel_size: int
) -> tuple[Tensor, Tensor]:
    """Patchwise self-attention: all weights of a footprint from the query and all its keys together, no softmax.

    Args:
        query: (N, D, H, W).
        key: (N, D, H, W).
        value: (N, C, H, W).
        weigh: maps (N, D * (k*k + 1), 1, H*W) to (N, G * k*k, 1, H*W).
        kernel_size: k, the side of the footprint.

    Returns:
        The aggregated values (N, C, H, W) and the weights (N, G, k*k, H*W).
    """
    keys = footprints(key, kernel_size).flatten(1, 2)
    weights = weigh(torch.cat((query.flatten(2), keys), dim=1).unsqueeze(2)).squeeze(2)
    weights = weights.unflatten(1, (-1, kernel_size**2))
    return aggregate(value, weights, kernel_size), weights


def cumulative_attention(weights: Tensor, size: tuple[int, int], kernel_size: int) -> Tensor:
    """Cumulative global attention (Eq. 3): every weight added at the position that it looks at, padding cropped.

    Args:
        weights: (N, G, k*k, H*W).
        size: (H, W).
        kernel_size: k.

    Returns:
        (N, G, H, W).
    """
    padding = kernel_size // 2
    padded = (size[0] + 2 * padding, size[1] + 2 * padding)
    summed = F.fold(weights.flatten(1, 2), padded, kernel_size)
    return summed[:, :, padding : padding + size[0], padding : padding + size[1]]
