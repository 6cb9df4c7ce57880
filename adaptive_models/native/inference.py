"""The compiled operators of inference: local attention, and batch norm with ReLU."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import torch
from torch import Tensor

from adaptive_models import native
from adaptive_models.folding import Pairwise, Patchwise
from adaptive_models.maps import Maps, reflected


def fits(groups: int) -> bool:
    """Whether a number of groups fills vectors."""
    lanes = native.lanes()
    return groups % lanes == 0 or (lanes % groups == 0 and 8 * groups >= lanes)


def attend(weigh: Pairwise | Patchwise, maps: Maps, attention: bool) -> tuple[Tensor, Tensor | None]:
    """Local attention, with ReLU behind it.

    Args:
        weigh: folded weights of its kind.
        maps: of the folded convolutions.
        attention: whether to sum up the attention, too.

    Returns:
        The sums (N * H * W, V + 1), the last of which are 1, and the cumulative global attention (N, H * W, G), or
        None.
    """
    sums = maps.rows.new_empty(len(maps.rows), maps.values + 1)
    looked_at = maps.rows.new_zeros(maps.images, maps.height * maps.width, maps.groups) if attention else None
    sizes = (maps.images, maps.height, maps.width, maps.rows.shape[1], maps.relation, maps.values, maps.groups)
    results = (_pointer(sums), sums.shape[1], None if looked_at is None else _pointer(looked_at))
    if isinstance(weigh, Pairwise):
        tensors = (
            *weigh.places_of(maps.height, maps.width),
            *(weigh.first, weigh.bias, weigh.second),
            *_neighbours(maps.height, maps.width, maps.side),
        )
        call: ctypes.Structure = _Pairwise(_pointer(maps.rows), *sizes, *map(_pointer, tensors), *results)
        _operators().foveabench_pairwise(ctypes.byref(call))
    else:
        tensors = (
            *(weigh.scale, weigh.shift, weigh.first, weigh.bias),
            *(weigh.second, weigh.second_bias, weigh.value_shift),
            *reflected(maps.height, maps.width, maps.side),
        )
        call = _Patchwise(_pointer(maps.rows), *sizes, maps.side, *map(_pointer, tensors), *results)
        _operators().foveabench_patchwise(ctypes.byref(call))
    return sums, looked_at


def rectify(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Scale and shift the channels of contiguous rows (N, C), and cut off at 0."""
    out = torch.empty_like(rows)
    _operators().foveabench_rectify(*map(_pointer, (rows, scale, shift, out)), *map(ctypes.c_int64, rows.shape))
    return out


_SIZES = ("images", "height", "width", "stride", "relation", "values", "groups")
_RESULTS = (("out", ctypes.c_void_p), ("out_stride", ctypes.c_int64), ("attention", ctypes.c_void_p))


class _Pairwise(ctypes.Structure):
    """`Pairwise` of pairwise.cpp."""

    _fields_ = (
        ("maps", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_void_p) for name in ("query_places", "key_places", "first", "bias", "second")),
        *(
            (axis + name, ctypes.c_void_p)
            for axis, first in (("row_", "rows"), ("column_", "columns"))
            for name in ("starts", first, "counts", "direct")
        ),
        *_RESULTS,
    )


class _Patchwise(ctypes.Structure):
    """`Patchwise` of patchwise.cpp."""

    _fields_ = (
        ("maps", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in (*_SIZES, "side")),
        *((name, ctypes.c_void_p) for name in ("scale", "shift", "first", "bias", "second", "second_bias")),
        *((name, ctypes.c_void_p) for name in ("value_shift", "rows", "columns")),
        *_RESULTS,
    )


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _operators() -> ctypes.CDLL:
    found = native.operators()
    assert found is not None
    return found


@lru_cache(maxsize=64)
def _neighbours(height: int, width: int, side: int) -> tuple[Tensor, ...]:
    """Of each row, then of each column of a map: starts, neighbours without repeats, their counts, and if in reach."""
    return tuple(tensor for padded in reflected(height, width, side) for tensor in _without_repeats(padded, side))


def _without_repeats(padded: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    starts, found, counts, direct = [0], [], [], []
    for here in range(len(padded) - side + 1):
        neighbours, times = padded[here : here + side].unique(return_counts=True)
        found.append(neighbours)
        counts.append(times)
        direct.append(((neighbours - here).abs() <= side // 2).long())
        starts.append(starts[-1] + len(neighbours))
    return torch.tensor(starts), torch.cat(found), torch.cat(counts), torch.cat(direct)
