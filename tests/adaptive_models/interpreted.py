"""Hold the Triton kernels against the plain version over random shapes, in Triton's interpreter.

A process of its own, which `test_triton_attention` starts: Triton settles when it is imported whether it interprets.
"""

from __future__ import annotations

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fused import trained_by_chance

from adaptive_models import triton_attention
from adaptive_models.attention import cumulative_attention
from adaptive_models.san import Bottleneck


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    channels=st.sampled_from([32, 64, 96, 128, 256, 288]),
    side=st.sampled_from([1, 3, 7]),
    images=st.integers(1, 2),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    channels_last=st.booleans(),
)
def compare(channels: int, side: int, images: int, height: int, width: int, channels_last: bool) -> None:
    torch.manual_seed(0)
    block = Bottleneck(channels, side, "pairwise")
    trained_by_chance(block)
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


if __name__ == "__main__":
    compare()
