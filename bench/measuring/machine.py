"""The machine: what it is, and what else went on while we measured."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pynvml
import torch

from adaptive_models import native
from bench.records.measurement import Activity, Environment

LOOK_SECONDS = 0.2
"""Between two readings of the clocks."""

TICK_SECONDS = 0.01
"""Unit in which the kernel tells the busy time of a core (USER_HZ, proc(5))."""

LIBRARIES = ("numpy", "scipy", "av", "codecarbon", "onnxruntime", "openvino")
"""Packages, besides torch, that do work in what is measured."""

HYPERVISORS = (
    "Amazon EC2", "Google Compute Engine", "KVM", "QEMU", "VMware", "VirtualBox", "Xen", "Parallels", "OpenStack",
    "Microsoft Corporation Virtual Machine",
)  # fmt: skip
"""Words in the names that virtual machines give to their maker and model (compare systemd-detect-virt)."""

GPU_SLOWDOWNS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x10: "sync boost",
    0x20: "heat (driver)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
"""NVML's nvmlClocksEventReason* bits, without those that stand for an idle GPU or for a setting."""


def usable_cores() -> list[int]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def core_numbers(text: str) -> list[int]:
    """The kernel's notation of several cores, "0-3,8", as numbers."""
    ranges = [part.partition("-") for part in text.strip().split(",") if part]
    return [core for first, _, last in ranges for core in range(int(first), int(last or first) + 1)]


def read(path: Path) -> str:
    """A file of the kernel's, stripped; empty if it is not there or may not be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


class Gpu:
    """A CUDA device as NVML sees it; None where the driver does not tell.

    Raises:
        pynvml.NVMLError: no driver, or the device is not known to it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        pynvml.nvmlInit()
        properties = torch.cuda.get_device_properties(device)
        self.handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")

    def ask(self, question: str, *arguments: Any) -> Any:
        """What NVML's function nvmlDeviceGet<question> answers."""
        try:
            return getattr(pynvml, f"nvmlDeviceGet{question}")(self.handle, *arguments)
        except pynvml.NVMLError:
            return None

    def clock(self) -> float | None:
        """Of the multiprocessors, now, in MHz."""
        return self.ask("ClockInfo", pynvml.NVML_CLOCK_SM)

    def slowdowns(self) -> list[str]:
        """Why it does not run at full clock now."""
        reasons = self.ask("CurrentClocksThrottleReasons") or 0
        return [name for bit, name in GPU_SLOWDOWNS.items() if reasons & bit]

    def other_processes(self) -> int | None:
        """How many processes besides this one compute on it.

        In a container the driver may give other numbers to processes than the process knows: one of them is ours then.
        """
        processes = self.ask("ComputeRunningProcesses")
        if processes is None:
            return None
        own = torch.cuda.memory_reserved(self.device) > 0 or os.getpid() in [process.pid for process in processes]
        return max(0, len(processes) - own)


def find_gpu(device: torch.device) -> Gpu | None:
    """The device as NVML sees it; None for a CPU, or without NVML."""
    if device.type != "cuda":
        return None
    try:
        return Gpu(device)
    except pynvml.NVMLError:
        return None


def environment(device: torch.device, root: Path = Path("/")) -> Environment:
    """What a measurement on this device depends on, without anything that names the machine or its user.

    Args:
        device: on which is measured.
        root: of the file system, for tests.
    """
    cpu = _cpu(root)
    cores = usable_cores()
    return Environment(
        platform=platform.platform(),
        cpu=cpu.get("model name", platform.processor()),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count() or len(cores),
        usable_cores=len(cores),
        memory_bytes=psutil.virtual_memory().total,
        virtual=_hypervisor(cpu, root),
        governor=", ".join(sorted(set(_of_cores(cores, "scaling_governor", root)))),
        turbo=_turbo(root),
        clock_range_mhz=_clock_range(cores, root),
        load=os.getloadavg()[0],
        **_gpu_facts(device),
        python=platform.python_version(),
        torch=torch.__version__,
        foveabench=_version("foveabench"),
        libraries=_libraries(device),
        torch_build=_torch_build(),
        threads=(torch.get_num_threads(), torch.get_num_interop_threads()),
        revision=_revision(Path(__file__).resolve().parents[2]),
    )


def _cpu(root: Path) -> dict[str, str]:
    """What /proc/cpuinfo says of one core and lscpu of all, with keys in lower case; lscpu knows the names of ARM's."""
    if sys.platform == "darwin":
        told = _pairs(_output("sysctl", "machdep.cpu.brand_string", "kern.hv_vmm_present"))
        virtual = told.get("kern.hv_vmm_present") == "1"
        return {"model name": told.get("machdep.cpu.brand_string", ""), "flags": "hypervisor" if virtual else ""}
    elsewhere = [] if root == Path("/") else ["--sysroot", str(root)]
    return _pairs(read(root / "proc/cpuinfo").partition("\n\n")[0]) | _pairs(_output("lscpu", *elsewhere))


