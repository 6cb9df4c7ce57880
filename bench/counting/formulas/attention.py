"""Scaled dot-product attention, by its definition, whatever kernel runs it."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor

from bench.counting.registry import Cost, register_formula


def pairs_of(query: Tensor, key: Tensor, is_causal: bool, out: Tensor) -> int:
    """Pairs of query and key that are looked at: all L x S, or with `is_causal` those with key <= query."""
    queries, keys = query.shape[-2], key.shape[-2]
    if not is_causal:
        return prod(out.shape[:-2]) * queries * keys
    seen = min(queries, keys)
    return prod(out.shape[:-2]) * (seen * (seen + 1) // 2 + (queries - seen) * keys)


@register_formula("aten::scaled_dot_product_attention", family="attention")
def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, *, out: Any, **_: Any,
) -> Cost:  # fmt: skip
    """Scores and weighted sum; per pair also the scale, the softmax (5), a mask's addition and dropout (2)."""
    pairs = pairs_of(query, key, is_causal, out if isinstance(out, Tensor) else out[0])
    per_pair = 6 + (attn_mask is not None) + 2 * (dropout_p > 0)
    return Cost(pairs * (query.shape[-1] + value.shape[-1]), pairs * per_pair)


@register_formula(
    "aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_flash_attention_for_cpu",
    family="attention",
)  # fmt: skip
def flash_attention(
    query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0, is_causal: bool = False, *_: Any,
    attn_mask: Tensor | None = None, out: Any, **__: Any,
) -> Cost:  # fmt: skip
    """What attention becomes below autograd."""
    return attention(query, key, value, attn_mask, dropout_p, is_causal, out=out)


@register_formula(
    "aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_fused_attention_overrideable", family="attention",
)  # fmt: skip
def biased_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_bias: Tensor | None = None, compute_log_sumexp: bool = False,
    dropout_p: float = 0.0, is_causal: bool = False, *_: Any, out: Any, **__: Any,
) -> Cost:  # fmt: skip
    """What attention becomes below autograd on CUDA."""
    return attention(query, key, value, attn_bias, dropout_p, is_causal, out=out)


@register_formula("aten::_scaled_dot_product_flash_attention_for_cpu_backward", family="attention_backward")
def flash_attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, result: Tensor, logsumexp: Tensor, dropout_p: float,
    is_causal: bool, *, out: Any, **_: Any,
) -> Cost:  # fmt: skip
    """Scores again, and the gradients of weights, values, queries and keys; per pair also scale and softmax (4)."""
    pairs = pairs_of(query, key, is_causal, grad)
    return Cost(pairs * (3 * query.shape[-1] + 2 * value.shape[-1]), 5 * pairs)
