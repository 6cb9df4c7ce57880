"""The short cuts on the meta device give what torch itself computes on data, or leave it to torch."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, randn
from torch.utils._pytree import tree_leaves, tree_map_only

from bench.counting.meta import QUICK_RESULTS, in_place, pointwise, sum_or_product, unfilled
from bench.counting.registry import plain_name


def to_meta(values: Any) -> Any:
    return tree_map_only(
        Tensor, lambda x: torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device="meta"), values
    )


def described(result: Any) -> list[tuple[Any, ...]]:
    return [(tuple(leaf.shape), leaf.dtype, leaf.stride()) for leaf in tree_leaves(result)]


def assert_quick(name: str, *args: Any, **kwargs: Any) -> None:
    """There is a short cut here, and it leads where torch goes."""
    expected = getattr(torch.ops.aten, name)(*args, **kwargs)
    quick = QUICK_RESULTS[f"aten::{name}"](*to_meta(args), **to_meta(kwargs))
    assert all(leaf.is_meta for leaf in tree_leaves(quick))
    assert described(quick) == described(expected)


def assert_left_to_torch(name: str, *args: Any, **kwargs: Any) -> None:
    assert QUICK_RESULTS[f"aten::{name}"](*to_meta(args), **to_meta(kwargs)) is NotImplemented


POINTWISE = [plain_name(name) for name, function in QUICK_RESULTS.items() if function in (pointwise, sum_or_product)]
INTEGERS_TOO = [plain_name(name) for name, function in QUICK_RESULTS.items() if function is sum_or_product]
SHAPES = [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (3, 1)), ((4,), (2, 3, 4)), ((2, 3, 4), ()), ((), ())]


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise(name: str) -> None:
    if name in {"add", "sub", "mul", "div", "maximum", "minimum", "pow", "clamp_min", "clamp_max"}:
        for a, b in SHAPES:
            assert_quick(name, randn(a), randn(b))
        assert_quick(name, randn(4, 3, 2).transpose(0, 2), randn(3, 1))
        assert_quick(name, randn(2, 3, 6)[..., 1:5], randn(2, 3, 4))
        assert_quick(name, randn(2, 1), randn(1, 3))
        assert_quick(name, randn(2, 1, 3)[:, :, ::2], randn(4, 1))
        assert_quick(name, randn(0, 3), randn(3))
        assert_quick(name, randn(2, 3, 4), randn(4, 3, 2).transpose(0, 2))
        assert_quick(name, *[randn(2, 3, 4).permute(1, 2, 0)[:, 1:]] * 2)
        assert_left_to_torch(name, randn(4, 3, 2).transpose(0, 2), randn(2, 3, 4))
        assert_left_to_torch(name, randn(2, 1).expand(2, 3), randn(4, 1, 1))
    elif name == "clamp":
        assert_quick(name, randn(2, 3), 0.0, 1.0)
    else:
        for shape, dtype in product([(2, 3), (), (0, 3)], [torch.float32, torch.bfloat16, torch.float64]):
            assert_quick(name, torch.ones(shape, dtype=dtype))
        assert_quick(name, randn(4, 3, 2).transpose(0, 2))
    if name not in INTEGERS_TOO:
        assert_left_to_torch(name, torch.ones(2, 3, dtype=torch.int64))
        assert_left_to_torch(name, torch.ones(2, 3, dtype=torch.complex64))


@pytest.mark.parametrize("name", INTEGERS_TOO)
def test_sums_and_products_of_integers(name: str) -> None:
    whole = torch.ones(2, 1, dtype=torch.int64)
    assert_quick(name, whole, torch.ones(3, dtype=torch.int64))
    assert_quick(name, whole.to(torch.uint8), torch.ones(2, 1, dtype=torch.uint8))
    assert_left_to_torch(name, whole, 1.5)
    assert_left_to_torch(name, whole, torch.ones(3, dtype=torch.int32))
    assert_left_to_torch(name, whole, randn(3))
    assert_left_to_torch(name, whole == 1, whole == 1)


@settings(max_examples=500)
@given(data=st.data(), ndim=st.integers(0, 3))
def test_pointwise_of_all_kinds_of_views(data: st.DataObject, ndim: int) -> None:
    def operand() -> Tensor:
        whole = randn([data.draw(st.sampled_from([1, side])) for side in sides])
        order = data.draw(st.permutations(range(ndim)))
        view = whole.permute(order).contiguous().permute([order.index(dim) for dim in range(ndim)])
        view = view[tuple(slice(None, None, data.draw(st.sampled_from([1, 1, side]))) for side in view.shape)]
        view = view.expand(sides) if data.draw(st.booleans()) else view
        return view[(0,) * data.draw(st.integers(0, ndim))]

    sides = [data.draw(st.integers(2, 4)) for _ in range(ndim)]
    operands = operand(), operand()
    for name in ("add", "rsub"):
        quick, expected = QUICK_RESULTS[f"aten::{name}"](*to_meta(operands)), getattr(torch, name)(*operands)
        if quick is NotImplemented:
            continue
        assert (quick.shape, quick.dtype) == (expected.shape, expected.dtype)
        steps = zip(quick.shape, quick.stride(), expected.stride(), strict=True)  # along one element they are arbitrary
        assert all(stride == theirs for size, stride, theirs in steps if size > 1)


def test_a_dimension_of_one_element_decides_the_order_of_those_that_no_operand_orders() -> None:
    x = randn(2, 2, 1).permute(2, 1, 0)[:, ::2]  # (1, 1, 2) in steps of 1, 2 and 2
    y = randn(2, 1)
    assert (x + y).stride()[1:] == (1, 2)
    assert_left_to_torch("add", x, y)


@pytest.mark.parametrize("name", ["empty_like", "zeros_like", "ones_like"])
def test_like(name: str) -> None:
    assert_quick(name, randn(2, 3))
    assert_quick(name, randn(4, 3, 2).permute(1, 2, 0)[:, 1:], pin_memory=False)
    assert_quick(name, torch.ones(2, 3, dtype=torch.bool))
    assert_left_to_torch(name, randn(2, 1).expand(2, 3))
    assert_left_to_torch(name, randn(2, 3), dtype=torch.float64)
    assert_left_to_torch(name, randn(2, 3), memory_format=torch.contiguous_format)


def test_in_place() -> None:
    x = torch.empty(2, 3, device="meta")
    assert in_place(pointwise, x, 0.0, 6.0) is x
    assert in_place(sum_or_product, x, torch.empty(3, device="meta")) is x
    assert in_place(sum_or_product, x, torch.empty(4, 2, 3, device="meta")) is NotImplemented  # an error
    assert in_place(pointwise, torch.ones(2, 3, dtype=torch.int64, device="meta")) is NotImplemented


def test_pointwise_in_doubt() -> None:
    assert_left_to_torch("add", randn(2, 3), randn(2, 4))  # an error
    assert_left_to_torch("mul", randn(2, 3), randn(2, 3, dtype=torch.float64))
    assert_left_to_torch("mul", randn(2, 3), torch.ones(2, 3, dtype=torch.bool))
    assert_left_to_torch("mul", randn(2, 3), 1j)


sizes = st.integers(1, 9)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), dims=st.integers(1, 3), groups=st.integers(1, 3), with_bias=st.booleans())
def test_convolution(data: st.DataObject, dims: int, groups: int, with_bias: bool) -> None:
    def per_side(low: int, high: int) -> list[int]:
        return [data.draw(st.integers(low, high)) for _ in range(dims)]

    kernel, stride, padding, dilation = per_side(1, 3), per_side(1, 3), per_side(0, 2), per_side(1, 2)
    sides = [data.draw(st.integers(d * (k - 1) + 1, 9)) for k, d in zip(kernel, dilation, strict=True)]
    x, weight = randn(2, 2 * groups, *sides), randn(3 * groups, 2, *kernel)
    bias = randn(3 * groups) if with_bias else None
    assert_quick(f"conv{dims}d", x, weight, bias, stride, padding, dilation, groups)


def test_convolution_in_doubt() -> None:
    x, weight = randn(1, 3, 5, 5), randn(4, 3, 3, 3)
    assert_left_to_torch("conv2d", x, randn(4, 2, 3, 3))  # channels do not fit
    assert_left_to_torch("conv2d", x, randn(4, 3, 7, 7))  # larger than the image
    assert_left_to_torch("conv2d", x, weight, randn(5))
    assert_left_to_torch("conv2d", x, weight.double())
    assert_left_to_torch("conv2d", x[0], weight)  # without a batch
    assert_left_to_torch("conv2d", x, weight, None, [1, 1], "same")
    assert_left_to_torch("conv2d", randn(1, 4, 5, 5), randn(3, 2, 3, 3), None, [1, 1], [0, 0], [1, 1], 2)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), height=sizes, width=sizes)
def test_im2col(data: st.DataObject, height: int, width: int) -> None:
    kernel = [data.draw(st.integers(1, height)), data.draw(st.integers(1, width))]
    padding, stride = [data.draw(st.integers(0, 2))] * 2, [data.draw(st.integers(1, 3))] * 2
    assert_quick("im2col", randn(2, 3, height, width), kernel, [1, 1], padding, stride)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), height=sizes, width=sizes)
def test_col2im(data: st.DataObject, height: int, width: int) -> None:
    kernel = [data.draw(st.integers(1, height)), data.draw(st.integers(1, width))]
    settings_ = kernel, [1, 1], [data.draw(st.integers(0, 2))] * 2, [data.draw(st.integers(1, 3))] * 2
    windows = torch.ops.aten.im2col(randn(2, 3, height, width), *settings_)
    assert_quick("col2im", windows, [height, width], *settings_)
    assert_left_to_torch("col2im", randn(2, 1 + windows.shape[1], windows.shape[2] + 1), [height, width], *settings_)


def test_linspace() -> None:
    assert_quick("linspace", -1, 1, 7)
    assert_quick("linspace", 0.0, 1.0, 0, dtype=torch.float64)
    assert_left_to_torch("linspace", 0, 1, -1)
    assert_left_to_torch("linspace", torch.tensor(0.0), 1, 3)


def test_arange() -> None:
    assert_quick("arange", 5)
    assert_quick("arange", 2, 9, 3)
    assert_quick("arange", 9, 2, -3, dtype=torch.float32)
    assert_left_to_torch("arange", 0, 5, 0)
    assert_left_to_torch("arange", 5, 0)
    assert_left_to_torch("arange", 0)
    assert_left_to_torch("arange", 0, 1, 0.25)


def test_im2col_in_doubt() -> None:
    assert_left_to_torch("im2col", randn(2, 3, 2, 2), [3, 3], [1, 1], [0, 0], [1, 1])
    assert_left_to_torch("im2col", randn(3, 5, 5), [3, 3], [1, 1], [0, 0], [1, 1])


def test_batch_norm() -> None:
    ones = torch.ones(3)
    for x in (randn(2, 3), randn(2, 3, 4), randn(2, 3, 4, 4), randn(2, 3, 2, 2, 2)):
        assert_quick("batch_norm", x, ones, ones, ones, ones, False, 0.1, 1e-5, False)
        assert_quick("batch_norm", x, None, None, None, None, True, 0.1, 1e-5, False)
    assert_left_to_torch("batch_norm", randn(2, 4), ones, ones, ones, ones, False, 0.1, 1e-5, False)


def test_layer_norm() -> None:
    assert_quick("layer_norm", randn(2, 3, 4), [4], torch.ones(4), torch.ones(4))
    assert_quick("layer_norm", randn(2, 3, 4), [3, 4], torch.ones(3, 4))
    assert_quick("layer_norm", randn(2, 3, 4), [4])
    assert_left_to_torch("layer_norm", randn(2, 3, 4), [3])
    assert_left_to_torch("layer_norm", randn(2, 3, 4), [4], torch.ones(3))


def test_scaled_dot_product_attention() -> None:
    q, k, v = randn(2, 3, 5, 4), randn(2, 3, 7, 4), randn(2, 3, 7, 6)
    quick = QUICK_RESULTS["aten::scaled_dot_product_attention"](*to_meta((q, k, v)))
    assert quick.shape == F.scaled_dot_product_attention(q, k, v).shape == (2, 3, 5, 6)
    assert_left_to_torch("scaled_dot_product_attention", q, k, v, randn(5, 7))
    assert_left_to_torch("scaled_dot_product_attention", q, randn(2, 3, 7, 5), v)
    assert_left_to_torch("scaled_dot_product_attention", q, k, randn(2, 3, 6, 6))
    assert_left_to_torch("scaled_dot_product_attention", q, k[:, :1], v[:, :1])


def test_cat_and_stack() -> None:
    assert_quick("cat", [randn(2, 3), randn(4, 3)])
    assert_quick("cat", [randn(2, 3), randn(2, 1), randn(2, 2)], -1)
    assert_quick("cat", [randn(2, 3), randn(2, 0)], 1)
    assert_quick("cat", [randn(0), randn(3)])
    assert_quick("stack", [randn(2, 3)] * 4)
    assert_quick("stack", [randn(2, 3)] * 4, -1)
    assert_quick("stack", [randn(2, 3)] * 4, 1)
    for tensors, dim in (
        ([randn(2, 3), randn(2, 4)], 0),
        ([randn(2, 3), randn(2, 3).double()], 0),
        ([randn(2, 3), randn(3)], 0),
        ([randn(2, 3), randn(0)], 0),  # torch lets an empty vector pass
        ([randn(2, 3)], 2),
    ):
        assert_left_to_torch("cat", tensors, dim)
    assert_left_to_torch("stack", [randn(2, 3), randn(2, 4)])
    assert_left_to_torch("stack", [randn(2, 3)], 3)


def test_linear() -> None:
    weight, bias = randn(4, 3), randn(4)
    for shape in ((3,), (2, 3), (2, 5, 3), (0, 3)):
        assert_quick("linear", randn(shape), weight, bias)
    assert_quick("linear", randn(3, 2).T, weight)
    assert_left_to_torch("linear", randn(2, 4), weight)
    assert_left_to_torch("linear", randn(2, 3), weight, randn(3))
    assert_left_to_torch("linear", randn(2, 3), weight.double())
    assert_left_to_torch("linear", randn(2, 3), randn(3))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), mode=st.sampled_from(["constant", "reflect"]), batch=st.integers(1, 2))
def test_pad(data: st.DataObject, mode: str, batch: int) -> None:
    sides = [data.draw(st.integers(2, 5)) for _ in range(2)]
    amounts = [data.draw(st.integers(0, side - 1)) for side in reversed(sides) for _ in range(2)]
    assert_quick("pad", randn(*[2, 3][-batch:], *sides), amounts, mode)


def test_pad_in_doubt() -> None:
    assert_quick("pad", randn(2, 3), [1, 2])
    assert_left_to_torch("pad", randn(1, 2, 3, 3), [1, 3, 0, 0], "reflect")  # more than there is
    assert_left_to_torch("pad", randn(3, 3), [1, 1, 1, 1], "reflect")  # without channels
    assert_left_to_torch("pad", randn(2, 3), [-1, 0])
    assert_left_to_torch("pad", randn(2, 3), [1, 1, 1, 1, 1, 1])
    assert_left_to_torch("pad", randn(1, 2, 3, 3), [1, 1, 1, 1], "replicate")
    assert_left_to_torch("pad", randn(1, 2, 3, 3).to(memory_format=torch.channels_last), [1, 1, 1, 1])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), height=sizes, width=sizes, ceil_mode=st.booleans())
def test_pooling(data: st.DataObject, height: int, width: int, ceil_mode: bool) -> None:
    kernel = [data.draw(st.integers(1, height)), data.draw(st.integers(1, width))]
    stride = data.draw(st.sampled_from([[], [1, 2], [3]]))
    padding = [data.draw(st.integers(0, side // 2)) for side in kernel]
    assert_quick("max_pool2d", randn(2, 3, height, width), kernel, stride, padding, [1, 1], ceil_mode)
    assert_quick("avg_pool2d", randn(2, 3, height, width), kernel, stride, padding, ceil_mode)


def test_pooling_in_doubt() -> None:
    assert_quick("max_pool2d", randn(2, 3, 7, 7), [3], [2], [1])
    assert_quick("max_pool3d", randn(2, 3, 4, 7, 7), [1, 3, 3], [1, 2, 2], [0, 1, 1])
    assert_quick("avg_pool3d", randn(2, 3, 4, 7, 7), [2], [], [1], True)
    assert_left_to_torch("max_pool3d", randn(3, 4, 7, 7), [2])
    assert_left_to_torch("max_pool2d", randn(2, 3, 5, 5), [2, 2], [2, 2], [2, 2])
    assert_left_to_torch("max_pool2d", randn(3, 5, 5), [2, 2])
    assert_left_to_torch("max_pool2d", randn(2, 3, 5, 5).to(memory_format=torch.channels_last), [2, 2])


def test_upsample_bilinear2d() -> None:
    x = randn(2, 3, 5, 4)
    quick = QUICK_RESULTS["aten::upsample_bilinear2d"](to_meta(x), [7, 3], False, None)
    assert described(quick) == described(torch.ops.aten.upsample_bilinear2d.vec(x, [7, 3], False, None))
    quick = QUICK_RESULTS["aten::upsample_bilinear2d"](to_meta(x), [7, 3], False)
    assert described(quick) == described(torch.ops.aten.upsample_bilinear2d(x, [7, 3], False))
    frames = randn(6, 3, 5, 4)[::2]
    quick = QUICK_RESULTS["aten::upsample_bilinear2d"](to_meta(frames), [7, 3], False)
    assert described(quick) == described(torch.ops.aten.upsample_bilinear2d(frames, [7, 3], False))
    assert_left_to_torch("upsample_bilinear2d", x, None, False, [2.0, 2.0])
    assert_left_to_torch("upsample_bilinear2d", x.to(memory_format=torch.channels_last), [7, 3], False)
    assert_left_to_torch("upsample_bilinear2d", x[0], [7, 3], False)


@pytest.mark.parametrize("name", ["sum", "mean"])
def test_reductions(name: str) -> None:
    for dims, keepdim in product(([0], [-1], [1, 2], [0, -1]), (False, True)):
        assert_quick(name, randn(2, 3, 4), dims, keepdim)
    assert_left_to_torch(name, randn(2, 3))
    assert_left_to_torch(name, randn(2, 3), [])
    assert_left_to_torch(name, randn(2, 3), [2])
    assert_left_to_torch(name, randn(2, 3), [1, -1])
    assert_left_to_torch(name, torch.ones(2, 3, dtype=torch.int64), [1])
    assert_left_to_torch(name, randn(2, 3), [1], dtype=torch.float64)
    assert_left_to_torch(name, randn(4, 3, 2).transpose(0, 2), [1])


def test_index() -> None:
    x, whole = randn(2, 3, 5), torch.zeros(4, 1, dtype=torch.int64)
    assert_quick("index", x, [whole, whole[:3, 0], whole])
    assert_quick("index", x, [whole[0, 0], whole[1], whole[::2]])
    assert_left_to_torch("index", x, [whole, whole])
    assert_left_to_torch("index", x, [whole, whole, None])
    assert_left_to_torch("index", x, [whole, whole, whole[:3]])  # an error
    assert_left_to_torch("index", x, [whole, whole, whole == 0])
    assert_left_to_torch("index", x, [whole, whole, whole.expand(4, 3).T])


def test_topk() -> None:
    assert_quick("topk", randn(2, 7), 3, 1)
    assert_quick("topk", randn(2, 7, 3), 2, -2)
    assert_left_to_torch("topk", randn(2, 7), 8)
    assert_left_to_torch("topk", randn(2, 7), 1, 2)


def test_embedding() -> None:
    assert_quick("embedding", randn(5, 3), torch.zeros(2, 4, dtype=torch.int64))
    assert_quick("embedding", randn(5, 3), torch.zeros((), dtype=torch.int32))
    assert_left_to_torch("embedding", randn(5), torch.zeros(2, dtype=torch.int64))
    assert_left_to_torch("embedding", randn(5, 3), randn(2))


def test_softmax() -> None:
    for dim in (0, 2, -1):
        assert_quick("softmax", randn(2, 3, 4), dim)
    assert_left_to_torch("softmax", randn(2, 3), 2)
    assert_left_to_torch("softmax", randn(2, 3), 1, torch.float64)
    assert_left_to_torch("softmax", torch.ones(2, 3, dtype=torch.int64), 1)


def test_adaptive_avg_pool() -> None:
    assert_quick("adaptive_avg_pool2d", randn(2, 3, 7, 5), [2, 3])
    assert_quick("adaptive_avg_pool3d", randn(2, 3, 4, 7, 5), [2, 2, 3])
    assert_left_to_torch("adaptive_avg_pool2d", randn(3, 7, 5), [2, 3])


def test_to() -> None:
    x = torch.empty(2, 3, device="meta")
    to = QUICK_RESULTS["aten::to"]
    assert to(x, torch.device("cpu")) is x
    assert to(x, torch.float64).dtype is torch.float64
    assert to(x, dtype=torch.float64, memory_format=torch.preserve_format) is NotImplemented
    assert to(x, dtype=torch.float16, device="cpu").dtype is torch.float16
    assert to(x, torch.empty(1, dtype=torch.bfloat16, device="meta")).dtype is torch.bfloat16


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers(kind: type[nn.RNNBase], batch_first: bool, layers: int, bidirectional: bool) -> None:
    module = kind(3, 4, layers, bidirectional=bidirectional, batch_first=batch_first)
    name = {nn.RNN: "rnn_tanh", nn.GRU: "gru", nn.LSTM: "lstm"}[kind]
    state = randn(layers * (2 if bidirectional else 1), 2, 4)
    states = [state, state] if kind is nn.LSTM else state
    x = randn(2, 5, 3) if batch_first else randn(5, 2, 3)
    settings_ = (module._flat_weights, True, layers, 0.0, False, bidirectional)
    with torch.no_grad():
        expected = tree_leaves(getattr(torch.ops.aten, name)(x, states, *settings_, batch_first))
        packed = nn.utils.rnn.pack_sequence([randn(5, 3), randn(2, 3)])
        expected_packed = tree_leaves(
            getattr(torch.ops.aten, name)(packed.data, packed.batch_sizes, states, *settings_)
        )
    quick = QUICK_RESULTS[f"aten::{name}"]
    shapes = [leaf.shape for leaf in quick(*to_meta((x, states, *settings_)), batch_first)]
    assert shapes == [leaf.shape for leaf in expected]
    data, batch_sizes = to_meta(packed.data), packed.batch_sizes
    shapes = [leaf.shape for leaf in quick(data, batch_sizes, *to_meta((states, *settings_)))]
    assert shapes == [leaf.shape for leaf in expected_packed]
    assert_left_to_torch(name, randn(*x.shape[:2], 7), states, *settings_, batch_first)
    assert_left_to_torch(name, randn(3, 3, 3), states, *settings_, batch_first)


def test_recurrent_cells() -> None:
    gru, lstm = nn.GRUCell(3, 4), nn.LSTMCell(3, 4)
    weights = (gru.weight_ih, gru.weight_hh, gru.bias_ih, gru.bias_hh)
    assert_quick("gru_cell", randn(2, 3), randn(2, 4), *weights)
    assert_left_to_torch("gru_cell", randn(2, 5), randn(2, 4), *weights)
    assert_left_to_torch("gru_cell", randn(3, 3), randn(2, 4), *weights)
    assert_quick(
        "lstm_cell", randn(2, 3), [randn(2, 4)] * 2, lstm.weight_ih, lstm.weight_hh, lstm.bias_ih, lstm.bias_hh
    )


def test_every_short_cut_is_tested_here() -> None:
    tested = "pointwise sum_or_product like batch_norm layer_norm scaled_dot_product_attention cat stack im2col col2im"
    tested += (
        " convolution adaptive_avg_pool max_pool avg_pool upsample_bilinear2d recurrent recurrent_cell rsub topk to"
    )
    tested += " linear pad reduction softmax linspace arange index embedding"
    functions = [getattr(function, "func", function) for function in QUICK_RESULTS.values()]
    assert {function.__name__ for function in functions} == set(tested.split())


def layers() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3), nn.Linear(4, 5), nn.GRU(5, 2), nn.LayerNorm(2))


def test_only_what_has_no_data_is_left_unfilled() -> None:
    torch.manual_seed(3)
    filled = layers().state_dict()
    torch.manual_seed(3)
    with unfilled():
        inside = layers().state_dict()
        with torch.device("meta"):
            state = torch.get_rng_state()
            empty = layers()
            assert torch.get_rng_state().equal(state)
    assert all(inside[name].equal(value) for name, value in filled.items())
    assert {name: value.shape for name, value in empty.state_dict().items()} == {
        name: value.shape for name, value in filled.items()
    }
    torch.manual_seed(3)
    assert all(value.equal(filled[name]) for name, value in layers().state_dict().items())


def test_layers_draw_their_weights_again_after_an_exception() -> None:
    before = nn.Linear.reset_parameters
    with pytest.raises(RuntimeError, match="broken"), unfilled():
        raise RuntimeError("broken")
    assert nn.Linear.reset_parameters is before