def _pairs(text: str) -> dict[str, str]:
    lines = [line.partition(":") for line in text.splitlines()]
    return {key.strip().lower(): value.strip() for key, _, value in lines}


def _hypervisor(cpu: dict[str, str], root: Path) -> str:
    maker = " ".join(read(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name"))
    name = next((name for name in HYPERVISORS if name in maker), "")
    if "hypervisor" in cpu.get("flags", "").split():
        return cpu.get("hypervisor vendor") or name or "unknown"
    # Without the flag an x86, the only kind with a vendor_id in cpuinfo, is a real machine, whoever rents it out.
    return "" if "vendor_id" in cpu or "metal" in maker else name


def _of_cores(cores: list[int], name: str, root: Path) -> list[str]:
    """What cpufreq says of each of these cores."""
    values = [read(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}") for core in cores]
    return [value for value in values if value]


def _turbo(root: Path) -> bool | None:
    if forbidden := read(root / "sys/devices/system/cpu/intel_pstate/no_turbo"):
        return forbidden == "0"
    allowed = read(root / "sys/devices/system/cpu/cpufreq/boost")
    return allowed == "1" if allowed else None


def _clock_range(cores: list[int], root: Path) -> tuple[float, float] | None:
    lowest, highest = (_of_cores(cores, f"cpuinfo_{end}_freq", root) for end in ("min", "max"))
    return (min(map(int, lowest)) / 1e3, max(map(int, highest)) / 1e3) if lowest and highest else None


def _gpu_facts(device: torch.device) -> dict[str, Any]:
    facts: dict[str, Any] = dict.fromkeys(("gpu_memory_bytes", "gpu_power_limit_watts", "gpu_max_clock_mhz"))
    facts |= {"gpu": "", "gpu_driver": ""}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory}
    if gpu := find_gpu(device):
        milliwatts, clock = gpu.ask("EnforcedPowerLimit"), gpu.ask("MaxClockInfo", pynvml.NVML_CLOCK_SM)
        facts["gpu_driver"] = pynvml.nvmlSystemGetDriverVersion()
        facts["gpu_power_limit_watts"] = None if milliwatts is None else milliwatts / 1e3
        facts["gpu_max_clock_mhz"] = None if clock is None else float(clock)
    return facts


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _libraries(device: torch.device) -> dict[str, str]:
    versions = {name: _version(name) for name in LIBRARIES}
    versions["compiled attention"] = (native.build() or ("none",))[0]
    if device.type == "cuda":
        versions |= {"CUDA": torch.version.cuda or "", "cuDNN": str(torch.backends.cudnn.version() or "")}
    return {name: version for name, version in versions.items() if version}


def _torch_build() -> str:
    """As in "MKL 2024.2, oneDNN v3.12.0, OpenMP, AVX512"."""
    build = torch.__config__.show()
    mkl, blas = re.search(r"Math Kernel Library Version ([\d.]+)", build), re.search(r"BLAS_INFO=(\w+)", build)
    onednn = re.search(r"MKL-DNN (v[\d.]+)", build)
    parts = [
        f"MKL {mkl[1]}" if mkl else f"BLAS {blas[1]}" if blas else "",
        f"oneDNN {onednn[1]}" if onednn else "",
        "OpenMP" if torch.backends.openmp.is_available() else "",
        torch.backends.cpu.get_cpu_capability(),
    ]
    return ", ".join(part for part in parts if part)


def _revision(folder: Path) -> str:
    if not (folder / ".git").exists():  # installed, perhaps within someone else's checkout
        return ""
    options = ("--always", "--dirty", "--abbrev=40", "--exclude=*")
    return _output("git", "--no-optional-locks", "-C", str(folder), "describe", *options)


def _output(*command: str) -> str:
    """What a program prints; empty if it is missing or fails."""
    english = {**os.environ, "LC_ALL": "C"}
    try:
        run = subprocess.run(command, env=english, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout.strip()


class Watch:
    """Notes what the machine does from now on.

    Args:
        device: on which is measured.
        root: of the file system, for tests.
    """

    def __init__(self, device: torch.device, root: Path = Path("/")) -> None:
        self._root = root
        self._gpu = find_gpu(device)
        self._cores = usable_cores()
        self._clocks: list[float] = []
        self._gpu_clocks: list[float] = []
        self._gpu_slowdowns: set[str] = set()
        self._gpu_processes = self._gpu.other_processes() if self._gpu else None
        self._next_look = 0.0
        self._start = time.perf_counter()
        self._own, self._switches = _own_use()
        self._busy, self._stolen = _use_of(self._cores, root)
        self._throttled = throttle_count(root)

    def look(self) -> None:
        """Read the clocks, unless that was done a moment ago; to be called often, between samples.

        The CPU's clock is that of the core on which the caller runs. It costs tens of microseconds at most five times
        a second.
        """
        now = time.perf_counter()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        if (clock := _clock_here(self._root)) is not None:
            self._clocks.append(clock)
        if self._gpu:
            if (clock := self._gpu.clock()) is not None:
                self._gpu_clocks.append(float(clock))
            self._gpu_slowdowns.update(self._gpu.slowdowns())

    def activity(self) -> Activity:
        """What happened since this watch was made."""
        seconds = time.perf_counter() - self._start
        own, switches = _own_use()
        busy, stolen = _use_of(self._cores, self._root)
        throttled = throttle_count(self._root)
        processes = self._gpu.other_processes() if self._gpu else None
        return Activity(
            seconds=seconds,
            cores=len(self._cores),
            own_cpu_seconds=own - self._own,
            busy_cpu_seconds=_growth(self._busy, busy),
            stolen_cpu_seconds=_growth(self._stolen, stolen),
            involuntary_switches=switches - self._switches,
            clocks_mhz=list(self._clocks),
            throttled=_growth(self._throttled, throttled),
            gpu_clocks_mhz=list(self._gpu_clocks),
            gpu_throttled=sorted(self._gpu_slowdowns),
            gpu_processes=max((n for n in (self._gpu_processes, processes) if n is not None), default=None),
        )


def _growth(before: Any, after: Any) -> Any:
    return None if before is None or after is None else max(after - before, type(after)(0))


def _own_use() -> tuple[float, int]:
    """CPU seconds and involuntary switches of this process' threads, and of children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, own.ru_nivcsw


def _use_of(cores: list[int], root: Path) -> tuple[float | None, float | None]:
    """Seconds since the start of the system in which these cores ran something, and in which others had them."""
    times = psutil.cpu_times(percpu=True)
    online = core_numbers(read(root / "sys/devices/system/cpu/online")) or range(len(times))
    ours = [time for core, time in zip(online, times, strict=False) if core in cores]
    if not any(sum(time) for time in ours):
        return None, None
    kinds = ("user", "nice", "system", "irq", "softirq")
    busy = sum(getattr(time, kind, 0.0) for time in ours for kind in kinds)
    return busy, sum(time.steal for time in ours) if hasattr(ours[0], "steal") else None


def throttle_count(root: Path = Path("/")) -> int | None:
    """How often cores slowed down for heat since the start of the system; Intel's only tell."""
    counts = [read(path) for path in root.glob("sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")]
    return sum(int(count) for count in counts if count) if any(counts) else None


def _clock_here(root: Path) -> float | None:
    """Clock, in MHz, of the core on which this thread runs."""
    try:
        core = (root / "proc/self/stat").read_text().rpartition(")")[2].split()[36]
        return int((root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq").read_text()) / 1e3
    except (OSError, ValueError, IndexError):
        return None


def disturbances(activity: Activity) -> list[str]:
    """What spoilt a phase, a sentence each.

    The limits let an idle system pass. Its own daemons and interrupts take up to 1 % of each core and some more, and
    each core's busy time is rounded down to ticks at both ends, which leaves an error of a tick or so that adds up
    over cores as random errors do.
    """
    seconds, cores = max(activity.seconds, 1e-9), activity.cores
    found = []
    rounding = 2 * TICK_SECONDS * math.sqrt(cores)
    if activity.busy_cpu_seconds is not None:
        foreign = activity.busy_cpu_seconds - activity.own_cpu_seconds
        if foreign > (0.03 + 0.01 * cores) * seconds + rounding:
            found.append(f"other processes used {foreign / seconds:.0%} of a core")
    stolen = activity.stolen_cpu_seconds or 0.0
    if stolen > 0.01 * seconds + rounding:
        found.append(f"the hypervisor gave {stolen / seconds:.0%} of a core to others")
    # Threads of one process make each other wait too: it is a hint for want of a better one.
    switches = (activity.involuntary_switches or 0) / seconds
    if activity.busy_cpu_seconds is None and switches > 10 * cores:
        found.append(f"it had to wait for other processes {switches:.0f} times a second")
    found += _changes("CPU", activity.clocks_mhz)
    if activity.throttled:
        found.append(f"the CPU slowed down for heat (counted {activity.throttled})")
    found += _changes("GPU", activity.gpu_clocks_mhz)
    if activity.gpu_throttled:
        found.append(f"the GPU slowed down: {', '.join(activity.gpu_throttled)}")
    if activity.gpu_processes:
        found.append(f"other processes used the GPU ({activity.gpu_processes})")
    return found


def _changes(unit: str, clocks: list[float]) -> list[str]:
    """From ten readings on, the highest and lowest tenth do not count."""
    if not clocks:
        return []
    ordered = sorted(clocks)
    low, high = ordered[len(clocks) // 10], ordered[-1 - len(clocks) // 10]
    return [f"the {unit}'s clock went from {low:.0f} to {high:.0f} MHz"] if high > 1.05 * low else []
