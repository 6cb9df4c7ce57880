"""What a clip gives to a system: its frames and its sound, in the shapes of the system's inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptive_models.data.clips import Clip
from adaptive_models.data.sampling import segment_centres

SOUNDS = ("spectrogram", "log_mel")
"""Inputs that are made of a clip's sound; others are made of its images."""


def fits(name: str, shape: Sequence[int]) -> bool:
    """Whether a clip gives an input of this name and shape: (C, H, W), or (n, C, H, W) for n frames of a call."""
    return len(shape) in (3, 4) and shape[-3] == (1 if name in SOUNDS else 3)


def input_of(clip: Clip, name: str, shape: Sequence[int], span: Sequence[int]) -> Tensor:
    """An input (1, *shape) that fits, of the frames of a call; images of another size are resized, bilinearly.

    An input of fewer frames than the call has gets those at the centres of equal segments.
    """
    frame = getattr(clip, name) if name in SOUNDS else clip.image
    count = shape[0] if len(shape) == 4 else 1
    values = torch.stack([frame(span[position]) for position in segment_centres(len(span), count)])
    if values.shape[-2:] != tuple(shape[-2:]):
        values = F.interpolate(values, size=tuple(shape[-2:]), mode="bilinear", align_corners=False)
    return values.reshape(1, *shape)
