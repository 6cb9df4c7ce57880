"""Run the operators of a library over random shapes, in a process of its own that `test_sanitizers` starts.

Arguments: the library, and "fault" to pass maps that are one line short.
"""

from __future__ import annotations

import random
import sys

import torch
from torch import Tensor, nn

from adaptive_models import attention, folding, fused, native
from adaptive_models.hallucinator import Hallucinator
from adaptive_models.native import layers
from adaptive_models.recurrent import FEW_SEQUENCES, GRU, Int8GRU
from adaptive_models.san import KINDS, SAN, Bottleneck
from adaptive_models.ssim import ssim
from adaptive_models.temporal_sampler import TemporalSampler

ROUNDS = 60
CHANNELS = (32, 64, 96, 128, 160, 256, 512)
SIZES = ((1, 1), (2, 2), (3, 3), (1, 7), (5, 1), (2, 9), (4, 4), (7, 7), (8, 11))


def norms_that_do_something(module: nn.Module) -> nn.Module:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
    return module.eval()


def strange(maps: Tensor, choice: int) -> Tensor:
    """The same values in another layout: contiguous, channels last, every other of a larger one, or transposed."""
    if choice == 1:
        return maps.contiguous(memory_format=torch.channels_last)
    if choice == 2:
        larger = maps.new_full((*maps.shape[:3], 2 * maps.shape[3]), torch.nan)
        larger[..., ::2] = maps
        return larger[..., ::2]
    return maps.transpose(2, 3).contiguous().transpose(2, 3) if choice == 3 else maps


def infer(choose: random.Random) -> None:
    channels, (height, width), images = choose.choice(CHANNELS), choose.choice(SIZES), choose.choice((0, 1, 2, 5))
    kind = choose.choice(KINDS)
    if kind == "patchwise" and not layers.fits(channels // 32):
        return
    block = norms_that_do_something(Bottleneck(channels, choose.choice((1, 3, 5, 7)), kind))
    assert isinstance(block, Bottleneck)
    x = strange(torch.randn(images, channels, height, width), choose.randrange(4))
    with torch.inference_mode():
        assert folding.foldable(block, (), [block], x)
        made, looked_at = fused._chain(block, ("",), x)(x, attention=choose.random() < 0.5)
        if images:
            true, weights = block(x)
            assert (made - true).abs().max() <= 2e-5 * true.abs().max()
            if looked_at is not None:
                summed = attention.cumulative_attention(weights, (height, width), block.sam.kernel_size)
                assert (looked_at - summed).abs().max() <= 2e-5 * summed.abs().max()


def train(choose: random.Random) -> None:
    (height, width), side, images = choose.choice(SIZES), choose.choice((1, 3, 7)), choose.randrange(3)
    groups, shares = choose.randrange(1, 4), choose.randrange(1, 4)
    padded = height + side - 1, width + side - 1
    query = strange(torch.randn(images, groups, height, width), choose.randrange(4)).requires_grad_()
    key = strange(torch.randn(images, groups, *padded), choose.randrange(4)).requires_grad_()
    value = strange(torch.randn(images, groups * shares, *padded), choose.randrange(4)).requires_grad_()
    weights = native.Subtract.apply(query, key)
    native.Aggregate.apply(value, weights, (height, width)).sum().backward()


def remember(choose: random.Random) -> None:
    inputs, hidden = choose.randrange(1, 40), choose.randrange(1, 40)
    gru = GRU(inputs, hidden, choose.randrange(1, 3), bias=choose.random() < 0.5).eval()
    sequences = choose.randrange(1, FEW_SEQUENCES + 1)
    step = choose.choice((gru, Int8GRU(gru)))
    with torch.inference_mode():
        step(torch.randn(1, sequences, inputs), torch.randn(gru.num_layers, sequences, hidden))


def score(choose: random.Random) -> None:
    shape = choose.randrange(1, 6), *choose.choice(SIZES)
    sampler = TemporalSampler(choose.randrange(1, 6), shape, choose.randrange(1, 40), choose.randrange(1, 3)).eval()
    frames, memory = choose.randrange(1, FEW_SEQUENCES + 1), None
    if choose.random() < 0.5:
        sampler.rnn = Int8GRU(sampler.rnn)  # type: ignore[assignment]
    with torch.inference_mode():
        for _ in range(2):
            attention, hallucination = (strange(torch.rand(frames, *shape), choose.randrange(4)) for _ in range(2))
            _, memory = sampler(attention, hallucination, torch.rand(frames), memory)


def compare(choose: random.Random) -> None:
    shape = choose.randrange(3), choose.randrange(1, 5), *choose.choice(SIZES)
    x, y = torch.rand(shape), strange(torch.rand(shape), choose.randrange(4))
    with torch.inference_mode():
        ssim(x, y, window=choose.choice((1, 3, 5, 7)))


def foresee(choose: random.Random) -> None:
    network = norms_that_do_something(Hallucinator(choose.randrange(1, 40), choose.randrange(1, 40)))
    assert isinstance(network, Hallucinator)
    shape = choose.randrange(3), network.decoder[0].out_channels, *choose.choice(SIZES)
    with torch.inference_mode():
        _, memory = network(strange(torch.rand(shape), choose.randrange(4)))
        network(torch.rand(shape), memory)


def network(choose: random.Random) -> None:
    stages = [choose.choice((8, 20, 32, 40, 64)) for _ in range(5)]
    channels, widths = choose.randrange(1, 4), (*stages[:4], 128)
    network = norms_that_do_something(SAN((0, 0, 0, 0, 1), channels=channels, widths=widths, split="layer4.0"))
    assert isinstance(network, SAN)
    size = choose.randrange(32, 70), choose.randrange(32, 70)
    with torch.inference_mode():
        network(strange(torch.randn(choose.randrange(3), channels, *size), choose.randrange(4)))


def short_of_a_line() -> None:
    make = layers.bottleneck
    layers.bottleneck = lambda size, block: make((size[0] + 1, size[1]), block)


def main() -> None:
    native.build = lambda: ("sanitized", sys.argv[1])  # type: ignore[assignment]
    if sys.argv[2:] == ["fault"]:
        short_of_a_line()
    torch.manual_seed(0)
    choose = random.Random(0)
    for _ in range(ROUNDS):
        infer(choose)
        network(choose)
        train(choose)
        remember(choose)
        score(choose)
        compare(choose)
        foresee(choose)


if __name__ == "__main__":
    main()
