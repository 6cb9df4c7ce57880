"""Measuring, as people see it: progress while it lasts, and a table of what came out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from bench.display import giga, note, print_table, say
from bench.measuring import metrics
from bench.measuring.breakdown import lines, looking
from bench.measuring.energy import joules_per_frame, keeps_up, watt_hours_per_hour
from bench.measuring.statistics import Interval
from bench.measuring.worker import Message
from bench.records.measurement import Case, Change, Energy, Record
from bench.records.profile import StepProfile

STARTING_SECONDS = 15.0
"""That a case takes beside its budget of sampling, about, as long as none has shown it."""

SHOWN = 0.01
"""Layers that take a smaller part of a step are left out of the table of its profile."""

REFRESHES = 4
"""A second; more of them would take time from what is measured."""


class CampaignProgress:
    """A line on standard error: the case, what is done, samples, the current estimate and the time left.

    Where standard error is no terminal, a line for each finished case instead.

    Args:
        total: number of cases.
        budget: seconds of sampling of each.
    """

    def __init__(self, total: int, budget: float) -> None:
        self.total, self.done, self.measured = total, 0, 0
        self._expected = budget + STARTING_SECONDS
        self._case_started = time.monotonic()
        console = Console(stderr=True)
        self._quiet = not console.is_terminal
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
        self._bar = Progress(
            *columns, console=console, transient=True, disable=self._quiet, refresh_per_second=REFRESHES
        )
        self._task = self._bar.add_task("")
        self._name = ""

    @contextmanager
    def shown(self) -> Iterator[CampaignProgress]:
        """While the cases run."""
        with self._bar:
            yield self

    def on_case(self, case: Case) -> None:
        """A case begins."""
        self._name = _name(case)
        self._case_started = time.monotonic()
        self._show("starting")

    def on_message(self, message: Message) -> None:
        """The worker says how far it is."""
        samples = "" if message.estimate is None else f", samples: {message.samples} of {1e3 * message.estimate:.4g} ms"
        self._show(message.phase + samples)

    def on_record(self, record: Record) -> None:
        """A case is over; one that lies from before took no time."""
        took = time.monotonic() - self._case_started
        self.done += 1
        if took > 1:
            self._expected = (self._expected * self.measured + took) / (self.measured + 1)
            self.measured += 1
        if self._quiet or record.status.state != "ok":
            note(f"[{self.done}/{self.total}] {_name(record.case)}: {outcome(record)}")

    def _show(self, doing: str) -> None:
        spent = time.monotonic() - self._case_started
        left = max(self._expected - spent, 0) + (self.total - self.done - 1) * self._expected
        text = f"[{self.done + 1}/{self.total}] {self._name}: {doing}"
        self._bar.update(self._task, description=text + f" · about {_minutes(left)} left" * (left >= 1))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def outcome(record: Record) -> str:
    """A record in a few words."""
    if record.status.state != "ok":
        return f"{record.status.state}, {record.status.cause}"
    per_frame = metrics.seconds_per_frame(record)
    return "no samples" if per_frame is None else f"{plus_minus(per_frame.scaled(1e3))} ms per frame"


def plus_minus(interval: Interval) -> str:
    """An estimate with half of its interval's width, as a part of it; a single sample has no width."""
    value = f"{interval.value:.4g}" if interval.value < 1e4 else f"{interval.value:.0f}"
    return f"{value} ± {interval.half_width:.1%}" if interval.half_width else value


def summary(record: Record, fps: float) -> dict[str, Any]:
    """A record in plain figures, as `foveabench measure --json` prints it; times in seconds, intervals of 95 %."""
    energy = record.energy
    per_frame = metrics.seconds_per_frame(record)
    latency = {
        decision: {f"p{q}": _plain(metrics.frame_latency(record, decision, q)) for q in metrics.PERCENTILES}
        for decision in metrics.DECISIONS
    }
    return {
        "system": record.case.system,
        "case": record.case.name,
        "status": record.status.state,
        "cause": record.status.cause,
        "seconds_per_frame": _plain(per_frame),
        "clips_per_second": _plain(metrics.clips_per_second(record)),
        "frames_per_second": _plain(metrics.frames_per_second(record)),
        "latency": latency if record.case.scenario == "single-stream" else None,
        "clip_latency": _plain(metrics.clip_latency(record, 50)),
        "decode_seconds_per_frame": metrics.decode_seconds(record),
        "executed_shares": metrics.executed_shares(record),
        "peak_bytes": metrics.peak_bytes(record),
        "joules_per_frame": joules_per_frame(energy) if energy else None,
        "fps": fps,
        "watt_hours_per_hour": watt_hours_per_hour(energy, fps) if energy else None,
        "keeps_up": keeps_up(energy, fps) if energy else None,
        "energy": energy.label if energy else "unavailable",
        "energy_how": energy.how if energy else "",
        "warnings": metrics.warnings(record),
        "notes": record.notes,
        "backend": record.case.backend,
        "dtype": record.case.dtype,
        "change": {**asdict(record.change), "relative": relative_difference(record.change)} if record.change else None,
        "profile": _plain_profile(record),
    }


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"value": interval.value, "low": interval.low, "high": interval.high}


def _plain_profile(record: Record) -> dict[str, Any] | None:
    if record.profile is None:
        return None
    return {
        **asdict(looking(record.profile)),
        "peak": asdict(record.peak) if record.peak else None,
        "lines": [asdict(line) for line in lines(record.profile, record.peak)],
    }


