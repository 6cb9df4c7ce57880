from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from bench import doctor
from bench.doctor import Finding, cpu_quota, examine, pressure, real_cores, show
from bench.measuring.machine import environment, usable_cores

CPU = torch.device("cpu")
CPUS = "sys/devices/system/cpu"
PRESSURE = "some avg10={} avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0"
LAPTOP = {
    **{f"{CPUS}/cpu{core}/cpufreq/scaling_governor": "powersave" for core in usable_cores()},
    **{f"{CPUS}/cpu{core}/topology/thread_siblings_list": "0,4" for core in usable_cores()},
    f"{CPUS}/intel_pstate/no_turbo": "0",
    f"{CPUS}/cpu0/thermal_throttle/core_throttle_count": "17",
    "proc/cpuinfo": "vendor_id : GenuineIntel\nmodel name : Intel(R) Core(TM) i7\nflags : fpu hypervisor\n",
    "proc/pressure/cpu": PRESSURE.format("12.50"),
    "proc/pressure/io": PRESSURE.format("0.00"),
    "proc/pressure/memory": PRESSURE.format("3.00"),
    "proc/self/cgroup": "0::/user.slice",
    "sys/fs/cgroup/user.slice/cpu.max": "50000 100000",
    "sys/class/powercap/intel-rapl:0/energy_uj": "1",
}
SERVER = {
    **{f"{CPUS}/cpu{core}/cpufreq/scaling_governor": "performance" for core in usable_cores()},
    **{f"{CPUS}/cpu{core}/topology/thread_siblings_list": str(core) for core in usable_cores()},
    f"{CPUS}/cpufreq/boost": "0",
    f"{CPUS}/cpu0/thermal_throttle/core_throttle_count": "0",
    "proc/cpuinfo": "vendor_id : AuthenticAMD\nmodel name : AMD EPYC\nflags : fpu\n",
    "proc/self/cgroup": "0::/",
    "sys/fs/cgroup/cpu.max": "max 100000",
}


