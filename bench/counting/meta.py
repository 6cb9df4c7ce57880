"""Results on the meta device of common operators, for which torch takes a hundred times longer.

Torch works them out in Python, and loads its compiler to do so. Here are the plain cases: where an input is unusual, or
wrong, the answer is `NotImplemented`, and torch has the word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import zip_longest
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

ARITHMETIC = """
abs clamp clamp_max clamp_min cos div elu erf exp gelu hardsigmoid hardswish hardtanh leaky_relu log log1p maximum
minimum mish neg pow reciprocal relu rsqrt selu sigmoid silu sin softplus sqrt square tanh
"""


INITIALISED: tuple[Any, ...] = (
    nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RNNBase,
    nn.RNNCellBase, nn.Embedding,
)  # fmt: skip
"""Layers of torch that draw initial weights."""


@contextmanager
def unfilled() -> Iterator[None]:
    """Layers that are built inside it on the meta device draw no initial weights, which takes longer than all else."""
    with ExitStack() as stack:
        for layer in INITIALISED:
            stack.callback(setattr, layer, "reset_parameters", layer.reset_parameters)
            layer.reset_parameters = _unless_meta(layer.reset_parameters)
        yield


def _unless_meta(initialise: Callable[[nn.Module], None]) -> Callable[[nn.Module], None]:
    def reset_parameters(layer: nn.Module) -> None:
        if not all(parameter.is_meta for parameter in layer._parameters.values() if parameter is not None):
            initialise(layer)

    return reset_parameters


def _empty(shape: Sequence[int], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device="meta")


def _empty_like(x: Tensor) -> Tensor:
    """As `torch.empty_like`: without gaps, the dimensions in the same order in memory."""
    if x.is_contiguous():
        return _empty(x.shape, x)
    order = sorted(range(x.ndim), key=lambda dim: -x.stride()[dim])
    return _empty([x.shape[dim] for dim in order], x).permute([order.index(dim) for dim in range(x.ndim)])


def pointwise(*args: Any, **_: Any) -> Any:
    """A tensor of the operands' common shape, if all are floating-point numbers and their order in memory is clear."""
    return _pointwise(args) if _operands(args)[0].is_floating_point() else NotImplemented


def sum_or_product(*args: Any, **_: Any) -> Any:
    """As `pointwise`; of integers, too, as these make integers again."""
    first = _operands(args)[0]
    floats = any(isinstance(arg, float) for arg in args)
    if first.dtype is torch.bool or (floats and not first.is_floating_point()):
        return NotImplemented
    return _pointwise(args)


def in_place(quick_result: Callable[..., Any], x: Tensor, *args: Any, **named: Any) -> Any:
    """The first tensor itself, if the result of the operator that makes a new one would have its shape and type."""
    out = quick_result(x, *args, **named)
    return x if isinstance(out, Tensor) and (out.shape, out.dtype) == (x.shape, x.dtype) else NotImplemented


def like(x: Tensor, *_: Any, **named: Any) -> Any:
    """A tensor like the input, if no other type or order in memory is wanted."""
    wanted = [name for name, value in named.items() if value is not None and name != "pin_memory"]
    return NotImplemented if wanted or (not x.is_contiguous() and 0 in x.stride()) else _empty_like(x)


def _operands(args: Sequence[Any]) -> list[Tensor]:
    return [arg for arg in args if isinstance(arg, Tensor)]


def rsub(x: Tensor, other: Any, *_: Any, **__: Any) -> Any:
    """The second operand minus the first, which change places in memory, too."""
    return pointwise(other, x)


def _pointwise(args: Sequence[Any]) -> Any:
    operands = _operands(args)
    first, shape = operands[0], _common_shape(operands)
    if any(isinstance(arg, complex) for arg in args) or any(each.dtype is not first.dtype for each in operands):
        return NotImplemented
    if shape is None:
        return NotImplemented
    # In memory, dimensions are in the order of the first operand that has one.
    ordered = [each for each in operands if sum(size > 1 for size in each.shape) > 1]
    leading = next(iter(ordered), first)
    if all(map(_plainly_in_order, operands)) or (_in_order(leading) and leading.shape == shape):
        return _empty(shape, first)
    same = all((each.shape, _steps(each)) == (shape, _steps(leading)) for each in [leading, *ordered])
    return _empty_like(leading) if same and 0 not in _steps(leading) else NotImplemented


def _common_shape(operands: Sequence[Tensor]) -> torch.Size | None:
    """The shape that all can be expanded to, if there is one."""
    sides = zip_longest(*(operand.shape[::-1] for operand in operands), fillvalue=1)
    sizes = [set(side) - {1} or {1} for side in sides][::-1]
    return None if any(len(size) > 1 for size in sizes) else torch.Size([min(size) for size in sizes])


