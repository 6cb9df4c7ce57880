"""The compiled operators, compiled again with the sanitizers of addresses and of undefined behaviour."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adaptive_models import native

FLAGS = {"base": [], "v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4"]}
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def sanitized(build: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Compile the operators of a build, and run them over random shapes."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    found = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    runtime = Path(found.stdout.strip())
    if not runtime.is_absolute():
        pytest.skip("g++ has no address sanitizer")
    if build not in native.BUILDS.get(torch.backends.cpu.get_cpu_capability(), ("base",)):
        pytest.skip(f"this processor cannot run the build {build}")
    library, sources = folder / "kernels.so", sorted(Path(native.__file__).parent.glob("*.cpp"))
    compiling = [compiler, "-std=c++17", "-O1", "-g", "-fopenmp", "-fPIC", "-shared", *SANITIZE, *FLAGS[build]]
    subprocess.run([*compiling, *map(str, sources), "-o", str(library)], check=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(runtime.resolve()),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "OMP_NUM_THREADS": "2",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    script = Path(__file__).with_name("sanitized.py")
    command = [sys.executable, str(script), str(library), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("build", FLAGS)
def test_operators_stay_within_their_memory(build: str, tmp_path: Path) -> None:
    done = sanitized(build, tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]


def test_a_line_too_few_is_found(tmp_path: Path) -> None:
    done = sanitized("base", tmp_path, "fault")
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
