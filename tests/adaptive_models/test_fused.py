from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import bench
from adaptive_models import build_backbone, fused, native
from adaptive_models.folding import Looked, _Weights, trusting
from adaptive_models.san import KINDS, SAN

COMPILED = pytest.param(
    "compiled", marks=pytest.mark.skipif(native.operators() is None, reason="built without a compiler")
)


def trained_by_chance(network: SAN) -> SAN:
    """With norms that do something, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            for tensor, low, high in (
                (norm.weight.data, -1.5, 1.5),
                (norm.bias.data, -0.5, 0.5),
                (norm.running_mean, -0.5, 0.5),
                (norm.running_var, 0.3, 2.0),
            ):
                tensor.uniform_(low, high, generator=generator)
    return network.eval()


@contextmanager
def layer_by_layer() -> Iterator[None]:
    """Inference as the layers are written."""
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(fused, "suits", lambda *_: False)
        yield


@contextmanager
def fused_by(engine: str) -> Iterator[None]:
    """Inference by compiled operators, or by what takes their place."""
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        if engine == "strided":
            patch.setattr(native, "operators", lambda: None)
        yield


def everything(network: SAN, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, state, attention, and features by way of the state."""
    state, attention = network.prescan(images)
    return network(images), state, attention, network.resume(state)


def close(found: Tensor, true: Tensor, tolerance: float = 1e-5) -> bool:
    return found.shape == true.shape and bool((found - true).abs().max() <= tolerance * true.abs().max())


@pytest.mark.parametrize("engine", [COMPILED, "strided"])
@settings(deadline=None, max_examples=40)
@given(data=st.data(), kind=st.sampled_from(KINDS), images=st.integers(1, 3), channels=st.sampled_from([1, 3]))
def test_networks_compute_what_their_layers_do(
    engine: str, data: st.DataObject, kind: str, images: int, channels: int
) -> None:
    blocks = tuple(data.draw(st.lists(st.integers(0, 2), min_size=5, max_size=5).filter(any), label="blocks"))
    widths = tuple(data.draw(st.sampled_from([32, 64, 128, 160, 256] if count else [8, 20, 32])) for count in blocks)
    splits = [f"layer{stage}.{block}" for stage, count in enumerate(blocks) for block in range(count)]
    height, width = (data.draw(st.integers(32, 90), label=side) for side in ("height", "width"))
    torch.manual_seed(0)
    network = trained_by_chance(
        SAN(blocks, kind, channels=channels, widths=widths, split=data.draw(st.sampled_from(splits), label="split"))
    )
    x = torch.randn(images, channels, height, width)
    with fused_by(engine):
        made = everything(network, x)
    with layer_by_layer():
        true = everything(copy.deepcopy(network).double(), x.double())
    for found, expected in zip(made, true, strict=True):
        assert close(found, expected)


@pytest.mark.parametrize("engine", [COMPILED, "strided"])
@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, size) for name in ("san-mini", "san10", "san19") for size in (32, 64, 112)),
        ("san-mini-patchwise", 112),
        ("san10-patchwise", 64),
        ("san15-patchwise", 32),
        ("san19-patchwise", 64),
    ],
)
def test_backbones_compute_what_their_layers_do(engine: str, name: str, size: int) -> None:
    torch.manual_seed(0)
    network, x = trained_by_chance(build_backbone(name)), torch.randn(2, 3, size, size)
    with fused_by(engine):
        made = everything(network, x)
    with layer_by_layer():
        plain = everything(network, x)
    for found, expected in zip(made, plain, strict=True):
        assert close(found, expected, 2e-5)
    assert not all(map(torch.equal, made, plain))  # two ways indeed


def test_a_state_is_left_as_it_was() -> None:
    network = trained_by_chance(build_backbone("san-mini"))
    with torch.inference_mode():
        state, _ = network.prescan(torch.randn(1, 3, 64, 64))
        before = state.clone()
        first = network.resume(state)
        assert torch.equal(state, before)
        assert torch.equal(network.resume(state), first)