def _in_order(x: Tensor) -> bool:
    """Whether a later dimension never takes larger steps in memory than an earlier one."""
    return 0 not in _steps(x) and _steps(x) == sorted(_steps(x), reverse=True)


def _plainly_in_order(x: Tensor) -> bool:
    """As `_in_order`; also of dimensions of one element, by which torch sorts those that no operand puts in order."""
    return 0 not in _steps(x) and [*x.stride()] == sorted(x.stride(), reverse=True)


def _steps(x: Tensor) -> list[int]:
    """Strides of dimensions along which there is more than one element."""
    return [stride for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1]


def batch_norm(x: Tensor, *vectors_and_settings: Any) -> Any:
    """A tensor like the input, if weight, bias and statistics have an element for each channel."""
    vectors = [vector for vector in vectors_and_settings[:4] if vector is not None]
    if x.ndim < 2 or any(vector.shape != x.shape[1:2] for vector in vectors):
        return NotImplemented
    return _empty_like(x)


def layer_norm(x: Tensor, shape: Sequence[int], weight: Any = None, bias: Any = None, *_: Any) -> Any:
    """A tensor of the input's shape, if the normalised shape, weight and bias agree with its last dimensions."""
    last = x.shape[x.ndim - len(shape) :]
    if any(part is not None and tuple(part) != last for part in (shape, _shape(weight), _shape(bias))):
        return NotImplemented
    return _empty(x.shape, x)


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, *mask_and_settings: Any, **_: Any) -> Any:
    """(..., queries, size of a value), if there is no mask and the sizes agree."""
    batch = query.shape[:-2]
    agrees = batch == key.shape[:-2] == value.shape[:-2] and key.shape[-2] == value.shape[-2]
    if mask_and_settings[:1] not in ((), (None,)) or not agrees or query.shape[-1] != key.shape[-1]:
        return NotImplemented
    return _empty((*query.shape[:-1], value.shape[-1]), query)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Any:
    """The tensors one after another, if they agree in the other dimensions."""
    first = tensors[0]
    if not -first.ndim <= dim < first.ndim:
        return NotImplemented
    shape = list(first.shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors if tensor.ndim == first.ndim)
    for tensor in tensors:
        others = [*tensor.shape]
        if tensor.ndim == first.ndim:
            others[dim] = shape[dim]
        if others != shape or tensor.dtype is not first.dtype:
            return NotImplemented
    return _empty(shape, first)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Any:
    """The tensors along a new dimension, if they are alike."""
    first = tensors[0]
    if not -first.ndim <= dim <= first.ndim:
        return NotImplemented
    if any(tensor.shape != first.shape or tensor.dtype is not first.dtype for tensor in tensors):
        return NotImplemented
    shape = list(first.shape)
    shape.insert(dim if dim >= 0 else first.ndim + dim + 1, len(tensors))
    return _empty(shape, first)


