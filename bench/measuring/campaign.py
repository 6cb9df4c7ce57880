"""Many cases, each in a fresh process, so that whatever happens to one happens to it alone."""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError

from bench.errors import RunError, UsageError
from bench.measuring.memory import available_bytes
from bench.measuring.worker import Message, Request
from bench.records.measurement import (
    SCHEMA,
    Case,
    Environment,
    Record,
    Settings,
    State,
    Status,
    read_record,
    write_record,
)

POLL_SECONDS = 0.2
"""Between two looks at a worker that says nothing."""

LAST_WORDS = 4096
"""Bytes of a worker's standard error that are looked at."""

_START = "import sys; sys.path[:] = {path!r}; from bench.measuring.worker import main; main()"
"""A worker imports from where we do, and not from a folder of the same name that happens to be here."""

_MESSAGES = TypeAdapter(Message)

_NO_MEMORY = ("MemoryError", "OutOfMemoryError", "can't allocate memory", "CUDA out of memory")


def settings(width: float, budget: float, warmup: float, energy: float, time_limit: float) -> Settings:
    """Settings for this machine, whose workers may take nine tenths of the memory that is free now.

    The width is in per cent here, as people give it.

    Raises:
        UsageError: a number that is not positive, or not finite; the window of energy may be 0.
    """
    for name, number in (("width", width), ("budget", budget), ("warmup", warmup), ("time-limit", time_limit)):
        if not 0 < number < math.inf:
            raise UsageError(f"--{name} {number:g}: it must be positive, and finite")
    if not 0 <= energy < math.inf:
        raise UsageError(f"--energy {energy:g}: it must be 0 or more, and finite")
    return Settings(width / 100, budget, warmup, energy, time_limit, int(0.9 * available_bytes()))


@dataclass(frozen=True)
class Campaign:
    """Cases to be measured, and how.

    Attributes:
        cases: in order.
        settings: for all.
        clip: path of the clip, or "demo".
        adapters: for the registry.
        folder: of the records, "<case>.json".
    """

    cases: Sequence[Case]
    settings: Settings
    clip: str
    adapters: Sequence[str]
    folder: Path

    def path(self, case: Case) -> Path:
        """Where the record of a case lies."""
        return self.folder / f"{case.name}.json"

    def done(self, case: Case) -> Record | None:
        """The record of this case that was measured well before, with these settings; None if there is none.

        That it has a profile which nobody asks for is no difference.
        """
        try:
            record = read_record(self.path(case))
        except RunError:
            return None
        ours = self.settings
        theirs = replace(
            record.settings,
            time_limit=ours.time_limit,
            memory_limit=ours.memory_limit,
            profile=record.settings.profile and ours.profile,
        )
        return record if record.status.state == "ok" and (record.case, theirs) == (case, ours) else None

    def run(
        self,
        resume: bool,
        on_case: Callable[[Case], None] = lambda _: None,
        on_message: Callable[[Message], None] = lambda _: None,
        on_record: Callable[[Record], None] = lambda _: None,
    ) -> list[Record]:
        """Measure the cases one by one, and write a record for each, whatever becomes of it.

        Args:
            resume: leave out cases that have a record of a measurement that went well.
            on_case: called before each case.
            on_message: called with what the worker says.
            on_record: called after each case, also one that was left out.

        Raises:
            RunError: records cannot be written; those of earlier cases are unharmed.
            KeyboardInterrupt: after the record of the case that it stopped was written.
        """
        records = []
        for case in self.cases:
            on_case(case)
            record = (self.done(case) if resume else None) or self._measure(case, on_message)
            records.append(record)
            on_record(record)
            if record.status.state == "interrupted":
                raise KeyboardInterrupt
        return records

    def _measure(self, case: Case, on_message: Callable[[Message], None]) -> Record:
        worker = Worker(Request(case, self.settings, self.clip, list(self.adapters)))
        try:
            record = worker.wait(on_message)
        except KeyboardInterrupt:
            record = worker.interrupted()
        write_record(record, self.path(case))
        return record


