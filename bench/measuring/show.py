"""Measuring, as people see it: progress while it lasts, and a table of what came out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.display import note, print_table, say
from bench.measuring import metrics
from bench.measuring.energy import joules_per_frame, keeps_up, watt_hours_per_hour
from bench.measuring.statistics import Interval
from bench.measuring.worker import Message
from bench.records.measurement import Case, Record

STARTING_SECONDS = 15.0
"""That a case takes beside its budget of sampling, about, as long as none has shown it."""


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
        self._started = time.monotonic()
        self._case_started = self._started
        console = Console(stderr=True)
        self._quiet = not console.is_terminal
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=self._quiet)
        self._task = self._bar.add_task("")
        self._name = ""

    @contextmanager
    def shown(self) -> Iterator[CampaignProgress]:
        """While the cases run."""
        with self._bar:
            yield self

    def on_case(self, case: Case) -> None:
        """A case begins."""
        self._name = case.system + (f" batch {case.batch}" if case.scenario == "offline" else "")
        self._case_started = time.monotonic()
        self._show("starting")

    def on_message(self, message: Message) -> None:
        """The worker says how far it is."""
        estimate = "" if message.estimate is None else f", {1e3 * message.estimate:.4g} ms"
        self._show(f"{message.phase}, {message.samples} samples{estimate}" if message.samples else message.phase)

    def on_record(self, record: Record) -> None:
        """A case is over; one that lies from before took no time."""
        took = time.monotonic() - self._case_started
        self.done += 1
        if took > 1:
            self._expected = (self._expected * bool(self.measured) * self.measured + took) / (self.measured + 1)
            self.measured += 1
        if self._quiet or record.status.state != "ok":
            note(f"[{self.done}/{self.total}] {record.case.name}: {outcome(record)}")

    def _show(self, doing: str) -> None:
        spent = time.monotonic() - self._case_started
        left = max(self._expected - spent, 0) + (self.total - self.done - 1) * self._expected
        text = f"[{self.done + 1}/{self.total}] {self._name}: {doing} · about {_minutes(left)} left"
        self._bar.update(self._task, description=text)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def outcome(record: Record) -> str:
    """A record in a few words."""
    if record.status.state != "ok":
        return f"{record.status.state}, {record.status.cause}"
    per_frame = metrics.seconds_per_frame(record)
    return "no samples" if per_frame is None else f"{plus_minus(per_frame.scaled(1e3))} ms per frame"


def plus_minus(interval: Interval) -> str:
    """An estimate with half of its interval's width."""
    return f"{interval.value:.4g} ± {(interval.high - interval.low) / 2:.2g}"


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
    }


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"value": interval.value, "low": interval.low, "high": interval.high}


def show_records(records: Sequence[Record], fps: float) -> None:
    """What was measured, a row per case; what failed or was disturbed, below."""
    rows = []
    measured = [record for record in records if record.status.state == "ok"]
    for record in measured:
        data = summary(record, fps)
        rows.append(
            [
                record.case.system + (f" x{record.case.batch}" if record.case.scenario == "offline" else ""),
                _cell(metrics.seconds_per_frame(record), 1e3),
                *(_cell(metrics.frame_latency(record, decision, 50), 1e3) for decision in metrics.DECISIONS),
                _number(data["frames_per_second"] and data["frames_per_second"]["value"]),
                _number(data["decode_seconds_per_frame"], 1e3),
                _number(data["peak_bytes"], 1e-6),
                _number(data["joules_per_frame"]),
                _number(data["watt_hours_per_hour"]) if data["keeps_up"] else "too slow",
                data["energy"],
            ]
        )
    columns = ["system", "ms/frame", "full p50", "pre-scan p50", "skip p50", "frames/s", "decode ms", "peak MB"]
    print_table([*columns, "J/frame", f"Wh/h at {fps:g} fps", "energy"], rows)
    for record in records:
        if record.status.state != "ok":
            say("[bold red]{name}[/bold red]: {outcome}", name=record.case.name, outcome=outcome(record))
        for warning in metrics.warnings(record):
            note(f"warning: {record.case.system}: {warning}")
    for how in dict.fromkeys(record.energy.how for record in measured if record.energy):
        note(f"energy: {how}")


def _cell(interval: Interval | None, factor: float) -> str:
    return "" if interval is None else plus_minus(interval.scaled(factor))


def _number(value: float | None, factor: float = 1.0) -> str:
    return "" if value is None else f"{value * factor:.4g}"
