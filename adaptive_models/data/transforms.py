"""From a decoded frame to the image that the networks see, and back."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CHANNEL_MEANS = (104.0, 117.0, 128.0)
"""Blue, green and red means, on the scale 0-255, that the published checkpoints subtract."""


def prepare_frame(rgb: np.ndarray, size: int = 224, short_side: int = 256) -> Tensor:
    """Resize the short side, crop the centre, reorder to BGR and subtract the means.

    The resize is the antialiased bilinear filter of image libraries, rounded to 8 bits as they do.

    Args:
        rgb: (H, W, 3) uint8.
        size: side of the crop in pixels.
        short_side: length of the short side before the crop, at least `size`.

    Returns:
        (3, size, size) float32: blue, green, red on the scale 0-255, less `CHANNEL_MEANS`.

    Raises:
        ValueError: if `rgb` is not a uint8 colour image or the crop does not fit.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"rgb is {rgb.dtype} of shape {rgb.shape}; a frame is uint8 of shape (height, width, 3)")
    if not 1 <= size <= short_side:
        raise ValueError(f"size is {size}; the crop must be between 1 and short_side, {short_side}")
    height, width = (short_side * side // min(rgb.shape[:2]) for side in rgb.shape[:2])
    image = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]
    if image.shape[2:] != (height, width):  # else it would change nothing, in milliseconds
        image = F.interpolate(image, (height, width), mode="bilinear", antialias=True)
    top, left = round((height - size) / 2), round((width - size) / 2)
    bgr = image[0, :, top : top + size, left : left + size].flip(0)
    return bgr.float() - torch.tensor(CHANNEL_MEANS)[:, None, None]


def displayable(image: Tensor) -> np.ndarray:
    """The picture that `prepare_frame` made an image from, for figures: (3, H, W) to (H, W, 3) uint8 RGB."""
    bgr = image.detach().cpu() + torch.tensor(CHANNEL_MEANS)[:, None, None]
    return bgr.round().clamp(0, 255).to(torch.uint8).flip(0).permute(1, 2, 0).numpy()