class Worker:
    """A process that measures one case, watched for its time and memory.

    Args:
        request: the case, and how.
        tree: a working tree in which it runs, and from which it imports first.
    """

    def __init__(self, request: Request, tree: Path | None = None) -> None:
        self._request = request
        self._started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._last = Message("starting")
        self._environment: Environment | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (gone with this object)
        self._oom_kills = _oom_kills()
        threads = str(request.case.threads)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=[str(tree.resolve()), *sys.path] if tree else sys.path)],
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            start_new_session=True,  # so that Ctrl-C reaches us alone, and its children can be stopped with it
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it could not even start, and its last words say why
            self._process.stdin.write(json.dumps(asdict(request)) + "\n")
            self._process.stdin.flush()
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if line.endswith("\n"):  # else it was killed while it wrote
                    self._lines.put(line)
        self._lines.put(None)

    def wait(self, on_message: Callable[[Message], None]) -> Record:
        """Wait until the worker has ended, or stop it; its record, or one of how it failed."""
        assert self._process.stdin is not None
        try:
            stopped = self._follow(on_message)
            if stopped is None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(10)
        finally:
            with suppress(ProcessLookupError, PermissionError):  # it has ended, and left no children
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        with self._errors:
            return self._last.record or self._failure(stopped or self._ended())

    def interrupted(self) -> Record:
        """A record that says that nobody waited until it ended."""
        return self._failure(Status("interrupted", f"Ctrl-C while {self._last.phase}"))

    def _failure(self, status: Status) -> Record:
        request = self._request
        return Record(SCHEMA, request.case, request.settings, status, self._started, self._environment)

    def _follow(self, on_message: Callable[[Message], None]) -> Status | None:
        """Pass on what the worker says until it ends; or why it must be stopped."""
        deadline = time.monotonic() + self._request.settings.time_limit
        ended = False
        while (stopped := self._beyond_limits(deadline)) is None:
            try:
                line = self._lines.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if ended:  # and a child of it holds the other end
                    break
                ended = self._process.poll() is not None
                continue
            if line is None:
                break
            try:
                message = _MESSAGES.validate_json(line)
            except ValidationError:
                return Status("failed", f"while {self._last.phase}: what the worker says is not understood")
            self._last = replace(message, phase=self._last.phase) if message.error else message
            self._environment = message.environment or self._environment
            on_message(message)
        return stopped

    def _beyond_limits(self, deadline: float) -> Status | None:
        settings, phase = self._request.settings, self._last.phase
        if time.monotonic() > deadline:
            return Status("timeout", f"stopped while {phase}, after the time limit of {settings.time_limit:g} s")
        try:
            used = psutil.Process(self._process.pid).memory_info().rss
        except psutil.Error:  # it has just ended
            return None
        if used > settings.memory_limit:
            taken, limit = used / 1e9, settings.memory_limit / 1e9
            return Status("out-of-memory", f"stopped while {phase}, at {taken:.1f} GB of the {limit:.1f} GB allowed")
        return None

    def _ended(self) -> Status:
        """How it ended without a record."""
        code, last = self._process.returncode, self._last
        if last.error:
            state: State = "out-of-memory" if any(sign in last.error for sign in _NO_MEMORY) else "failed"
            return Status(state, f"while {last.phase}: {last.error}")
        if code == -signal.SIGKILL and _oom_kills() > self._oom_kills:
            return Status("out-of-memory", f"killed by the kernel while {last.phase}: no memory was left")
        if code < 0:
            return Status("killed", f"by {signal.Signals(-code).name} while {last.phase}{self._last_words()}")
        return Status("failed", f"ended with exit status {code} while {last.phase}{self._last_words()}")

    def _last_words(self) -> str:
        """The last line that it wrote to standard error."""
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - LAST_WORDS))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else ""


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
