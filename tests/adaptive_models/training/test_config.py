from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptive_models.training.config import CONFIGS, ConfigError, TrainingConfig, read_config, shipped_configs


@pytest.mark.parametrize("name", ["epic-paper", "epic-code", "ucf101-paper", "ucf101-code", "mini", "mini-test"])
def test_shipped_configurations_can_be_read_by_name_and_by_path(name: str) -> None:
    assert name in shipped_configs()
    assert read_config(name) == read_config(str(CONFIGS / f"{name}.toml"))


def test_every_shipped_configuration_is_tested_above() -> None:
    assert len(shipped_configs()) == 6


@pytest.mark.parametrize("workload", ["epic", "ucf101"])
def test_what_the_paper_prints(workload: str) -> None:
    config = read_config(f"{workload}-paper")
    assert {*config.features} == {"rgb-112", "san-base"}
    for features in config.features.values():
        assert (features.segments, features.epochs, features.milestones) == (3, 100, (30, 60, 90))
        assert (features.optimizer, features.momentum) == ("sgd", 0.9)
    hallucinator = config.hallucinator
    assert (hallucinator.forcing_decay, hallucinator.warm_up, hallucinator.loss_in_warm_up) == (0.95, 5, True)
    for phase in (hallucinator, config.heads, config.sampler):
        assert (phase.optimizer, phase.epochs) == ("adam", 50)
    assert config.sampler.theta_usage == 0
    assert config.data.frames == {"epic": 10, "ucf101": 16}[workload]


def test_what_the_published_code_has() -> None:
    epic, ucf101 = read_config("epic-code"), read_config("ucf101-code")
    rates = {
        name: [features.lr for features in config.features.values()]
        for name, config in (("epic", epic), ("ucf101", ucf101))
    }
    assert rates == {"epic": [3e-3, 3e-3], "ucf101": [5e-5, 1.6e-4]}
    assert {features.clip for features in epic.features.values()} == {20}
    assert {features.clip for features in ucf101.features.values()} == {40}
    assert {features.weight_decay for features in epic.features.values()} == {1e-4}
    assert {features.weight_decay for features in ucf101.features.values()} == {5e-4}
    assert (epic.hallucinator.lr, ucf101.hallucinator.lr) == (1e-3, 1e-4)
    assert (epic.sampler.epochs, ucf101.sampler.epochs) == (30, 50)
    for config in (epic, ucf101):
        assert all(features.partial_bn for features in config.features.values())
        assert (config.hallucinator.epochs, config.hallucinator.milestones) == (100, (40, 80))
        assert not config.hallucinator.loss_in_warm_up
        sampler = config.sampler
        assert (sampler.lr, sampler.theta_efficiency, sampler.theta_usage) == (3e-4, 0.1, 3.0)
        assert (sampler.temperature, sampler.cooling, sampler.theta) == (5.0, 0.045, (0.3, 0.3, 0.4))


def test_a_phase_gets_what_is_its_own() -> None:
    assert read_config("epic-paper").hallucinator.own == {"forcing_decay": 0.95, "warm_up": 5, "loss_in_warm_up": True}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str], str]:
    """A configuration with a line in place of another one."""

    def write(line: str, other: str) -> str:
        text = (CONFIGS / "mini-test.toml").read_text()
        assert f"{line}\n" in text
        path = tmp_path / "mine.toml"
        path.write_text(text.replace(f"{line}\n", f"{other}\n", 1))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("line", "other", "problem"),
    [
        ('workload = "mini"', 'workload = "kinetics"', "workload = \"kinetics\": it should be 'epic', 'ucf101'"),
        ("crops = [0, 1]", "crops = [0, -1]", "crops.1 = -1: it should be greater than or equal to 0"),
        ("crops = [0, 1]", "crops = []", "crops = []: it"),
        ("max_skips = [2]", "max_skips = [5]", "max_skips.0 = 5: it should be less than or equal to 4"),
        ("frames = 2", "frames = 1", "data.frames = 1: it should be greater than or equal to 2"),
        ("frames = 2", "frames = 4.5", "data.frames = 4.5: it should be a valid integer"),
        ("limit = 40", 'limit = "40"', 'data.limit = "40": it should be a valid integer'),
        ("limit = 40", "limits = 40", "there is no key data.limits: did you mean limit?"),
        ("frames = 2", "", "data.frames is missing"),
        ("[features.rgb-112]", "[features.rgb-224]", "features.san-base trains rgb-224 with it: leave out either"),
        ("epochs = 1", "epochs = 0", "features.rgb-112.epochs = 0: it should be greater than or equal to 1"),
        ("lr = 1e-3", "lr = -1", "features.rgb-112.lr = -1: it should be greater than 0"),
        ("lr = 1e-3", "lr = nan", "features.rgb-112.lr = NaN: it should be"),
        ("lr = 1e-3", "lr = true", "features.rgb-112.lr = true: it should be a valid number"),
        ("lr = 1e-3", "lr = 1979-05-27", 'features.rgb-112.lr = "1979-05-27": it should be a valid number'),
        ("[features.rgb-112]", "[features.rgb-113]", "features.rgb-113 = \"rgb-113\": it should be 'rgb-112', "),
        ('optimizer = "sgd"', 'optimizer = "sdg"', "optimizer = \"sdg\": it should be 'sgd', 'adam' or 'adamw'"),
        ("clip = 10", "milestones = [1]", "features.rgb-112: milestones must grow and be less than epochs, 1"),
        ("clip = 10", 'decay = "cosine"\nmilestones = [1]', 'milestones are for decay "milestones", not "cosine"'),
        ("warm_up = 1", "warmup = 1", "there is no key hallucinator.warmup: did you mean warm_up"),
        ("relative = true", "theta = [1, 2]", "sampler.theta"),
        ("relative = true", "xyz = 1", "there is no key sampler.xyz: there are batch, clip, cooling"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(written: Callable[[str, str], str], line: str, other: str, problem: str) -> None:
    name = written(line, other)
    with pytest.raises(ConfigError) as caught:
        read_config(name)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert problem in message
    assert "\n" not in message


def test_all_that_is_wrong_is_named_at_once(written: Callable[[str, str], str]) -> None:
    with pytest.raises(ConfigError, match=r"data.limit = 0: [^;]*; data.frames = -4: [^;]*$"):
        read_config(written("limit = 40\nframes = 2", "limit = 0\nframes = -4"))


def test_whole_numbers_are_numbers(written: Callable[[str, str], str]) -> None:
    config = read_config(written("clip = 10", "clip = 3\nweight_decay = 0"))
    assert config.features["rgb-112"].clip == 3.0


def test_a_file_that_is_not_toml_is_refused(written: Callable[[str, str], str]) -> None:
    with pytest.raises(ConfigError, match=r"mine.toml: not TOML: [^\n]*line 3"):
        read_config(written('workload = "mini"', "workload = "))


def test_a_name_that_there_is_not_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^mimi: No such file[^\n]*epic-code, epic-paper, mini, mini-test, ucf101"):
        read_config("mimi")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        read_config(str(tmp_path / "binary"))


def test_settings_survive_being_written_down() -> None:
    for name in shipped_configs():
        config = read_config(name)
        dumped: dict[str, Any] = config.model_dump(mode="json")
        assert TrainingConfig.model_validate(dumped, strict=False) == config
