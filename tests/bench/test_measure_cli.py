from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import jsonschema
import psutil
import pytest

from adaptive_models.data.demo import write_demo_clip
from bench.cli import main
from bench.measuring.cases import default_threads
from bench.records.measurement import json_schema, read_record

SYSTEMS = """
import os
import signal
import time
from pathlib import Path

import bench
from torch import nn

TROUBLE = Path(__file__).with_name("trouble")


class Net(nn.Module):
    def __init__(self, act=lambda: None, at=0, seconds=0.002, uneven=0):
        super().__init__()
        self.conv, self.act, self.at = nn.Conv2d(3, 4, 3), act, at
        self.seconds, self.uneven, self.calls = seconds, uneven, 0

    def forward(self, x):
        self.calls += 1
        if self.calls == self.at:
            self.act()
        time.sleep(self.seconds * (1 + self.uneven * self.calls % 3))
        return self.conv(x)


def make(name):
    return bench.system(f"small/{name}", inputs={"rgb": (3, 32, 32)})


def kill():
    if TROUBLE.exists():
        os.kill(os.getpid(), signal.SIGKILL)


@make("good")
def good():
    return Net()


@make("unbuilt")
def unbuilt():
    raise OSError("no such weights [at all]\\nsecond line")


@make("killed")
def killed():
    return Net(kill, at=14, seconds=0.02)  # while timing, for that has 11 calls or more


@make("branching")
def branching():
    class Branching(nn.Conv2d):
        def forward(self, x):
            return super().forward(x if x.mean().item() > 0 else -x)

    return Branching(3, 4, 3)


@make("plain")
def plain():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())


@make("long")
def long():
    return Net(seconds=0.03, uneven=1) if TROUBLE.exists() else Net()
"""
SETUP = f"cpu-{default_threads()}-threads.float32.fixed.clip-mp4-4-frames"
CASE = f"single-stream.{SETUP}"
"""How names of cases end here."""

FAULTS = {
    "unbuilt": ("failed", "while building: small/unbuilt cannot be built: OSError: no such weights [at all]"),
    "killed": ("killed", "by SIGKILL while timing"),
}


