"""Everything that is not a product: one operation per element and elementary operation, by hand on 24 elements."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from every_way import assert_counts
from torch import nn, randn

from bench import count_flops


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (lambda x: x + 1, 24),
        (lambda x: 1 - x, 24),
        (lambda x: x + x[:1], 24),
        (lambda x: x.add(x, alpha=2), 48),  # a factor and a sum
        (lambda x: x.addcmul(x, x), 48),
        (lambda x: x.addcmul(x, x, value=2), 72),
        (lambda x: torch.lerp(x, x, 0.5), 72),  # x + w (y - x)
        (lambda x: x > 0, 24),
        (lambda x: (x > 0) & (x < 1), 48),  # logic on booleans is free
        (lambda x: torch.where(x > 0, x, 0), 24),  # selecting is free
        (lambda x: x.clamp(0, 1), 24),
        (torch.sigmoid, 24),
        (F.relu, 24),
        (lambda x: F.relu_(x.clone()), 24),
        (F.gelu, 24),
        (F.silu, 24),
        (F.hardswish, 24),
        (F.softplus, 24),
        (lambda x: F.prelu(x, torch.ones(3)), 24),
        (lambda x: F.glu(x, -1), 2 * 12),  # a sigmoid and a product for half as many
        (lambda x: x.softmax(-1), 5 * 24),
        (lambda x: x.log_softmax(-1), 5 * 24),
        (lambda x: torch.sqrt(x.abs()), 48),
        (lambda x: torch.atan2(x, x), 24),
    ],
)
def test_pointwise(function, flops: int) -> None:
    assert_counts(function, randn(2, 3, 4), macs=0, flops=flops)


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (lambda x: x.sum(-1), 24),
        (lambda x: x.mean(-1), 24 + 6),  # a division for each of 6
        (lambda x: x.amax(-1), 24),
        (lambda x: x.max(-1), 24),
        (lambda x: x.max(), 24),
        (lambda x: torch.max(x, x), 24),
        (lambda x: x.argmax(-1), 24),
        (lambda x: x.cumsum(-1), 24),
        (lambda x: x.var(-1), 4 * 24 + 6),  # mean, subtract, square, add; a division
        (lambda x: x.std(-1), 4 * 24 + 6),
        (lambda x: x.norm(dim=-1), 2 * 24 + 6),  # square, add; a root
        (lambda x: x.logsumexp(-1), 4 * 24 + 2 * 6),
        (lambda x: x.topk(2).values, 24),
        (lambda x: x.sort(-1).values, 2 * 24),  # log2(4) comparisons
        (lambda x: x.sort(1).values, 2 * 24),  # log2(3), rounded up
        (lambda x: torch.searchsorted(x[0, 0], x), 3 * 24),  # log2(4 + 1), rounded up
        (lambda x: x.cross(x, dim=1), 3 * 24),
    ],
)
def test_reductions_and_orderings(function, flops: int) -> None:
    assert_counts(function, randn(2, 3, 4), macs=0, flops=flops)


@pytest.mark.parametrize(
    ("module", "shape", "flops"),
    [
        (nn.BatchNorm2d(3).eval(), (2, 3, 2, 2), 2 * 24),
        (nn.BatchNorm2d(3), (2, 3, 2, 2), 6 * 24),  # statistics of its own
        (nn.BatchNorm1d(3, affine=False).eval(), (8, 3), 2 * 24),
        (nn.BatchNorm2d(3, track_running_stats=False).eval(), (2, 3, 2, 2), 6 * 24),
        (nn.InstanceNorm2d(3), (2, 3, 2, 2), 6 * 24),
        (nn.LayerNorm(4), (2, 3, 4), 8 * 24),
        (nn.LayerNorm(4, elementwise_affine=False), (2, 3, 4), 6 * 24),
        (nn.LayerNorm(4, bias=False), (2, 3, 4), 7 * 24),
        (nn.GroupNorm(1, 3), (2, 3, 4), 8 * 24),
        (nn.RMSNorm(4), (2, 3, 4), 4 * 24),
        (nn.Dropout(0.5).eval(), (2, 3, 4), 0),
        (nn.Dropout(0.5), (2, 3, 4), 2 * 24),
        (nn.Dropout(0.0), (2, 3, 4), 0),
    ],
)
def test_normalisation(module: nn.Module, shape: tuple[int, ...], flops: int) -> None:
    assert_counts(module, randn(shape), macs=0, flops=flops)


@pytest.mark.parametrize(
    ("module", "flops"),
    [
        (nn.MaxPool2d(2), 3 * 2 * 2 * 4),  # 2*2 windows of 4 in each of 3 channels
        (nn.MaxPool2d((2, 1)), 3 * 2 * 5 * 2),
        (nn.MaxPool2d(3, stride=2, padding=1), 3 * 3 * 3 * 9),  # a window over the edge counts whole
        (nn.AvgPool2d(2), 3 * 2 * 2 * 5),  # and a division
        (nn.AdaptiveMaxPool2d(1), 3 * 25),
        (nn.AdaptiveAvgPool2d(1), 3 * 26),
        # from 5 to 2: windows of 3, which overlap; 3 channels * 4 places * (9 and a division)
        (nn.AdaptiveAvgPool2d(2), 3 * 4 * 10),
        # from 5 to 3: windows 0..2, 1..4, 3..5 of 2, 3 and 2
        (nn.AdaptiveAvgPool2d((1, 3)), 3 * (5 * (2 + 3 + 2) + 3)),
        # a root of a mean of squares: square; windows of 4 and a division; sign, size, ReLU, product, factor, root
        (nn.LPPool2d(2, 2), 3 * 25 + 12 * (5 + 6)),
        (nn.Upsample(scale_factor=2), 0),
        (nn.Upsample(scale_factor=2, mode="bilinear"), 3 * 100 * 7),  # 4 products, 3 sums
        (nn.Upsample(scale_factor=2, mode="bicubic"), 3 * 100 * 31),  # 16 products, 15 sums
        (nn.PixelShuffle(1), 0),
        (nn.Unfold(2), 0),
        (nn.ReflectionPad2d(1), 0),
        (nn.Flatten(), 0),
    ],
)
def test_pooling_and_resampling(module: nn.Module, flops: int) -> None:
    assert_counts(module, randn(1, 3, 5, 5), macs=0, flops=flops)


def test_one_dimensional_pooling() -> None:
    assert_counts(nn.MaxPool1d(2), randn(1, 3, 6), macs=0, flops=3 * 3 * 2)
    assert_counts(nn.AvgPool1d(2), randn(1, 3, 6), macs=0, flops=3 * 3 * 3)
    assert_counts(nn.AdaptiveAvgPool1d(1), randn(1, 3, 6), macs=0, flops=3 * 7)


@pytest.mark.parametrize(("mode", "operations"), [("bilinear", 7), ("nearest", 0), ("bicubic", 31)])
def test_grid_sample(mode: str, operations: int) -> None:
    sample = lambda x, grid: F.grid_sample(x, grid, mode=mode, align_corners=False)  # noqa: E731
    assert_counts(sample, randn(1, 3, 5, 5), randn(1, 2, 2, 2), macs=0, flops=3 * 4 * operations)


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (F.mse_loss, 3 * 24),  # subtract, square, add
        (lambda x, y: F.mse_loss(x, y, reduction="none"), 2 * 24),
        (F.l1_loss, 2 * 24 + 24 + 1),  # subtract, absolute; a mean
        (F.binary_cross_entropy_with_logits, 9 * 24),
    ],
)
def test_losses(function, flops: int) -> None:
    assert_counts(function, randn(2, 3, 4), randn(2, 3, 4), macs=0, flops=flops)


def test_cross_entropy() -> None:
    # softmax of 5*4 scores, then one addition for each of 5 targets
    assert_counts(F.cross_entropy, randn(5, 4), torch.tensor([0, 1, 2, 3, 0]), macs=0, flops=5 * 20 + 5)


def test_additions_at_given_places() -> None:
    x, index, source = randn(5, 4), torch.tensor([0, 2, 2]), randn(3, 4)
    assert_counts(lambda x, i, s: x.index_add(0, i, s), x, index, source, macs=0, flops=12)
    assert_counts(lambda x, i, s: x.index_put((i,), s, accumulate=True), x, index, source, macs=0, flops=12)
    assert_counts(lambda x, i, s: x.index_put((i,), s), x, index, source, macs=0, flops=0)
    rows = index[:, None].expand(3, 4)
    assert_counts(lambda x, i, s: x.scatter_add(0, i, s), x, rows, source, macs=0, flops=12)
    assert_counts(lambda x, i, s: x.scatter_reduce(0, i, s, "amax"), x, rows, source, macs=0, flops=12)


def test_embeddings() -> None:
    tokens = torch.tensor([[1, 2, 3]])
    assert_counts(nn.Embedding(10, 4), tokens, macs=0, flops=0)
    assert_counts(nn.EmbeddingBag(10, 4), tokens, macs=0, flops=12)  # one addition per number
    renormed = count_flops(nn.Embedding(10, 4, max_norm=1.0), tokens)
    assert (renormed.flops, renormed.unknown) == (3 * 12, [])  # square, add and scale each number looked up


def test_fourier_transform() -> None:
    # 5 n log2(n) for a complex transform of 8, half of it for a real one, in each of 3 rows
    assert_counts(torch.fft.fft, randn(3, 8, dtype=torch.complex64), macs=0, flops=3 * 5 * 8 * 3)
    assert_counts(torch.fft.rfft, randn(3, 8), macs=0, flops=3 * 5 * 8 * 3 // 2)
    assert_counts(torch.fft.irfft, randn(3, 5, dtype=torch.complex64), macs=0, flops=3 * 5 * 8 * 3 // 2)


def test_weight_normalisation() -> None:
    # of 4*3 weights: square, add, scale; of 4 magnitudes: root, division; then 2*4 outputs of 3 and a bias
    module = torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    assert_counts(module, randn(2, 3), macs=24, flops=3 * 12 + 2 * 4 + 2 * 24 + 8)


@pytest.mark.parametrize(
    "function",
    [lambda i: (i + 1) * i, lambda i: i.sum(), lambda i: i.cumsum(0), lambda i: i.max(), lambda i: i > 0, torch.sort],
)
def test_integers_are_free(function) -> None:
    assert_counts(function, torch.arange(24).reshape(2, 12), macs=0, flops=0)


def test_operations_on_complex_numbers_are_two_and_products_six() -> None:
    x = randn(2, 3, dtype=torch.complex64)
    assert_counts(lambda x: x + x, x, macs=0, flops=2 * 6)
    assert_counts(lambda x: x * x, x, macs=0, flops=6 * 6)
    assert_counts(lambda x: x * 2.0, x, macs=0, flops=2 * 6)
    assert_counts(lambda x: torch.view_as_real(x), x, macs=0, flops=0)


def test_an_output_tensor_may_be_given() -> None:
    assert_counts(lambda x, y: torch.add(x, 1, out=y), randn(2, 3), torch.empty(2, 3), macs=0, flops=6)
