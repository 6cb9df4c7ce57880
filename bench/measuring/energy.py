"""Energy of a window in which a system runs: from a counter, else estimated, else not known; never mixed.

A counter counts whatever its device does, for other programs too; what it counts while nothing runs is told apart.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import in_words
from bench.records.measurement import Energy

if TYPE_CHECKING:
    import torch

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the counters of Intel's and AMD's processors (docs.kernel.org/power/powercap/powercap.html)."""

MOST_WATTS = 1000.0
"""No processor draws more: a counter that shows more was reset, or started anew more than once."""

JOULES_PER_KWH = 3.6e6


class MeterError(Exception):
    """A meter that is not there, or a reading that cannot be trusted; the message says why."""


@dataclass(frozen=True)
class Reading:
    """What a meter saw between start and stop.

    Attributes:
        joules: of the window.
        parts: the same by counter, and of counters that are not in it.
        seconds: of the window.
    """

    joules: float
    parts: dict[str, float]
    seconds: float


class Meter(ABC):
    """Something that tells the energy of a window; every method may raise MeterError.

    Attributes:
        label: how the energy is had, as in a record.
        how: the same in words.
        least_seconds: shortest window that its resolution allows.
        tells_idle: whether it tells what an idle machine uses.
    """

    label: Literal["measured:rapl-package", "measured:nvml", "estimated:tdp"]
    how: str
    least_seconds: float
    tells_idle = True

    @abstractmethod
    def start(self) -> None:
        """Begin a window."""

    def look(self) -> None:  # noqa: B027 - most have nothing to do
        """To be called now and then within a window, such as after each clip."""

    @abstractmethod
    def stop(self) -> Reading:
        """End the window."""


@contextmanager
def _faults_of(library: str) -> Iterator[None]:
    """Whatever a library raises here is the meter's fault, and must not end the run."""
    try:
        yield
    except Exception as error:
        raise MeterError(f"{library}: {in_words(error)}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise MeterError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise MeterError(f"{path} holds no text") from None


def _number(path: Path) -> int:
    text = _text(path)
    if not text.isdecimal():
        raise MeterError(f"{path} holds {text!r}, not a number")
    return int(text)


class _Counter:
    """Microjoules of a zone of powercap since `start`; its file starts anew from 0 at `range`.

    Whole numbers throughout: a float would lose microjoules.
    """

    def __init__(self, name: str, zone: Path) -> None:
        self.name = name
        self._path = zone / "energy_uj"
        self.range = _number(zone / "max_energy_range_uj")
        if not self.range:
            raise MeterError(f"{zone / 'max_energy_range_uj'} is 0: the counter has no range")
        self.start()

    def start(self) -> None:
        self.microjoules = 0
        self.value = self._read()

    def advance(self) -> None:
        value = self._read()
        self.microjoules += value - self.value + (self.range if value < self.value else 0)
        self.value = value

    def _read(self) -> int:
        value = _number(self._path)
        if value > self.range:
            raise MeterError(f"{self._path} is {value}, beyond its range of {self.range}")
        return value

    def mirrors(self, other: _Counter) -> bool:
        """Whether both are one counter, which AMD's first EPYCs and Threadrippers show once for each die.

        Two of their own do not stay within a joule of each other.
        """
        package, others = self.name.partition("-die-")[0], other.name.partition("-die-")[0]
        return package == others and abs(self.value - other.value) < 1e6


class RaplMeter(Meter):
    """The processor packages' RAPL counters, as Linux shows them; memory and platform are told apart, not added.

    Between two looks less time must pass than a counter needs to start anew at 1 kW: 65 s (AMD) or 262 s (Intel).

    Args:
        root: POWERCAP, or a directory like it.

    Raises:
        MeterError: no package there, or one that cannot be read; since Linux 5.10 only root may, by default.
    """

    label = "measured:rapl-package"
    least_seconds = 2.0

    def __init__(self, root: Path) -> None:
        self._packages: list[_Counter] = []
        self._others: list[_Counter] = []
        for zone in sorted(root.glob("intel-rapl:*")):
            name = _text(zone / "name")
            if name.startswith("package"):
                package = _Counter(name, zone)
                if not any(package.mirrors(other) for other in self._packages):
                    self._packages.append(package)
            elif name in ("dram", "psys"):
                parent = root / zone.name.rpartition(":")[0] / "name"
                with suppress(MeterError):
                    self._others.append(_Counter(f"{_text(parent)}/dram" if name == "dram" else name, zone))
        if not self._packages:
            raise MeterError(f"{root} has no RAPL counter of a processor package")
        names = ", ".join(package.name for package in self._packages)
        self.how = f"RAPL counters of {names}: processors of the whole machine, other programs included"

    def start(self) -> None:
        """Read the counters of the beginning."""
        for counter in self._packages + self._others:
            counter.start()
        self._started = self._looked = perf_counter()

    def look(self) -> None:
        """Read the counters, so that each start anew is seen."""
        now = perf_counter()
        for counter in self._packages + self._others:
            counter.advance()
        longest = min(package.range for package in self._packages) / 1e6 / MOST_WATTS
        if now - self._looked > longest:
            raise MeterError(
                f"RAPL was not read for {now - self._looked:.3g} s; it may start anew more than once in {longest:.3g} s"
            )
        self._looked = now

    def stop(self) -> Reading:
        """Add up the packages; MeterError if one stands still, or tells more than it can have used."""
        self.look()
        seconds = self._looked - self._started
        for package in self._packages:
            if not 0 < package.microjoules <= MOST_WATTS * 1e6 * seconds:
                raise MeterError(
                    f"RAPL counter {package.name} tells {package.microjoules / 1e6:.3g} J in {seconds:.3g} s: "
                    "it stands still, or was reset"
                )
        parts = {counter.name: counter.microjoules / 1e6 for counter in self._packages + self._others}
        return Reading(sum(package.microjoules for package in self._packages) / 1e6, parts, seconds)


class NvmlMeter(Meter):
    """NVML's total-energy counter of a CUDA device, in millijoules; Volta and later have one.

    It is renewed about ten times a second.

    Raises:
        MeterError: no driver, or no such counter for this device, such as a part of a GPU (MIG).
    """

    label = "measured:nvml"
    least_seconds = 5.0

    def __init__(self, device: torch.device) -> None:
        with _faults_of("NVML"):
            import pynvml
            import torch

            from bench.measuring.machine import Gpu

            handle = Gpu(device).handle

            def read() -> int:
                torch.cuda.synchronize(device)
                return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)

            read()
            name = torch.cuda.get_device_name(device)
        self._read = read
        self.how = f"NVML's total-energy counter: the whole {name}, other programs included"

    def start(self) -> None:
        """Read the counter when the device has done all that it was given before."""
        with _faults_of("NVML"):
            self._before = self._read()
        self._started = perf_counter()

    def stop(self) -> Reading:
        """Read the counter when the device is done; MeterError if it stands still."""
        with _faults_of("NVML"):
            millijoules = self._read() - self._before
        seconds = perf_counter() - self._started
        if millijoules <= 0:
            raise MeterError(f"NVML's total-energy counter tells {millijoules / 1e3:.3g} J in {seconds:.3g} s")
        return Reading(millijoules / 1e3, {"gpu": millijoules / 1e3}, seconds)


