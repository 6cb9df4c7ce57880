"""What is installed: a wheel, also where there is no compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest

TREE = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "adaptive_models", "baselines", "bench")
BUILT = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "*.egg-info")


def run(*arguments: str, folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which foveabench is installed from a wheel that was built where no compiler works."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("install")
    (folder / "tree").mkdir()
    for name in SOURCES:
        source = TREE / name
        if source.is_dir():
            shutil.copytree(source, folder / "tree" / name, ignore=BUILT)
        else:
            shutil.copy(source, folder / "tree")
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), ".")
    run(*build, folder=folder / "tree", environment={"CC": "/no/compiler", "CXX": "/no/compiler"})
    (wheel,) = folder.glob("foveabench-*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_without_a_compiler_all_but_the_compiled_is_installed(site: Path) -> None:
    tracked = {
        path.relative_to(TREE)
        for name in SOURCES[3:]
        for path in (TREE / name).rglob("*")
        if path.is_file() and path.suffix not in {".so", ".pyd", ".pyc", ".cpp", ".h"}
    }
    installed = {path.relative_to(site) for path in site.rglob("*") if path.is_file()}
    assert tracked - installed == set()
    assert not [path for path in installed if path.suffix in {".so", ".pyd"}]


def test_without_a_compiler_it_runs_and_says_what_is_slower(site: Path, tmp_path: Path) -> None:
    code = """
import bench, torch
from adaptive_models import build_backbone, native
print(bench.__file__, native.build())
model = build_backbone("san-mini").eval()
with torch.inference_mode():
    print(model(torch.zeros(1, 3, 64, 64)).isfinite().all().item())
from bench.doctor import _compiled
print(_compiled().found)
"""
    said = run("-c", code, folder=tmp_path, environment={"PYTHONPATH": str(site)}).splitlines()
    assert said == [
        f"{site / 'bench' / '__init__.py'} None",
        "True",
        "built without a compiler: on a CPU, SAN infers and trains in plain torch, at a fraction of its speed",
    ]