@pytest.mark.parametrize(("kind", "channels"), [("pairwise", 64), ("patchwise", 256)])
def test_weights_that_change_are_folded_again(kind: str, channels: int) -> None:
    torch.manual_seed(0)
    network = trained_by_chance(SAN((0, 0, 1, 1, 1), kind, widths=(channels,) * 5, split="layer2.0"))
    x, without_effect = torch.randn(1, 3, 64, 64), 0
    with torch.inference_mode():
        before = network(x)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith(("position.bias", "num_batches_tracked")) or (
            kind == "pairwise" and name.endswith("weigh.5.bias")
        ):
            continue  # these have no effect
        with torch.no_grad():
            tensor += 0.1 * (torch.rand(tensor.shape) - 0.5)
        with torch.inference_mode():
            after = network(x)
        with layer_by_layer():
            assert close(after, network(x)), name
        without_effect += torch.equal(after, before)  # what is before a ReLU that lets nothing through
        before = after
    assert without_effect < 10
    network.conv3 = nn.Conv2d(channels, channels, 1, bias=False)
    with torch.inference_mode():
        after = network(x)
    with layer_by_layer():
        assert close(after, network(x))


@pytest.mark.parametrize("kind", ["pairwise", "patchwise"])
def test_parts_that_are_exchanged_inside_a_layer_are_noticed(kind: str) -> None:
    torch.manual_seed(0)
    network = trained_by_chance(SAN((0, 0, 1, 1, 1), kind, widths=(64,) * 5, split="layer2.0"))
    block, x = network.get_submodule("layer2.0"), torch.randn(1, 3, 64, 64)
    spare = trained_by_chance(SAN((0, 0, 1, 1, 1), kind, widths=(64,) * 5)).get_submodule("layer2.0")

    def exchange_parameter() -> None:
        block.bn1.weight = nn.Parameter(torch.rand_like(block.bn1.weight))

    def exchange_data() -> None:
        block.bn1.bias.data = torch.rand_like(block.bn1.bias)

    def exchange_buffer() -> None:
        block.bn1.running_mean = torch.rand_like(block.bn1.running_mean)

    def exchange_module() -> None:
        block.sam.weigh = spare.sam.weigh

    def exchange_module_within() -> None:
        block.sam.weigh[-1] = nn.Conv2d(*block.sam.weigh[-1].weight.shape[1::-1], 1)

    def add_bias() -> None:
        block.conv.bias = nn.Parameter(torch.rand(len(block.conv.weight)))

    for change in (
        exchange_parameter, exchange_data, exchange_buffer, exchange_module, exchange_module_within, add_bias
    ):  # fmt: skip
        with torch.inference_mode():
            before = network(x)
        change()
        with torch.inference_mode():
            after = network(x)
        with layer_by_layer():
            assert close(after, network(x)), change.__name__
        assert not torch.equal(after, before), change.__name__


def test_weights_that_are_trusted_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = trained_by_chance(build_backbone("san-mini")), torch.randn(1, 3, 64, 64)
    looks, state = [], _Weights.state
    monkeypatch.setattr(_Weights, "state", lambda self: looks.append(self) or state(self))
    with torch.inference_mode():
        with trusting(Looked()):
            before = network(x)
            assert looks
            looks.clear()
            assert torch.equal(network(x), before)
            assert not looks
        assert torch.equal(network(x), before)
        assert looks
        network.conv3.weight.mul_(2)
        with trusting(Looked()):  # of someone else, who has seen nothing
            after = network(x)
            assert not torch.equal(after, before)
            hook = network.layer3[0].register_forward_hook(lambda *_: looks.append("called"))
            network(x)
            hook.remove()
            assert "called" in looks
            assert not fused.suits(network, network._order, x.double())


