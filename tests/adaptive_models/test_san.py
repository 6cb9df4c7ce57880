from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adaptive_models import build_backbone
from adaptive_models.checkpoints import load_reference
from adaptive_models.san import SAN

NARROW = (32, 32, 64, 128, 128)


def narrow(kind: str = "pairwise", split: str = "layer3.0") -> SAN:
    torch.manual_seed(0)
    return SAN((1, 1, 1, 2, 1), kind, widths=NARROW, split=split).double().eval()


def image(n: int, height: int, width: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, height, width, dtype=torch.float64, generator=generator)


def relative_error(got: Tensor, expected: np.ndarray) -> float:
    return float(np.abs(got.numpy() - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("san10", 10_531_848),
        ("san15", 14_065_436),
        ("san19", 17_596_156),
        ("san10-patchwise", 11_841_124),
        ("san15-patchwise", 16_181_310),
        ("san19-patchwise", 20_518_470),
    ],
)
def test_parameters_with_a_classifier_of_1000(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = build_backbone(name)
    own = sum(parameter.numel() for parameter in network.parameters())
    assert own + 1000 * network.features + 1000 == parameters


def test_a_spectrogram_has_one_channel() -> None:
    with torch.device("meta"):
        network = build_backbone("san19", channels=1)
    assert sum(parameter.numel() for parameter in network.parameters()) == 15_547_028


@pytest.mark.parametrize("split", ["layer3.0", "layer2.3"])
def test_reference_vectors(shared: Path, recipe_weights: Callable[[str], dict[str, Tensor]], split: str) -> None:
    with np.load(shared / "reference" / "san19_64.npz") as file:
        vectors = dict(file)
    network = build_backbone("san19", split=split).eval()
    load_reference(network, recipe_weights("san19_pairwise"))
    attention = vectors["attention_" + split.replace(".", "_")]
    x = torch.from_numpy(vectors["input"])
    with torch.inference_mode():
        assert relative_error(network(x), vectors["feature"]) < 1e-5
        # With these weights, rounding grows to about 1e-5 in the attention: in the reference's, and again in ours.
        assert relative_error(network.prescan(x)[1], attention) < 3e-5
        network, x = network.double(), x.double()
        state, exact = network.prescan(x)
        assert relative_error(exact, attention) < 1e-5
        assert relative_error(network.resume(state), vectors["feature"]) < 1e-5


@pytest.mark.parametrize("size", [33, 47, 65, 224])
@pytest.mark.parametrize("kind", ["pairwise", "patchwise"])
def test_forward_is_prescan_and_resume_at_any_size(kind: str, size: int) -> None:
    network, x = narrow(kind), image(1, size, size)
    with torch.inference_mode():
        features = network(x)
        state, attention = network.prescan(x)
        torch.testing.assert_close(network.resume(state), features, rtol=1e-12, atol=0)
    assert features.shape == (1, 128)
    assert attention.shape[1:] == network.attention_shape(size, size) == (4, size // 16, size // 16)


@pytest.mark.parametrize("size", [32, 64, 112])
def test_patchwise_runs_where_maps_are_smaller_than_footprints(size: int) -> None:
    torch.manual_seed(0)
    network = build_backbone("san10-patchwise").eval()
    with torch.inference_mode():
        features = network(image(1, size, size).float())
        _, attention = network.prescan(image(1, size, size).float())
    assert features.shape == (1, 2048)
    assert features.isfinite().all()
    assert attention.shape == (1, 32, size // 16, size // 16)


def test_images_need_not_be_square() -> None:
    network, x = narrow(), image(1, 80, 112)
    with torch.inference_mode():
        state, attention = network.prescan(x)
        torch.testing.assert_close(network.resume(state), network(x), rtol=1e-12, atol=0)
    assert attention.shape[1:] == network.attention_shape(80, 112) == (4, 5, 7)


def test_attention_of_112_is_that_of_the_paper() -> None:
    with torch.device("meta"):
        network = build_backbone("san19")
        state, attention = network.prescan(torch.empty(2, 3, 112, 112))
        features = network.resume(state)
    assert attention.shape == (2, 32, 7, 7)
    assert (features.shape, features.device.type) == ((2, 2048), "meta")


@pytest.mark.parametrize("kind", ["pairwise", "patchwise"])
def test_batch_equals_one_by_one(kind: str) -> None:
    network, x = narrow(kind), image(3, 64, 64)
    with torch.inference_mode():
        singly = [network.prescan(one) for one in x.split(1)]
        state, attention = network.prescan(x)
        torch.testing.assert_close(state, torch.cat([one for one, _ in singly]), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(attention, torch.cat([one for _, one in singly]), rtol=1e-9, atol=1e-12)
        alone = torch.cat([network(one) for one in x.split(1)])
        torch.testing.assert_close(network(x), alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("split", "shape"), [("layer2.0", (2, 8, 8)), ("layer3.1", (4, 4, 4)), ("layer4.0", (4, 2, 2))]
)
def test_only_the_first_half_runs_in_prescan_and_the_rest_in_resume(split: str, shape: tuple[int, ...]) -> None:
    network, x = narrow(split=split), image(1, 64, 64)
    blocks: list[str] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: blocks.append(name))
    with torch.inference_mode():
        network(x)
        whole = list(blocks)
        blocks.clear()
        state, attention = network.prescan(x)
        before = list(blocks)
        blocks.clear()
        network.resume(state)
    assert before + blocks == whole
    assert sorted(whole) == sorted(name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    assert before[-1] == f"{split}.conv"
    assert attention.shape[1:] == network.attention_shape(64, 64) == shape


def test_gradients_reach_every_parameter() -> None:
    network = narrow()
    state, attention = network.prescan(image(1, 64, 64))
    (network.resume(state).sum() + attention.square().sum()).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    network, x = narrow(), image(1, 64, 64)
    with torch.inference_mode():
        exact = network.prescan(x)[1]
        attention = network.to(dtype).prescan(x.to(dtype))[1]
    assert attention.dtype == dtype
    assert (attention.double() - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("method", ["forward", "prescan"])
@pytest.mark.parametrize("shape", [(1, 3, 31, 64), (1, 3, 64, 31), (1, 1, 64, 64), (3, 64, 64)])
def test_wrong_input_is_named(method: str, shape: tuple[int, ...]) -> None:
    message = rf"input of shape \({', '.join(map(str, shape))}\): SAN takes \(N, 3, H, W\) .* at least 32"
    with pytest.raises(ValueError, match=message):
        getattr(narrow(), method)(torch.zeros(shape))


@pytest.mark.parametrize("name", ["san20", "SAN19", "san19-", "san19-pair", "resnet50", ""])
def test_an_unknown_backbone_is_named_with_those_known(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"unknown backbone '{name}': use one of san10, .* san19-patchwise, .* vit-base"
    ):
        build_backbone(name)


@pytest.mark.parametrize("split", ["layer3.4", "layer5.0", "layer3", "bn3", "pool", ""])
def test_an_unknown_split_is_named_with_those_known(split: str) -> None:
    with pytest.raises(ValueError, match=rf"no block '{split}' to split after: use one of layer0.0, .*"):
        build_backbone("san10", split=split)


@pytest.mark.parametrize("channels", [1, 3])
def test_training_normalises_the_first_layer_as_batch_norm_does(channels: int) -> None:
    network = SAN((0, 0, 1, 1, 1), channels=channels, widths=(12, 20, 32, 32, 32), split="layer2.0").double().train()
    other, images = copy.deepcopy(network), 60 * torch.randn(3, channels, 48, 64).double() + 10
    by_weights, by_layers = images.clone().requires_grad_(), images.clone().requires_grad_()
    made = network._before_split(by_weights)
    expected = other._run(other._order[: other._order.index("layer2.0")], by_layers)
    assert torch.allclose(made, expected, rtol=1e-12, atol=1e-12)
    made.pow(3).sum().backward()
    expected.pow(3).sum().backward()
    for (name, own), theirs in zip(network.named_parameters(), other.parameters(), strict=True):
        if theirs.grad is not None:
            assert own.grad is not None, name
            assert (own.grad - theirs.grad).norm() <= 1e-9 * theirs.grad.norm(), name
    assert by_weights.grad is not None
    assert by_layers.grad is not None
    assert torch.allclose(by_weights.grad, by_layers.grad, rtol=1e-9, atol=1e-12)
    for (name, own), theirs in zip(network.named_buffers(), other.buffers(), strict=True):
        assert torch.allclose(own, theirs, rtol=1e-12), name


@pytest.mark.parametrize(
    "arguments",
    [{"kind": "global"}, {"blocks": (1, 1, 1, 1)}, {"widths": (32, 32, 32, 32)}, {"widths": (32, 32, 48, 64, 64)}],
)
def test_a_network_that_cannot_be_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"unknown kind .* 'global'|five stages, widths are multiples of 32"):
        SAN(**arguments)
