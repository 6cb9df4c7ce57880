"""The fixture `efficiency`: what a test says to guard a system."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from bench.counting.count import count_flops
from bench.errors import RunError, UsageError
from bench.guards.baselines import Baseline, new_baseline, path_of, read_baseline, write_baseline
from bench.guards.calls import one_call, one_thread
from bench.guards.exact import Fingerprint, fingerprint, fingerprint_of_call
from bench.guards.memory import peak_memory, places_of
from bench.guards.report import FOLDER, Report
from bench.guards.timing import time_ratio
from bench.guards.verdict import ACCEPT, Verdict, compare, message
from bench.measuring.comparison import THRESHOLD, compare_calls
from bench.measuring.statistics import Interval
from bench.systems.builtin import registry
from bench.systems.registry import System

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@dataclass(frozen=True)
class Candidate:
    """What is guarded.

    Attributes:
        id: of the system, or name of the module.
        fingerprint: what is deterministic.
        call: runs it once.
        places: where a fresh process finds it; empty where it cannot.
    """

    id: str
    fingerprint: Fingerprint
    call: Callable[[], object]
    places: list[str]


class Efficiency:
    """Compares a system with its baseline, a file in the folder `efficiency` beside the test.

    Args:
        benchmark: the fixture of pytest-benchmark, in whose table the candidate appears.
        test: that asks.
        update: write baselines instead of comparing with them.
        report: for the end of the run.
    """

    def __init__(self, benchmark: BenchmarkFixture, test: pytest.Item, update: bool, report: Report) -> None:
        self._benchmark, self._test, self._update, self._report = benchmark, test, update, report

    def check(
        self,
        candidate: str | System | nn.Module,
        inputs: Sequence[Any] = (),
        name: str = "",
        memory_band: float = 0.1,
        time: bool = False,
    ) -> None:
        """Fail if what a call costs is not what the baseline says, be it more or less; once in a test.

        Compared are, layer by layer, operations in the conventions `exact` and `paper`, MACs, parameters and
        activations; of an adaptive system also the shares of frames and the decisions of the policy `published`; and,
        within a band, the memory that one call adds to a fresh process. Times are those of one thread.

        Args:
            candidate: id of a system, built in or from an entry point; a system, made by `@bench.system`; or a module,
                which is taken as it is, in training mode or not, and whose memory is not compared.
            inputs: of a call of the module.
            name: of the module's baseline.
            memory_band: by which the peak of memory may differ, as a part of the baseline's.
            time: also compare the time of a call, in units of a calibration workload that runs in turns with it. On
                the machine of the baseline, it fails if it is slower by more than 25 %, which leaves room for the bias
                that every process has; on another machine it is not judged. `not_slower` sees smaller differences.
        """
        with _in_one_line():
            found = self._find(candidate, inputs, name)
            with one_thread():
                self._benchmark(found.call)
                ratio, interval = time_ratio(found.call) if time else (None, None)
            peak = peak_memory(found.places) if found.places else None
            new = new_baseline(found.id, found.fingerprint, peak, ratio)
            total = found.fingerprint.total()._asdict()
            self._benchmark.extra_info.update(system=found.id, **total, peak_memory=peak)
            self._compare(new, memory_band, interval)

    def not_slower(
        self,
        candidate: str | System | Callable[[], object],
        than: str | System | Callable[[], object],
        threshold: float = THRESHOLD,
        seconds: float = 2.0,
    ) -> None:
        """Fail if the candidate is slower than the other; both run in turns, in random order; once in a test.

        It fails only if the interval of the ratio of the times leaves out 1, and the ratio is beyond the threshold (see
        `compare_calls`). Where the noise leaves it open, the summary says so.

        Args:
            candidate: a system by id, a system, or a function that runs what is meant once.
            than: the same, of what it is compared with.
            threshold: smallest difference that counts, as a part of 1.
            seconds: for both together.
        """
        with _in_one_line():
            functions = {"than": _callable(than), "candidate": _callable(candidate)}
            self._benchmark(functions["candidate"])
            for _ in range(3):
                functions["than"]()
            verdict = compare_calls(functions["than"], functions["candidate"], seconds, threshold)
            self._report.finished.add(self._test.nodeid)
            if verdict.outcome == "too noisy":
                self._report.notes.append(f"{self._test.nodeid}: {verdict.words}")
            elif verdict.outcome == "slower":
                raise RunError(f"{verdict.words}; the threshold is {threshold:.1%}")

    def _find(self, candidate: str | System | nn.Module, inputs: Sequence[Any], name: str) -> Candidate:
        if isinstance(candidate, nn.Module):
            if not inputs or not name:
                raise UsageError('a module is guarded by check(module, inputs=(x,), name="my-model")')
            profile = count_flops(candidate, *inputs, convention="paper")
            words = ", ".join("x".join(map(str, x.shape)) if isinstance(x, Tensor) else repr(x) for x in inputs)
            call = partial(_without_gradients, candidate, inputs)
            return Candidate(name, fingerprint_of_call(profile, words), call, [])
        system = _find_system(candidate)
        places = [system.id] if isinstance(candidate, str) else places_of(system)
        if not places:
            self._report.notes.append(
                f"{system.id}: memory is not guarded, as no fresh process can find how to build it"
            )
        return Candidate(system.id, fingerprint(system), one_call(system), places)

    def _compare(self, new: Baseline, memory_band: float, time: Interval | None) -> None:
        path = path_of(self._test.path.parent / FOLDER, new.system)
        self._report.used.add(path)
        self._report.finished.add(self._test.nodeid)
        shown = os.path.relpath(path)
        try:
            old = read_baseline(path, new.system)
            verdict = compare(old, new, memory_band, time) if old else Verdict(["new"])
        except RunError as error:
            if not self._update:
                raise
            verdict = Verdict([str(error)])
        if self._update:
            lines = verdict.failures + verdict.notes
            if lines:
                write_baseline(new, path)
                self._report.updates += [f"{shown} is written", *(f"  {new.system}: {line}" for line in lines)]
            return
        if old is None:
            raise RunError(f"{new.system} has no baseline {shown}: make it with {ACCEPT}, review and commit it")
        self._report.notes += [f"{new.system}: {note}" for note in verdict.notes]
        if verdict.failures:
            raise RunError(message(old, new, shown, verdict.failures))


def _find_system(what: str | System) -> System:
    if isinstance(what, System):
        return what
    if not isinstance(what, str):
        raise UsageError(f"{what!r} cannot be guarded: name a system, or give one made by @bench.system, or a module")
    systems = registry()
    try:
        return systems.find(what)
    except UsageError as error:
        raise UsageError("; ".join([str(error), *systems.problems])) from None


@torch.inference_mode()
def _without_gradients(module: nn.Module, inputs: Sequence[Any]) -> object:
    return module(*inputs)


def _callable(what: str | System | Callable[[], object]) -> Callable[[], object]:
    return one_call(_find_system(what)) if isinstance(what, (str, System)) else what


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Our errors are made for users: no traceback."""
    try:
        yield
    except (UsageError, RunError) as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
