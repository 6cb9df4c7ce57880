from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptive_models.data.demo import write_demo_clip
from bench.cli import main

ADAPTERS = """
import torch
from torch import nn
import bench


class Net(nn.Module):
    def __init__(self, error=None):
        super().__init__()
        self.fc, self.error = nn.Linear(10, 5), error

    def forward(self, x):
        if self.error:
            raise self.error
        return self.fc(x)


@bench.system("ucf101/net", {"x": (10,)}, frames=8, title="My [bold]net", published={"top1": 80.5, "source": "us"})
def net():
    return Net()

@bench.system("ucf101/raises", inputs={"x": (10,)})
def raises():
    return Net(RuntimeError("out of luck\\nsecond line"))

@bench.system("ucf101/unbuilt", inputs={"x": (10,)})
def unbuilt():
    raise OSError("no such weights")

@bench.system("ucf101/wrong-shape", inputs={"x": (11,)})
def wrong_shape():
    return Net()

@bench.system("ucf101/s0", inputs={"x": (10,)})
def clash():
    return Net()

not_a_system = 3
"""
INTERRUPTED = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n"

Cli = Callable[..., "Result"]


class Result:
    """What a call of the command line did."""

    def __init__(self, status: Any, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def foveabench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        return Result(exit_.value.code or 0, *capsys.readouterr())

    return call


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with adapters."""
    (tmp_path / "mine.py").write_text(ADAPTERS)
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    (tmp_path / "file").touch()
    (tmp_path / "a folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "demo.mp4"
    write_demo_clip(path, seconds=2, fps=5)
    return path


def run_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=False, **options)


# --- what every call must do ---


@pytest.mark.parametrize("arguments", [["--help"], ["list", "--json"], ["list"], ["flops", "--help"], ["flops", "x"]])
def test_answers_that_need_no_network_do_not_wait_for_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom bench.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(*sys.modules, file=open('/dev/stderr', 'w'))"
    )
    run = run_process(sys.executable, "-c", code, *arguments)
    loaded = set(run.stderr.split())
    assert "bench.cli" in loaded
    assert not loaded & {"torch", "numpy", "pandas", "scipy", "matplotlib", "seaborn", "av"}
    assert run.stdout or "flops" in arguments


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_verb(foveabench: Cli, arguments: list[str]) -> None:
    result = foveabench(*arguments)
    assert (result.status, result.err) == (0, "")
    for verb in ("list", "flops", "stream", "tables", "figures", "report", "audit", "reproduce"):
        assert f"\n  {verb} " in result.out


WRONG_CALLS = [
    (["nope"], "nope"),
    (["--nope"], "--nope"),
    (["flops"], "system"),
    (["flops", "san19", "resnet50"], "resnet50"),
    (["flops", "san91"], "'san91': did you mean san19"),
    (["flops", "epic/s3t4"], "did you mean epic/s3-t4"),
    (["flops", "epic/whatever-else"], "epic/whatever-else"),
    (["flops", "san19", "--size", "-3"], "--size -3"),
    (["flops", "san19", "--size", "0"], "--size 0"),
    (["flops", "san19", "--size", "big"], "--size"),
    (["flops", "san19", "--size"], "--size"),
    (["flops", "san19", "--siez", "64"], "--siez"),
    (["flops", "bninception", "--size", "90"], "bninception cannot be run on x 3x90x90: ValueError: BNInception takes"),
    (["flops", "epic/s3", "--size", "64"], "epic/s3 has fixed inputs"),
    (["flops", "epic/s3", "--modality", "rgb"], "epic/s3 has fixed inputs"),
    (["flops", "san19", "--modality", "sound"], "--modality"),
    (["flops", "san19", "--convention", "approximate"], "--convention"),
    (["flops", "san19", "--by", "day"], "--by"),
    (["flops", "epic/s3-t4", "--policy", "learned"], "--policy"),
    (["flops", "epic/s3-t4", "--convention", "thop"], "thop counts one call of a module"),
    (["flops", "epic/s3-t4", "--cross-check"], "epic/s3-t4 is adaptive"),
    (["flops", "ucf101/net", "--adapter", "missing.py:net"], "no such file: missing.py"),
    (["flops", "ucf101/net", "--adapter", "missing:net"], "No module named 'missing'"),
    (["flops", "ucf101/net", "--adapter", "mine.py"], "neither module:name nor path/to/file.py:name"),
    (["flops", "ucf101/net", "--adapter", "mine.py:missing"], "mine.py has no 'missing'"),
    (["flops", "ucf101/net", "--adapter", "mine.py:not_a_system"], "is not a system"),
    (["flops", "ucf101/s0", "--adapter", "mine.py:clash"], "there is a system 'ucf101/s0' already"),
    (["list", "--adapter", "mine.py:net", "--adapter", "mine.py:net"], "there is a system 'ucf101/net' already"),
    (["flops", "ucf101/nett", "--adapter", "mine.py:net"], "did you mean ucf101/net"),
    (["tables", "6"], "no table 6"),
    (["tables", "one"], "numbers"),
    (["figures", "fig4"], "no figure 'fig4': use fig3, fig13"),
    (["stream"], "clip"),
    (["stream", "demo"], "--system"),
    (["stream", "demo", "--system", "epic/s3-t5"], "did you mean epic/s3-t4"),
    (["stream", "demo", "--system", "san19"], "san19 is not adaptive"),
    (["stream", "demo", "--system", "epic/s0-t1", "--frames", "0"], "--frames 0"),
    (["stream", "demo", "--system", "epic/s0-t1", "--frames", "1"], "T_1 on 1 frames"),
    (["stream", "demo", "--system", "epic/s0-t1", "--policy", "best"], "no policy 'best'"),
    (["stream", "demo", "--system", "epic/s0-t1", "--policy", "mine.py:missing"], "mine.py has no 'missing'"),
    (["stream", "demo", "--system", "epic/s0-t1", "--policy", "mine.py:not_a_system"], "has no method choose"),
    (["stream", "demo", "--system", "epic/s0-t1", "--convention", "thop"], "--convention"),
    (["stream", "demo", "--system", "epic/s0-t1", "--device", "abacus"], "--device abacus: cannot be used"),
    (["stream", "demo", "--system", "epic/s0-t1", "--device", "meta"], "--device meta: cannot be used"),
    (["stream", "demo", "--system", "epic/s0-t1", "--figure", "strip.gif"], "strip.gif: the name must end in .png"),
]
FAILED_RUNS = [
    (["flops", "ucf101/raises", "--adapter", "mine.py:raises"], "ucf101/raises cannot be run on x 10: RuntimeError"),
    (["flops", "ucf101/unbuilt", "--adapter", "mine.py:unbuilt"], "ucf101/unbuilt cannot be built: OSError: no such"),
    (["flops", "ucf101/wrong-shape", "--adapter", "mine.py:wrong_shape"], "cannot be run on x 11"),
    (["stream", "missing.mp4", "--system", "epic/s0"], "missing.mp4: no such file"),
    (["stream", "mine.py", "--system", "epic/s0"], "mine.py: "),
    (["stream", ".", "--system", "epic/s0"], "images"),
    (["stream", "demo", "--system", "epic/s0", "--figure", "file/strip.png"], "cannot write to file"),
    (["stream", "demo", "--system", "epic/s0", "--figure", "a folder.png"], "cannot write a folder.png"),
    (["figures", "--out", "file"], "cannot write to file"),
    (["tables", "--out", "file/deep/inside"], "cannot write to file/deep/inside"),
    (["reproduce", "--out", "file"], "cannot write to file"),
]


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [(*call, 2) for call in WRONG_CALLS] + [(*call, 1) for call in FAILED_RUNS],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_clear_line(
    foveabench: Cli, work: Path, arguments: list[str], message: str, status: int
) -> None:
    result = foveabench(*arguments)
    assert result.status == status
    assert result.out == ""
    assert result.err.startswith("foveabench: ")
    assert result.err.count("\n") == 1
    assert message.lower() in result.err.lower()
    assert "Traceback" not in result.err


def test_weights_that_do_not_fit_are_one_line(foveabench: Cli, work: Path, demo: Path, small_adapter: str) -> None:
    call = ["stream", demo, "--system", "small/s2-t3", "--adapter", small_adapter, "--frames", 4, "--weights"]
    for weights, message in (("missing.pt", "no such checkpoint"), ("mine.py", "not a checkpoint")):
        result = foveabench(*call, weights)
        assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
        assert f"{weights}: " in result.err
        assert message in result.err


def test_an_interrupted_run_ends_with_its_own_status(work: Path) -> None:
    run = run_process(sys.executable, "-m", "bench", "list", "--adapter", "interrupted.py:x")
    assert run.returncode == 130
    assert "Traceback" not in run.stderr
    assert run.stderr.count("\n") <= 2


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        run = subprocess.run(
            [sys.executable, "-m", "bench", *arguments], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert run.stderr == ""
    assert run.returncode in (0, 1, 141)


# --- list ---


def test_list_has_what_is_published(foveabench: Cli) -> None:
    rows = {row["system"]: row for row in foveabench("list", "--json").data}
    assert rows["epic/s3-t4"]["published_gflops"] == 1.65
    assert rows["epic/s3-t4"]["published_top1"] == 18.56
    assert "Table II" in rows["epic/s3-t4"]["source"]
    assert rows["epic/s3-t4"]["adaptive"]
    assert rows["ucf101/tsn-resnet50"]["inputs"] == {"rgb": [1, 3, 224, 224]}
    assert rows["san19"]["published_top1"] is None
    table = foveabench("list")
    assert table.err == ""
    (line,) = (line for line in table.out.splitlines() if line.startswith("epic/s3-t4"))
    assert line.split()[-3:] == ["yes", "1.65", "18.56"]


def test_an_adapter_is_listed_with_what_it_says_of_itself(foveabench: Cli, work: Path) -> None:
    for _ in range(2):  # the same process may be asked twice
        rows = {row["system"]: row for row in foveabench("list", "--json", "--adapter", "mine.py:net").data}
        assert (rows["ucf101/net"]["frames"], rows["ucf101/net"]["published_top1"]) == (8, 80.5)
        assert rows["ucf101/net"]["source"] == "us"
    assert "My [bold]net" in foveabench("list", "--adapter", "mine.py:net").out
    assert "ucf101/net" not in foveabench("list").out


def test_an_installed_package_is_listed_and_a_broken_one_noted(work: Path) -> None:
    (work / "pack-1.dist-info").mkdir()
    (work / "pack-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pack\nVersion: 1\n")
    (work / "pack-1.dist-info" / "entry_points.txt").write_text(
        "[foveabench.systems]\nnet = mine:net\nbroken = mine:gone\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(work), os.environ.get("PYTHONPATH", "")])}
    run = run_process(sys.executable, "-m", "bench", "list", "--json", env=environment)
    assert "ucf101/net" in [row["system"] for row in json.loads(run.stdout)]
    assert run.stderr.startswith("warning: entry point broken = mine:gone is left out: AttributeError")
    assert run.stderr.count("\n") == 1


# --- flops ---


def test_flops_of_a_backbone(foveabench: Cli) -> None:
    data = foveabench("flops", "san19", "--size", "64", "--convention", "paper", "--json").data
    assert (data["system"], data["convention"], data["input"]) == ("san19", "paper", {"x": [3, 64, 64]})
    assert (data["flops"], data["params"], data["frames"]) == (306_022_800, 15_547_156, 1)
    assert data["per_frame"] == {"flops": 306_022_800}
    assert data["layers"][-1]["cumulative_flops"] == data["flops"]
    assert {"name", "type", "macs", "flops", "cumulative_flops", "params"} <= data["layers"][0].keys()


@pytest.mark.parametrize(("by", "key"), [("stage", "stages"), ("op", "ops")])
def test_flops_broken_down(foveabench: Cli, by: str, key: str) -> None:
    data = foveabench("flops", "san10", "--size", "64", "--by", by, "--json").data
    assert sum(row["flops"] for row in data[key]) == data["flops"]
    assert "layers" not in data


def test_flops_of_an_adapter_are_spread_over_its_frames(foveabench: Cli, work: Path) -> None:
    data = foveabench("flops", "ucf101/net", "--adapter", "mine.py:net", "--json").data
    assert (data["flops"], data["frames"], data["per_frame"]["flops"]) == (105, 8, 105 / 8)
    text = foveabench("flops", "ucf101/net", "--adapter", "mine:net").out
    assert "8 frames" in text


def test_flops_of_an_adaptive_system_under_a_policy(foveabench: Cli, small_adapter: str) -> None:
    call = ["flops", "small/s2-t3", "--adapter", small_adapter, "--json"]
    published, full = (foveabench(*call, "--policy", policy).data for policy in ("published", "always-full"))
    assert published["stages"] == full["stages"]
    assert full["per_frame"]["flops"] == full["stages"]["full"] == full["flops"]
    assert published["per_frame"]["flops"] < full["per_frame"]["flops"]
    assert sum(published["shares"].values()) == pytest.approx(100, abs=0.02)


def test_flops_for_people(foveabench: Cli, small_adapter: str) -> None:
    result = foveabench("flops", "small/s2-t3", "--adapter", small_adapter, "--by", "stage", "--convention", "paper")
    assert (result.status, result.err) == (0, "")
    for words in ("scan", "classify", "paper convention, counted on meta", "GFLOPs per frame", "not counted"):
        assert words in result.out


# --- stream ---


def test_stream_as_data(foveabench: Cli, demo: Path, small_adapter: str) -> None:
    result = foveabench("stream", demo, "--system", "small/s2-t3", "--adapter", small_adapter, "--frames", 8, "--json")
    assert (result.status, result.err) == (0, "")
    assert [frame["index"] for frame in result.data["frames"]] == list(range(8))
    assert all((frame["flops"] == 0) == (frame["decision"] == "skip") for frame in result.data["frames"])
    assert sum(result.data["shares"].values()) == pytest.approx(100)
    assert result.data["policy"].startswith("published (those of epic/s2-t3 in Table II")


def test_stream_for_people_with_a_figure(foveabench: Cli, work: Path, demo: Path, small_adapter: str) -> None:
    (work / "policy.py").write_text(
        "class EveryOther:\n    def choose(self, videos, t, logits):\n        return [t % 2] * len(videos)\n"
    )
    arguments = ["--adapter", small_adapter, "--frames", 4, "--policy", "policy.py:EveryOther"]
    result = foveabench("stream", demo, "--system", "small/s2-t3", *arguments, "--figure", "new [a]/strip.png")
    assert (result.status, result.err) == (0, "")
    decisions = [line.split()[2] for line in result.out.splitlines()[1:5]]
    assert decisions == ["full", "prescan", "full", "prescan"]
    assert "policy policy.py:EveryOther, weights random, from seed 0" in result.out
    assert result.out.splitlines()[-1] == "new [a]/strip.png"
    assert (work / "new [a]" / "strip.png").stat().st_size > 10_000


# --- the paper ---


def test_audit_as_data_and_for_people(foveabench: Cli) -> None:
    findings = foveabench("audit", "--json").data["findings"]
    assert {"table", "system", "check", "published", "recomputed"} <= findings[0].keys()
    assert f"{len(findings)} published values that no rounding explains" in foveabench("audit").out


def test_figures_into_a_new_folder(foveabench: Cli, work: Path) -> None:
    files = foveabench("figures", "fig13", "--out", "new/results", "--json").data["files"]
    assert sorted(Path(file).name for file in files) == ["fig13.csv", "fig13.png", "fig13.svg"]
    assert all((work / file).is_file() for file in files)


def test_a_cross_check_gives_reasons_and_by_layer_in_json(foveabench: Cli) -> None:
    shown = foveabench("flops", "resnet50", "--cross-check")
    assert shown.status == 0
    assert "thop" in shown.out
    assert "normalisation" in shown.out
    layers = foveabench("flops", "resnet50", "--cross-check", "--json").data
    # torch agrees with us on every convolution of a ResNet; thop takes batch normalisation for multiply-accumulates.
    assert {layer["library"] for layer in layers} == {"fvcore", "thop"}
    assert sum(layer["library"] == "thop" and "bn" in layer["layer"] for layer in layers) == 49


@pytest.mark.parametrize(
    ("modality", "flops"), [("rgb", 2_049_258_400), ("spec", 2_573_821_952), ("flow", 2_324_624_288)]
)
def test_the_streams_of_tbn_count_as_published(foveabench: Cli, modality: str, flops: int) -> None:
    count = foveabench("flops", "bninception", "--modality", modality, "--convention", "paper", "--json").data
    assert count["flops"] == flops
