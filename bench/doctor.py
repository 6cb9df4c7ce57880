"""What on this machine will spoil a measurement, what to do about it, and what counters the machine has."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import psutil
import torch

from adaptive_models import native
from bench.display import print_table
from bench.measuring.comparison import THRESHOLD, interleave, judge
from bench.measuring.energy import MeterError, find_meter
from bench.measuring.machine import (
    Gpu,
    Watch,
    core_numbers,
    disturbances,
    environment,
    find_gpu,
    read,
    throttle_count,
    usable_cores,
)
from bench.records.measurement import Environment

CPU = "sys/devices/system/cpu"

SLOWING_VARIABLES = {
    "CUDA_LAUNCH_BLOCKING": "the host waits for every kernel",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "every tensor on the GPU is allocated anew",
    "ONEDNN_VERBOSE": "every operation is printed",
    "DNNL_VERBOSE": "every operation is printed",
    "MKL_VERBOSE": "every operation is printed",
    "ATEN_CPU_CAPABILITY": "torch may be kept from the widest instructions",
    "ONEDNN_MAX_CPU_ISA": "oneDNN may be kept from the widest instructions",
    "MALLOC_PERTURB_": "all memory is overwritten when it is freed",
}
"""Environment variables that are for finding errors, and what they cost."""


@dataclass(frozen=True)
class Finding:
    """One thing about the machine.

    Attributes:
        topic: what it is about.
        state: "warning" for what spoils measurements, "good" for what does not, "fact" for what is good to know.
        found: what was seen.
        remedy: a command or an action; empty where there is nothing to do.
    """

    topic: str
    state: Literal["good", "warning", "fact"]
    found: str
    remedy: str = ""


def examine(device: torch.device, root: Path = Path("/")) -> list[Finding]:
    """Look at the machine for about three seconds.

    Args:
        device: on which is to be measured.
        root: of the file system, for tests.
    """
    where = environment(device, root)
    found = [
        *_load(where, root),  # first, before our own work is seen as load
        _other_processes(device, root),
        *_clock(where, root),
        *_virtual(where),
        *_cores(root),
        _threads(root),
        _memory(root),
        *_power(root),
        _timer(),
        _noise(),
        _slowing_settings(),
        _compiled(),
        _rapl(root),
    ]
    return found + (_gpu(find_gpu(device), where) if device.type == "cuda" else []) + [_energy(device)]


def show(findings: Iterable[Finding]) -> None:
    """Print findings as a table, warnings first."""
    order = ("warning", "good", "fact")
    rows = [(f.state, f.topic, f.found, f.remedy) for f in sorted(findings, key=lambda f: order.index(f.state))]
    print_table(("state", "about", "found", "remedy"), rows)


def _good(topic: str, found: str) -> Finding:
    return Finding(topic, "good", found)


def _warning(topic: str, found: str, remedy: str) -> Finding:
    return Finding(topic, "warning", found, remedy)


def _load(where: Environment, root: Path) -> list[Finding]:
    average = where.load or 0.0
    seen = f"{average:.1f} processes ran or waited in the last minute, on {where.usable_cores} cores"
    busy = average > 0.3 * where.usable_cores
    found = [_warning("load", seen, "wait until the other work is done") if busy else _good("load", seen)]
    for kind, remedy in (("cpu", "stop other work"), ("io", "stop what reads or writes the disk")):
        waiting = pressure(kind, root) or 0.0
        if waiting > 5:
            found.append(_warning(f"{kind} pressure", f"some work waited {waiting:.0f} % of the time", remedy))
    return found


def pressure(kind: str, root: Path = Path("/")) -> float | None:
    """Per cent of the last 10 seconds in which something waited for "cpu", "io" or "memory"; None if not told."""
    average = re.match(r"some avg10=([\d.]+)", read(root / "proc/pressure" / kind))
    return float(average[1]) if average else None


def _other_processes(device: torch.device, root: Path) -> Finding:
    watch, before = Watch(device, root), _process_times()
    time.sleep(1)
    activity, after = watch.activity(), _process_times()
    spoilt = disturbances(activity)
    if not spoilt:
        return _good("other processes", "nothing disturbed an idle second")
    used = {key: (seconds - before.get(key, 0.0)) / activity.seconds for key, seconds in after.items()}
    busiest = [key for key in sorted(used, key=used.__getitem__, reverse=True)[:3] if used[key] > 0.02]
    names = ", ".join(f"{name} (pid {pid}) {used[pid, name]:.0%}" for pid, name in busiest)
    remedy = "stop them, or wait" if busiest else "stop what else runs on the host; it cannot be seen from here"
    return _warning("other processes", "; ".join(spoilt) + (f": {names}" if names else ""), remedy)


def _process_times() -> dict[tuple[int, str], float]:
    """CPU seconds of all other processes, by pid and name."""
    others = [process for process in psutil.process_iter(["name", "cpu_times"]) if process.pid != os.getpid()]
    times = {(process.pid, process.info["name"]): process.info["cpu_times"] for process in others}
    return {key: time.user + time.system for key, time in times.items() if time}


def _clock(where: Environment, root: Path) -> list[Finding]:
    found = []
    if not where.governor:
        found.append(Finding("clock governor", "fact", "not told: changes of the CPU's clock will go unseen"))
    elif where.governor == "performance":
        found.append(_good("clock governor", where.governor))
    else:
        found.append(_warning("clock governor", where.governor, "sudo cpupower frequency-set --governor performance"))
    if where.turbo:
        intel = (root / CPU / "intel_pstate/no_turbo").exists()
        value, switch = (1, "intel_pstate/no_turbo") if intel else (0, "cpufreq/boost")
        seen = "on: the clock depends on heat and on how many cores work"
        found.append(_warning("turbo", seen, f"echo {value} | sudo tee /{CPU}/{switch}"))
    elif where.turbo is not None:
        found.append(_good("turbo", "off"))
    return found


def _virtual(where: Environment) -> list[Finding]:
    if not where.virtual:
        return []
    times = psutil.cpu_times()
    stolen = getattr(times, "steal", 0.0) / sum(times)
    seen = f"{where.virtual}: other guests are out of sight; they had {stolen:.1%} of CPU time since the start"
    return [_warning("virtual machine", seen, "compare in pairs, at several hours; or measure on a real machine")]


def real_cores(cores: Iterable[int], root: Path = Path("/")) -> list[int]:
    """The first of those of these logical cores that share a real one."""
    firsts: dict[int, int] = {}
    for core in cores:
        siblings = core_numbers(read(root / CPU / f"cpu{core}/topology/thread_siblings_list"))
        firsts.setdefault(min(siblings, default=core), core)
    return list(firsts.values())


def _cores(root: Path) -> list[Finding]:
    cores = usable_cores()
    real = real_cores(cores, root)
    found = []
    if len(real) < len(cores):
        seen = f"{len(cores)} usable cores are {len(real)} real ones, whose halves slow each other down"
        remedy = f"taskset --cpu-list {','.join(map(str, real))} foveabench ..."
        found.append(_warning("hyper-threading", seen, remedy))
    if len(cores) < (psutil.cpu_count() or 0):
        found.append(Finding("affinity", "fact", f"{len(cores)} of the machine's {psutil.cpu_count()} cores usable"))
    quota = cpu_quota(root)
    if quota is not None and quota < len(cores):
        seen = f"{quota:g} CPUs' time on {len(cores)} cores: all threads are stopped when it is used up"
        remedy = f"OMP_NUM_THREADS={max(1, int(quota))} foveabench ..., or a container without a limit of CPUs"
        found.append(_warning("CPU quota", seen, remedy))
    return found


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the control groups of this process, and those above them, allow; None if they set no limit.

    Version 2 of control groups says it in cpu.max, version 1 in cpu.cfs_quota_us.
    """
    mounts = root / "sys/fs/cgroup"
    limits = []
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        inside = PurePosixPath(path.lstrip("/"))
        for group in (inside, *inside.parents):
            if not controllers:
                limits += [read(mounts / group / "cpu.max"), read(mounts / "unified" / group / "cpu.max")]
            elif "cpu" in controllers.split(","):
                folder = mounts / controllers / group
                limits.append(f"{read(folder / 'cpu.cfs_quota_us')} {read(folder / 'cpu.cfs_period_us')}")
    numbers = [re.fullmatch(r"(\d+) (\d+)", limit) for limit in limits]
    return min((int(number[1]) / int(number[2]) for number in numbers if number), default=None)


