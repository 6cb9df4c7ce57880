from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch._dynamo  # noqa: F401  (before pytest runs within pytest, which forgets what it imports)

import bench.guards.efficiency  # noqa: F401

pytest_plugins = "pytester"

QUICK = "--benchmark-max-time=0.001"
GUARD = """
import torch
from torch import nn

def test_net(efficiency):
    efficiency.check(nn.Sequential(nn.Linear(8, WIDTH), nn.ReLU()), inputs=(torch.zeros(1, 8),), name="own/net")
"""
SAN = """
import torch
from torch import nn
from adaptive_models import build_backbone

def test_copy_of_san19(efficiency):
    model = build_backbone("san19").eval()
    CHANGE
    efficiency.check(model, inputs=(torch.zeros(1, 3, 64, 64),), name="copy-of-san19")
"""

OWN_SYSTEM = """
import bench
import torch
from torch import nn


class Buffer(nn.Module):
    def forward(self, x):
        return x + torch.ones(MEGABYTES << 18).sum()  # of 4 bytes each


@bench.system("own/system", inputs={"x": (8,)})
def own():
    return nn.Sequential(nn.Linear(8, 4), Buffer())
"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs pytest in the project with these arguments, in this process."""

    def run(*arguments: str) -> pytest.RunResult:
        quick = [QUICK] if "--benchmark" in arguments else []
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rs", *arguments, *quick)

    return run


@pytest.fixture
def guard(pytester: pytest.Pytester, run: Run) -> Callable[[int], Path]:
    """Writes a test that guards a small net of a width, and its baseline if there is none."""

    def write(width: int) -> Path:
        path = pytester.makepyfile(test_net=GUARD.replace("WIDTH", str(width)))
        baseline = path.parent / "efficiency" / "own-net.json"
        if not baseline.exists():
            run("--benchmark", "--efficiency-update").assert_outcomes(passed=1)
        return baseline

    return write


