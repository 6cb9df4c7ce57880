from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from adaptive_models import build_backbone, fused

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def test_kernels_compute_what_the_plain_version_does() -> None:
    script = Path(__file__).with_name("interpreted.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Triton's kernels where they can run."""
    monkeypatch.setenv("FOVEABENCH_TRITON", "1")
    fused._runs_triton.cache_clear()
    yield
    fused._runs_triton.cache_clear()


@pytest.mark.usefixtures("asked_for")
@pytest.mark.parametrize("name", ["san-mini", "san-mini-patchwise"])
def test_a_cpu_goes_without(name: str) -> None:
    network = build_backbone(name).eval()
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setitem(sys.modules, "adaptive_models.triton_attention", None)  # to import it would fail
        network.prescan(torch.randn(1, 3, 32, 32))
        assert not fused.suits(network.half(), network._order, torch.zeros(1, 3, 32, 32, dtype=torch.half))


@pytest.fixture
def meta_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device in place of a GPU, to ask what would run there."""
    monkeypatch.setattr(fused, "_runs_triton", lambda device: device.type == "meta")
    monkeypatch.setitem(fused._DTYPES, "meta", fused._DTYPES["cuda"])
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # which meta does not know


@pytest.mark.usefixtures("meta_for_a_gpu")
@pytest.mark.parametrize("name", ["san-mini", "san-mini-patchwise"])
def test_kernels_run_inference_in_their_types_and_nothing_else(name: str) -> None:
    with torch.device("meta"):
        network, x = build_backbone(name).eval(), torch.empty(1, 3, 32, 32)

    def suits(x: Tensor) -> bool:
        return fused.suits(network, network._order, x)

    assert not suits(x)  # gradients are wanted
    with torch.no_grad():
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            network.to(dtype)
            assert suits(x.to(dtype))
            assert not any(suits(x.to(other)) for other in {torch.float16, torch.float32} - {dtype})
        assert not suits(x)
        network.double()
        assert not suits(x.double())
        network.float()
        assert suits(x)
        with FlopCounterMode(display=False):
            assert not suits(x)
        assert torch.compile(lambda x: x if suits(x) else x[:0], backend="eager")(x).shape[0] == 0
        network.train()
        assert not suits(x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.usefixtures("asked_for")
@pytest.mark.parametrize("name", ["san19", "san19-patchwise"])
@pytest.mark.parametrize("size", [64, 112, 224])
def test_networks_on_a_gpu_compute_what_their_layers_do(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network, x = build_backbone(name).eval().cuda(), torch.randn(2, 3, size, size, device="cuda")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with torch.inference_mode():
        assert fused.suits(network, network._order, x)
        made = network(x), *network.prescan(x)
        monkeypatch.setattr(fused, "suits", lambda *_: False)
        reference = copy.deepcopy(network).double()
        true = reference(x.double()), *reference.prescan(x.double())
    for found, expected in zip(made, true, strict=True):
        assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()
