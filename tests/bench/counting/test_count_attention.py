"""Attention by hand: L x S pairs of query and key, each a product over the head's size for score and for value.

Per pair the scale, the softmax (5), and a mask's addition or dropout (2) if there is one.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from every_way import assert_counts
from torch import Tensor, nn, randn

from bench import count_flops


def pairs(batch: int, heads: int, seen: int, size: int, value_size: int, other: int) -> tuple[int, int]:
    macs = batch * heads * seen * (size + value_size)
    return macs, 2 * macs + batch * heads * seen * other


@pytest.mark.parametrize(
    ("shapes", "options", "macs_and_flops"),
    [
        # 2 videos, 3 heads of size 5; 4 queries, 6 keys; values of size 7
        ([(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)], {}, pairs(2, 3, 4 * 6, 5, 7, 6)),
        ([(3, 4, 5), (3, 6, 5), (3, 6, 5)], {}, pairs(1, 3, 4 * 6, 5, 5, 6)),
        # causal: query i looks at keys 0..i, 1 + 2 + 3 + 4 pairs
        ([(2, 3, 4, 5)] * 3, {"is_causal": True}, pairs(2, 3, 10, 5, 5, 6)),
        # 4 queries on 6 keys look at 1 + 2 + 3 + 4 of them, 6 queries on 4 keys at 1 + 2 + 3 + 4 + 4 + 4
        ([(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 5)], {"is_causal": True}, pairs(2, 3, 10, 5, 5, 6)),
        ([(2, 3, 6, 5), (2, 3, 4, 5), (2, 3, 4, 5)], {"is_causal": True}, pairs(2, 3, 18, 5, 5, 6)),
        ([(2, 3, 4, 5)] * 3, {"dropout_p": 0.1}, pairs(2, 3, 16, 5, 5, 6 + 2)),
        # 6 heads of queries share 2 of keys and values
        ([(2, 6, 4, 5), (2, 2, 4, 5), (2, 2, 4, 5)], {"enable_gqa": True}, pairs(2, 6, 16, 5, 5, 6)),
    ],
)
def test_scaled_dot_product_attention(shapes, options, macs_and_flops: tuple[int, int]) -> None:
    macs, flops = macs_and_flops
    assert_counts(F.scaled_dot_product_attention, *map(randn, shapes), **options, macs=macs, flops=flops)


@pytest.mark.parametrize("mask", [randn(4, 4), torch.ones(4, 4).tril().bool(), randn(2, 1, 4, 4)])
def test_a_mask_is_one_operation_per_pair(mask: Tensor) -> None:
    q = randn(2, 3, 4, 5)
    macs, flops = pairs(2, 3, 16, 5, 5, 7)
    assert_counts(F.scaled_dot_product_attention, q, q, q, mask, macs=macs, flops=flops)


# nn.MultiheadAttention(8, 2) on 3 videos, 5 queries, 5 keys: in- and out-projections 8 -> 32, 2 heads of size 4.
PROJECTIONS = 3 * 5 * 8 * 32
PAIRS = 3 * 2 * 25
ATTENTION = 2 * PAIRS * 4
BIASES = 3 * 5 * 32


def attention(**options) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(8, 2, batch_first=True, **options).eval()


def test_multihead_attention() -> None:
    x = randn(3, 5, 8)
    macs = PROJECTIONS + ATTENTION
    assert_counts(attention(), x, x, x, need_weights=False, macs=macs, flops=2 * macs + BIASES + 6 * PAIRS)
    # asked for weights, it scales the queries instead of the pairs, and averages the weights over the heads
    others = BIASES + 3 * 5 * 8 + 5 * PAIRS + PAIRS + PAIRS // 2
    assert_counts(attention(), x, x, x, macs=macs, flops=2 * macs + others)


def test_multihead_attention_with_a_padding_mask() -> None:
    x, padding = randn(3, 5, 8), torch.zeros(3, 5, dtype=torch.bool)
    macs = PROJECTIONS + ATTENTION
    others = BIASES + 7 * PAIRS  # an addition per pair more
    assert_counts(
        attention(), x, x, x, key_padding_mask=padding, need_weights=False, macs=macs, flops=2 * macs + others
    )


def test_multihead_attention_with_other_sizes_of_key_and_value() -> None:
    query, key, value = randn(3, 5, 8), randn(3, 7, 6), randn(3, 7, 4)
    # query and output 8 -> 8 for 15 rows, key 6 -> 8 and value 4 -> 8 for 21 rows; 3*2*35 pairs of size 4 twice
    macs = 2 * 15 * 64 + 21 * 48 + 21 * 32 + 210 * 8
    profile = count_flops(attention(kdim=6, vdim=4), query, key, value, need_weights=False)
    assert (profile.macs, profile.unknown, profile.uncalled) == (macs, [], [])


# An encoder layer of size 8 with feed-forward size 16: attention, two linear layers, ReLU, two residuals, two norms.
LAYER = PROJECTIONS + ATTENTION + 2 * 15 * 8 * 16
LAYER_OTHERS = BIASES + 6 * PAIRS + 15 * (16 + 8) + 15 * 16 + 2 * 120 + 2 * 8 * 120


def encoder_layer(**options) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options).eval()


@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_layer(norm_first: bool) -> None:
    layer = encoder_layer(norm_first=norm_first)
    assert_counts(layer, randn(3, 5, 8), macs=LAYER, flops=2 * LAYER + LAYER_OTHERS)


def test_encoder_layer_in_training_has_dropout() -> None:
    # 0.1 on pairs, on the feed-forward's 16 and twice on the residual branch's 8, each mask and scale
    profile = count_flops(encoder_layer().train(), randn(3, 5, 8))
    assert profile.flops == 2 * LAYER + LAYER_OTHERS + 2 * (PAIRS + 15 * 16 + 2 * 120)


def test_encoder_with_a_padding_mask_is_not_cut_to_nested_tensors() -> None:
    encoder = nn.TransformerEncoder(encoder_layer(), 2).eval()
    padding = torch.tensor([[False] * 5, [False] * 4 + [True], [False] * 3 + [True] * 2])
    macs, others = 2 * LAYER, 2 * (LAYER_OTHERS + PAIRS)
    # outside of the layers, a mask is made of the padding: nothing that is counted
    assert_counts(encoder, randn(3, 5, 8), src_key_padding_mask=padding, macs=macs, flops=2 * macs + others)


def test_decoder_layer() -> None:
    layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True).eval()
    # 5 targets look at themselves, then at 7 memories: query and output 8 -> 8 for 15 rows, key and value for 21
    crossed = 2 * 15 * 64 + 2 * 21 * 64 + 2 * 3 * 2 * 35 * 4
    profile = count_flops(layer, randn(3, 5, 8), randn(3, 7, 8))
    assert profile.macs == LAYER + crossed
    # biases, 6 per pair, a residual and a norm more
    assert profile.flops == 2 * profile.macs + LAYER_OTHERS + (2 * 120 + 2 * 168) + 6 * 210 + 120 + 8 * 120


def test_the_fast_path_of_attention_is_on_again_afterwards() -> None:
    assert torch.backends.mha.get_fastpath_enabled()
    count_flops(encoder_layer(), randn(3, 5, 8))
    assert torch.backends.mha.get_fastpath_enabled()