def show_records(records: Sequence[Record], fps: float) -> None:
    """What was measured, a row per case; what failed or was disturbed, below."""
    measured = [record for record in records if record.status.state == "ok"]
    _print_filled([_times(record) for record in measured])
    _print_filled([_memory_and_energy(record, fps) for record in measured])
    _print_filled([_change(record, record.change) for record in measured if record.change])
    for record in records:
        if record.status.state != "ok":
            say("[bold red]{name}[/bold red]: {outcome}", name=_name(record.case), outcome=outcome(record))
        for warning in metrics.warnings(record):
            note(f"warning: {_name(record.case)}: {warning}")
    for how in dict.fromkeys(record.energy.how for record in measured if record.energy):
        note(f"energy: {how}")
    for record in measured:
        if record.profile is not None:
            _show_profile(record, record.profile)


def _name(case: Case) -> str:
    batch = f" x{case.batch}" if case.scenario == "offline" else ""
    return case.system + batch + ("" if case.backend == "eager" else f", {case.backend}")


def _times(record: Record) -> dict[str, str]:
    cells = {"system": _name(record.case), "ms/frame": _cell(metrics.seconds_per_frame(record), 1e3)}
    for decision, title in zip(metrics.DECISIONS, ("full p50", "pre-scan p50", "skip p50"), strict=True):
        cells[title] = _cell(metrics.frame_latency(record, decision, 50), 1e3)
    offline = record.case.scenario == "offline"
    cells["frames/s"] = _cell(metrics.frames_per_second(record)) if offline else ""
    cells["clips/s"] = _cell(metrics.clips_per_second(record)) if offline else ""
    return cells


def _memory_and_energy(record: Record, fps: float) -> dict[str, str]:
    energy = record.energy or Energy("unavailable", "")
    return {
        "system": _name(record.case),
        "decode ms": _number(metrics.decode_seconds(record), 1e3),
        "peak MB": _number(metrics.peak_bytes(record), 1e-6),
        "J/frame": _number(joules_per_frame(energy)),
        f"Wh/h at {fps:g} fps": _number(watt_hours_per_hour(energy, fps)) if keeps_up(energy, fps) else "too slow",
        "energy": energy.label,
    }


def _change(record: Record, change: Change) -> dict[str, str]:
    """Against eager float32."""
    share = relative_difference(change)
    return {
        "system": _name(record.case),
        "dtype": record.case.dtype,
        "largest difference of outputs": _number(change.largest_difference) or "not finite",
        "of the largest": "" if share is None else f"{share:.1e}",
        "predictions changed": f"{change.changed} of {change.predictions}",
    }


def relative_difference(change: Change) -> float | None:
    """The largest difference of outputs over the largest output; None where some are not finite, or all are 0."""
    if change.largest_difference is None or not change.largest_output:
        return None
    return change.largest_difference / change.largest_output


def _show_profile(record: Record, profile: StepProfile) -> None:
    """Where the time of a step went; layers that take little of it are left to the CSV and JSON."""
    found, cost = lines(profile, record.peak), looking(profile)
    parts = Counter(line.stage for line in found if line.level == "part")
    small = sum(line.level == "layer" and line.share_of_time < SHOWN for line in found)
    shown = [
        line
        for line in found
        if (line.level != "layer" or line.share_of_time >= SHOWN) and (line.level != "part" or parts[line.stage] > 1)
    ]
    columns = ["", "type", "GFLOPs (counted)", "MB (estimated)", "ms (measured)", "% of step"]
    say("")
    print_table(
        [*columns, "GFLOP/s", "% of peak", "GB/s", "% of peak"],
        [
            [
                {"stage": line.stage, "part": f"  {line.part}", "layer": f"    {line.layer}"}[line.level],
                line.type,
                giga(line.flops),
                f"{line.estimated_bytes / 1e6:.1f}",
                f"{1e3 * line.seconds:.3f}",
                f"{100 * line.share_of_time:.1f}",
                _number(line.flops_per_second, 1e-9),
                _number(line.share_of_peak_flops, 100),
                _number(line.estimated_bytes_per_second, 1e-9),
                _number(line.share_of_peak_bytes, 100),
            ]
            for line in shown
        ],
        title=f"{_name(record.case)}: where the time of a step goes",
    )
    if record.peak:
        say(
            f"peak, measured in the same process: {record.peak.flops_per_second / 1e9:.4g} GFLOP/s of a matrix product,"
            f" {record.peak.bytes_per_second / 1e9:.4g} GB/s of a copy"
        )
    say(
        f"a step takes {1e3 * cost.step:.4g} ms untouched, {1e3 * cost.timed_by_parts:.4g} with its stages timed and"
        f" {1e3 * cost.timed_by_layers:.4g} with its layers timed ({cost.marks} x {1e6 * cost.mark:.2g} us to look);"
        f" stages and parts add up to {1e3 * cost.parts:.4g}, and leave {1e3 * cost.unexplained:.3g} ms unexplained"
    )
    if small:
        say(f"{small} layers of less than {SHOWN:.0%} of the step are not shown: --json and profile.csv have them")


def _print_filled(rows: Sequence[dict[str, str]]) -> None:
    """Print a table without columns in which nothing stands, so that it fits."""
    columns = [column for column in (rows[0] if rows else ()) if any(row[column] for row in rows)]
    if columns:
        print_table(columns, [[row[column] for column in columns] for row in rows])


def _cell(interval: Interval | None, factor: float = 1.0) -> str:
    return "" if interval is None else plus_minus(interval.scaled(factor))


def _number(value: float | None, factor: float = 1.0) -> str:
    return "" if value is None else f"{value * factor:.4g}"