@pytest.fixture
def kernel(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Makes a directory that looks like the kernel's."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n")
        return tmp_path

    return write


def by_topic(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.topic: finding for finding in findings}


def test_examining_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    doctor._energy(CPU)  # imports codecarbon, where it estimates
    start = time.perf_counter()
    findings = examine(CPU)
    assert time.perf_counter() - start < 5
    assert all(finding.remedy for finding in findings if finding.state == "warning")
    assert json.loads(json.dumps([asdict(finding) for finding in findings]))[0]["topic"] == "load"
    topics = by_topic(findings)
    assert {"other processes", "memory", "threads", "timer", "noise", "CPU energy counter", "energy"} <= set(topics)
    assert topics["energy"].found.split(":")[0] in ("measured", "estimated", "unavailable")
    show(findings)
    printed = capsys.readouterr().out
    assert all(topic in printed for topic in topics)


def test_a_busy_process_is_named_with_its_share() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            found = doctor._other_processes(CPU, Path("/"))
        finally:
            other.kill()
    assert found.state == "warning"
    assert "other processes used" in found.found
    assert f"(pid {other.pid})" in found.found or found.found.count("(pid ") == 3  # busier ones
    assert f"(pid {os.getpid()})" not in found.found


def test_a_laptop(kernel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    battery = SimpleNamespace(power_plugged=False, percent=41.0)
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    monkeypatch.setenv("MKL_VERBOSE", "0")
    topics = by_topic(examine(CPU, kernel(LAPTOP)))
    warned = {topic for topic, finding in topics.items() if finding.state == "warning"}
    assert {"clock governor", "turbo", "virtual machine", "threads", "cpu pressure", "memory", "battery"} <= warned
    assert {"heat", "CPU quota", "slowing settings"} <= warned
    assert "io pressure" not in topics
    assert topics["turbo"].remedy == "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"
    assert topics["CPU quota"].found.startswith("0.5 CPUs' time")
    assert topics["heat"].found.endswith("counted 17 since the start")
    assert topics["slowing settings"].remedy == "unset CUDA_LAUNCH_BLOCKING"
    assert topics["threads"].remedy == "OMP_NUM_THREADS=1 foveabench ..."
    if len(usable_cores()) > 1:
        assert topics["hyper-threading"].remedy.startswith(f"taskset --cpu-list {usable_cores()[0]} ")


def test_a_server(kernel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None, raising=False)
    for name in doctor.SLOWING_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    topics = by_topic(examine(CPU, kernel(SERVER)))
    good = {topic for topic, finding in topics.items() if finding.state == "good"}
    assert {"clock governor", "turbo", "threads", "heat", "timer"} <= good
    assert not {"virtual machine", "hyper-threading", "CPU quota", "battery", "cpu pressure"} & set(topics)
    assert topics["CPU energy counter"].found.startswith("none")


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        # The smallest on the way up counts.
        (
            {
                "proc/self/cgroup": "0::/a.slice/b.scope",
                "sys/fs/cgroup/a.slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/a.slice/b.scope/cpu.max": "300000 100000",
            },
            2.0,
        ),
        # In a container the path is the host's, and the files lie at the top.
        ({"proc/self/cgroup": "0::/docker/12ab", "sys/fs/cgroup/cpu.max": "25000 50000"}, 0.5),
        # Version 1, where -1 is no limit.
        (
            {
                "proc/self/cgroup": "5:memory:/\n4:cpu,cpuacct:/docker/12ab\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/docker/12ab/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu,cpuacct/docker/12ab/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            4.0,
        ),
    ],
)
def test_quotas_of_control_groups(kernel: Callable[..., Path], files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(kernel(files)) == quota


def test_pressure(kernel: Callable[..., Path]) -> None:
    root = kernel({"proc/pressure/io": PRESSURE.format("7.25")})
    assert pressure("io", root) == 7.25
    assert pressure("cpu", root) is None


def test_real_cores(kernel: Callable[..., Path]) -> None:
    pairs = {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5", 6: "6"}
    root = kernel({f"{CPUS}/cpu{core}/topology/thread_siblings_list": pair for core, pair in pairs.items()})
    assert real_cores([0, 1, 4, 5, 6, 7], root) == [0, 1, 6, 7]  # of 7 nothing is told
    assert real_cores([4, 5], root) == [4, 5]


def test_counters_that_only_root_may_read(kernel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = kernel(
        {"sys/class/powercap/intel-rapl:0/energy_uj": "1", "sys/class/powercap/intel-rapl:0:0/energy_uj": "1"}
    )
    assert doctor._rapl(root) == Finding("CPU energy counter", "good", "RAPL, 2 zones")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert doctor._rapl(root).remedy.startswith("sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj")


def test_a_package_built_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.native, "build", lambda: None)
    (finding,) = (found for found in examine(CPU) if found.topic == "local attention")
    assert finding.state == "warning"
    assert "plain torch" in finding.found
    assert "compiler" in finding.remedy


def test_torch_looking_for_anomalies() -> None:
    with torch.autograd.set_detect_anomaly(True):
        found = doctor._slowing_settings()
    assert found.state == "warning"
    assert "set_detect_anomaly(False)" in found.remedy


class FakeGpu:
    """Answers as the driver would."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def ask(self, question: str) -> Any:
        return self.answers.get(question)

    def clock(self) -> float:
        return 345.0

    def slowdowns(self) -> list[str]:
        return self.answers.get("slow", [])

    def other_processes(self) -> int | None:
        return self.answers.get("others")


@pytest.mark.parametrize(
    ("gpu", "warned"),
    [
        (FakeGpu(PersistenceMode=1, MigMode=(0, 0), others=0), set()),
        (FakeGpu(), set()),  # a driver that tells nothing
        (FakeGpu(PersistenceMode=0), {"GPU persistence mode"}),
        (FakeGpu(MigMode=(1, 1), others=3), {"GPU partitions", "GPU processes"}),
        (FakeGpu(slow=["heat (driver)"]), {"GPU slowed down"}),
        (None, {"GPU"}),
    ],
)
def test_findings_of_a_gpu(gpu: Any, warned: set[str]) -> None:
    where = replace(environment(CPU), gpu="NVIDIA H200", gpu_driver="575.1", gpu_power_limit_watts=700.0)
    findings = doctor._gpu(gpu, where)
    assert {finding.topic for finding in findings if finding.state == "warning"} == warned
    assert all(finding.remedy for finding in findings if finding.state == "warning")


def test_warnings_are_shown_first(capsys: pytest.CaptureFixture[str]) -> None:
    show([Finding("memory", "good", "[plenty]"), Finding("turbo", "warning", "on", "echo 0")])
    printed = capsys.readouterr().out
    assert printed.index("turbo") < printed.index("memory")
    assert "[plenty]" in printed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_examining_a_real_gpu() -> None:
    topics = by_topic(examine(torch.device("cuda")))
    assert torch.cuda.get_device_name() in topics["GPU"].found
    assert "GPU clock" in topics
