"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import hypothesis
import pytest

os.environ.pop("PYTEST_XDIST_WORKER", None)  # for pytest-benchmark in the runs that tests start: those are no workers

hypothesis.settings.register_profile(
    "busy",  # machines stall for longer than an example may take
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("busy")


@pytest.fixture(scope="session", autouse=True)
def gives_memory_back() -> Iterator[None]:
    """Leaves the allocator of this process as it is when tests run the commands in it, as others measure its memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adaptive_models.training.allocator.keep_freed_memory", lambda: None)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material that developers have beside their checkout."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip("reference material (../shared) is not on this machine")
    return folder


@pytest.fixture
def files_up_to() -> Callable[[int], AbstractContextManager[None]]:
    """Lets the kernel refuse files of more bytes than given, as it does on a disk without room."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
