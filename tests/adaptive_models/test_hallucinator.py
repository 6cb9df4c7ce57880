from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from adaptive_models import native
from adaptive_models.checkpoints import load_reference
from adaptive_models.hallucinator import FEW_MAPS, ConvLSTMCell, Hallucinator
from adaptive_models.native import inference
from bench.counting.count import count_flops


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


@pytest.mark.skipif(native.operators() is None, reason="no compiled operators here")
class TestOperator:
    """The compiled operator, which inference takes."""

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The numbers of maps that the operator took."""
        taken: list[int] = []

        def counting(self: inference.Hallucination, attention: Tensor, memory: Any) -> object:
            taken.append(len(attention))
            return call(self, attention, memory)

        call = inference.Hallucination.__call__
        monkeypatch.setattr(inference.Hallucination, "__call__", counting)
        return taken

    @given(
        images=st.integers(0, 3),
        channels=st.integers(1, 40),
        hidden=st.integers(1, 40),
        size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
        seed=st.integers(0, 9),
    )
    def test_frames_are_those_of_the_layers_in_double_precision(
        self, images: int, channels: int, hidden: int, size: tuple[int, int], seed: int
    ) -> None:
        torch.manual_seed(seed)
        network = Hallucinator(channels, hidden).eval()
        for norm in (network.encoder[1], network.decoder[1]):
            for tensor in (norm.weight.data, norm.running_var):
                tensor.uniform_(0.5, 2)
            for tensor in (norm.bias.data, norm.running_mean):
                tensor.uniform_(-1, 1)
        double = deepcopy(network).double()
        memory = true_memory = None
        for _ in range(3):
            x = 2 * torch.rand(images, channels, *size)
            with torch.inference_mode():
                found, memory = network(x, memory)
                true, true_memory = double(x.double(), true_memory)
            for own, other in zip((found, *memory), (true, *true_memory), strict=True):
                torch.testing.assert_close(own.double(), other, rtol=0, atol=1e-5)

    def test_it_takes_other_layouts_and_leaves_what_it_was_given(
        self, hallucinator: Hallucinator, calls: list[int]
    ) -> None:
        x = attention(2)
        state, cell = torch.randn(2, 2, 32, 7, 7)
        before = [each.clone() for each in (x, state, cell)]
        last = torch.channels_last
        with torch.inference_mode():
            one, memory = hallucinator(x, (state, cell))
            other, _ = hallucinator(x.contiguous(memory_format=last), (state.contiguous(memory_format=last), cell))
        assert calls == [2, 2]
        assert one.equal(other)
        assert all(now.equal(then) for now, then in zip((x, state, cell), before, strict=True))
        assert memory[0].data_ptr() != state.data_ptr()

    def test_weights_that_changed_are_noticed(self, hallucinator: Hallucinator) -> None:
        x = attention(1)
        with torch.inference_mode():
            before = hallucinator(x)[0]
        hallucinator.cell.conv.bias.data.add_(1)
        hallucinator.encoder[1].running_mean.add_(1)
        with torch.inference_mode():
            after = hallucinator(x)[0]
            assert not after.allclose(before)
            layers = hallucinator.double()(x.double())[0]
        torch.testing.assert_close(after.double(), layers, rtol=0, atol=1e-5)

    def test_what_is_not_a_number_spreads_to_its_neighbours(self, hallucinator: Hallucinator) -> None:
        x = attention(2)
        x[1, 3, 3, 3] = torch.nan
        with torch.inference_mode():
            found, (state, _) = hallucinator(x)
        assert not found[0].isnan().any()
        assert state[1].isnan().any(dim=0).sum() == 25
        assert found[1, :, 0, 0].isnan().all()

    @pytest.mark.parametrize(
        "use",
        [
            lambda network: network(attention(1)),  # gradients may be wanted
            lambda network: torch.no_grad()(network.train())(attention(1)),
            lambda network: torch.no_grad()(network.double())(attention(1).double()),
            lambda network: torch.no_grad()(network)(attention(FEW_MAPS + 1)),
            lambda network: count_flops(network, attention(1)),
        ],
        ids=["gradients", "training", "double", "many", "counted"],
    )
    def test_everything_else_goes_layer_by_layer(
        self, hallucinator: Hallucinator, calls: list[int], use: Callable[[Hallucinator], object]
    ) -> None:
        use(hallucinator)
        assert calls == []

    def test_layers_with_hooks_are_called(self, hallucinator: Hallucinator, calls: list[int]) -> None:
        seen: list[int] = []
        hallucinator.cell.register_forward_hook(lambda *_: seen.append(1))
        with torch.inference_mode():
            hallucinator(attention(1))
        assert (seen, calls) == ([1], [])