class Result:
    """What a call of the command line did."""

    def __init__(self, *arguments: object) -> None:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exit_:
            main(["measure", *map(str, arguments)])
        self.status, self.out, self.err = exit_.value.code or 0, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to work in, with systems and a clip; as long as there is "trouble", some systems are slow, or die."""
    folder = tmp_path_factory.mktemp("measure")
    (folder / "mine.py").write_text(SYSTEMS)
    (folder / "trouble").touch()
    (folder / "file").touch()
    write_demo_clip(folder / "clip.mp4", seconds=1, fps=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        yield folder


def call(*names: str) -> list[str]:
    """Arguments that measure these systems as all tests do, so that records of one serve the next."""
    systems = [word for name in names for word in (f"small/{name}", "--adapter", f"mine.py:{name}")]
    quick = ["--frames", "4", "--budget", "3", "--warmup", "0.2", "--width", "15", "--energy", "0"]
    return [*systems, "--clip", "clip.mp4", "--out", "results", *quick]


def records(folder: Path) -> dict[str, Path]:
    """Paths of records by name of the system; there is nothing else, and all follow the schema."""
    found = {}
    for path in folder.glob("**/*"):
        if path.is_file():
            jsonschema.validate(json.loads(path.read_text()), json_schema())
            found[read_record(path).case.system.removeprefix("small/")] = path
    return found


@pytest.fixture(scope="module")
def first(work: Path) -> Result:
    """A first run, of systems of which all but one fail."""
    return Result(*call(*FAULTS, "good"))


def test_a_system_that_fails_costs_nothing_but_itself(first: Result, work: Path) -> None:
    assert first.status == 1
    found = records(work / "results" / "records")
    (machine,) = {path.parent.name for path in found.values()}
    assert re.fullmatch(r"[a-z0-9-]+", machine)
    assert {name: path.name for name, path in found.items()} == {
        name: f"small--{name}.{CASE}.json" for name in ("good", *FAULTS)
    }
    for name, (state, cause) in FAULTS.items():
        record = read_record(found[name])
        assert (record.status.state, record.status.cause) == (state, cause)
        assert record.environment is not None
    assert read_record(found["good"]).status.state == "ok"


def test_what_was_measured_is_shown_with_what_failed(first: Result) -> None:
    lines = first.err.splitlines()
    state, cause = FAULTS["unbuilt"]
    unbuilt = f"small/unbuilt: {state}, {cause}"
    assert lines[0] == f"[1/3] {unbuilt}"
    assert re.fullmatch(r"\[3/3\] small/good: [\d.]+ ± [\d.]+% ms per frame", lines[2])
    assert lines[-1] == "foveabench: 2 of 3 cases failed: small/unbuilt, small/killed"
    assert "energy: left out" in lines
    table = [line.split() for line in first.out.splitlines()]
    assert table[0] == ["system", "ms/frame", "full", "p50"]
    assert table[1][0] == "small/good"
    assert 2 < float(table[1][1]) < 40
    assert table[2] == ["system", "decode", "ms", "peak", "MB", "energy"]
    assert (table[3][0], table[3][-1]) == ("small/good", "unavailable")
    assert unbuilt in first.out.splitlines()


def test_what_was_measured_well_is_left_out_on_resuming(first: Result, work: Path) -> None:
    before = records(work / "results")["good"].read_bytes()
    start = time.monotonic()
    again = Result(*call("good"), "--resume", "--json")
    assert time.monotonic() - start < 2  # nothing was started
    assert (again.status, records(work / "results")["good"].read_bytes()) == (0, before)
    (data,) = json.loads(again.out)
    assert (data["system"], data["status"], data["cause"]) == ("small/good", "ok", "")
    assert data["latency"]["full"]["p50"]["low"] <= data["latency"]["full"]["p50"]["value"]
    assert data["executed_shares"] == {"full": 100.0, "prescan": 0.0, "skip": 0.0}


def test_offline_measures_batches_of_clips(work: Path) -> None:
    result = Result(*call("good"), "--out", "offline", "--scenario", "offline", "--batch", "3", "--json")
    assert result.status == 0
    (data,) = json.loads(result.out)
    assert data["case"] == f"small--good.offline-batch-3.{SETUP}"
    # a batch of three clips takes four calls, which sleep for 2 ms each
    assert 20 < data["clips_per_second"]["value"] < 3 / 0.008
    assert data["frames_per_second"]["value"] == pytest.approx(4 * data["clips_per_second"]["value"])
    assert data["latency"] is None


def test_a_profile_is_shown_kept_and_not_taken_again(work: Path) -> None:
    Result(*call("good"), "--out", "profiled")
    result = Result(*call("good"), "--out", "profiled", "--profile", "--resume")
    assert result.status == 0
    assert "small/good: where the time of a step goes" in result.out
    (line,) = [line for line in result.out.splitlines() if line.startswith("call ")]
    # 3 x 4 kernels of 3 x 3 and 4 biases; 30 x 30 positions
    assert line.split()[1] == f"{900 * 220 / 1e9:.3g}"
    assert re.search(r"a step takes [\d.]+ ms untouched, .* ms unexplained", result.out)
    (path,) = (work / "profiled").glob("**/*.json")
    before = path.read_bytes()
    (table,) = (work / "profiled").glob("**/profile.csv")
    rows = list(csv.DictReader(table.open()))
    assert [(row["level"], row["layer"]) for row in rows if row["stage"] == "call"] == [
        *(("stage", ""), ("part", ""), ("layer", "call itself"), ("layer", "conv")),
    ]
    again = Result(*call("good"), "--out", "profiled", "--resume", "--profile", "--json")
    assert path.read_bytes() == before
    (data,) = json.loads(again.out)
    assert data["profile"]["step"] > 0.002
    (conv,) = [line for line in data["profile"]["lines"] if line["layer"] == "conv"]
    # input, output, weights and biases, of 4 bytes each
    assert conv["estimated_bytes"] == 4 * (3 * 32**2 + 4 * 30**2 + 112)
    assert conv["flops_per_second"] == pytest.approx(conv["flops"] / conv["seconds"])
    assert Result(*call("good"), "--out", "profiled", "--resume").status == 0
    assert path.read_bytes() == before


def test_what_a_backend_changes_is_shown_and_what_it_cannot_run_is_no_failure(work: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    result = Result(*call("plain", "branching"), "--out", "backends", "--backend", "onnxruntime")
    assert result.status == 0
    lines = [line.rstrip() for line in result.out.splitlines()]
    (change,) = [line for line in lines if line.endswith("0 of 4")]  # of four frames with one group of outputs
    assert change.startswith("small/plain, onnxruntime  float32")
    unsupported = "small/branching, onnxruntime: unsupported, the model cannot be compiled: "
    assert [line for line in lines if line.startswith(unsupported)]
    setup = CASE.replace("float32", "float32-onnxruntime")
    names = {path.name for path in (work / "backends").glob("**/*.json")}
    assert names == {f"small--{name}.{setup}.json" for name in ("plain", "branching")}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["small/nut"], 2, "no system or backbone 'small/nut'"),
        (["nothing/*"], 2, "no system matches 'nothing/*'"),
        (["san19", "--threads", "0"], 2, "--threads 0: at least 1 is needed"),
        (["san19", "--frames", "0"], 2, "--frames 0: at least 1 is needed"),
        (["san19", "--scenario", "offline", "--batch", "0"], 2, "--batch 0: at least 1 is needed"),
        (["san19", "--scenario", "offline", "--profile"], 2, "--profile is of steps in single-stream"),
        (["san19", "--budget", "0"], 2, "--budget 0: it must be positive, and finite"),
        (["san19", "--time-limit", "inf"], 2, "--time-limit inf: it must be positive, and finite"),
        (["san19", "--energy", "-1"], 2, "--energy -1: it must be 0 or more, and finite"),
        (["san19", "--backend", "cudagraphs"], 2, "--backend cudagraphs: a graph is of a GPU's kernels: use --device"),
        (["san19", "--backend", "compile", "--profile"], 2, "--profile sees layers of eager, not what is within"),
        (["san19", "--device", "abacus"], 2, "--device abacus: cannot be used"),
        (["epic/s3-t4", "--policy", "random"], 2, "no policy 'random'"),
        (["epic/s3-t4", "--frames", "1"], 2, "policy published: "),
        (["san19", "--clip", "none.mp4"], 1, "none.mp4: no such file or folder"),
        (["san19", "--out", "file"], 1, "cannot write to file"),
        (["san19", "--adapter", "none.py:net"], 2, "'none.py:net' cannot be loaded"),
    ],
)
def test_a_wrong_call_is_one_line_before_anything_is_measured(
    work: Path, arguments: list[str], status: int, message: str
) -> None:
    result = Result("--out", "none", *arguments)
    assert (result.status, result.out) == (status, "")
    assert result.err.startswith(f"foveabench: {message}")
    assert result.err.count("\n") == 1
    assert not (work / "none").exists()


# --- in a terminal, interrupted and killed ---


class Terminal:
    """A run of the command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._master, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, (24).to_bytes(2, "little") + (100).to_bytes(2, "little") + bytes(4))
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from bench.cli import main; main()", "measure", *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is one
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        os.close(terminal)
        self.seen = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while chunk := os.read(self._master, 4096):
                self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", chunk.decode(errors="replace"))
        except OSError:  # what a terminal answers when nobody is left on the other side
            pass

    def wait_for(self, text: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen!r}"
            assert self.process.poll() is None, self.seen
            time.sleep(0.02)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def end(self) -> tuple[int, list[str]]:
        """Its exit status, and what stays on the screen at last."""
        status = self.process.wait(30)
        self._reader.join(5)
        return status, [line.strip() for line in self.seen.splitlines() if line.strip()]

    def worker(self) -> psutil.Process:
        (worker,) = psutil.Process(self.process.pid).children()
        return worker


