from __future__ import annotations

import logging
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import pynvml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.measuring import energy
from bench.measuring.energy import (
    EstimatedMeter,
    MeterError,
    NvmlMeter,
    RaplMeter,
    find_meter,
    joules_per_frame,
    keeps_up,
    measure_energy,
    watt_hours_per_hour,
)
from bench.records.measurement import Energy

INTEL_RANGE = 262_143_328_850
AMD_RANGE = 65_532_610_987
CPU = torch.device("cpu")


class Machine:
    """A directory like /sys/class/powercap, and a clock, that move when the test says so."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 1000.0
        self.watts: dict[str, float] = {}

    def add(self, zone: str, name: str, value: int = 0, range: int = INTEL_RANGE, watts: float = 0.0) -> None:
        folder = self.root / zone
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{range}\n")
        self.set(zone, value)
        self.watts[zone] = watts

    def set(self, zone: str, value: int) -> None:
        (self.root / zone / "energy_uj").write_text(f"{value}\n")

    def count(self, zone: str, microjoules: int) -> None:
        """As the hardware does: past its range the counter starts anew."""
        value = int((self.root / zone / "energy_uj").read_text())
        self.set(zone, (value + microjoules) % int((self.root / zone / "max_energy_range_uj").read_text()))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for zone, watts in self.watts.items():
            if watts:
                self.count(zone, round(watts * seconds * 1e6))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    monkeypatch.setattr(energy, "perf_counter", lambda: machine.now)
    monkeypatch.setattr(energy, "sleep", machine.wait)
    return machine


def read(machine: Machine, seconds: float = 2.0) -> energy.Reading:
    meter = RaplMeter(machine.root)
    meter.start()
    machine.wait(seconds)
    return meter.stop()


def test_a_package(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", value=5_000_000, watts=15)
    assert read(machine, 4.0) == energy.Reading(joules=60.0, parts={"package-0": 60.0}, seconds=4.0)


def test_packages_are_added_and_nothing_else_is(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", watts=100)
    machine.add("intel-rapl:0:0", "core", watts=70)
    machine.add("intel-rapl:0:1", "uncore", watts=5)
    machine.add("intel-rapl:0:2", "dram", watts=11)
    machine.add("intel-rapl:1", "package-1", watts=50)
    machine.add("intel-rapl:1:0", "dram", watts=12)
    machine.add("intel-rapl:2", "psys", watts=250)
    machine.add("intel-rapl-mmio:0", "package-0", watts=100)
    (machine.root / "intel-rapl").mkdir()
    reading = read(machine)
    assert reading.joules == 300.0
    assert reading.parts == {
        "package-0": 200.0,
        "package-1": 100.0,
        "package-0/dram": 22.0,
        "package-1/dram": 24.0,
        "psys": 500.0,
    }
    assert "package-0, package-1" in RaplMeter(machine.root).how


def test_memory_belongs_to_its_package_from_ten_packages_on(machine: Machine) -> None:
    for n in range(12):
        machine.add(f"intel-rapl:{n}", f"package-{n}", watts=1)
        machine.add(f"intel-rapl:{n}:0", "dram", watts=n + 1)
    assert read(machine).parts["package-1/dram"] == 4.0


@pytest.mark.parametrize(("dies", "joules"), [((7_000_000, 7_400_000), 136.0), ((7_000_000, 9_000_000), 272.0)])
def test_a_counter_shown_once_for_each_die_counts_once(machine: Machine, dies: tuple[int, int], joules: float) -> None:
    for n, value in enumerate(dies):
        machine.add(f"intel-rapl:{n}", f"package-0-die-{n}", value=value, watts=68)
    assert read(machine).joules == joules


def test_packages_that_happen_to_stand_at_the_same_value_all_count(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", watts=10)
    machine.add("intel-rapl:1", "package-1", watts=10)
    assert read(machine).joules == 40.0


def test_a_counter_that_starts_anew(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", value=AMD_RANGE - 1_000_000, range=AMD_RANGE, watts=100)
    assert read(machine).joules == 200.0


def test_one_of_two_counters_starts_anew(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", value=AMD_RANGE - 1, range=AMD_RANGE, watts=100)
    machine.add("intel-rapl:1", "package-1", value=17, range=AMD_RANGE, watts=30)
    machine.add("intel-rapl:1:0", "dram", value=AMD_RANGE - 1_000_000, range=AMD_RANGE, watts=3)
    reading = read(machine)
    assert reading.joules == 260.0
    assert reading.parts == {"package-0": 200.0, "package-1": 60.0, "package-1/dram": 6.0}


def test_a_long_window_starts_anew_several_times(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", value=123, range=AMD_RANGE, watts=280)
    meter = RaplMeter(machine.root)
    meter.start()
    for _ in range(60):
        machine.wait(60)
        meter.look()
    assert meter.stop().joules == 3600 * 280.0


def test_a_gap_in_which_it_may_have_started_anew_twice_is_no_reading(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", range=AMD_RANGE, watts=280)
    with pytest.raises(MeterError, match=r"not read for 500 s; it may start anew more than once in 65\.5 s"):
        read(machine, 500)


@pytest.mark.parametrize("reset_to", [0, 1_000_000])
def test_a_counter_that_was_reset_is_not_taken_for_one_that_starts_anew(machine: Machine, reset_to: int) -> None:
    machine.add("intel-rapl:0", "package-0", value=50_000_000_000)
    meter = RaplMeter(machine.root)
    meter.start()
    machine.wait(2.0)
    machine.set("intel-rapl:0", reset_to)
    with pytest.raises(MeterError, match=r"package-0 tells 2\.12e\+05 J in 2 s: it stands still, or was reset"):
        meter.stop()


def test_a_counter_that_stands_still_is_not_zero_energy(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", watts=10)
    machine.add("intel-rapl:1", "package-1", watts=0)
    with pytest.raises(MeterError, match="package-1 tells 0 J"):
        read(machine)


def test_microjoules_are_not_lost_in_large_counters(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", value=2**62 + 1, range=2**63 - 1)
    meter = RaplMeter(machine.root)
    meter.start()
    machine.count("intel-rapl:0", 3)
    machine.wait(2.0)
    assert meter.stop().joules == 3e-6


@settings(deadline=None, max_examples=50)
@given(data=st.data(), range=st.integers(1000, 2**63))
def test_the_sum_is_the_true_energy_whatever_the_range(data: st.DataObject, range: int) -> None:
    steps = data.draw(st.lists(st.integers(0, range * 99 // 100), min_size=1, max_size=12).filter(any))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        machine = Machine(Path(folder))
        machine.now = 0.0
        monkeypatch.setattr(energy, "perf_counter", lambda: machine.now)
        machine.add("intel-rapl:0", "package-0", value=data.draw(st.integers(0, range - 1)), range=range)
        meter = RaplMeter(machine.root)
        meter.start()
        for step in steps:
            machine.count("intel-rapl:0", step)
            machine.now += 0.995 * range / 1e6 / energy.MOST_WATTS
            meter.look()
        assert meter.stop().joules == sum(steps) / 1e6


def test_no_powercap(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="has no RAPL counter of a processor package"):
        RaplMeter(tmp_path / "missing")


def test_counters_without_a_package(machine: Machine) -> None:
    machine.add("intel-rapl:0", "psys", watts=10)
    with pytest.raises(MeterError, match="has no RAPL counter of a processor package"):
        RaplMeter(machine.root)


@pytest.fixture
def not_root() -> Iterator[None]:
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_missing_rights(not_root: None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        machine.add("intel-rapl:0", "package-0")
        (machine.root / "intel-rapl:0" / "energy_uj").chmod(0)
        with pytest.raises(MeterError, match=r"intel-rapl:0/energy_uj cannot be read \(Permission denied\)"):
            RaplMeter(machine.root)


def test_links_to_nothing_as_in_a_container(machine: Machine) -> None:
    (machine.root / "intel-rapl:0").symlink_to(machine.root / "masked")
    with pytest.raises(MeterError, match=r"intel-rapl:0/name cannot be read \(No such file or directory\)"):
        RaplMeter(machine.root)


def test_memory_that_cannot_be_read_does_not_cost_the_packages(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", watts=10)
    machine.add("intel-rapl:0:0", "dram")
    (machine.root / "intel-rapl:0:0" / "energy_uj").unlink()
    (machine.root / "intel-rapl:0:0" / "energy_uj").mkdir()
    machine.add("intel-rapl:1", "psys", range=0)
    machine.watts = {"intel-rapl:0": 10}
    assert read(machine).parts == {"package-0": 20.0}


def test_a_counter_without_range(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", range=0)
    with pytest.raises(MeterError, match="intel-rapl:0/max_energy_range_uj is 0"):
        RaplMeter(machine.root)


@pytest.mark.parametrize("content", [b"", b"-3\n", b"<none>\n", b"1e9\n", b"\xff\xfe", b"262143328851\n"])
def test_content_that_is_no_reading(machine: Machine, content: bytes) -> None:
    machine.add("intel-rapl:0", "package-0", value=77, watts=0)
    meter = RaplMeter(machine.root)
    meter.start()
    machine.wait(2.0)
    (machine.root / "intel-rapl:0" / "energy_uj").write_bytes(content)
    with pytest.raises(MeterError, match="intel-rapl:0/energy_uj "):
        meter.stop()
    with pytest.raises(MeterError, match="intel-rapl:0/energy_uj "):
        RaplMeter(machine.root)


def test_a_counter_that_vanishes_makes_the_energy_unavailable(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", watts=10)
    machine.add("intel-rapl:1", "package-1", watts=10)

    def run_clip() -> int:
        machine.wait(1.0)
        shutil.rmtree(machine.root / "intel-rapl:1")
        return 1

    result = measure_energy(run_clip, 3.0, CPU)
    assert (result.label, result.joules, result.idle_joules) == ("unavailable", None, None)
    assert "intel-rapl:1/energy_uj cannot be read (No such file or directory)" in result.how


def test_energy_of_a_run(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", watts=5)
    machine.add("intel-rapl:0:0", "dram", watts=1)
    started = machine.now

    def run_clip() -> int:
        machine.watts["intel-rapl:0"] = 20
        machine.wait(0.75)
        return 6

    result = measure_energy(run_clip, 3.1, CPU)
    assert result.label == "measured:rapl-package"
    assert (result.frames, result.seconds) == (30, 3.75)
    assert (result.joules, result.parts) == (75.0, {"package-0": 75.0, "package-0/dram": 3.75})
    assert (result.idle_joules, result.idle_seconds) == (10.0, 2.0)
    assert machine.now == started + 2.0 + 3.75
    assert result.activity is not None
    assert result.activity.seconds > 0


@pytest.mark.parametrize(("clip", "window"), [(0.5, 2.0), (9.0, 9.0)])
def test_the_window_is_long_enough_for_the_counter_and_at_least_a_clip(
    machine: Machine, clip: float, window: float
) -> None:
    machine.add("intel-rapl:0", "package-0", watts=5)

    def run_clip() -> int:
        machine.wait(clip)
        return 1

    result = measure_energy(run_clip, 0.1, CPU)
    assert result.seconds == window


def test_energy_can_be_left_out() -> None:
    result = measure_energy(lambda: pytest.fail("a clip was run"), 0, CPU)
    assert result == Energy("unavailable", "left out")


def test_an_error_of_the_system_is_not_taken_for_one_of_the_meter(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0", watts=5)

    def run_clip() -> int:
        raise RuntimeError("of the system")

    with pytest.raises(RuntimeError, match="of the system"):
        measure_energy(run_clip, 1.0, CPU)


def test_the_estimate_says_why_there_is_no_counter(machine: Machine) -> None:
    machine.add("intel-rapl:0", "package-0")
    (machine.root / "intel-rapl:0" / "energy_uj").unlink()
    meter = find_meter(CPU)
    assert meter.label == "estimated:tdp"
    assert meter.how.endswith("intel-rapl:0/energy_uj cannot be read (No such file or directory)")


def test_no_meter_for_other_devices() -> None:
    result = measure_energy(lambda: 1, 1.0, torch.device("mps"))
    assert result == Energy("unavailable", "no meter for the device mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_without_a_counter_is_not_estimated() -> None:
    result = measure_energy(lambda: 1, 1.0, torch.device("cuda"))
    assert result.label == "unavailable"
    assert result.how.startswith("NVML: ")


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def work() -> int:
    end = perf_counter() + 0.1
    while perf_counter() < end:
        sum(range(1000))
    return 3


class Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def unwanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A user whose codecarbon would count otherwise, and all that it does besides counting."""
    from codecarbon.core.hardware_cache import clear_cache

    seen: list[str] = []

    def spy(target: str) -> None:
        def refuse(*_: object, **__: object) -> None:
            seen.append(target)
            raise OSError(target)

        monkeypatch.setattr(target, refuse)

    spy("socket.socket.connect")
    spy("socket.getaddrinfo")
    spy("codecarbon.lock.Lock.acquire")
    spy("codecarbon.external.hardware.CPU.monitor_power")
    spy("codecarbon.external.hardware.IntelRAPL")
    monkeypatch.setattr("codecarbon.core.cpu.is_rapl_available", lambda: True)
    for name, value in {
        "pue": "2.5",
        "tracking_mode": "machine",
        "force_mode_cpu_load": "false",
        "force_cpu_power": "1000",
        "force_ram_power": "7",
        "allow_multiple_runs": "false",
        "output_methods": "csv",
        "output_dir": str(tmp_path),
        "emissions_endpoint": "http://localhost:9",
        "electricitymaps_api_token": "token",
        "log_level": "debug",
    }.items():
        monkeypatch.setenv(f"CODECARBON_{name.upper()}", value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "missing")
    clear_cache()
    threads = threading.active_count()
    logger, log = logging.getLogger("codecarbon"), Log()
    logger.setLevel(logging.INFO)
    logger.addHandler(log)
    yield seen
    logger.removeHandler(log)
    seen += [f"file {path}" for path in tmp_path.iterdir()] + log.lines
    seen += ["threads"] * (threading.active_count() - threads)
    assert not seen