def _threads(root: Path) -> Finding:
    threads, real = torch.get_num_threads(), len(real_cores(usable_cores(), root))
    asked = os.environ.get("OMP_NUM_THREADS")
    seen = f"{threads} of torch on {real} cores" + (f", OMP_NUM_THREADS={asked}" if asked else "")
    if threads > real:
        return _warning("threads", f"{seen}: they wait for each other", f"OMP_NUM_THREADS={real} foveabench ...")
    return _good("threads", seen)


def _memory(root: Path) -> Finding:
    memory, swapped = psutil.virtual_memory(), psutil.swap_memory().used
    waiting = pressure("memory", root) or 0.0
    seen = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB available, {swapped / 1e9:.1f} GB swapped out"
    if waiting > 1:
        seen += f", some work waited {waiting:.0f} % of the time for it"
    if waiting > 1 or memory.available < 0.1 * memory.total:
        return _warning("memory", seen, "close what holds memory")
    return _good("memory", seen)


def _power(root: Path) -> list[Finding]:
    found = []
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery and battery.power_plugged is False:
        found.append(_warning("battery", f"in use, {battery.percent:.0f} % left", "plug the machine in"))
    heat = throttle_count(root)
    if heat:
        seen = f"cores slowed down for it, counted {heat} since the start"
        found.append(_warning("heat", seen, "let it cool before and between runs, or switch turbo off"))
    elif heat is not None:
        found.append(_good("heat", "no core slowed down for it since the start"))
    return found