def test_a_layer_of_two_networks_is_folded_as_it_is() -> None:
    network, x = trained_by_chance(build_backbone("san-mini")), torch.randn(1, 3, 64, 64)
    other = trained_by_chance(build_backbone("san-mini"))
    other.conv3 = network.conv3
    first, second = network.conv3.weight.data, torch.rand_like(network.conv3.weight)
    with torch.inference_mode():
        before = network(x)
        network.conv3.weight.data = second
        other(x)
        network.conv3.weight.data = first  # of which neither address nor version tell
        assert torch.equal(network(x), before)


def test_with_gradients_in_training_or_in_another_precision_layers_run() -> None:
    network, x = trained_by_chance(build_backbone("san-mini")), torch.randn(1, 3, 64, 64)
    names = network._order
    with torch.no_grad():
        assert fused.suits(network, names, x)
        assert not fused.suits(network, names, x.double())
        assert not fused.suits(network, names, x.to("meta"))
        assert not fused.suits(copy.deepcopy(network).half(), names, x)
        assert not fused.suits(network.train(), names, x)
        network.eval()
        with torch.autocast("cpu"):
            assert not fused.suits(network, names, x)
        with torch.inference_mode():
            cast_inside = trained_by_chance(build_backbone("san-mini"))
        assert not fused.suits(cast_inside, names, x)  # changes of such weights would go unnoticed
        network.bn3.train()
        assert not fused.suits(network, names, x)
        network.bn3.eval()
    assert not fused.suits(network, names, x)


def test_who_watches_layers_sees_them_all() -> None:
    network, x, seen = trained_by_chance(build_backbone("san-mini")), torch.randn(1, 3, 64, 64), []
    hook = network.layer3[0].sam.key.register_forward_hook(lambda *_: seen.append("key"))
    with torch.inference_mode():
        network(x)
    hook.remove()
    assert seen == ["key"]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(x)
    with layer_by_layer(), FlopCounterMode(display=False) as plain:
        network(x)
    assert counter.get_total_flops() == plain.get_total_flops() > 0


@pytest.mark.parametrize("name", ["san10", "san10-patchwise"])
@pytest.mark.parametrize("convention", ["exact", "paper"])
def test_counts_are_those_of_the_layers(name: str, convention: str) -> None:
    network, x = trained_by_chance(build_backbone(name)), torch.randn(1, 3, 64, 64)
    counted = bench.count_flops(network, x, convention=convention)
    with layer_by_layer():
        assert bench.count_flops(network, x, convention=convention).to_frame().equals(counted.to_frame())


@pytest.mark.parametrize("engine", [COMPILED, "strided"])
@pytest.mark.parametrize("name", ["san-mini", "san-mini-patchwise"])
def test_not_a_number_stays_one(engine: str, name: str) -> None:
    network, x = trained_by_chance(build_backbone(name)), torch.randn(1, 3, 64, 64)
    x[..., 10:20, 10:20] = torch.nan
    with fused_by(engine):
        assert network(x).isnan().any()


@pytest.mark.parametrize("engine", [COMPILED, "strided"])
@pytest.mark.parametrize("kind", KINDS)
def test_neither_batch_nor_threads_change_attention(engine: str, kind: str) -> None:
    torch.manual_seed(0)
    network = trained_by_chance(SAN((1, 0, 0, 0, 0), kind, widths=(256,) * 5, split="layer0.0"))
    x = torch.randn(5, 3, 46, 62)
    with fused_by(engine):
        _, together = network.prescan(x)
        torch.set_num_threads(3)
        _, by_three = network.prescan(x)
        torch.set_num_threads(1)
        apart = torch.cat([network.prescan(image[None])[1] for image in x])
        none = network.prescan(x[:0])
    assert torch.equal(together, by_three) if engine == "compiled" else close(together, by_three, 1e-6)
    assert close(together, apart, 1e-6)  # the products before it may add up in another order
    assert none[0].shape == (0, 256, 23, 31)
    assert none[1].shape == (0, 8, 23, 31)