def gone(process: psutil.Process, seconds: float = 5) -> bool:
    try:
        process.wait(seconds)
    except psutil.TimeoutExpired:
        return False
    return True


def test_what_ctrl_c_and_kills_leave_is_completed_by_resuming(first: Result, work: Path) -> None:
    assert first.status == 1
    good = records(work / "results")["good"].read_bytes()

    run = Terminal(*call("good", "long", "killed"), "--resume")
    run.wait_for("[2/3] small/long: timing, samples: ")
    worker = run.worker()
    run.type(b"\x03")
    status, lines = run.end()
    assert status == 130
    assert "[2/3] small/long: interrupted, Ctrl-C while timing" in lines
    assert "Traceback" not in run.seen
    assert re.search(r"\[2/3\] small/long: (starting|loading|decoding) · about \d+ s left", run.seen)
    assert re.search(r"\[2/3\] small/long: timing, samples: \d+ of [\d.]+ ms", run.seen)
    assert gone(worker)
    found = records(work / "results")
    assert found["good"].read_bytes() == good
    interrupted = read_record(found["long"]).status
    assert (interrupted.state, interrupted.cause) == ("interrupted", "Ctrl-C while timing")

    run = Terminal(*call("good", "long", "killed"), "--resume")
    run.wait_for("[2/3] small/long: timing, samples: ")
    worker = run.worker()
    os.kill(run.process.pid, signal.SIGKILL)
    assert run.end()[0] == -signal.SIGKILL
    assert gone(worker)
    found = records(work / "results")
    assert found["good"].read_bytes() == good
    assert read_record(found["long"]).status == interrupted

    (work / "trouble").unlink()
    assert Result(*call("good", "long", "killed"), "--resume").status == 0
    found = records(work / "results")
    assert found["good"].read_bytes() == good
    assert [read_record(found[name]).status.state for name in ("long", "killed")] == ["ok", "ok"]