def test_without_the_flag_guards_are_skipped_and_the_reason_names_it(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile(GUARD + "def test_other(): pass")
    result = run()
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines("SKIPPED*: guards of efficiency run with pytest --benchmark")


def test_the_flag_runs_guards_and_benchmarks_and_nothing_else(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile(
        GUARD.replace("WIDTH", "4") + "def test_other(): pass\ndef test_speed(benchmark): benchmark(id, 1)"
    )
    run("--benchmark", "--efficiency-update").assert_outcomes(passed=2, deselected=1)
    run("--benchmark").assert_outcomes(passed=2, deselected=1)
    run("--benchmark-only").assert_outcomes(passed=2, skipped=1)  # as pytest-benchmark has it


@pytest.mark.parametrize("options", ["--benchmark-skip", "--benchmark-disable", "--benchmark-skip --benchmark-disable"])
def test_the_flag_wins_over_what_a_project_has_set(
    pytester: pytest.Pytester, run: Run, guard: Callable[[int], Path], options: str
) -> None:
    guard(4)
    pytester.makeini(f"[pytest]\naddopts = {options}")
    run("--benchmark").assert_outcomes(passed=1)
    result = run()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines("SKIPPED*: guards of efficiency run with pytest --benchmark")


def test_benchmarks_of_others_are_as_they_were(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile("def test_speed(benchmark): benchmark(id, 1)\ndef test_other(): pass")
    run(QUICK).assert_outcomes(passed=2)
    run(QUICK, "--benchmark-only").assert_outcomes(passed=1, skipped=1)
    run("--benchmark-skip").assert_outcomes(passed=1, skipped=1)


def test_options_of_pytest_benchmark_keep_working(
    pytester: pytest.Pytester, run: Run, guard: Callable[[int], Path]
) -> None:
    guard(4)
    run("--benchmark", "--benchmark-json=out.json", "--benchmark-min-rounds=1000").assert_outcomes(passed=1)
    (found,) = json.loads(Path("out.json").read_text())["benchmarks"]
    assert found["name"] == "test_net"
    assert len(found["stats"]["data"]) == 1000
    assert found["extra_info"]["system"] == "own/net"
    assert found["extra_info"]["macs"] == 8 * 4
    assert found["extra_info"]["params"] == 8 * 4 + 4
    run("--benchmark", "--benchmark-save=first")
    compared = run("--benchmark", "--benchmark-compare=0001", "--benchmark-columns=min", "--benchmark-sort=name")
    compared.stdout.fnmatch_lines("test_net (0001_first)*")


def test_pytest_xdist_is_left_out(pytester: pytest.Pytester, run: Run, guard: Callable[[int], Path]) -> None:
    pytest.importorskip("xdist")
    guard(4)
    result = run("--benchmark", "-n", "2", "-p", "xdist")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("pytest-xdist is left out:*")
    run("-n", "2", "-p", "xdist").assert_outcomes(skipped=1)


def test_a_missing_baseline_fails_and_says_how_to_make_it(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile(GUARD.replace("WIDTH", "4"))
    result = run("--benchmark")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        "own/net has no baseline efficiency?own-net.json: make it with pytest --benchmark --efficiency-update,*"
    )
    assert not Path("efficiency").exists()


def test_an_update_shows_what_changed_and_the_next_run_passes(run: Run, guard: Callable[[int], Path]) -> None:
    baseline = guard(4)
    guard(6)
    failed = run("--benchmark")
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(
        [
            "own/net is not what its baseline says: efficiency?own-net.json",
            "own/net: 0: 32 -> 48 MACs, 36 -> 54 parameters",
            "own/net: 1: 4 -> 6 operations (exact)",
            "own/net: in all: 32 -> 48 (+50 %) MACs, 36 -> 54 (+50 %) parameters",
            "If that is meant, accept it: pytest --benchmark --efficiency-update",
        ]
    )
    failed.stdout.no_fnmatch_line("*efficiency.py:*")  # no traceback
    failed.stdout.no_fnmatch_line("During handling*")
    updated = run("--benchmark", "--efficiency-update")
    updated.assert_outcomes(passed=1)
    updated.stdout.fnmatch_lines(
        ["efficiency?own-net.json is written", "  own/net: 0: 32 -> 48 MACs, 36 -> 54 parameters"]
    )
    assert '["", "0", "Linear", 48, 102, 48, 54, 6]' in baseline.read_text()
    run("--benchmark").assert_outcomes(passed=1)


def test_an_improvement_fails_too_and_says_that_it_is_one(run: Run, guard: Callable[[int], Path]) -> None:
    guard(4)
    guard(2)
    result = run("--benchmark")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("That is better; update the baseline: pytest --benchmark --efficiency-update")


def test_an_update_leaves_files_alone_that_are_right(run: Run, guard: Callable[[int], Path]) -> None:
    baseline = guard(4)
    before = baseline.stat()
    result = run("--benchmark", "--efficiency-update")
    assert (baseline.stat().st_ino, baseline.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    result.stdout.no_fnmatch_line("*is written*")


def test_an_update_without_the_flag_is_refused(run: Run) -> None:
    result = run("--efficiency-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("ERROR: --efficiency-update goes with --benchmark")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[:200], "*own-net.json: damaged (the file: Invalid JSON*): restore it, or *"),
        (
            lambda text: text.replace('"Linear", 32', '"Linear", "32"'),
            "*own-net.json: damaged (fingerprint.layers.0.3: *",
        ),
        (
            lambda text: text.replace('"schema": 1', '"schema": 2'),
            "*own-net.json: schema 2, this version reads 1: restore it*",
        ),
        (
            lambda text: text.replace("own/net", "own/other"),
            "*own-net.json: the baseline of 'own/other', not of 'own/net'*",
        ),
    ],
)
def test_a_damaged_baseline_is_one_clear_line_and_an_update_mends_it(
    run: Run, guard: Callable[[int], Path], damage: Callable[[str], str], words: str
) -> None:
    baseline = guard(4)
    good = baseline.read_text()
    baseline.write_text(damage(good))
    result = run("--benchmark")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(words)
    result.stdout.no_fnmatch_line("*efficiency.py:*")
    run("--benchmark", "--efficiency-update").assert_outcomes(passed=1)
    assert baseline.read_text() == good


def test_a_baseline_that_no_test_used_is_listed(
    pytester: pytest.Pytester, run: Run, guard: Callable[[int], Path]
) -> None:
    path = guard(4).parent.parent / "test_net.py"
    path.write_text(path.read_text().replace("own/net", "own/renamed"))
    listed = "*own-net.json: a baseline that no test used*"
    run("--benchmark").stdout.fnmatch_lines(listed)
    path.unlink()
    pytester.makepyfile("def test_speed(benchmark): benchmark(id, 1)")
    run("--benchmark").stdout.fnmatch_lines(listed)


def test_baselines_are_not_listed_as_unused_when_only_some_tests_run(
    pytester: pytest.Pytester, run: Run, guard: Callable[[int], Path]
) -> None:
    guard(4)
    pytester.makepyfile(test_other="def test_speed(benchmark): benchmark(id, 1)")
    for arguments in (["-k", "speed"], ["test_other.py"], ["test_other.py::test_speed"], ["--deselect", "test_net.py"]):
        run("--benchmark", *arguments).stdout.no_fnmatch_line("*that no test used*")
    run().stdout.no_fnmatch_line("*that no test used*")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            "model.conv2 = nn.Conv2d(256, 512, 3, padding=1, bias=False)",
            f"conv2: {256 * 512 * 64:,} -> {9 * 256 * 512 * 64:,} MACs, 131,072 -> 1,179,648 parameters",
        ),
        (
            "weigh = model.layer1[0].sam.weigh;"
            " weigh[2], weigh[3], weigh[5] = nn.Conv2d(18, 32, 1, bias=False), nn.BatchNorm2d(32), nn.Conv2d(32, 8, 1)",
            f"layer1.0.sam.weigh.2: {18 * 16 * 49 * 256:,} -> {18 * 32 * 49 * 256:,} MACs, 288 -> 576 parameters",
        ),
        (
            "model.layer2[1].bn2 = nn.Identity()",
            f"layer2.1.bn2: {2 * 128 * 64:,} -> 0 operations (exact), 256 -> 0 parameters (no longer runs)",
        ),
    ],
    ids=["kernel size", "channel count", "skipped layer"],
)
def test_a_change_in_a_copy_of_san19_fails_with_the_layer_and_both_counts(
    pytester: pytest.Pytester, run: Run, change: str, line: str
) -> None:
    pytester.makepyfile(test_copy_of_san19=SAN.replace("CHANGE", ""))
    run("--benchmark", "--efficiency-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_copy_of_san19=SAN.replace("CHANGE", change))
    result = run("--benchmark")
    result.assert_outcomes(failed=1)
    lines = [text for text in result.outlines if text.startswith("copy-of-san19: ")]
    assert lines[0] == f"copy-of-san19: {line}"


def test_a_system_in_the_tests_own_file_is_guarded_with_its_memory(pytester: pytest.Pytester, run: Run) -> None:
    test = OWN_SYSTEM + "def test_own(efficiency):\n    efficiency.check(own)"
    pytester.makepyfile(test.replace("MEGABYTES", "40"))
    run("--benchmark", "--efficiency-update").assert_outcomes(passed=1)
    peak = json.loads(Path("efficiency", "own-system.json").read_text())["peak_memory"]
    assert peak == pytest.approx(40 << 20, rel=0.15)  # and what the first calls of libraries take
    pytester.makepyfile(test.replace("MEGABYTES", "50"))
    result = run("--benchmark")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("own/system: peak memory of one call: 4?.? MB -> 5?.? MB (band 10%)")


def test_a_users_project_needs_nothing_but_the_installation(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        own_systems=OWN_SYSTEM.replace("MEGABYTES", "1"),
        test_own="from own_systems import own\n\ndef test_own(efficiency):\n    efficiency.check(own)",
    )
    pytester.run(sys.executable, "-m", "pytest", "--benchmark", "--efficiency-update", QUICK).assert_outcomes(passed=1)
    assert Path("efficiency", "own-system.json").exists()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("check('san91')", "no system or backbone 'san91': did you mean san1*"),
        ("check(torch.nn.ReLU())", 'a module is guarded by check(module, inputs=(x,), name="my-model")'),
        ("check(print)", "* cannot be guarded: name a system, or give one made by @bench.system, or a module"),
    ],
)
def test_wrong_calls_are_one_clear_line(pytester: pytest.Pytester, run: Run, call: str, words: str) -> None:
    pytester.makepyfile(f"import torch\n\ndef test_wrong(efficiency):\n    efficiency.{call}")
    result = run("--benchmark")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(words)
    result.stdout.no_fnmatch_line("*efficiency.py:*")


