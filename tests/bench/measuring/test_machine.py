from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest
import torch

from bench.measuring import machine
from bench.measuring.machine import Watch, core_numbers, disturbances, environment, find_gpu, usable_cores
from bench.records.measurement import Activity

CPU = torch.device("cpu")
CPUS = "sys/devices/system/cpu"
STAT = "cpu  0 0 0 0 0 0 0 0 0 0\n{}intr 0\nctxt 0\nbtime 0\n"
INTEL = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Gold 6248\nflags\t\t: fpu sse2{}\n\n"
AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD Ryzen 9 5950X\nflags\t\t: fpu sse2{}\n\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0c\n\n"


@pytest.fixture
def kernel(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Makes a directory that looks like the kernel's."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("text", "cores"), [("0-3,8\n", [0, 1, 2, 3, 8]), ("5", [5]), ("0,2,4-5", [0, 2, 4, 5]), ("", []), ("\n", [])]
)
def test_several_cores_in_the_kernels_notation(text: str, cores: list[int]) -> None:
    assert core_numbers(text) == cores


# What the machine is.


def test_environment_of_this_machine() -> None:
    where = environment(CPU)
    assert where.memory_bytes == psutil.virtual_memory().total
    assert where.usable_cores == len(usable_cores()) <= where.logical_cores == os.cpu_count()
    assert where.torch == torch.__version__
    assert where.threads == (torch.get_num_threads(), torch.get_num_interop_threads())
    assert where.python == ".".join(map(str, sys.version_info[:3]))
    assert where.cpu
    assert where.libraries["numpy"]
    assert torch.backends.cpu.get_cpu_capability() in where.torch_build
    assert (where.gpu, where.gpu_memory_bytes) == ("", None)


def test_environment_tells_neither_host_nor_user_nor_paths() -> None:
    told = json.dumps(asdict(environment(CPU)))
    for secret in (socket.gethostname(), getpass.getuser(), Path.home().name):
        assert not re.search(rf"\b{re.escape(secret)}\b", told), secret
    assert not re.search(r'"/|file:|\.\./', told)


def test_environment_is_quick() -> None:
    environment(CPU)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        environment(CPU)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3


