"""Settings of training, read from TOML; those that come with the package are in `configs/`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adaptive_models.training.losses import THETA

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
FeaturesName = Literal["rgb-112", "rgb-224", "spectrogram", "san-base", "tsn", "tbn-ra"]


CONFIGS = Path(__file__).parent / "configs"


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one line that names the file, the key and the value."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Schedule(_Settings):
    """How a phase is optimised.

    Attributes:
        epochs: passes over the training clips.
        batch: clips of a step, of all processes together.
        optimizer: "sgd" with momentum, "adam" or "adamw".
        lr: learning rate; the highest one of "one-cycle".
        lr_factors: for single parameters, by name, what their learning rate is multiplied by. Adam changes every weight
            by about as much, so that of many inputs the sum changes by as many times that.
        momentum: of "sgd".
        weight_decay: L2 penalty, or decoupled decay of "adamw".
        decay: how the learning rate changes between epochs.
        milestones: numbers of epochs after which it is multiplied by gamma.
        gamma: its factor at milestones.
        clip: largest norm of the gradients of a step; None for any.
    """

    epochs: Count
    batch: Count
    optimizer: Literal["sgd", "adam", "adamw"]
    lr: Positive
    lr_factors: dict[str, Positive] = {}
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 0.0
    decay: Literal["milestones", "cosine", "one-cycle"] = "milestones"
    milestones: tuple[Count, ...] = ()
    gamma: Positive = 0.1
    clip: Positive | None = None

    @model_validator(mode="after")
    def _milestones_fit(self) -> Schedule:
        if self.milestones and self.decay != "milestones":
            raise ValueError(f'milestones are for decay "milestones", not "{self.decay}"')
        if list(self.milestones) != sorted({*self.milestones}) or any(each >= self.epochs for each in self.milestones):
            raise ValueError(f"milestones must grow and be less than epochs, {self.epochs}")
        return self

    @property
    def own(self) -> dict[str, Any]:
        """The settings that are the phase's own, besides how it is optimised."""
        return self.model_dump(exclude={*Schedule.model_fields})


class Data(_Settings):
    """Which clips.

    Attributes:
        name: of the data set: "epic", "ucf101" or "mini".
        root: its folder; None for `mini` made in memory, or a folder that is given with the call.
        limit: number of clips of each split that are used, the first ones; None for all.
        frames: T, sampled from a clip.
        views: how often each training clip is sampled for the features that are kept: once at the frames of
            evaluation, else at random ones.
    """

    name: Literal["epic", "ucf101", "mini"]
    root: str | None = None
    limit: Count | None = None
    frames: Annotated[int, Field(ge=2)]
    views: Count = 1


class FeaturesSettings(Schedule):
    """Of one network that makes features: see `FeaturesPhase`."""

    segments: Count = 3
    partial_bn: bool = False


class HallucinatorSettings(Schedule):
    """Of the hallucinator: see `HallucinatorPhase`."""

    forcing_decay: Share = 0.95
    warm_up: Annotated[int, Field(ge=0)] = 5
    loss_in_warm_up: bool = True


class HeadsSettings(Schedule):
    """Of the three heads: see `HeadsPhase`."""

    theta: tuple[NotNegative, NotNegative, NotNegative] = THETA


class SamplerSettings(HeadsSettings):
    """Of the temporal sampler: see `SamplerPhase`."""

    theta_efficiency: NotNegative = 0.1
    relative: bool = False
    theta_usage: NotNegative = 0.0
    temperature: Positive = 5.0
    cooling: NotNegative = 0.045


class TrainingConfig(_Settings):
    """A whole training.

    Attributes:
        workload: whose systems are trained: "epic", "ucf101" or "mini".
        crops: each k for which heads are trained; features are kept of the largest.
        max_skips: each M for which, with each k, a temporal sampler is trained.
        data: the clips.
        features: of each network. "san-base" is SAN19-base, with which the networks for the image at 224 and for the
            spectrogram are trained, that else are trained as "rgb-224" and "spectrogram"; "tsn" and "tbn-ra" are
            baselines.
        hallucinator, heads, sampler: of the later phases.
    """

    workload: Literal["epic", "ucf101", "mini"]
    crops: Annotated[tuple[Annotated[int, Field(ge=0, le=3)], ...], Field(min_length=1)]
    max_skips: tuple[Annotated[int, Field(ge=1, le=4)], ...]
    data: Data
    features: dict[FeaturesName, FeaturesSettings]
    hallucinator: HallucinatorSettings
    heads: HeadsSettings
    sampler: SamplerSettings

    @model_validator(mode="after")
    def _networks_are_trained_once(self) -> TrainingConfig:
        twice = [name for name in ("rgb-224", "spectrogram") if name in self.features]
        if "san-base" in self.features and twice:
            raise ValueError(f"features.san-base trains {' and '.join(twice)} with it: leave out either")
        return self


def shipped_configs() -> list[str]:
    """Names of the configurations that come with the package."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def read_config(name: str) -> TrainingConfig:
    """Read a configuration: one that comes with the package, by name, or a TOML file.

    Raises:
        ConfigError: no such configuration, a file that is not TOML, or keys or values that are wrong; it names each.
    """
    shipped = shipped_configs()
    try:
        text = (CONFIGS / f"{name}.toml" if name in shipped else Path(name)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"{name}: {reason}: give a TOML file, or one of {', '.join(shipped)}") from None
    try:
        # By way of JSON, whose lists may be tuples in a strict model.
        return TrainingConfig.model_validate_json(json.dumps(tomllib.loads(text), default=str))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not TOML: {error}") from None
    except ValidationError as error:
        raise ConfigError(f"{name}: {'; '.join(_problems(error))}") from None


_SECTIONS: dict[str, type[_Settings]] = {
    "data": Data,
    "features": FeaturesSettings,
    "hallucinator": HallucinatorSettings,
    "heads": HeadsSettings,
    "sampler": SamplerSettings,
}


def _problems(error: ValidationError) -> Iterator[str]:
    """What is wrong, a phrase each: key, value, and what would be right."""
    for problem in error.errors():
        where = [str(part) for part in problem["loc"] if part != "[key]"]
        key = ".".join(where) or "the file"
        right = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if problem["type"] == "missing":
            yield f"{key} is missing"
        elif problem["type"] == "extra_forbidden":
            known = sorted(_SECTIONS.get(where[0], TrainingConfig).model_fields)
            near = get_close_matches(where[-1], known)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known)}"
            yield f"there is no key {key}: {hint}"
        elif problem["type"] == "value_error":
            yield f"{key}: {right}"
        else:
            yield f"{key} = {json.dumps(problem['input'])}: it {right}"
