"""Weights in large pages: where the kernel says that they are, and with the values that they had."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adaptive_models import native
from adaptive_models.native import pages
from adaptive_models.native.pages import PAGE, into_large_pages
from adaptive_models.recurrent import GRU, Int8GRU

KIB = 1024


def in_large_pages(tensor: Tensor) -> int:
    """Bytes in large pages, as the kernel tells, of the mappings that a tensor lies in: it may lie in several."""
    first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    inside, found = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name = line.split()[0]
        if not name.endswith(":"):
            begin, end = (int(address, 16) for address in name.split("-"))
            inside = begin < last and first < end
        elif inside and name == "AnonHugePages:":
            found += int(line.split()[1]) * KIB
    return found


@pytest.fixture
def kernel_can() -> None:
    """Skip where it cannot: a page that was touched is to become a large one, and is none before it is asked for."""
    if sys.platform != "linux":
        pytest.skip("the kernel is not Linux")
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.is_file() or "[always]" in setting.read_text():
        pytest.skip("the kernel makes large pages without being asked, or none")
    memory = torch.ones(2 * PAGE, dtype=torch.uint8)
    begin = -(-memory.data_ptr() // PAGE) * PAGE
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(PAGE), 25):
        pytest.skip(f"the kernel makes no large pages when asked: errno {ctypes.get_errno()}")


@pytest.mark.usefixtures("kernel_can")
def test_memory_becomes_large_pages_and_keeps_what_it_holds() -> None:
    tensor = torch.randn(40 * PAGE // 4)
    before = tensor.clone()
    into_large_pages(tensor)
    assert in_large_pages(tensor) >= PAGE  # how many more depends on how much memory is in one piece
    assert tensor.equal(before)


@pytest.mark.usefixtures("kernel_can")
@pytest.mark.skipif(native.operators() is None, reason="no compiled operators here")
def test_a_gru_is_moved_at_its_first_step_and_when_its_weights_were_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    move = pages.into_large_pages
    monkeypatch.setattr(
        "adaptive_models.recurrent.into_large_pages", lambda *weights: (moved.append(len(weights)), move(*weights))
    )
    gru, x = GRU(2000, 1000).eval(), torch.randn(1, 1, 2000)
    with torch.inference_mode():
        first = gru(x)[0]
        assert gru(x)[0].equal(first)
    assert moved == [2]  # both matrices
    assert in_large_pages(gru.weight_ih_l0) >= PAGE
    gru.weight_ih_l0 = torch.nn.Parameter(gru.weight_ih_l0.detach().clone())
    with torch.inference_mode():
        assert gru(x)[0].equal(first)
    assert moved == [2, 2]
    small = Int8GRU(gru)
    with torch.inference_mode():
        small(x)
    assert moved == [2, 2, 2]
    assert in_large_pages(small.weight_ih_l0) >= PAGE


def test_what_fills_no_page_and_what_no_kernel_moves_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    into_large_pages(torch.empty(0), torch.ones(5))
    monkeypatch.setattr(pages, "_madvise", lambda: None)
    into_large_pages(torch.ones(PAGE))
