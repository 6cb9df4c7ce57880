from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
import torch

from bench.errors import RunError, UsageError
from bench.measuring import campaign
from bench.measuring.campaign import Campaign, Worker, settings
from bench.measuring.cases import machine_folder
from bench.measuring.machine import environment
from bench.measuring.worker import Message, Request
from bench.records.measurement import Case, Record, Settings, read_record, read_records

QUICK = Settings(width=0.5, budget=0.2, warmup=0.2, energy=0, time_limit=60, memory_limit=4 << 30)

# A worker as it is, but for what it measures: the rest of it starts in a tenth of the time.
STAND_IN = """
import ctypes, os, signal, subprocess, sys, time
import bench.measuring.worker as worker
from bench.measuring.worker import Message
from bench.records.measurement import Activity, FrameSamples, Record, Status, Timing

worker.GRACE_SECONDS = 1

def measured(request, seconds=0.5, notes=()):
    samples = FrameSamples([0], [0], ["full"], [seconds])
    timing = Timing("perf_counter", [], True, 1.0, samples, None, {}, [], Activity(1.0, 1, 1.0))
    return Record(1, request.case, request.settings, Status("ok"), "now", timing=timing, notes=list(notes))

def measure(request, tell):
    tell(Message("building"))
"""


def make_case(system: str, **changes: object) -> Case:
    case = Case(system, "single-stream", "cpu", "float32", "fixed", 1, 4, 1, "demo")
    return replace(case, **changes)  # type: ignore[arg-type]


Act = Callable[[str], None]


@pytest.fixture
def act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Act:
    """Makes workers do something else than measuring: lines of Python, with `request` and `tell`."""

    def start(lines: str) -> None:
        script = tmp_path / "worker.py"
        body = "".join(f"    {line}\n" for line in lines.splitlines())
        script.write_text(f"{STAND_IN}{body}    return measured(request)\nworker.measure = measure\nworker.main()\n")
        code = f"import runpy, sys; sys.path[:] = {{path!r}}; runpy.run_path({str(script)!r})"
        monkeypatch.setattr(campaign, "_START", code)

    return start


def run_one(settings: Settings = QUICK, case: Case | None = None) -> Record:
    return Worker(Request(case or make_case("small/net"), settings, "demo", [])).wait(lambda _: None)