class EstimatedMeter(Meter):
    """codecarbon's estimate from CPU time, told of nothing but the processor's power: no counter, file or network.

    Its "process" scope is linear in this process' CPU time. Its "machine" scope is not, and takes in other programs.

    Args:
        reason: why there is no counter, in words.

    Raises:
        MeterError: codecarbon fails, or knows no power of this processor.
    """

    label = "estimated:tdp"
    least_seconds = 2.0
    tells_idle = False

    def __init__(self, reason: str) -> None:
        with _faults_of("codecarbon"):
            from codecarbon.core.cpu import DEFAULT_POWER_PER_CORE, TDP
            from codecarbon.core.util import count_cpus, count_physical_cpus

            logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
            threads, processor = count_cpus(), TDP()
        if processor.tdp is None:
            raise MeterError("codecarbon knows no power of this processor")
        if processor.tdp == threads * DEFAULT_POWER_PER_CORE:
            self._watts = float(processor.tdp)
            power = f"{DEFAULT_POWER_PER_CORE} W for each thread, as for a processor that it does not know"
        else:
            sockets = count_physical_cpus()
            self._watts = float(processor.tdp * sockets)
            power = f"the TDP of {processor.tdp:g} W for each of {sockets} sockets"
        self.how = (
            f"codecarbon {version('codecarbon')}, mode cpu_load, scope process: {self._watts:g} W × CPU time of this "
            f"process and its children / {threads} threads; {power} ({processor.model}); without idle power; "
            f"its constant for memory is told apart. No counter: {reason}"
        )
        self.start()
        self._end()  # the first one takes up to two seconds

    def start(self) -> None:
        """Make a tracker, since one that was stopped cannot be started again, and start it."""
        with _faults_of("codecarbon"):
            self._tracker = _tracker(self._watts)
            self._tracker.start_task()
        self._started = perf_counter()

    def stop(self) -> Reading:
        """Stop the tracker; MeterError if it saw no CPU time."""
        seconds = perf_counter() - self._started
        joules, memory_joules = self._end()
        if joules <= 0:
            raise MeterError(f"codecarbon saw no CPU time in {seconds:.3g} s")
        return Reading(joules, {"cpu": joules, "memory": memory_joules}, seconds)

    def _end(self) -> tuple[float, float]:
        """Stop the tracker and its threads; energy of processor and memory."""
        with _faults_of("codecarbon"):
            data = self._tracker.stop_task()
            self._tracker.stop()  # a timer of its that went off in between
            return data.cpu_energy * JOULES_PER_KWH, data.ram_energy * JOULES_PER_KWH


