"""Attention on CUDA as Triton kernels, for inference: no tensor of a footprint's size is in memory.

One program runs a tile of positions of one image, place after place of the footprint: the two 1x1 convolutions with
their norms folded in, and the sum of the values. The attention that a position receives is summed up by a second
kernel, position by position, from what the first leaves of each position's weights: the same in every run, which
atomic additions would not be. Maps are in float32, float16 or bfloat16; all arithmetic is in float32.

The kernels have run in Triton's interpreter on a CPU; on a GPU they are untried, and their speed is unknown. Compiled
for compute capability 8.0, for the widest layers of SAN, in float32, pairwise ones take 123 kB of shared memory, which
not every GPU has (of 8.6 and 8.9, 101 kB), and patchwise ones 50 kB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adaptive_models.triton_attention import pairwise, patchwise

if TYPE_CHECKING:
    from adaptive_models.san import Bottleneck


def bottleneck(block: Bottleneck, x: Tensor, attention: bool = False) -> tuple[Tensor, Tensor | None]:
    """Run a bottleneck; all but the attention is torch's own, with its settings of precision.

    Args:
        block: in evaluation mode.
        x: (N, C, H, W).
        attention: whether to sum up the attention, too.

    Returns:
        The same shape, and the cumulative global attention (N, C/32, H, W), or None.
    """
    layer = block.sam
    inputs = block.relu(block.bn1(x))
    attend = pairwise.attend if layer.kind == "pairwise" else patchwise.attend
    with torch.cuda.device_of(x):  # Triton launches on the current device, wherever the tensors are
        values, looked_at = attend(layer, layer.query(inputs), layer.key(inputs), layer.value(inputs), attention)
    return block.conv(block.relu(block.bn2(values))) + x, looked_at
