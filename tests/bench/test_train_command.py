from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptive_models.data.datasets import Dataset, open_dataset
from adaptive_models.parts import load_part, load_parts, save_part
from adaptive_models.san import SAN
from adaptive_models.system import AdaptiveSystem
from adaptive_models.training.cache import FeatureCache
from adaptive_models.training.config import CONFIGS, read_config
from adaptive_models.training.loop import Step
from bench import training_progress
from bench.cli import main
from bench.systems.builtin import registry
from bench.systems.registry import Registry, System
from bench.training import part_names

CLASSES = (8, 9)
PHASES = [
    "features-rgb-112",
    "features-rgb-224",
    "features-spectrogram",
    "hallucinator",
    "heads-s0",
    "heads-s1",
    "sampler-s0-t2",
    "sampler-s1-t2",
]
PARTS = [name.removeprefix("features-") for name in PHASES]
SMALL = """
workload = "mini"
crops = [0, 1]
max_skips = [2]
[data]
name = "mini"
limit = 3
frames = 3
"""
SECTION = '[{}]\nepochs = 2\noptimizer = "adam"\nlr = 1e-3\nbatch = 2\n'
SECTIONS = ["features.rgb-112", "features.rgb-224", "features.spectrogram", "hallucinator", "heads", "sampler"]