def _tracker(watts: float) -> Any:
    """codecarbon's tracker for a processor of that power, told all that a user's configuration could change."""
    from codecarbon import OfflineEmissionsTracker

    class Tracker(OfflineEmissionsTracker):
        def _monitor_power(self) -> None:
            """Nothing, instead of a sample each second, from a thread.

            It would take the interpreter from the system, and where the thread has to wait, power is overestimated.
            The sample at the end covers the whole window.
            """

    return Tracker(
        tracking_mode="process",
        force_mode_cpu_load=True,
        force_cpu_power=watts,
        pue=1.0,  # a factor on energies
        gpu_ids=[],
        country_iso_code="USA",  # must be told, for emissions, which are of no use here
        force_carbon_intensity_g_co2e_kwh=0.0,
        allow_multiple_runs=True,  # without a lock file
        output_methods=[],
        emissions_endpoint=None,
        output_dir=os.devnull,  # must exist; nothing is written
        log_level="critical",
    )


def find_meter(device: torch.device) -> Meter:
    """The best meter that this machine has for a device.

    Raises:
        MeterError: there is none; an estimate of the processor never stands for a GPU.
    """
    if device.type == "cuda":
        return NvmlMeter(device)
    if device.type != "cpu":
        raise MeterError(f"no meter for the device {device}")
    try:
        return RaplMeter(POWERCAP)
    except MeterError as reason:
        return EstimatedMeter(str(reason))


def measure_energy(run_clip: Callable[[], int], seconds: float, device: torch.device) -> Energy:
    """Energy of a system that runs one clip after another; where a counter tells it, of an idle window before.

    A meter that fails leaves the label "unavailable", and why.

    Args:
        run_clip: runs a clip, or a batch, and returns how many frames of video that was.
        seconds: of the window, which is longer if the meter's resolution or the clip asks for it; 0 for none.
        device: on which it runs.
    """
    if not seconds:
        return Energy("unavailable", "left out")
    try:
        return _measure(run_clip, seconds, device)
    except MeterError as reason:
        return Energy("unavailable", str(reason))


def _measure(run_clip: Callable[[], int], seconds: float, device: torch.device) -> Energy:
    from bench.measuring.machine import Watch

    meter = find_meter(device)
    idle = None
    if meter.tells_idle:
        meter.start()
        sleep(meter.least_seconds)
        idle = meter.stop()
    watch = Watch(device)
    meter.start()
    try:
        end = perf_counter() + max(seconds, meter.least_seconds)
        frames = 0
        while True:
            frames += run_clip()
            meter.look()
            watch.look()
            if perf_counter() >= end:
                break
    except BaseException:
        with suppress(MeterError):
            meter.stop()
        raise
    reading = meter.stop()
    return Energy(
        label=meter.label,
        how=meter.how,
        joules=reading.joules,
        parts=reading.parts,
        seconds=reading.seconds,
        frames=frames,
        idle_joules=idle.joules if idle else None,
        idle_seconds=idle.seconds if idle else None,
        activity=watch.activity(),
    )


def joules_per_frame(energy: Energy) -> float | None:
    """Of the window, idle power included where a counter has it; None if unavailable."""
    return energy.joules / energy.frames if energy.joules is not None and energy.frames else None


def keeps_up(energy: Energy, fps: float) -> bool:
    """Whether the window's frames were processed at least as fast as video at `fps` has them.

    Raises:
        ValueError: fps is not positive.
    """
    if not fps > 0:
        raise ValueError(f"a frame rate of {fps:g} frames/s; it must be positive")
    return energy.frames >= fps * energy.seconds


def watt_hours_per_hour(energy: Energy, fps: float) -> float | None:
    """Energy, in Wh, of an hour of always-on video: each frame is processed as it arrives, then the machine idles.

    With idle power known, it counts for the whole hour, and each frame adds what it needs beyond idle. Without (an
    estimate), frames are all that counts, and what the machine uses between them is left out.

    Returns:
        None if the energy is unavailable, or the system is too slow for `fps` (`keeps_up` tells which).

    Raises:
        ValueError: fps is not positive.
    """
    per_frame = joules_per_frame(energy)
    if not keeps_up(energy, fps) or per_frame is None:
        return None
    if energy.idle_joules is None or not energy.idle_seconds:
        return per_frame * fps
    idle_watts = energy.idle_joules / energy.idle_seconds
    return idle_watts + (per_frame - idle_watts * energy.seconds / energy.frames) * fps