def gone(process: int, seconds: float = 5) -> bool:
    """Whether a process ends soon."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


# --- a worker that fails ---


@pytest.mark.parametrize(
    ("lines", "state", "cause"),
    [
        ("raise OSError('no weights\\nat all')", "failed", "while building: OSError: no weights"),
        ("sys.exit()", "failed", "while building: SystemExit"),
        ("os._exit(3)", "failed", "ended with exit status 3 while building"),
        ("os._exit(0)", "failed", "ended with exit status 0 while building"),
        ("os.write(2, b'1\\nno luck'); os._exit(3)", "failed", "ended with exit status 3 while building: no luck"),
        ("input('Trust this code? ')", "failed", "while building: EOFError: EOF when reading a line"),
        ("raise MemoryError", "out-of-memory", "while building: MemoryError"),
        ("ctypes.string_at(0)", "killed", "by SIGSEGV while building"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed", "by SIGKILL while building"),
        (
            "tell.args[0].write('{\"phase\": \"tim'); tell.args[0].flush(); os.kill(os.getpid(), signal.SIGKILL)",
            "killed",
            "by SIGKILL while building",
        ),
        ("tell.args[0].write('nonsense\\n')", "failed", "while building: what the worker says is not understood"),
        (
            "return measured(request, float('nan'))",
            "failed",
            "while building: ValueError: Out of range float values are not JSON compliant",
        ),
    ],
)  # fmt: skip
def test_a_worker_that_fails_is_told_of_with_its_cause(act: Act, lines: str, state: str, cause: str) -> None:
    act(lines)
    record = run_one()
    assert (record.status.state, record.status.cause.partition(": nan")[0]) == (state, cause)
    assert (record.case, record.settings, record.timing) == (make_case("small/net"), QUICK, None)


def test_torch_says_that_no_memory_is_left_in_words_that_are_known(act: Act) -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60)
    act(f"raise RuntimeError({str(error.value)!r})")
    assert run_one().status.state == "out-of-memory"


def test_a_worker_that_takes_too_long_is_stopped_even_in_a_call_that_holds_the_interpreter(act: Act) -> None:
    act("ctypes.PyDLL(None).sleep(60)")
    start = time.monotonic()
    status = run_one(replace(QUICK, time_limit=2)).status
    assert (status.state, status.cause) == ("timeout", "stopped while building, after the time limit of 2 s")
    assert time.monotonic() - start < 10


def test_a_worker_that_allocates_without_end_is_stopped(act: Act) -> None:
    act("hoard = []\nwhile True:\n    hoard.append(b'x' * 20_000_000); time.sleep(0.02)")
    status = run_one(replace(QUICK, memory_limit=400_000_000)).status
    assert status.state == "out-of-memory"
    assert status.cause.startswith("stopped while building, at 0.")
    assert status.cause.endswith(" GB of the 0.4 GB allowed")


# --- a worker that is rude, and yet measures ---


def test_what_a_model_prints_spoils_nothing(act: Act) -> None:
    act("print('x' * 5_000_000)\nprint('y\\n' * 5_000_000, file=sys.stderr)\nsys.stdout = sys.stderr = None")
    assert run_one().status.state == "ok"


@pytest.mark.parametrize(
    "lines",
    [
        "child = subprocess.Popen(['sleep', '60']).pid",
        "child = os.fork()\nif not child:\n    time.sleep(60)",  # which holds the worker's end of the pipe, too
    ],
)
def test_children_that_a_model_leaves_behind_are_stopped(act: Act, tmp_path: Path, lines: str) -> None:
    act(lines + f"\nopen({str(tmp_path / 'child')!r}, 'w').write(str(child))")
    start = time.monotonic()
    assert run_one().status.state == "ok"
    assert time.monotonic() - start < 10
    assert gone(int((tmp_path / "child").read_text()))


def test_threads_that_a_model_leaves_behind_hold_nothing_up(act: Act) -> None:
    act("import threading\nthreading.Thread(target=time.sleep, args=[60]).start()")
    start = time.monotonic()
    assert run_one().status.state == "ok"
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(("call", "seconds"), [("time.sleep(60)", 60.0), ("ctypes.PyDLL(None).sleep(60)", 0.5)])
def test_a_worker_ends_when_whoever_asked_is_gone(act: Act, call: str, seconds: float) -> None:
    # A call that holds the interpreter lets no thread of Python see that; the time limit ends it all the same.
    act(call)
    request = Request(make_case("small/net"), replace(QUICK, time_limit=seconds), "demo", [])
    command = [sys.executable, "-c", campaign._START.format(path=sys.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(asdict(request)) + "\n")
        worker.stdin.flush()
        assert "building" in worker.stdout.readline()
        worker.stdin.close()
        assert worker.wait(10) == 1


def test_a_worker_of_another_tree_imports_from_there_and_runs_there(tmp_path: Path) -> None:
    # all of foveabench is from the tree: a package that has no more than it needs to end
    package = tmp_path / "tree" / "bench" / "measuring"
    package.mkdir(parents=True)
    (package / "worker.py").write_text("import os\ndef main():\n    os._exit(len(os.listdir()))\n")
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    (package.parent.parent / "net.py").touch()
    status = Worker(Request(make_case("small/net"), QUICK, "demo", []), tmp_path / "tree").wait(lambda _: None).status
    assert status.cause == "ended with exit status 2 while starting"


def test_messages_are_passed_on_in_their_order(act: Act) -> None:
    act("tell(Message('timing', 3, 0.25))")
    messages: list[Message] = []
    Worker(Request(make_case("small/net"), QUICK, "demo", [])).wait(messages.append)
    assert [(message.phase, message.samples, message.estimate) for message in messages] == [
        ("building", 0, None),
        ("timing", 3, 0.25),
        ("done", 0, None),
    ]


# --- many cases ---

CASES = [make_case(f"small/{name}") for name in "abc"]


def made(folder: Path, *cases: Case, **changes: object) -> Campaign:
    changed = replace(QUICK, **changes)  # type: ignore[arg-type]
    return Campaign(cases or CASES, changed, "demo", [], folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def states(folder: Path) -> dict[str, str]:
    records = read_records(folder, pytest.fail)
    return {record.case.system.removeprefix("small/"): record.status.state for record in records}


def test_a_failure_costs_its_case_alone_and_resuming_measures_only_that_again(act: Act, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    act("if request.case.system == 'small/b': raise RuntimeError('out of luck')")
    records = made(folder).run(resume=False)
    assert [record.status.state for record in records] == ["ok", "failed", "ok"]
    assert states(folder) == {"a": "ok", "b": "failed", "c": "ok"}
    before = contents(folder)
    act("")
    seen: list[tuple[str, str]] = []
    resumed = made(folder).run(
        True,
        lambda case: seen.append(("case", case.system)),
        lambda message: seen.append(("phase", message.phase)),
        lambda record: seen.append(("record", record.case.system)),
    )
    assert [record.status.state for record in resumed] == ["ok"] * 3
    assert [system for kind, system in seen if kind == "record"] == ["small/a", "small/b", "small/c"]
    assert [word for word in seen if word[0] == "phase"] == [("phase", "building"), ("phase", "done")]
    changed = {name for name, content in contents(folder).items() if content != before[name]}
    assert changed == {f"{CASES[1].name}.json"}


def test_without_resuming_all_is_measured_again(act: Act, tmp_path: Path) -> None:
    act("")
    made(tmp_path / "records", CASES[0]).run(resume=False)
    act("return measured(request, 0.75)")
    (record,) = made(tmp_path / "records", CASES[0]).run(resume=False)
    assert record.timing is not None
    assert record.timing.frames is not None
    assert record.timing.frames.seconds == [0.75]


@pytest.mark.parametrize(
    ("changes", "case_changes"),
    [
        ({"width": 0.25}, {}),
        ({"budget": 0.5}, {}),
        ({"warmup": 0.5}, {}),
        ({"energy": 1}, {}),
        ({}, {"dtype": "bfloat16"}),
        ({}, {"threads": 2}),
        ({}, {"clip": "other.mp4"}),
        ({}, {"frames": 5}),
        ({}, {"policy": "learned"}),
        ({}, {"seed": 1}),
    ],
)
def test_what_was_measured_otherwise_is_not_taken_for_the_case(
    act: Act, tmp_path: Path, changes: dict[str, object], case_changes: dict[str, object]
) -> None:
    made_before = made(tmp_path, CASES[0])
    record = Record(1, CASES[0], QUICK, campaign.Status("ok"), "now")
    campaign.write_record(record, made_before.path(CASES[0]))
    assert made_before.done(CASES[0]) == record
    case = replace(CASES[0], **case_changes)  # type: ignore[arg-type]
    campaign.write_record(record, made_before.path(case))
    assert made(tmp_path, case, **changes).done(case) is None


def test_limits_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    record = Record(1, CASES[0], QUICK, campaign.Status("ok"), "now")
    before = made(tmp_path, CASES[0])
    campaign.write_record(record, before.path(CASES[0]))
    assert made(tmp_path, CASES[0], time_limit=5, memory_limit=7).done(CASES[0]) == record


DAMAGES: dict[str, Callable[[str], str | bytes]] = {
    "cut off": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "of another schema": lambda text: text.replace('"schema": 1', '"schema": 2'),
    "with a word for a number": lambda text: text.replace('"phase_seconds": 1.0', '"phase_seconds": "long"'),
    "with columns of unequal length": lambda text: text.replace('"full"', '"full", "full"'),
    "with bytes that are no text": lambda text: b"\xff\xfe\x00",
}


def test_a_damaged_record_is_measured_again_and_spoils_nothing_else(act: Act, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    cases = [make_case(f"small/{name.replace(' ', '-')}") for name in DAMAGES]
    act("")
    run = made(folder, CASES[0], *cases)
    run.run(resume=False)
    for case, damage in zip(cases, DAMAGES.values(), strict=True):
        whole = run.path(case).read_text()
        damaged = damage(whole)
        assert damaged != whole
        run.path(case).write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    before = contents(folder)
    problems: list[str] = []
    assert [record.case for record in read_records(folder, problems.append)] == [CASES[0]]
    assert sorted(problem.partition(".json: ")[0] for problem in problems) == sorted(
        str(run.path(case).with_suffix("")) for case in cases
    )
    assert [record.status.state for record in run.run(resume=True)] == ["ok"] * len(run.cases)
    assert len(read_records(folder, pytest.fail)) == len(run.cases)
    assert contents(folder)[run.path(CASES[0]).name] == before[run.path(CASES[0]).name]


def test_ctrl_c_costs_the_case_that_it_meets(act: Act, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    act("if request.case.system == 'small/b': tell(Message('timing')); time.sleep(60)")

    def interrupt(message: Message) -> None:
        if message.phase == "timing":
            os.kill(os.getpid(), signal.SIGINT)

    told: list[Record] = []
    others = set(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt):
        made(folder).run(resume=False, on_message=interrupt, on_record=told.append)
    assert [record.status.state for record in told] == ["ok", "interrupted"]
    assert states(folder) == {"a": "ok", "b": "interrupted"}
    assert read_record(folder / f"{CASES[1].name}.json").status.cause == "Ctrl-C while timing"
    assert set(psutil.Process().children()) <= others  # the worker is gone
    act("")
    made(folder).run(resume=True)
    assert states(folder) == {"a": "ok", "b": "ok", "c": "ok"}


# --- a disk without room ---


LARGE_SECOND = "if request.case.system == 'small/b': return measured(request, notes=['x' * 100_000])"


def test_a_record_that_cannot_be_written_stops_the_run_with_one_line(
    files_up_to: Callable[[int], AbstractContextManager[None]], act: Act, tmp_path: Path
) -> None:
    folder = tmp_path / "records"
    act(LARGE_SECOND)
    with files_up_to(50_000), pytest.raises(RunError, match=r"^cannot write [^\n]*small--b[^\n]*: File too large$"):
        made(folder).run(resume=False)
    before = contents(folder)
    assert list(before) == [f"{CASES[0].name}.json"]
    made(folder).run(resume=True)
    assert states(folder) == {"a": "ok", "b": "ok", "c": "ok"}
    assert contents(folder).items() > before.items()


def test_a_disk_that_fills_up_stops_the_run_with_one_line(act: Act, small_disk: Path) -> None:
    folder = small_disk / "records"
    act(LARGE_SECOND)
    with pytest.raises(RunError, match=r"^cannot write [^\n]*small--b[^\n]*: No space left on device$"):
        made(folder).run(resume=False)
    before = contents(folder)
    assert list(before) == [f"{CASES[0].name}.json"]
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    made(folder).run(resume=True)
    assert states(folder) == {"a": "ok", "b": "ok", "c": "ok"}
    assert contents(folder).items() > before.items()


def test_a_folder_that_cannot_be_made_stops_the_run_with_one_line(act: Act, tmp_path: Path) -> None:
    (tmp_path / "records").write_text("a file")
    act("")
    with pytest.raises(RunError, match=r"^cannot write [^\n]*records[^\n]*: [^\n]*$"):
        made(tmp_path / "records").run(resume=False)


# --- settings ---


@pytest.mark.parametrize("name", ["width", "budget", "warmup", "energy", "time_limit"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    values = {"width": 2.0, "budget": 1.0, "warmup": 1.0, "energy": 0.0, "time_limit": 9.0}
    assert settings(**values).width == 0.02
    with pytest.raises(UsageError, match=rf"^--{name.replace('_', '-')} [-a-z0-9]+: it must be [^\n]*finite$"):
        settings(**{**values, name: value})


def test_a_worker_may_take_most_of_the_memory_that_is_free() -> None:
    limit = settings(2, 1, 1, 0, 9).memory_limit
    assert 0.5 * psutil.virtual_memory().available < limit < psutil.virtual_memory().available


@pytest.mark.parametrize(
    ("cpu", "folder"),
    [
        ("Intel(R) Xeon(R) Processor", "intel-xeon-2-cores"),
        ("Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz", "intel-core-i7-9700k-3-60ghz-2-cores"),
        ("AMD EPYC", "amd-epyc-2-cores"),
    ],
)
def test_machines_have_plain_names(cpu: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = replace(environment(torch.device("cpu")), cpu=cpu, usable_cores=2, gpu=None)
    monkeypatch.setattr("bench.measuring.cases.environment", lambda _: facts)
    assert machine_folder(tmp_path, "cpu") == tmp_path / "records" / folder