def test_the_estimate_is_what_its_words_say_and_nothing_else_happens(unwanted: list[str]) -> None:
    meter = find_meter(CPU)
    before = cpu_seconds()
    meter.start()
    started = perf_counter()
    while perf_counter() < started + 1.3:
        work()
    reading = meter.stop()
    used = cpu_seconds() - before

    model = re.search(r"mode cpu_load, scope process: (\S+) W × CPU time of .* / (\d+) threads", meter.how)
    assert model is not None
    watts, cores = float(model[1]), int(model[2])
    # Delays between its readings of clock and CPU time, on a busy machine; its other models are off by far more.
    assert reading.joules == pytest.approx(watts * used / cores, rel=0.15, abs=0.05 * watts / cores)
    assert reading.parts == {"cpu": reading.joules, "memory": pytest.approx(7 * reading.seconds, rel=0.15)}
    assert (watts == 4 * cores) == ("4 W for each thread" in meter.how)
    assert not unwanted


def test_the_estimate_of_a_run() -> None:
    frames = 0

    def run_clip() -> int:
        nonlocal frames
        frames += 3
        return work()

    result = measure_energy(run_clip, 0.2, CPU)
    if result.label == "measured:rapl-package":
        pytest.skip("this machine has a counter")
    assert result.label == "estimated:tdp"
    assert result.joules is not None
    assert result.joules > 0
    assert result.seconds >= 2.0
    assert result.frames == frames > 3
    assert (result.idle_joules, result.idle_seconds) == (None, None)


