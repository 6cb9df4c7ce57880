from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_contract_is_kept(shared: Path) -> None:
    check = shared / "contract" / "check.py"
    if not check.is_file():
        pytest.skip("there is no contract/check.py in the reference material")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    run = subprocess.run(
        [sys.executable, str(check)], capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 failed" in run.stdout
