"""Many cases, each in a fresh process, so that whatever happens to one happens to it alone."""

from __future__ import annotations

import json
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
from pydantic import TypeAdapter

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

POLL_SECONDS = 0.1
"""Between two looks at a worker: for its messages, its memory, and its time limit."""

_START = "import sys; sys.path[:] = {path!r}; from bench.measuring.worker import main; main()"
"""A worker imports from where we do, and not from a folder of the same name that happens to be here."""

_NO_MEMORY = ("MemoryError", "OutOfMemoryError", "can't allocate memory", "CUDA out of memory")


def settings(width: float, budget: float, warmup: float, energy: float, time_limit: float) -> Settings:
    """Settings for this machine, whose workers may take nine tenths of the memory that is free now.

    The width is in per cent here, as people give it.

    Raises:
        UsageError: a number that is not positive; the window of energy may be 0.
    """
    for name, number in (("width", width), ("budget", budget), ("warmup", warmup), ("time-limit", time_limit)):
        if not number > 0:
            raise UsageError(f"--{name} {number:g}: it must be positive")
    if not energy >= 0:
        raise UsageError(f"--energy {energy:g}: it must be 0 or more")
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
        """The record of a case that was measured before; None if there is none, or a damaged or failed one."""
        try:
            record = read_record(self.path(case))
        except RunError:
            return None
        return record if record.status.state == "ok" and record.case == case else None

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
            KeyboardInterrupt: after the record of the case that it stopped.
        """
        records = []
        for case in self.cases:
            on_case(case)
            record = (self.done(case) if resume else None) or self._measure(case, on_message)
            records.append(record)
            on_record(record)
        return records

    def _measure(self, case: Case, on_message: Callable[[Message], None]) -> Record:
        path = self.path(case)
        # The worker writes the record itself, under another name: a record of before must not be taken for its own.
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        request = Request(case, self.settings, self.clip, list(self.adapters), str(fresh))
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        try:
            status, environment = Worker(request).wait(on_message)
            if status.state == "ok":
                record = read_record(fresh)
                fresh.replace(path)
                return record
        except KeyboardInterrupt:
            write_record(Record(SCHEMA, case, self.settings, Status("interrupted", "Ctrl-C"), started), path)
            raise
        finally:
            fresh.unlink(missing_ok=True)
        record = Record(SCHEMA, case, self.settings, status, started, environment)
        write_record(record, path)
        return record


class Worker:
    """A process that measures one case, watched for its time and memory.

    Args:
        request: what it is to measure.
        tree: folder in which it runs, and from which it imports before anything else; ours if not given.
    """

    def __init__(self, request: Request, tree: Path | None = None) -> None:
        self._settings = request.settings
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (gone with this object)
        self._oom_kills = _oom_kills()
        threads = str(request.case.threads)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=[str(tree.resolve()), *sys.path] if tree else sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=tree,
            env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            start_new_session=True,  # so that Ctrl-C reaches us alone, and its children can be stopped with it
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(request)) + "\n")
        self._process.stdin.flush()
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait(self, on_message: Callable[[Message], None]) -> tuple[Status, Environment | None]:
        """Wait until the worker has ended, or stop it; how it ended, and where it ran if it came to say so."""
        deadline = time.monotonic() + self._settings.time_limit
        last = Message("starting")
        environment, stopped = None, None
        try:
            while stopped is None:
                try:
                    line = self._lines.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    line = ""
                if line is None:
                    break
                if line:
                    message = TypeAdapter(Message).validate_json(line)
                    last = message if not message.error else replace(message, phase=last.phase)
                    environment = message.environment or environment
                    on_message(message)
                stopped = self._beyond_limits(deadline, last.phase)
        finally:
            self._stop(at_once=stopped is not None or sys.exc_info()[0] is not None)
        return stopped or self._ended(last), environment

    def _beyond_limits(self, deadline: float, phase: str) -> Status | None:
        settings = self._settings
        if time.monotonic() > deadline:
            return Status("timeout", f"stopped while {phase}, after the time limit of {settings.time_limit:g} s")
        try:
            worker = psutil.Process(self._process.pid)
            used = sum(each.memory_info().rss for each in (worker, *worker.children(recursive=True)))
        except psutil.Error:  # it has just ended
            return None
        if used > settings.memory_limit:
            taken, limit = used / 1e9, settings.memory_limit / 1e9
            return Status("out-of-memory", f"stopped while {phase}, at {taken:.1f} GB of the {limit:.1f} GB allowed")
        return None

    def _stop(self, at_once: bool) -> None:
        """See the worker and its children ended; give it a moment to end by itself unless it must be at once."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if at_once else 10)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _ended(self, last: Message) -> Status:
        code = self._process.returncode
        if code == 0:
            return Status("ok")
        if last.error:
            state: State = "out-of-memory" if any(sign in last.error for sign in _NO_MEMORY) else "failed"
            return Status(state, f"while {last.phase}: {last.error}")
        if code == -signal.SIGKILL and _oom_kills() > self._oom_kills:
            return Status("out-of-memory", f"killed by the kernel while {last.phase}: no memory was left")
        if code < 0:
            return Status("killed", f"killed by {signal.Signals(-code).name} while {last.phase}{self._last_words()}")
        return Status("failed", f"ended with exit status {code} while {last.phase}{self._last_words()}")

    def _last_words(self) -> str:
        """The last line that it wrote to standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else ""


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
