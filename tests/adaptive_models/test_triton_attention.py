from __future__ import annotations

import copy
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from adaptive_models import build_backbone, fused

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def test_kernels_compute_what_the_plain_version_does() -> None:
    script = Path(__file__).with_name("interpreted.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("size", [64, 112, 224])
def test_networks_on_a_gpu_compute_what_their_layers_do(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEABENCH_TRITON", "1")
    fused._runs_triton.cache_clear()
    torch.manual_seed(0)
    network, x = build_backbone("san19").eval().cuda(), torch.randn(2, 3, size, size, device="cuda")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with torch.inference_mode():
        assert fused.suits(network, network._order, x)
        made = network(x), *network.prescan(x)
        monkeypatch.setattr(fused, "suits", lambda *_: False)
        reference = copy.deepcopy(network).double()
        true = reference(x.double()), *reference.prescan(x.double())
    for found, expected in zip(made, true, strict=True):
        assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()
