from __future__ import annotations

import math
from importlib.util import find_spec
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from adaptive_models import build_backbone
from adaptive_models.checkpoints import load_reference
from adaptive_models.vit import DEPTH, SIZES, VisionTransformer
from bench import count_flops
from bench.systems.libraries.loading import load


def narrow(channels: int = 3, split: str = "blocks.1") -> VisionTransformer:
    torch.manual_seed(0)
    network = VisionTransformer(24, 3, channels, depth=4, split=split).double().eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return network


@pytest.mark.parametrize(
    ("split", "shape"),
    list(product([f"blocks.{block}" for block in range(4)], [(3, 224, 224), (3, 112, 64), (1, 16, 48)])),
)
def test_both_halves_make_the_whole(split: str, shape: tuple[int, int, int]) -> None:
    network = narrow(shape[0], split)
    x = torch.randn(2, *shape, dtype=torch.double)
    state, attention = network.prescan(x)
    assert torch.equal(network.resume(state), network(x))
    assert network(x).shape == (2, network.features)
    assert attention.shape == (2, *network.attention_shape(*shape[1:]))
    alone, seen_alone = network.prescan(x[1:])
    torch.testing.assert_close(network.resume(alone), network(x)[1:])
    torch.testing.assert_close(seen_alone, attention[1:])


@pytest.mark.parametrize(("split", "shape"), [("blocks.0", (112, 112)), ("blocks.2", (64, 96))])
@torch.inference_mode()
def test_attention_is_how_the_class_token_looks_at_the_patches(split: str, shape: tuple[int, int]) -> None:
    """Against loops over heads and patches, from what went into the block."""
    network = narrow(split=split)
    block = network.get_submodule(split)
    entered: list[Tensor] = []
    block.register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0]))
    _, attention = network.prescan(torch.randn(2, 3, *shape, dtype=torch.double))
    rows, columns = shape[0] // 16, shape[1] // 16
    size = network.features // network.heads
    for n, head in product(range(2), range(network.heads)):
        tokens = block.norm1(entered[0][n])
        weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
        of_query = slice(head * size, (head + 1) * size)
        of_key = slice(network.features + head * size, network.features + (head + 1) * size)
        query = weight[of_query] @ tokens[0] + bias[of_query]
        scores = [float(query @ (weight[of_key] @ token + bias[of_key])) / math.sqrt(size) for token in tokens]
        total = sum(math.exp(score) for score in scores)
        for patch in range(rows * columns):
            expected = math.exp(scores[1 + patch]) / total * rows * columns
            found = attention[n, head, patch // columns, patch % columns]
            assert float(found) == pytest.approx(expected, rel=1e-9)
    itself = 1 - attention.mean((2, 3))  # what is left of the weights, which add up to 1
    assert bool(((itself > 0) & (itself < 1)).all())


@pytest.mark.parametrize("side", [224, 112])
def test_weights_of_timm_give_what_they_give_there(side: int) -> None:
    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    theirs = load("timm", "timm").create_model("vit_tiny_patch16_224", img_size=side).eval()
    nn.init.normal_(theirs.pos_embed, std=0.5)
    nn.init.normal_(theirs.cls_token)
    ours = build_backbone("vit-tiny").eval()
    assert isinstance(ours, VisionTransformer)
    weights = dict(theirs.state_dict())
    if side != 224:  # timm keeps positions of the size that it is made for, so it is given those that ours makes
        weights["pos_embed"] = torch.randn_like(ours.pos_embed)
    load_reference(ours, weights)
    with torch.inference_mode():
        theirs.pos_embed.copy_(ours._positions(side // 16, side // 16))
        x = torch.randn(2, 3, side, side)
        torch.testing.assert_close(ours(x), theirs.forward_head(theirs.forward_features(x), pre_logits=True))


@pytest.mark.parametrize(("name", "published"), [("vit-tiny", 1.3), ("vit-small", 4.6), ("vit-base", 17.6)])
def test_counts_are_those_of_its_layers_and_as_published(name: str, published: float) -> None:
    width, _ = SIZES[name]
    with torch.device("meta"):
        network = build_backbone(name).eval()
    for side in (224, 112):
        patches = (side // 16) ** 2
        tokens = patches + 1
        embedding = patches * 3 * 16 * 16 * width
        block = 12 * tokens * width**2 + 2 * tokens**2 * width
        x = torch.empty(1, 3, side, side, device="meta")
        profile = count_flops(network, x)
        assert profile.macs == embedding + DEPTH * block
        assert profile.unknown == []
        first = count_flops(network.prescan, x)
        assert first.macs == embedding + DEPTH // 2 * block + tokens * width  # the look of the class token is extra
        if side == 224:
            assert round(profile.macs / 1e9, 1) == published  # in the papers, as FLOPs


def test_positions_of_the_grid_that_was_learned_are_taken_as_they_are() -> None:
    network = narrow()
    assert network._positions(14, 14) is network.pos_embed
    even = torch.full((1, 197, 24), 2.5, dtype=torch.double)
    network.pos_embed.data = even
    torch.testing.assert_close(network._positions(7, 4), even[:, : 1 + 28])


@pytest.mark.parametrize("method", ["forward", "prescan"])
@pytest.mark.parametrize("shape", [(1, 3, 40, 64), (1, 3, 64, 8), (1, 1, 64, 64), (3, 64, 64), (1, 3, 0, 64)])
def test_wrong_input_is_named(method: str, shape: tuple[int, ...]) -> None:
    message = rf"input of shape \({', '.join(map(str, shape))}\): .* takes \(N, 3, H, W\) .* multiples of 16"
    with pytest.raises(ValueError, match=message):
        getattr(narrow(), method)(torch.zeros(shape).double())


def test_a_network_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"5 heads do not divide a width of 24"):
        VisionTransformer(24, 5)
    with pytest.raises(ValueError, match=r"no block 'layer3.0' to split after: use one of blocks.0, .* blocks.11"):
        build_backbone("vit-tiny", split="layer3.0")
    assert build_backbone("vit-tiny", split="blocks.7").split == "blocks.7"