def test_revision_is_gits() -> None:
    folder = Path(machine.__file__).parents[2]
    if not (folder / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    assert environment(CPU).revision == git("rev-parse", "HEAD") + ("-dirty" if changed else "")


def test_environment_without_other_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    where = environment(CPU)
    assert where.revision == ""
    assert where.cpu


def test_clock_of_an_intel(kernel: Callable[..., Path]) -> None:
    of_core = {"scaling_governor": "powersave", "cpuinfo_min_freq": "800000", "cpuinfo_max_freq": "3900000"}
    files = {f"{CPUS}/cpu{core}/cpufreq/{name}": value for core in usable_cores() for name, value in of_core.items()}
    root = kernel(files | {f"{CPUS}/intel_pstate/no_turbo": "0"})
    where = environment(CPU, root)
    assert where.governor == "powersave"
    assert where.turbo is True
    assert where.clock_range_mhz == (800.0, 3900.0)


@pytest.mark.parametrize(
    ("name", "value", "turbo"),
    [
        ("intel_pstate/no_turbo", "1", False),
        ("cpufreq/boost", "1", True),
        ("cpufreq/boost", "0", False),
        ("unknown", "1", None),
    ],
)
def test_turbo(kernel: Callable[..., Path], name: str, value: str, turbo: bool | None) -> None:
    where = environment(CPU, kernel({f"{CPUS}/{name}": value}))
    assert where.turbo is turbo
    assert (where.governor, where.clock_range_mhz) == ("", None)


@pytest.mark.parametrize(
    ("cpuinfo", "maker", "product", "virtual"),
    [
        (INTEL.format(""), "Dell Inc.", "PowerEdge R740", ""),
        (INTEL.format(" hypervisor"), "QEMU", "Standard PC (Q35 + ICH9, 2009)", "QEMU"),
        (INTEL.format(" hypervisor"), "Amazon EC2", "m5.large", "Amazon EC2"),
        (INTEL.format(""), "Amazon EC2", "m5.metal", ""),
        (AMD.format(" hypervisor"), "", "", "unknown"),
        (AMD.format(""), "innotek GmbH", "VirtualBox", ""),
        (ARM, "QEMU", "KVM Virtual Machine", "KVM"),
        (ARM, "Amazon EC2", "c6g.metal", ""),
        (ARM, "Amazon EC2", "c6g.large", "Amazon EC2"),
        (ARM, "", "", ""),
    ],
)
def test_virtual_machines(kernel: Callable[..., Path], cpuinfo: str, maker: str, product: str, virtual: str) -> None:
    dmi = {"sys/class/dmi/id/sys_vendor": maker, "sys/class/dmi/id/product_name": product}
    assert environment(CPU, kernel({"proc/cpuinfo": cpuinfo, **dmi})).virtual == virtual


@pytest.mark.parametrize(("cpuinfo", "name"), [(INTEL, "Intel(R) Xeon(R) Gold 6248"), (AMD, "AMD Ryzen 9 5950X")])
def test_name_of_the_processor(kernel: Callable[..., Path], cpuinfo: str, name: str) -> None:
    assert environment(CPU, kernel({"proc/cpuinfo": cpuinfo.format("")})).cpu == name


@pytest.mark.skipif(shutil.which("lscpu") is None, reason="without lscpu ARM's processors are numbers")
def test_name_of_an_arm_processor(kernel: Callable[..., Path]) -> None:
    cores = {f"{CPUS}/{name}": "0-1" for name in ("possible", "present", "online")}
    assert environment(CPU, kernel({"proc/cpuinfo": ARM, **cores})).cpu == "Neoverse-N1"


# What the machine does.


@contextmanager
def busy_process() -> Iterator[psutil.Process]:
    """A process that computes as much as it can."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield psutil.Process(child.pid)
    finally:
        child.kill()
        child.wait()


def others() -> tuple[set[int], str, float]:
    """Other processes: which there are, the number last given to one, and their CPU seconds as they tell them."""
    seen = {p.pid: p.info["cpu_times"] for p in psutil.process_iter(["cpu_times"]) if p.pid != os.getpid()}
    newest = Path("/proc/loadavg")
    last = newest.read_text().split()[-1] if newest.exists() else ""
    return set(seen), last, sum(time.user + time.system for time in seen.values() if time)


def test_another_busy_process_is_foreign() -> None:
    with busy_process() as other:
        watch = Watch(CPU)
        before = other.cpu_times().user
        time.sleep(1.0)
        used = other.cpu_times().user - before
        activity = watch.activity()
    assert activity.busy_cpu_seconds is not None
    foreign = activity.busy_cpu_seconds - activity.own_cpu_seconds
    assert used - 0.1 <= foreign <= activity.seconds * activity.cores + 0.1
    if used > 0.2:  # or others left it too little
        (sentence,) = (text for text in disturbances(activity) if "other processes used" in text)
        share = re.fullmatch(r"other processes used (\d+)% of a core", sentence)
        assert share is not None
        assert int(share[1]) == pytest.approx(100 * foreign / activity.seconds, abs=1)


def test_own_threads_are_not_foreign() -> None:
    used: list[float] = []

    def work() -> None:
        start = time.thread_time()
        end = time.perf_counter() + 1.0
        while time.perf_counter() < end:
            hashlib.sha256(bytes(1 << 20))  # lets other threads run meanwhile
        used.append(time.thread_time() - start)

    watch = Watch(CPU)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    activity = watch.activity()
    assert sum(used) - 0.02 <= activity.own_cpu_seconds <= sum(used) + 0.3
    assert activity.busy_cpu_seconds is not None
    assert activity.busy_cpu_seconds >= activity.own_cpu_seconds - 0.1


def test_an_idle_second_is_silent() -> None:
    for _ in range(2):
        before, watch = others(), Watch(CPU)
        time.sleep(1.0)
        activity, after = watch.activity(), others()
        if before[:2] == after[:2] and after[2] - before[2] < 0.03:
            assert [text for text in disturbances(activity) if "processes" in text] == []
            return
    pytest.skip("other processes work on this machine")


class Kernel:
    """/proc/stat of a machine whose cores work as told; psutil reads it. Ticks are hundredths of a second."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "stat"
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(folder))

    def tell(self, **ticks: tuple[int, ...]) -> None:
        """Of each core: user, nice, system, idle, iowait, irq, softirq, steal."""
        lines = [f"{core} {' '.join(map(str, numbers))} 0 0\n" for core, numbers in ticks.items()]
        self.path.write_text(STAT.format("".join(lines)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
class TestCountersOfCores:
    @pytest.fixture
    def cores(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2}, raising=False)
        return Kernel(tmp_path, monkeypatch)

    def test_only_cores_that_the_process_may_use_count(self, cores: Kernel, kernel: Callable[..., Path]) -> None:
        root = kernel({f"{CPUS}/online": "0-2"})
        cores.tell(cpu0=(9, 0, 0, 9, 0, 0, 0, 0), cpu1=(9, 0, 0, 9, 0, 0, 0, 0), cpu2=(9, 0, 0, 9, 0, 0, 0, 0))
        watch = Watch(CPU, root)
        cores.tell(
            cpu0=(509, 0, 0, 9, 0, 0, 0, 300), cpu1=(19, 20, 30, 99, 500, 1, 2, 40), cpu2=(10, 0, 0, 99, 0, 0, 0, 5)
        )
        activity = watch.activity()
        assert activity.cores == 2
        assert activity.busy_cpu_seconds == pytest.approx(0.1 + 0.2 + 0.3 + 0.01 + 0.02 + 0.01)
        assert activity.stolen_cpu_seconds == pytest.approx(0.45)

    def test_cores_that_are_off_do_not_shift_the_others(self, cores: Kernel, kernel: Callable[..., Path]) -> None:
        root = kernel({f"{CPUS}/online": "0,2"})
        cores.tell(cpu0=(9, 0, 0, 9, 0, 0, 0, 0), cpu2=(9, 0, 0, 9, 0, 0, 0, 0))
        watch = Watch(CPU, root)
        cores.tell(cpu0=(99, 0, 0, 9, 0, 0, 0, 0), cpu2=(16, 0, 0, 9, 0, 0, 0, 0))
        assert watch.activity().busy_cpu_seconds == pytest.approx(0.07)

    def test_a_sandbox_that_tells_zeros_tells_nothing(self, cores: Kernel, kernel: Callable[..., Path]) -> None:
        cores.tell(cpu0=(0,) * 8, cpu1=(0,) * 8, cpu2=(0,) * 8)
        activity = Watch(CPU, kernel({f"{CPUS}/online": "0-2"})).activity()
        assert (activity.busy_cpu_seconds, activity.stolen_cpu_seconds) == (None, None)


def test_throttling_while_watched(kernel: Callable[..., Path]) -> None:
    count = f"{CPUS}/cpu{{}}/thermal_throttle/core_throttle_count"
    root = kernel({count.format(0): "40", count.format(1): "2"})
    watch = Watch(CPU, root)
    assert watch.activity().throttled == 0
    kernel({count.format(1): "7"})
    assert watch.activity().throttled == 5


def test_throttling_is_not_told_by_all() -> None:
    assert Watch(CPU, Path("/nowhere")).activity().throttled is None


def test_clocks_are_those_of_the_core_that_runs_us(
    kernel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = ["S", *"0" * 35, "1", "0", "0"]  # the state is the third, the core the 39th
    clock = f"{CPUS}/cpu{{}}/cpufreq/scaling_cur_freq"
    stat = "7 (a) name) " + " ".join(fields)
    root = kernel({"proc/self/stat": stat, clock.format(0): "1", clock.format(1): "3400000"})
    watch = Watch(CPU, root)
    watch.look()
    kernel({clock.format(1): "2100000"})
    watch.look()
    assert watch.activity().clocks_mhz == [3400.0]  # the second look came too soon
    monkeypatch.setattr(machine, "LOOK_SECONDS", 0.0)
    watch = Watch(CPU, root)
    watch.look()
    watch.look()
    assert watch.activity().clocks_mhz == [2100.0, 2100.0]


def test_looking_costs_next_to_nothing() -> None:
    watch = Watch(CPU)
    costs = []
    for _ in range(1000):
        start = time.perf_counter()
        watch.look()
        costs.append(time.perf_counter() - start)
    assert sorted(costs)[500] < 1e-5


def activity(seconds: float = 10.0, cores: int = 2, own: float = 10.0, **more: Any) -> Activity:
    return Activity(seconds=seconds, cores=cores, own_cpu_seconds=own, **more)


@pytest.mark.parametrize(
    ("seen", "sentences"),
    [
        (activity(), []),
        (activity(busy_cpu_seconds=10.2, stolen_cpu_seconds=0.03, involuntary_switches=40), []),
        (activity(busy_cpu_seconds=13.0), ["other processes used 30% of a core"]),
        (activity(busy_cpu_seconds=9.8), []),  # rounded down
        (activity(stolen_cpu_seconds=0.5), ["the hypervisor gave 5% of a core to others"]),
        (activity(busy_cpu_seconds=10.0, involuntary_switches=1200), []),
        (activity(involuntary_switches=1200), ["it had to wait for other processes 120 times a second"]),
        (activity(clocks_mhz=[3400.0, 3450.0, 3390.0]), []),
        (activity(clocks_mhz=[3400.0, 2000.0, 3400.0]), ["the CPU's clock went from 2000 to 3400 MHz"]),
        (activity(clocks_mhz=[1000.0] + [3400.0] * 19), []),  # one odd reading among twenty
        (activity(throttled=3), ["the CPU slowed down for heat (counted 3)"]),
        (activity(throttled=0, gpu_processes=0), []),
        (activity(gpu_clocks_mhz=[1980.0, 1200.0]), ["the GPU's clock went from 1200 to 1980 MHz"]),
        (activity(gpu_throttled=["power cap"]), ["the GPU slowed down: power cap"]),
        (activity(gpu_processes=2), ["other processes used the GPU (2)"]),
        # A tick of 10 ms on each of two cores is not yet load, however short the phase.
        (activity(seconds=0.1, own=0.1, busy_cpu_seconds=0.12, stolen_cpu_seconds=0.01), []),
        (activity(seconds=0.1, own=0.1, busy_cpu_seconds=0.19), ["other processes used 90% of a core"]),
        # What 64 idle cores do on their own is more, and matters less.
        (activity(cores=64, busy_cpu_seconds=14.0), []),
        (activity(cores=64, busy_cpu_seconds=20.0), ["other processes used 100% of a core"]),
        (activity(seconds=0.0, own=0.0), []),
    ],
)
def test_disturbances(seen: Activity, sentences: list[str]) -> None:
    assert disturbances(seen) == sentences


# GPUs.


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a GPU answers to NVML's questions; an error stands for "not supported"."""
    answers: dict[str, Any] = {
        "ClockInfo": 1755,
        "MaxClockInfo": 1980,
        "CurrentClocksThrottleReasons": 0,
        "ComputeRunningProcesses": [],
        "EnforcedPowerLimit": 700_000,
        "HandleByUUID": "handle",
    }

    def answer(question: str) -> Callable[..., Any]:
        def ask(*_: object) -> Any:
            if isinstance(answers[question], Exception):
                raise answers[question]
            return answers[question]

        return ask

    for question in answers:
        monkeypatch.setattr(pynvml, f"nvmlDeviceGet{question}", answer(question))
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "575.1")
    properties = SimpleNamespace(uuid="0-1", name="NVIDIA H200", total_memory=150 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    return answers


CUDA = torch.device("cuda")
NOT_SUPPORTED = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def processes(*pids: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid) for pid in pids]


def test_reasons_of_a_slow_gpu(nvml: dict[str, Any]) -> None:
    nvml["CurrentClocksThrottleReasons"] = (
        pynvml.nvmlClocksEventReasonSwPowerCap
        | pynvml.nvmlClocksEventReasonHwThermalSlowdown
        | pynvml.nvmlClocksEventReasonGpuIdle
        | pynvml.nvmlClocksEventReasonApplicationsClocksSetting
    )
    watch = Watch(CUDA)
    watch.look()
    activity = watch.activity()
    assert activity.gpu_throttled == ["heat (hardware)", "power cap"]
    assert activity.gpu_clocks_mhz == [1755.0]
    assert disturbances(activity)[-1] == "the GPU slowed down: heat (hardware), power cap"


def test_every_reason_but_idle_and_settings_has_its_bit() -> None:
    names = ("SwPowerCap", "HwSlowdown", "SyncBoost", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")
    assert list(machine.GPU_SLOWDOWNS) == [getattr(pynvml, f"nvmlClocksEventReason{name}") for name in names]


@pytest.mark.parametrize(
    ("pids", "reserved", "others"),
    [
        ([], 0, 0),
        ([os.getpid()], 1, 0),
        ([os.getpid(), -1], 1, 1),
        ([-1, -2], 0, 2),
        ([-1, -2], 1, 1),  # in a container whose numbers are not the driver's
    ],
)
def test_other_processes_of_a_gpu(
    nvml: dict[str, Any], monkeypatch: pytest.MonkeyPatch, pids: list[int], reserved: int, others: int
) -> None:
    nvml["ComputeRunningProcesses"] = processes(*pids)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    assert Watch(CUDA).activity().gpu_processes == others


def test_a_process_that_left_the_gpu_while_watched(nvml: dict[str, Any]) -> None:
    nvml["ComputeRunningProcesses"] = processes(-1)
    watch = Watch(CUDA)
    nvml["ComputeRunningProcesses"] = []
    assert watch.activity().gpu_processes == 1


def test_a_gpu_that_does_not_tell(nvml: dict[str, Any]) -> None:
    for question in set(nvml) - {"HandleByUUID"}:
        nvml[question] = NOT_SUPPORTED
    watch = Watch(CUDA)
    watch.look()
    activity = watch.activity()
    assert (activity.gpu_clocks_mhz, activity.gpu_throttled, activity.gpu_processes) == ([], [], None)
    where = environment(CUDA)
    assert (where.gpu, where.gpu_power_limit_watts, where.gpu_max_clock_mhz) == ("NVIDIA H200", None, None)


def test_environment_of_a_gpu(nvml: dict[str, Any]) -> None:
    where = environment(CUDA)
    assert (where.gpu, where.gpu_driver, where.gpu_memory_bytes) == ("NVIDIA H200", "575.1", 150 << 30)
    assert (where.gpu_power_limit_watts, where.gpu_max_clock_mhz) == (700.0, 1980.0)


def test_a_gpu_that_nvml_does_not_know(nvml: dict[str, Any]) -> None:
    nvml["HandleByUUID"] = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
    assert find_gpu(CUDA) is None
    assert environment(CUDA).gpu == "NVIDIA H200"
    assert Watch(CUDA).activity().gpu_processes is None


def test_a_cpu_has_no_gpu() -> None:
    assert find_gpu(CPU) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_real_gpu() -> None:
    data = torch.rand(4096, 4096, device=CUDA)
    watch = Watch(CUDA)
    end = time.perf_counter() + 1.0
    while time.perf_counter() < end:
        data @ data
        torch.cuda.synchronize()
        watch.look()
    activity, where = watch.activity(), environment(CUDA)
    assert where.gpu == torch.cuda.get_device_name()
    assert where.gpu_max_clock_mhz is not None
    assert 4 <= len(activity.gpu_clocks_mhz) <= 6
    assert all(0 < clock <= where.gpu_max_clock_mhz for clock in activity.gpu_clocks_mhz)
    assert activity.gpu_processes is not None
