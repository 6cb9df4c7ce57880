from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adaptive_models.checkpoints import load_reference
from adaptive_models.hallucinator import ConvLSTMCell, Hallucinator


def attention(n: int, channels: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, 7, 7, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def hallucinator() -> Hallucinator:
    torch.manual_seed(0)
    return Hallucinator().eval()


def test_reference_vectors(
    shared: Path, recipe_weights: Callable[[str], dict[str, Tensor]], hallucinator: Hallucinator
) -> None:
    load_reference(hallucinator, recipe_weights("hallucinator"))
    vectors = np.load(shared / "reference" / "hallucinator.npz")
    memory = None
    with torch.inference_mode():
        for t in range(3):
            output, memory = hallucinator(torch.from_numpy(vectors["input"][:, t]), memory)
            np.testing.assert_allclose(output.numpy(), vectors["output"][:, t], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(memory[0].numpy(), vectors["hidden"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(memory[1].numpy(), vectors["cell"], rtol=1e-5, atol=1e-6)


def test_cell_on_a_one_pixel_map_is_torchs_lstm_cell() -> None:
    # On one pixel only the kernels' centres act; torch orders the gates i, f, g, o, ours are i, f, o, g.
    torch.manual_seed(0)
    cell, lstm = ConvLSTMCell(3, 4), nn.LSTMCell(3, 4)
    order = torch.cat([torch.arange(0, 8), torch.arange(12, 16), torch.arange(8, 12)])
    centre = cell.conv.weight.detach()[order, :, 1, 1]
    lstm.load_state_dict(
        {
            "weight_ih": centre[:, :3],
            "weight_hh": centre[:, 3:],
            "bias_ih": cell.conv.bias.detach()[order],
            "bias_hh": torch.zeros(16),
        }
    )
    x, hidden, memory = torch.randn(5, 3), torch.randn(5, 4), torch.randn(5, 4)
    got = cell(x[..., None, None], (hidden[..., None, None], memory[..., None, None]))
    for ours, torchs in zip(got, lstm(x, (hidden, memory)), strict=True):
        torch.testing.assert_close(ours[..., 0, 0], torchs)


def test_operations_of_its_modules_in_the_paper_convention(hallucinator: Hallucinator) -> None:
    counts = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):  # multiply-accumulates and bias
            counts.append(output.numel() * (module.in_channels * math.prod(module.kernel_size) + 1))
        else:
            counts.append(output.numel() * {nn.BatchNorm2d: 2, nn.ReLU: 1}[type(module)])

    for module in hallucinator.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.ReLU):
            module.register_forward_hook(count)
    hallucinator(attention(1))
    # 49 x [two convs 32 x (288 + 1), the gates 128 x (576 + 1), two batch norms 64, three ReLUs 32]
    assert sum(counts) == 49 * (2 * 32 * 289 + 128 * 577 + 2 * 64 + 3 * 32) == 4_536_224


def test_no_memory_is_a_memory_of_zeros(hallucinator: Hallucinator) -> None:
    x = attention(2)
    zeros = torch.zeros(2, 32, 7, 7)
    torch.testing.assert_close(hallucinator(x), hallucinator(x, (zeros, zeros)), rtol=0, atol=0)


def test_memory_carries_the_past_and_is_kept_before_the_relu(hallucinator: Hallucinator) -> None:
    x = attention(1)
    first, memory = hallucinator(x)
    second, _ = hallucinator(x, memory)
    assert not torch.allclose(first, second)
    assert (memory[0] < 0).any()
    assert (first >= 0).all()


def test_batch_equals_one_by_one(hallucinator: Hallucinator) -> None:
    frames = [attention(3, seed=t) for t in range(3)]

    def run(videos: slice) -> Tensor:
        memory = None
        for frame in frames:
            output, memory = hallucinator(frame[videos], memory)
        return torch.cat([output, *memory], dim=1)

    with torch.inference_mode():
        together, singly = run(slice(None)), torch.cat([run(slice(n, n + 1)) for n in range(3)])
    assert (together - singly).abs().max() <= 1e-6 * singly.abs().max()


def test_other_widths() -> None:
    output, (hidden, cell) = Hallucinator(channels=5, hidden=8)(attention(2, channels=5))
    assert (output.shape, hidden.shape, cell.shape) == ((2, 5, 7, 7), (2, 8, 7, 7), (2, 8, 7, 7))


@pytest.mark.parametrize(
    ("device", "dtype"), [("meta", torch.float32), ("meta", torch.float16), ("cpu", torch.bfloat16)]
)
def test_meta_device_and_half_precision(hallucinator: Hallucinator, device: str, dtype: torch.dtype) -> None:
    network, x = hallucinator.to(device, dtype), attention(2).to(device, dtype)
    output, memory = network(x)
    output, memory = network(x, memory)
    for tensor in (output, *memory):
        assert (tensor.shape, tensor.dtype, tensor.device.type) == ((2, 32, 7, 7), dtype, device)