class Result:
    """What a call of the command line did."""

    def __init__(self, status: Any, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def data(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as exit_:
            main(["train", *map(str, arguments)])
        return Result(exit_.value.code or 0, *capsys.readouterr())

    return call


def narrow(channels: int) -> SAN:
    return SAN((0, 0, 0, 1, 0), channels=channels, widths=(32, 32, 32, 32, 32))


def narrow_system(crops: int, max_skip: int | None) -> System:
    return System(
        f"mini/s{crops}" + (f"-t{max_skip}" if max_skip else ""),
        partial(AdaptiveSystem, crops, max_skip, CLASSES, True, 1, narrow, 8),
        {"rgb": (3, 224, 224), "spectrogram": (1, 256, 256)},
        crops=crops,
        max_skip=max_skip,
    )


@contextmanager
def narrow_systems() -> Iterator[None]:
    systems = [narrow_system(crops, max_skip) for crops in (0, 1) for max_skip in (None, 2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.systems.builtin.registry", partial(Registry, systems))
        yield


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """A training of narrow systems on three clips, in seconds."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL + "".join(map(SECTION.format, SECTIONS)))
    with narrow_systems():
        yield path


@dataclass(frozen=True)
class Whole:
    """What such a training, of all phases, writes, shows, and says on its way."""

    out: Path
    shown: str
    said: str


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder, shown, said = tmp_path_factory.mktemp("whole"), StringIO(), StringIO()
    path = folder / "small.toml"
    path.write_text(SMALL + "".join(map(SECTION.format, SECTIONS)))
    with narrow_systems(), redirect_stdout(shown), redirect_stderr(said), pytest.raises(SystemExit) as exit_:
        main(["train", "--config", str(path), "--out", str(folder / "out")])
    assert not exit_.value.code, said.getvalue()
    return Whole(folder / "out", shown.getvalue(), said.getvalue())


def parts(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


# --- all phases ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The shipped systems of `mini`, as anybody would train them on 40 clips."""
    out = tmp_path_factory.mktemp("trained")
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--config", "mini-test", "--out", str(out), "--json"])
    assert not exit_.value.code
    return out


def test_shipped_systems_train_on_40_clips_in_all_phases(trained: Path) -> None:
    for name in ("s0", "s1", "s0-t2", "s1-t2"):
        model = registry().find(f"mini/{name}").build()
        assert isinstance(model, AdaptiveSystem)
        load_parts(model, trained)
    assert "san-base" in parts(trained)
    for log in trained.glob("training/*/epochs.jsonl"):
        assert {json.loads(line)["clips"] for line in log.read_text().splitlines()} == {40}
    assert [len(FeatureCache(folder)) for folder in (trained / "cache").iterdir()] == [40, 40]


def test_all_phases_follow_each_other_with_a_line_for_each_epoch(whole: Whole) -> None:
    assert [*parts(whole.out)] == sorted(PARTS)
    lines = [line for line in whole.said.splitlines() if ", epoch " in line]
    assert [line.partition(":")[0] for line in lines] == [
        f"{phase}, epoch {epoch} of 2" for phase in PHASES for epoch in (1, 2)
    ]
    form = re.compile(r".*: training loss .*; validation .*; \S+ clips/s; 0:\d\d:\d\d left")
    assert all(map(form.fullmatch, lines))


def test_phases_one_by_one_train_the_same_as_all_at_once(
    train: Cli, config: Path, tmp_path: Path, whole: Whole
) -> None:
    for phase in ("features", "hallucinator", "heads", "sampler"):
        torch.rand(1)
        assert train("--config", config, "--out", tmp_path, "--phase", phase).status == 0
    assert parts(tmp_path) == parts(whole.out)


def test_another_seed_trains_other_weights(train: Cli, config: Path, tmp_path: Path, whole: Whole) -> None:
    assert train("--config", config, "--out", tmp_path, "--phase", "features", "--seed", 1).status == 0
    assert len(parts(tmp_path)) == 3
    assert all(parts(whole.out)[name] != content for name, content in parts(tmp_path).items())


def test_a_training_that_is_stopped_and_goes_on_equals_one_that_was_not(
    train: Cli, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Whole
) -> None:
    for stop in [("features-rgb-224", 1, 1), ("heads-s0", 0, 0), ("sampler-s1-t2", 1, 0)]:

        def on_step(_: Any, step: Step, stop: tuple[str, int, int] = stop) -> None:
            if (step.phase, step.epoch, step.step) == stop:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(training_progress.TrainingProgress, "on_step", on_step)
            patched.setattr(training_progress.TrainingProgress, "on_epoch", lambda *_: None)
            stopped = train("--config", config, "--out", tmp_path, "--resume")
        assert stopped.status == 130
        assert stopped.err.splitlines()[-2:] == [
            "stopped: go on after the last epoch with --resume",
            "foveabench: interrupted",
        ]
    resumed = train("--config", config, "--out", tmp_path, "--resume", "--json")
    assert [phase["phase"] for phase in resumed.data["phases"]] == PHASES
    assert [phase["epochs"] for phase in resumed.data["phases"]] == [2] * len(PHASES)
    assert parts(tmp_path) == parts(whole.out)


def test_a_table_shows_every_phase(whole: Whole) -> None:
    assert whole.shown.split()[:4] == ["phase", "epochs", "minutes", "training"]
    assert [line.split()[0] for line in whole.shown.splitlines()[1:] if line[0] != " "] == PHASES


# --- starting from files ---


def test_parts_can_be_started_from_files_and_stand_for_those_that_were_not_trained(
    train: Cli, config: Path, tmp_path: Path
) -> None:
    torch.manual_seed(7)
    inits = []
    for name, channels in {"rgb-112": 3, "rgb-224": 3, "spectrogram": 1}.items():
        save_part(narrow(channels), tmp_path / f"{name}.safetensors")
        inits += ["--init", f"{name}={tmp_path / name}.safetensors"]
    alone = train("--config", config, "--out", tmp_path / "a", "--phase", "heads")
    assert alone.status == 1
    assert "rgb-112.safetensors: no such file" in alone.err
    assert train("--config", config, "--out", tmp_path / "a", "--phase", "heads", *inits).status == 0
    assert list(parts(tmp_path / "a")) == ["heads-s0", "heads-s1"]

    config.write_text(config.read_text().replace("lr = 1e-3", "lr = 1e-30"))  # which changes nothing
    assert train("--config", config, "--out", tmp_path / "b", "--phase", "features", *inits[:2]).status == 0
    started = narrow(3)
    torch.manual_seed(7)
    expected = narrow(3)
    load_part(started, tmp_path / "b" / "rgb-112.safetensors")
    assert torch.equal(started.conv_in.weight, expected.conv_in.weight)
    load_part(started, tmp_path / "b" / "rgb-224.safetensors")
    assert not torch.equal(started.conv_in.weight, expected.conv_in.weight)


def test_heads_do_not_go_on_with_other_features_than_they_were_trained_on(
    train: Cli, config: Path, tmp_path: Path, whole: Whole
) -> None:
    out = shutil.copytree(whole.out, tmp_path / "out")
    save_part(narrow(3), out / "rgb-112.safetensors")
    found = train("--config", config, "--out", out, "--phase", "heads", "--resume")
    assert found.status == 1
    assert "heads-s0" in found.err
    assert "features was ['mini-train-" in found.err


# --- errors ---


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--config", "mimi"], 2, "mimi: No such file or directory: give a TOML file, or one of epic-code"),
        (["--init", "rgb-112"], 2, "--init rgb-112: give PART=FILE, where PART is one of hallucinator, heads-s0"),
        (["--init", "rgb=x"], 2, "--init rgb=x: give PART=FILE"),
        (["--init", "rgb-112=nowhere"], 2, "--init rgb-112=nowhere: there is no file nowhere"),
        (["--device", "nowhere"], 2, "--device nowhere: cannot be used"),
        (["--phase", "dreams"], 2, "'dreams' is not one of"),
        (["--amp", "int8"], 2, "'int8' is not one of"),
        (["--seed", "-1"], 2, "--seed"),
        (["--data", "nowhere"], 1, "nowhere: no such folder"),
        (["--phase", "sampler"], 1, "rgb-112.safetensors: no such file"),
    ],
)
def test_errors_are_one_line(
    train: Cli, config: Path, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    found = train("--config", config, "--out", tmp_path / "out", *arguments)
    assert found.status == status
    assert found.err.startswith("foveabench: ")
    assert message in found.err
    assert found.err.count("\n") == 1
    assert found.out == ""


def test_a_wrong_setting_is_named(train: Cli, config: Path) -> None:
    config.write_text(config.read_text().replace("limit = 3", "limit = 0"))
    found = train("--config", config)
    assert (found.status, found.err.count("\n")) == (2, 1)
    assert f"{config}: data.limit = 0: it should be greater than or equal to 1" in found.err


@pytest.mark.parametrize("section", ["features.rgb-112", "hallucinator", "heads", "sampler"])
def test_a_learning_rate_of_no_parameter_is_told_before_anything_trains(
    train: Cli, config: Path, tmp_path: Path, section: str
) -> None:
    config.write_text(config.read_text() + f'\n[{section}.lr_factors]\n"rnn.weight" = 2\n')
    found = train("--config", config, "--out", tmp_path / "out")
    assert (found.status, found.err.count("\n")) == (1, 1)
    name = section.removeprefix("features.")
    assert f"{name}: no parameter rnn.weight of lr_factors trains; there are " in found.err
    assert not (tmp_path / "out").exists()


def test_clips_that_are_left_out_are_named(
    train: Cli, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out = {f"clip {number}": f"{number}.mp4: no such file" for number in range(7)}

    def opened(*arguments: Any) -> Dataset:
        dataset = open_dataset(*arguments)
        dataset.left_out = left_out
        return dataset

    monkeypatch.setattr("bench.training.open_dataset", opened)
    config.write_text(SMALL + "".join(map(SECTION.format, SECTIONS[:1] + SECTIONS[3:])))
    found = train("--config", config, "--out", tmp_path, "--phase", "features")
    assert [f"left out: clip {number}: {number}.mp4: no such file" for number in range(5)] == found.err.splitlines()[:5]
    path = tmp_path / "training" / "left-out-val.txt"
    assert f"7 clips of val are left out: all are in {path}" in found.err
    assert path.read_text().splitlines() == [f"{name}: {reason}" for name, reason in left_out.items()]


def test_a_loss_that_is_not_finite_ends_the_command_with_one_line(train: Cli, config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("lr = 1e-3", "lr = 1e30", 1))
    found = train("--config", config, "--out", tmp_path / "out")
    assert found.status == 1
    assert "features-rgb-112: the " in found.err.splitlines()[-1]
    assert "try a lower lr" in found.err


def test_a_folder_that_cannot_be_written_to_is_named(train: Cli, config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = train("--config", config, "--out", tmp_path / "file" / "out")
    assert found.status == 1
    assert str(tmp_path / "file") in found.err.splitlines()[-1]


def test_help_names_every_shipped_configuration(train: Cli) -> None:
    found = train("--help")
    text = " ".join(re.sub(r"-\n\s+", "-", found.out).split())
    for path in CONFIGS.glob("*.toml"):
        assert path.stem in text
    assert "torchrun --nproc-per-node 4 -m bench train" in text


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.toml")))
def test_shipped_configurations_name_systems_that_there_are(name: str) -> None:
    config, systems = read_config(name), registry()
    for crops in config.crops:
        assert f"{config.workload}/s{crops}" in systems
        for max_skip in config.max_skips:
            assert f"{config.workload}/s{crops}-t{max_skip}" in systems
    assert {"hallucinator", "rgb-112", f"heads-s{config.crops[-1]}"} <= {*part_names(config)}