def im2col(
    x: Tensor, kernel_size: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Any:
    """The windows of a batch of images: (N, C, H, W) -> (N, C * k * k, places)."""
    places = _places(x.shape[2:], kernel_size, stride, padding, dilation)
    return _empty((x.shape[0], x.shape[1] * prod(kernel_size), prod(places)), x) if places else NotImplemented


def col2im(
    x: Tensor, output_size: Sequence[int], kernel_size: Sequence[int], dilation: Sequence[int],
    padding: Sequence[int], stride: Sequence[int],
) -> Any:  # fmt: skip
    """The windows of a batch summed into images: (N, C * k * k, places) -> (N, C, *output_size)."""
    places, window = _places(output_size, kernel_size, stride, padding, dilation), prod(kernel_size)
    if x.ndim != 3 or not places or x.shape[2] != prod(places) or x.shape[1] % window:
        return NotImplemented
    return _empty((x.shape[0], x.shape[1] // window, *output_size), x)


def linspace(start: Any, end: Any, steps: int, *, dtype: torch.dtype | None = None, **_: Any) -> Any:
    """A vector of so many numbers, of the default type if none is given."""
    if steps < 0 or not all(isinstance(side, (int, float)) for side in (start, end)):
        return NotImplemented
    return torch.empty(steps, dtype=dtype, device="meta")


def arange(*bounds: Any, dtype: torch.dtype | None = None, **_: Any) -> Any:
    """The whole numbers of a range, of type int64 if none is given."""
    if not all(type(bound) is int for bound in bounds) or bounds[2:] == (0,) or not range(*bounds):
        return NotImplemented
    return torch.empty(len(range(*bounds)), dtype=dtype or torch.int64, device="meta")


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,), dilation: Sequence[int] = (1,), groups: int = 1,
) -> Any:  # fmt: skip
    """(N, C, ...) -> (N, output channels, ...), if the channels, the bias and the types agree."""
    if x.ndim != weight.ndim or isinstance(padding, str) or x.dtype is not weight.dtype:
        return NotImplemented
    places = _places(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    agrees = x.shape[1] == weight.shape[1] * groups and weight.shape[0] % groups == 0
    if not places or not agrees or (bias is not None and bias.shape != weight.shape[:1]):
        return NotImplemented
    return _empty((x.shape[0], weight.shape[0], *places), x)


def _places(sides: Sequence[int], *settings: Sequence[int], ceil_mode: bool = False) -> list[int]:
    """How often a window fits along each side, by kernel size, stride, padding and dilation; nothing if it does not.

    In `ceil_mode` the last one may reach beyond the padding, as long as it begins before it.
    """
    per_side = [list(setting) * len(sides) if len(setting) == 1 else setting for setting in settings]
    if any(len(setting) != len(sides) for setting in per_side):
        return []
    places = []
    for n, k, s, p, d in zip(sides, *per_side, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        more = ceil_mode and room % s > 0 and (room // s + 1) * s < n + p
        places.append(room // s + 1 + more)
    return places if min(places, default=0) > 0 else []


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    """(..., inputs) -> (..., outputs), if the sizes and the types agree."""
    agrees = weight.ndim == 2 and x.shape[-1:] == weight.shape[1:] and x.dtype is weight.dtype
    if not agrees or (bias is not None and (bias.shape != weight.shape[:1] or bias.dtype is not x.dtype)):
        return NotImplemented
    return _empty((*x.shape[:-1], weight.shape[0]), x)


def pad(x: Tensor, amounts: Sequence[int], mode: str = "constant", *_: Any) -> Any:
    """Larger along the last dimensions, of a contiguous tensor, if what is reflected is there."""
    last = list(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    sides = list(x.shape[x.ndim - len(last) :])
    reflects = mode == "reflect" and x.ndim in (len(last) + 1, len(last) + 2)
    fits = all(0 <= amount < side for side, both in zip(sides, last, strict=False) for amount in both)
    if len(last) > x.ndim or not x.is_contiguous() or not fits or not (reflects or mode == "constant"):
        return NotImplemented
    return _empty((*x.shape[: x.ndim - len(last)], *(n + sum(both) for n, both in zip(sides, last, strict=True))), x)


def max_pool(
    dims: int, x: Tensor, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,), ceil_mode: bool = False,
) -> Any:  # fmt: skip
    """(N, C, ...) -> (N, C, *places), along so many dimensions."""
    places = _places(x.shape[2:], kernel_size, stride or kernel_size, padding, dilation, ceil_mode=ceil_mode)
    pairs = zip(*(list(each) * (dims // len(each)) for each in (padding, kernel_size)), strict=True)
    if x.ndim != 2 + dims or not places or not x.is_contiguous() or any(2 * amount > side for amount, side in pairs):
        return NotImplemented
    return _empty((*x.shape[:2], *places), x)


def avg_pool(
    dims: int, x: Tensor, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    ceil_mode: bool = False, *_: Any,
) -> Any:  # fmt: skip
    """(N, C, ...) -> (N, C, *places), along so many dimensions."""
    return max_pool(dims, x, kernel_size, stride, padding, ceil_mode=ceil_mode)


def upsample_bilinear2d(x: Tensor, output_size: Sequence[int] | None, *_: Any) -> Any:
    """(N, C, H, W) -> (N, C, *output_size), where that is given."""
    if x.ndim != 4 or output_size is None or len(output_size) != 2 or not _in_order(x):
        return NotImplemented
    return _empty((*x.shape[:2], *output_size), x) if min(output_size) > 0 and x.numel() else NotImplemented


def reduction(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False, **named: Any) -> Any:
    """The tensor without these dimensions, or with 1 in their place."""
    if not dims or named.get("dtype") or not x.is_floating_point() or not x.is_contiguous():
        return NotImplemented
    if not all(-x.ndim <= dim < x.ndim for dim in dims) or len({dim % x.ndim for dim in dims}) < len(dims):
        return NotImplemented
    gone = {dim % x.ndim for dim in dims}
    return _empty([1 if i in gone else n for i, n in enumerate(x.shape) if keepdim or i not in gone], x)


def softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Any:
    """A tensor like the input."""
    plain = x.is_floating_point() and -x.ndim <= dim < x.ndim and dtype is None
    return _empty_like(x) if plain else NotImplemented


def topk(x: Tensor, k: int, dim: int = -1, *_: Any) -> Any:
    """k values along a dimension, and where they were."""
    if not -x.ndim <= dim < x.ndim or not 0 <= k <= x.shape[dim]:
        return NotImplemented
    shape = [k if i == dim % x.ndim else n for i, n in enumerate(x.shape)]
    return _empty(shape, x), torch.empty(shape, dtype=torch.int64, device="meta")


def embedding(weight: Tensor, indices: Tensor, *_: Any) -> Any:
    """(...) -> (..., size of a vector)."""
    whole = indices.dtype in (torch.int64, torch.int32)
    return _empty((*indices.shape, weight.shape[1]), weight) if weight.ndim == 2 and whole else NotImplemented


def index(x: Tensor, indices: Sequence[Tensor | None]) -> Any:
    """The elements at positions that are given along all dimensions."""
    given = [each for each in indices if each is not None and each.dtype is torch.int64 and _in_order(each)]
    shape = _common_shape(given)
    return _empty(shape, x) if shape is not None and len(given) == x.ndim else NotImplemented


def recurrent(x: Tensor, *args: Any) -> Any:
    """Output (..., directions * state) and last states of a recurrent network, packed or not, if the sizes fit."""
    batch_sizes, args = (args[0], args[1:]) if _is_batch_sizes(args[0]) else (None, args)
    states, weights, _, layers, _, _, bidirectional, *batch_first = args
    state, *cell = [states] if isinstance(states, Tensor) else states
    directions = 2 if bidirectional else 1
    batch = batch_sizes[0].item() if batch_sizes is not None else x.shape[0 if batch_first[0] else 1]
    if x.shape[-1] != weights[0].shape[-1] or state.shape[:2] != (layers * directions, batch):
        return NotImplemented
    output = _empty((*x.shape[:-1], directions * state.shape[-1]), x)
    return output, *(_empty(each.shape, x) for each in (state, *cell))


def _is_batch_sizes(arg: Any) -> bool:
    return isinstance(arg, Tensor) and arg.ndim == 1 and not arg.is_floating_point()


def recurrent_cell(x: Tensor, states: Any, weight: Tensor, *_: Any) -> Any:
    """States like the last ones, if the sizes fit."""
    state, *cell = [states] if isinstance(states, Tensor) else states
    if x.shape[-1] != weight.shape[-1] or x.shape[:-1] != state.shape[:-1]:
        return NotImplemented
    return tuple(_empty(each.shape, x) for each in (state, *cell)) if cell else _empty(state.shape, x)


def to(x: Tensor, *settings: Any, **named: Any) -> Any:
    """The tensor in another type; another device has no more of its data than this one."""
    if any(isinstance(setting, torch.memory_format) for setting in (*settings, *named.values())):
        return NotImplemented
    dtypes = [getattr(setting, "dtype", setting) for setting in (*settings, named.get("dtype"))]
    dtype = next((dtype for dtype in dtypes if isinstance(dtype, torch.dtype)), x.dtype)
    return x if dtype is x.dtype else torch.empty_like(x, dtype=dtype)


def adaptive_avg_pool(x: Tensor, output_size: Sequence[int]) -> Any:
    """(N, C, ...) -> (N, C, *output_size)."""
    return _empty((*x.shape[:2], *output_size), x) if x.ndim == 2 + len(output_size) else NotImplemented


QUICK_RESULTS: dict[str, Callable[..., Any]] = {
    **{f"aten::{name}": pointwise for name in ARITHMETIC.split()},
    **{f"aten::{name}": sum_or_product for name in ("add", "sub", "mul")},
    **{f"aten::{name}_like": like for name in ("empty", "zeros", "ones", "full")},
    "aten::rsub": rsub,
    "aten::embedding": embedding,
    "aten::index": index,
    "aten::topk": topk,
    "aten::batch_norm": batch_norm,
    "aten::layer_norm": layer_norm,
    "aten::scaled_dot_product_attention": scaled_dot_product_attention,
    "aten::cat": cat,
    "aten::stack": stack,
    "aten::im2col": im2col,
    "aten::col2im": col2im,
    "aten::linspace": linspace,
    "aten::arange": arange,
    **{f"aten::conv{dims}d": convolution for dims in (1, 2, 3)},
    "aten::linear": linear,
    "aten::pad": pad,
    **{f"aten::max_pool{dims}d": partial(max_pool, dims) for dims in (2, 3)},
    **{f"aten::avg_pool{dims}d": partial(avg_pool, dims) for dims in (2, 3)},
    "aten::upsample_bilinear2d": upsample_bilinear2d,
    "aten::sum": reduction,
    "aten::mean": reduction,
    "aten::softmax": softmax,
    **{f"aten::adaptive_avg_pool{dims}d": adaptive_avg_pool for dims in (2, 3)},
    "aten::to": to,
    **{f"aten::{name}": recurrent for name in ("rnn_tanh", "rnn_relu", "gru", "lstm")},
    **{f"aten::{name}_cell": recurrent_cell for name in ("rnn_tanh", "rnn_relu", "gru", "lstm")},
}
