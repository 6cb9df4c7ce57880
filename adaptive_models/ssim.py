"""Structural similarity of attention maps."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptive_models import native
from adaptive_models.native import inference

C1, C2 = 0.01**2, 0.03**2  # the customary constants for a data range of 1


def ssim(x: Tensor, y: Tensor, window: int = 3, sigma: float = 1.5) -> Tensor:
    """Structural similarity (SSIM, Wang et al. 2004), one number for each sample.

    Local means, variances and the covariance are taken per channel under a Gaussian window of `window`
    pixels (odd) and standard deviation `sigma` pixels; outside the maps all is zero. The paper uses it in
    its belief loss (Eq. 5) and as an input of its temporal sampler (section III.D).

    Args:
        x: maps (N, C, h, w), any floating type.
        y: maps of the same shape.
        window: width of the Gaussian window in pixels.
        sigma: standard deviation of the Gaussian window in pixels.

    Returns:
        (N,): the mean over channels and positions, in the type of `x`.

    Raises:
        ValueError: the shapes differ or are not (N, C, h, w), or the window is not a positive odd number.
    """
    if x.ndim != 4 or x.shape != y.shape:
        raise ValueError(f"ssim needs two maps of one shape (N, C, h, w), got {tuple(x.shape)}, {tuple(y.shape)}")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"ssim needs an odd window, so that it has a centre, got {window}")
    if native.suits_inference(x, y):
        return inference.similarity(x.contiguous(), y.contiguous(), _kept_window(window, sigma), (C1, C2))
    dtype = x.dtype
    wide = torch.promote_types(dtype, torch.float32)  # E[x^2] - E[x]^2 cancels: half precision would lose it
    x, y = x.to(wide), y.to(wide)

    channels = x.shape[1]
    kernel = _window(window, sigma, x.device, wide).expand(channels, 1, window, window)
    moments = F.conv2d(torch.cat([x, y, x * x, y * y, x * y]), kernel, padding=window // 2, groups=channels)
    mean_x, mean_y, square_x, square_y, product = moments.chunk(5)
    variances = square_x - mean_x**2 + square_y - mean_y**2
    covariance = product - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * covariance + C2) / (variances + C2)
    return (luminance * structure).mean(dim=(1, 2, 3)).to(dtype)


def _window(window: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A normalised Gaussian (window, window)."""
    offsets = torch.arange(window, device=device, dtype=dtype) - window // 2
    weights = torch.softmax(-offsets.square() / (2 * sigma**2), dim=0)
    return torch.outer(weights, weights)


@lru_cache(maxsize=8)
def _kept_window(window: int, sigma: float) -> Tensor:
    """For the compiled operator."""
    return _window(window, sigma, torch.device("cpu"), torch.float32)