def test_a_known_processor_counts_with_its_power_and_all_its_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    import codecarbon.core.util

    monkeypatch.setattr("codecarbon.core.cpu.detect_cpu_model", lambda: "AMD EPYC 7763 64-Core Processor")
    monkeypatch.setattr(codecarbon.core.util, "count_physical_cpus", lambda: 2)
    how = EstimatedMeter("none").how
    assert "560 W × CPU time" in how
    assert "the TDP of 280 W for each of 2 sockets (AMD EPYC 7763 64-Core Processor)" in how


def test_an_estimate_that_fails_leaves_the_run_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("TDP")

    monkeypatch.setattr("codecarbon.OfflineEmissionsTracker.start_task", fail)
    assert measure_energy(lambda: 1, 1.0, CPU) == Energy("unavailable", "codecarbon: KeyError: 'TDP'")


def test_the_estimators_threads_end_when_the_system_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    before = {*threading.enumerate()}
    started: set[threading.Thread] = set()

    def run_clip() -> int:
        started.update({*threading.enumerate()} - before)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_energy(run_clip, 1.0, CPU)
    assert started
    assert not started & {*threading.enumerate()}


class Nvml:
    """A driver with two GPUs, of which torch sees the second as its first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.millijoules = {"GPU-physical-0": 900_000, "GPU-physical-1": 5_000_000}
        self.calls: list[str] = []
        self.error: int | None = None
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", self.read)
        properties = SimpleNamespace(uuid="physical-1")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Tesla")
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: self.calls.append(f"synchronize {device}"))

    def read(self, handle: str) -> int:
        self.calls.append(f"read {handle}")
        if self.error is not None:
            raise pynvml.NVMLError(self.error)
        return self.millijoules[handle]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    return Nvml(monkeypatch)


def test_a_gpus_counter(nvml: Nvml, machine: Machine) -> None:
    meter = NvmlMeter(torch.device("cuda:0"))
    nvml.calls.clear()
    meter.start()
    nvml.millijoules["GPU-physical-0"] += 777_000
    nvml.millijoules["GPU-physical-1"] += 1_234_567
    machine.wait(6.0)
    reading = meter.stop()
    assert reading == energy.Reading(joules=1234.567, parts={"gpu": 1234.567}, seconds=6.0)
    assert nvml.calls == ["synchronize cuda:0", "read GPU-physical-1"] * 2
    assert meter.how == "NVML's total-energy counter: the whole NVIDIA Tesla, other programs included"


@pytest.mark.parametrize("change", [0, -1000])
def test_a_gpus_counter_that_does_not_advance(nvml: Nvml, machine: Machine, change: int) -> None:
    meter = NvmlMeter(torch.device("cuda:0"))
    meter.start()
    nvml.millijoules["GPU-physical-1"] += change
    machine.wait(5.0)
    with pytest.raises(MeterError, match="NVML's total-energy counter tells"):
        meter.stop()


def test_a_gpu_without_the_counter(nvml: Nvml) -> None:
    nvml.error = pynvml.NVML_ERROR_NOT_SUPPORTED
    with pytest.raises(MeterError, match="NVML: NVMLError_NotSupported: Not Supported"):
        NvmlMeter(torch.device("cuda:0"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_real_gpus_counter() -> None:
    device = torch.device("cuda")
    matrix = torch.ones(4096, 4096, device=device)

    def run_clip() -> int:
        for _ in range(20):
            matrix @ matrix
        torch.cuda.synchronize(device)
        return 20

    result = measure_energy(run_clip, 5.0, device)
    assert result.label == "measured:nvml", result.how
    assert result.joules is not None
    assert result.idle_joules is not None
    assert result.idle_seconds is not None
    assert result.seconds >= 5.0
    idle_watts, watts = result.idle_joules / result.idle_seconds, result.joules / result.seconds
    assert 1 < idle_watts < watts < 2000


def test_joules_per_frame() -> None:
    assert joules_per_frame(Energy("measured:nvml", "", joules=90.0, frames=60)) == 1.5
    assert joules_per_frame(Energy("unavailable", "left out")) is None


def test_an_hour_of_video_with_idle_power() -> None:
    # 10 W idle, 30 W for 0.5 s a frame: at 1 frame/s half the hour at 30 W, and half at 10 W
    window = Energy("measured:rapl-package", "", 300.0, {}, 10.0, 20, idle_joules=20.0, idle_seconds=2.0)
    assert watt_hours_per_hour(window, fps=1.0) == pytest.approx(20.0)
    assert watt_hours_per_hour(window, fps=2.0) == pytest.approx(30.0)
    assert watt_hours_per_hour(window, fps=1e-9) == pytest.approx(10.0)


def test_an_hour_of_video_without_idle_power() -> None:
    # 2 J a frame, 1.5 frames/s, 3600 s: 10 800 J, which is 3 Wh
    window = Energy("estimated:tdp", "", 40.0, {}, 10.0, 20)
    assert watt_hours_per_hour(window, fps=1.5) == pytest.approx(3.0)


def test_a_system_that_cannot_keep_up_has_no_hour_of_video() -> None:
    window = Energy("estimated:tdp", "", 40.0, {}, 10.0, 20)
    assert keeps_up(window, 2.0)
    assert not keeps_up(window, 2.01)
    assert watt_hours_per_hour(window, 2.01) is None


def test_no_energy_has_no_hour_of_video() -> None:
    assert watt_hours_per_hour(Energy("unavailable", "left out"), 25.0) is None


@pytest.mark.parametrize("fps", [0.0, -25.0, float("nan")])
def test_a_frame_rate_must_be_positive(fps: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        watt_hours_per_hour(Energy("unavailable", ""), fps)


def test_records_are_read_without_torch_or_codecarbon() -> None:
    code = "import sys, bench.measuring.energy; print({'torch', 'codecarbon', 'pynvml'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
