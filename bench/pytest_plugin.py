"""The pytest plugin: `pytest --benchmark` runs the guards of efficiency, on top of pytest-benchmark.

It is loaded at every start of pytest, so what takes time is imported when a guard runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.guards.report import Report

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.guards.efficiency import Efficiency

REPORT = pytest.StashKey[Report]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two flags, in the group of pytest-benchmark."""
    group = parser.getgroup("benchmark")
    group.addoption(
        "--benchmark",
        action="store_true",
        help="Run benchmarks and guards of efficiency, and nothing else (foveabench).",
    )
    group.addoption(
        "--efficiency-update",
        action="store_true",
        help="With --benchmark: write the baselines of the guards, and show how they differ from before (foveabench).",
    )


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark and pytest-xdist look at their options
def pytest_configure(config: pytest.Config) -> None:
    """Set the options of pytest-benchmark that belong to `--benchmark`, whatever a project has them set to."""
    report = config.stash[REPORT] = Report()
    if not config.option.benchmark:
        if config.option.efficiency_update:
            raise pytest.UsageError("--efficiency-update goes with --benchmark")
        return
    config.option.benchmark_only = True
    config.option.benchmark_skip = False
    config.option.benchmark_enable = True
    if config.getoption("dist", "no") != "no":
        config.option.dist, config.option.tx = "no", []
        report.notes.append("pytest-xdist is left out: benchmarks that run side by side disturb each other")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note the guards of every folder with tests."""
    guards = item.config.stash[REPORT].tests.setdefault(item.path.parent, set())
    if _is_guard(item):
        guards.add(item.nodeid)


@pytest.hookimpl(tryfirst=True)  # so that the reason is ours where pytest-benchmark skips too
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--benchmark`, leave out what is no benchmark; without, skip the guards."""
    if config.option.benchmark:
        config.hook.pytest_deselected(items=[item for item in items if not _is_benchmark(item)])
        items[:] = filter(_is_benchmark, items)
    elif not config.getoption("benchmark_only", False):
        for item in filter(_is_guard, items):
            item.add_marker(pytest.mark.skip(reason="guards of efficiency run with pytest --benchmark"))


def _is_benchmark(item: pytest.Item) -> bool:
    return "benchmark" in getattr(item, "fixturenames", ())


def _is_guard(item: pytest.Item) -> bool:
    return _is_benchmark(item) and "efficiency" in getattr(item, "fixturenames", ())


@pytest.fixture
def efficiency(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Efficiency:
    """Guards what a system costs: `efficiency.check("epic/my-model")`. Runs with `pytest --benchmark`."""
    from bench.guards.efficiency import Efficiency

    config, test = request.config, request.node
    return Efficiency(benchmark, test, config.option.efficiency_update, config.stash[REPORT])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Baselines that were written, what was not judged, and baselines that no test used."""
    report = config.stash[REPORT]
    notes = list(report.notes)
    if config.getoption("benchmark_only", False) and not config.getoption("lf", False):
        asked_for = [Path(config.invocation_params.dir, argument).resolve() for argument in config.args]
        notes += [
            f"{os.path.relpath(path)}: a baseline that no test used; was a guard renamed or removed?"
            for path in report.orphans(asked_for)
        ]
    if report.updates or notes:
        terminalreporter.section("efficiency")
    for line in report.updates:
        terminalreporter.line(line)
    for note in notes:
        terminalreporter.line(note, yellow=True)
