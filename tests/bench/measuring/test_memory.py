from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench.measuring import memory
from bench.measuring.memory import PeakMemory, available_bytes, resident_bytes

MB = 1 << 20


def touched(megabytes: int) -> np.ndarray:
    return np.ones(megabytes * MB, dtype=np.uint8)


def needs_reset(peak: PeakMemory) -> None:
    if peak.how != "VmHWM":
        pytest.skip("the peak of this process cannot be set back")


def test_resident_memory_grows_by_what_is_touched() -> None:
    before = resident_bytes()
    array = touched(100)
    assert resident_bytes() - before == pytest.approx(array.nbytes, rel=0.1)


def test_the_peak_is_seen_after_it_has_passed() -> None:
    peak, start = PeakMemory(), resident_bytes()
    needs_reset(peak)
    touched(150)  # and let go
    assert resident_bytes() - start < 50 * MB
    assert peak.peak_bytes - start == pytest.approx(150 * MB, rel=0.1)


def test_a_peak_before_construction_does_not_count() -> None:
    touched(300)  # and let go
    peak, start = PeakMemory(), resident_bytes()
    needs_reset(peak)
    assert peak.peak_bytes - start < 20 * MB
    touched(100)  # and let go
    assert peak.peak_bytes - start == pytest.approx(100 * MB, rel=0.1)


OLD = """
import numpy as np
from pathlib import Path
from bench.measuring import memory
memory.CLEAR = Path("NO")
np.ones(200 << 20, dtype=np.uint8)
start = memory.resident_bytes()
peak = memory.PeakMemory()
print(peak.how, peak.peak_bytes - start)
"""


@pytest.mark.parametrize("clear", ["/no/such/file", os.devnull])
def test_where_the_peak_cannot_be_set_back_it_is_that_since_the_start(tmp_path: Path, clear: str) -> None:
    # on other systems than Linux, and where the kernel does not let us
    status = "memory.STATUS = Path('/dev/null')\n" if clear == os.devnull else ""
    code = OLD.replace('memory.CLEAR = Path("NO")\n', f"memory.CLEAR = Path({clear!r})\n{status}")
    folder = Path(__file__).resolve().parents[3]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    how, growth = run.stdout.split()
    assert how == "ru_maxrss"
    assert int(growth) > 180 * MB  # or more: Linux hands it down from the process that started this one


def test_the_unit_of_the_peak_is_that_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "none" / "clear_refs")
    in_kilobytes = PeakMemory().peak_bytes
    monkeypatch.setattr(sys, "platform", "darwin")  # which tells bytes
    assert PeakMemory().peak_bytes == in_kilobytes // 1024


# --- memory that is free ---


def group(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("-", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_memory_of_a_machine_without_groups(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.1)


def test_a_group_leaves_its_limit_less_what_it_uses_but_for_files_that_give_way(tmp_path: Path) -> None:
    files = {"memory-max": f"{900 * MB}\n", "memory-current": f"{800 * MB}\n"}
    group(tmp_path, **files, **{"memory-stat": f"anon {90 * MB}\ninactive_file {700 * MB}\nactive_file {10 * MB}\n"})
    assert available_bytes(tmp_path) == 800 * MB


def test_a_group_of_the_first_version(tmp_path: Path) -> None:
    files = {"memory__memory-limit_in_bytes": f"{500 * MB}\n", "memory__memory-usage_in_bytes": f"{300 * MB}\n"}
    group(tmp_path, **files, **{"memory__memory-stat": f"cache 5\ntotal_inactive_file {100 * MB}\n"})
    assert available_bytes(tmp_path) == 300 * MB


@pytest.mark.parametrize("limit", ["max\n", str(1 << 63)])
def test_a_group_without_a_limit(tmp_path: Path, limit: str) -> None:
    group(tmp_path, **{"memory-max": limit, "memory-current": "5\n", "memory-stat": "inactive_file 0\n"})
    assert available_bytes(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.1)