SLEEP = """
import time

def test_speed(efficiency):
    efficiency.not_slower(lambda: time.sleep(CANDIDATE), than=lambda: time.sleep(0.002), threshold=0.3, seconds=0.2)
"""


def test_not_slower_fails_with_the_ratio_if_it_is_slower(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile(SLEEP.replace("CANDIDATE", "0.006"))
    result = run("--benchmark")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("slower: [23].* x the wall time *; the threshold is 30.0%")


def test_not_slower_passes_if_it_is_not(pytester: pytest.Pytester, run: Run) -> None:
    systems = "efficiency.not_slower(own, than=own, threshold=0.5, seconds=0.2)"
    pytester.makepyfile(
        test_functions=SLEEP.replace("CANDIDATE", "0.001"),
        test_systems=OWN_SYSTEM.replace("MEGABYTES", "1") + f"def test_speed(efficiency):\n    {systems}",
    )
    run("--benchmark").assert_outcomes(passed=2)


def test_what_is_too_noisy_to_say_does_not_fail_but_is_said(
    pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(functions: object, seconds: float, seed: int) -> dict[str, list[float]]:
        draw = Random(0).uniform
        return {"baseline": [draw(1, 2) for _ in range(12)], "candidate": [draw(1, 2) for _ in range(12)]}

    monkeypatch.setattr("bench.measuring.comparison.interleave", noisy)
    pytester.makepyfile(test_noise=SLEEP.replace("CANDIDATE", "0").replace("threshold=0.3", "threshold=0.01"))
    result = run("--benchmark")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("test_noise.py::test_speed: too noisy to say:*")


TIMED = """
import torch

def test_time(efficiency):
    layer, x = torch.nn.Linear(64, 64), torch.zeros(512, 64)
    efficiency.check(layer, inputs=(x,), name="linear", time=True)
"""


def test_time_is_compared_with_the_baseline(
    pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.guards.timing.SECONDS", 0.3)
    pytester.makepyfile(TIMED)
    run("--benchmark", "--efficiency-update").assert_outcomes(passed=1)
    baseline = Path("efficiency", "linear.json")
    data = json.loads(baseline.read_text())
    data["time"]["ratio"] /= 5
    baseline.write_text(json.dumps(data))
    result = run("--benchmark")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("linear: time of one call: * x the calibration workload: slower by more than 25%")


def test_pytest_starts_without_what_takes_time() -> None:
    script = "import sys, pytest; import bench.pytest_plugin; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "bench.pytest_plugin" in output.split()
    assert not {"torch", "numpy", "scipy", "pydantic", "psutil"} & set(output.split())
