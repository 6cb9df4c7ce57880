"""Hold the Triton kernels against the plain version over random shapes, in Triton's interpreter.

A process of its own, which `test_triton_attention` starts: Triton settles when it is imported whether it interprets.
"""

from __future__ import annotations

import copy

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_fused import trained_by_chance
from torch import Tensor

from adaptive_models import triton_attention
from adaptive_models.attention import cumulative_attention, pairwise_attention, patchwise_attention
from adaptive_models.san import KINDS, Bottleneck
from adaptive_models.triton_attention import pairwise, patchwise

SHAPES = {
    "kind": st.sampled_from(KINDS),
    "channels": st.sampled_from([32, 64, 96, 128, 256, 288]),
    "side": st.sampled_from([1, 3, 5]),
    "images": st.integers(1, 2),
    "height": st.integers(1, 5),
    "width": st.integers(1, 5),
}


def made_by_chance(kind: str, channels: int, side: int) -> Bottleneck:
    torch.manual_seed(0)
    block = Bottleneck(channels, side, kind)
    trained_by_chance(block)
    return block


@settings(deadline=None, max_examples=20, derandomize=True)
@given(**SHAPES, channels_last=st.booleans())
@example(kind="pairwise", channels=64, side=7, images=1, height=3, width=6, channels_last=False)
@example(kind="patchwise", channels=64, side=7, images=1, height=6, width=3, channels_last=True)
def compare(kind: str, channels: int, side: int, images: int, height: int, width: int, channels_last: bool) -> None:
    block = made_by_chance(kind, channels, side)
    x = torch.randn(images, channels, height, width)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        made, looked_at = triton_attention.bottleneck(block, x, attention=True)
        true, weights = copy.deepcopy(block).double()(x.double())
        summed = cumulative_attention(weights, (height, width), side)
        alone, nothing = triton_attention.bottleneck(block, x)
    assert looked_at is not None
    for found, expected in ((made, true), (looked_at, summed)):
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()
    assert torch.equal(alone, made)
    assert nothing is None


@settings(deadline=None, max_examples=10, derandomize=True)
@given(**SHAPES, dtype=st.sampled_from([torch.float16, torch.bfloat16]))
def compare_in_half(
    kind: str, channels: int, side: int, images: int, height: int, width: int, dtype: torch.dtype
) -> None:
    """All is in float32 until results are stored: rounded once, which the interpreter does towards 0 for bfloat16."""
    layer = made_by_chance(kind, channels, side).sam.to(dtype)
    query, key, value = (
        torch.randn(images, size, height, width).to(dtype) for size in (channels // 16, channels // 16, channels // 4)
    )
    with torch.inference_mode():
        found = (pairwise if kind == "pairwise" else patchwise).attend(layer, query, key, value, attention=True)
        *true, weights = in_double(layer, query, key, value)
        true.append(cumulative_attention(weights, (height, width), side))
    for made, expected in zip(found, true, strict=True):
        assert made is not None
        assert made.dtype is dtype
        assert made.shape == expected.shape
        rounding = torch.finfo(dtype).eps * expected.abs()
        assert ((made - expected).abs() <= rounding + 2e-5 * expected.abs().max()).all()


def in_double(layer: torch.nn.Module, *maps: Tensor) -> tuple[Tensor, Tensor]:
    """Values and weights by the plain version."""
    layer, maps = copy.deepcopy(layer).double(), tuple(map.double() for map in maps)
    if layer.kind == "pairwise":
        return pairwise_attention(*maps, layer.position, layer.weigh, layer.kernel_size)
    return patchwise_attention(*maps, layer.weigh, layer.kernel_size)


if __name__ == "__main__":
    compare()
    compare_in_half()