def _timer() -> Finding:
    seen = {clock.__name__: _resolution(clock) for clock in (time.perf_counter_ns, time.thread_time_ns)}
    found = ", ".join(f"{name.removesuffix('_ns')} {nanoseconds} ns" for name, nanoseconds in seen.items())
    if seen["perf_counter_ns"] > 1000:
        source = "sys/devices/system/clocksource/clocksource0/current_clocksource"
        return _warning("timer", found, f"echo tsc | sudo tee /{source}")
    return _good("timer", found)


def _resolution(clock: Callable[[], int]) -> int:
    """The smallest step, in nanoseconds, that the clock makes between two readings."""
    steps: list[int] = []
    while len(steps) < 100:
        start = clock()
        while (now := clock()) == start:
            pass
        steps.append(now - start)
    return min(steps)


def _noise() -> Finding:
    """Compares some fixed work with itself, as `foveabench compare` would."""

    def work() -> int:
        return sum(range(40_000))

    samples = interleave({"work": work, "same": work}, seconds=1.0)
    times = sorted(samples["work"])
    spread = times[len(times) * 9 // 10] / times[len(times) // 2]
    shown = max(THRESHOLD, 2 * judge(samples["work"], samples["same"]).ratio.half_width)
    found = f"90th percentile {spread:.2f} x the median; a second of pairs shows a difference of {shown:.1%}"
    if spread > 1.1 or shown > 2 * THRESHOLD:
        return _warning("noise", found, "quiet the machine, or run longer: four times as long for half of it")
    return _good("noise", found)


def _compiled() -> Finding:
    build = native.build()
    if build is None:
        seen = "built without a compiler: on a CPU, SAN infers and trains in plain torch, at a fraction of its speed"
        return _warning("local attention", seen, "install a C++ compiler, and foveabench again")
    return _good("local attention", f"fused, compiled as {build[0]}")


def _slowing_settings() -> Finding:
    set_to = {name: os.environ.get(name, "") for name in SLOWING_VARIABLES}
    variables = [name for name, value in set_to.items() if value not in ("", "0")]
    found = [f"{name}={set_to[name]}: {SLOWING_VARIABLES[name]}" for name in variables]
    remedies = [f"unset {' '.join(variables)}"] if variables else []
    if torch.is_anomaly_enabled():
        found.append("torch looks for anomalies in every operation")
        remedies.append("torch.autograd.set_detect_anomaly(False)")
    if sys.gettrace() or sys.getprofile():
        found.append("a debugger, profiler or coverage watches every call")
        remedies.append("run without it")
    if found:
        return _warning("slowing settings", "; ".join(found), "; ".join(remedies))
    return _good("slowing settings", "none")


def _rapl(root: Path) -> Finding:
    counters = sorted(root.glob("sys/class/powercap/intel-rapl:*/energy_uj"))
    if not counters:
        return Finding("CPU energy counter", "fact", "none (RAPL is absent, as in virtual machines)")
    if all(os.access(counter, os.R_OK) for counter in counters):
        return _good("CPU energy counter", f"RAPL, {len(counters)} zones")
    remedy = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (until the next start)"
    return _warning("CPU energy counter", "RAPL is there, but only root may read it", remedy)


def _gpu(gpu: Gpu | None, where: Environment) -> list[Finding]:
    if gpu is None:
        remedy = "install the NVIDIA driver's libnvidia-ml"
        return [_warning("GPU", f"{where.gpu}: NVML does not know it; clocks and energy are unseen", remedy)]
    found = [Finding("GPU", "fact", f"{where.gpu}, driver {where.gpu_driver}, limit {where.gpu_power_limit_watts} W")]
    if gpu.ask("PersistenceMode") == 0:
        off = "off: the first call after a pause loads the driver"
        found.append(_warning("GPU persistence mode", off, "sudo nvidia-smi --persistence-mode=1"))
    if others := gpu.other_processes():
        stop = "stop them; nvidia-smi names them"
        found.append(_warning("GPU processes", f"{others} others use it", stop))
    if (gpu.ask("MigMode") or (0, 0))[0]:
        shared = "MIG is on: memory bandwidth and power are shared with other instances"
        found.append(_warning("GPU partitions", shared, "sudo nvidia-smi --multi-instance-gpu=0"))
    if slow := gpu.slowdowns():
        found.append(_warning("GPU slowed down", ", ".join(slow), "let it cool, or raise the power limit"))
    clock = f"now {gpu.clock()} of {where.gpu_max_clock_mhz} MHz; NVML does not tell whether it is locked"
    found.append(Finding("GPU clock", "fact", clock, "sudo nvidia-smi --lock-gpu-clocks=FROM,TO for a steady one"))
    return found


def _energy(device: torch.device) -> Finding:
    try:
        meter = find_meter(device)
    except MeterError as reason:
        return Finding("energy", "fact", f"unavailable: {reason}")
    return Finding("energy", "fact", f"{meter.label}: {meter.how}")
