"""From a configuration to the phases of training: networks of the registry, clips, and kept features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_models.data.datasets import Dataset, open_dataset
from adaptive_models.parts import SUFFIX, load_part, parts_of, sampler_part
from adaptive_models.system import LOW_SIZE, AdaptiveSystem
from adaptive_models.training.cache import FeatureCache, fill_cache
from adaptive_models.training.checkpointing import write_atomically
from adaptive_models.training.config import FeaturesName, Schedule, TrainingConfig
from adaptive_models.training.distributed import Processes
from adaptive_models.training.features import FeaturesPhase
from adaptive_models.training.hallucinator import HallucinatorPhase, start_at_mean
from adaptive_models.training.heads import HeadsPhase
from adaptive_models.training.loop import Phase, start_random, trained_parameters
from adaptive_models.training.sampler import Costs, SamplerPhase, start_balanced
from bench.errors import RunError, UsageError
from bench.systems.costs import build_model, count_system
from bench.systems.registry import Registry, System
from bench.systems.weights import PART_NAMES, system_parts

PHASES = ("features", "hallucinator", "heads", "sampler")
FROZEN = ("rgb-112", "rgb-224", "spectrogram")
"""Parts that do not change after the first phase."""
SYSTEMS = {"san-base": "san19-base", **{part: system for system, part in PART_NAMES.items()}}
"""Systems that are not named as the part that is trained."""
GIGA = 1e9
MENTIONED = 5
"""How many clips that are left out are named on the way; a file names all."""


@dataclass(frozen=True)
class Run:
    """What a call of `foveabench train` asks for.

    Attributes:
        config: the settings.
        out: folder of the parts, the checkpoints and the features that are kept.
        root: folder of the data set; None for that of the configuration.
        init: files to start parts from, by the name of the part; they also stand for parts that are not in `out`.
        seed: of everything.
        device: where to train.
        workers: processes that decode clips.
        processes: that train together.
        on_clip: told of clips whose features are computed: of which split, how many are done, and how many to do.
        note: told what else there is to say.
    """

    config: TrainingConfig
    out: Path
    root: Path | None
    init: Mapping[str, Path]
    seed: int
    device: torch.device
    workers: int
    processes: Processes
    on_clip: Callable[[str, int, int], None]
    note: Callable[[str], None]


class SegmentClassifier(nn.Module):
    """A network with a linear classifier for each group of classes; logits are averaged over segments."""

    def __init__(self, network: nn.Module, features: int, classes: Sequence[int], modality: str) -> None:
        super().__init__()
        self.network, self.modality = network, modality
        self.classifiers = nn.ModuleList(nn.Linear(features, count) for count in classes)

    def forward(self, **clips: Tensor) -> tuple[Tensor, ...]:
        """(N, S, C, H, W) of the modality to logits (N, classes) of each group."""
        frames = clips[self.modality]
        features = self.network(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(dim=1)
        return tuple(classifier(features) for classifier in self.classifiers)


class Phases:
    """Makes the phases of a run, each when the one before it is done.

    Args:
        run: what is asked for.
        systems: where the models come from.
    """

    def __init__(self, run: Run, systems: Registry) -> None:
        self.run, self.config, self.systems = run, run.config, systems
        self._digests: list[str] = []

    @property
    def settings(self) -> dict[str, Any]:
        """What the phase that was made last depends on, besides its own settings; not where the data lie."""
        data = self.config.data.model_dump(mode="json", exclude={"root"})
        return {"workload": self.config.workload, "data": data, "features": self._digests}

    def of(self, which: str) -> Iterator[tuple[Phase, Schedule]]:
        """The phases of a kind of `PHASES`, or of "all" kinds, with how they are optimised.

        Raises:
            UsageError: systems that the workload does not have.
            TrainingError: learning rates of parameters that a phase does not train.
            RunError: clips whose classes are not those of the workload.
            DatasetError, PartError, OSError: clips or parts that are missing or wrong, or a full disk.
        """
        kinds = {
            "features": self._features,
            "hallucinator": self._hallucinator,
            "heads": self._heads,
            "sampler": self._sampler,
        }
        chosen = PHASES if which == "all" else [which]
        self._check_rates(chosen)
        for kind in chosen:
            yield from kinds[kind]()

    def _check_rates(self, kinds: Sequence[str]) -> None:
        """Parameters with learning rates of their own are looked for before hours of training, not after."""
        config = self.config
        if "features" in kinds:
            for name, settings in config.features.items():
                if settings.lr_factors:
                    trained_parameters(name, self._network(name)[0], settings)
        schedules = {"hallucinator": config.hallucinator, "heads": config.heads, "sampler": config.sampler}
        later = {kind: schedule for kind, schedule in schedules.items() if kind in kinds and schedule.lr_factors}
        if later:
            system = self._adaptive(max(config.crops), max(config.max_skips, default=1))
            assert system.hallucinator is not None
            parts = {"hallucinator": system.hallucinator, "heads": system.classifier, "sampler": sampler_part(system)}
            for kind, schedule in later.items():
                trained_parameters(kind, parts[kind], schedule)

    def _features(self) -> Iterator[tuple[Phase, Schedule]]:
        for name, settings in self.config.features.items():
            start_random(self.run.seed, f"weights of features-{name}", 0)
            module, parts, modalities = self._network(name)
            self._start(parts)
            phase = FeaturesPhase(
                f"features-{name}",
                _placed(module, self.run.device),
                parts,
                self._clips["train"],
                self._clips["val"],
                batch=settings.batch,
                seed=self.run.seed,
                modalities=modalities,
                image_size=LOW_SIZE if name == "rgb-112" else None,
                workers=self.run.workers,
                **settings.own,
            )
            yield phase, settings

    def _network(self, name: FeaturesName) -> tuple[nn.Module, dict[str, nn.Module], Sequence[str]]:
        """What is trained under a name, the parts that it is made of, and the modalities that it takes."""
        if name in FROZEN:
            system = self._adaptive(max(1, *self.config.crops))
            network = parts_of(system).get(name)
            if network is None:
                raise UsageError(f"the systems of {self.config.workload} have no {name}: leave out features.{name}")
            modality = "spectrogram" if name == "spectrogram" else "rgb"
            module = SegmentClassifier(network, system.low_rgb.features, system.classes, modality)
            return module, {name: network}, [modality]
        found = self._find(SYSTEMS.get(name, name))
        model = build_model(found)
        return model, system_parts(found, model), [*found.inputs]

    def _hallucinator(self) -> Iterator[tuple[Phase, Schedule]]:
        settings = self.config.hallucinator
        train, validation = self._features_kept
        start_random(self.run.seed, "weights of hallucinator", 0)
        hallucinator = self._adaptive(max(1, *self.config.crops), max(self.config.max_skips, default=1)).hallucinator
        assert hallucinator is not None
        start_at_mean(hallucinator, train, settings.batch)
        self._start({"hallucinator": hallucinator})
        hallucinator.to(self.run.device)
        phase = HallucinatorPhase(
            hallucinator, train, validation, batch=settings.batch, seed=self.run.seed, **settings.own
        )
        yield phase, settings

    def _heads(self) -> Iterator[tuple[Phase, Schedule]]:
        settings = self.config.heads
        train, validation = self._features_kept
        for crops in self.config.crops:
            start_random(self.run.seed, f"weights of heads-s{crops}", 0)
            system = self._adaptive(crops)
            self._start({f"heads-s{crops}": system.classifier})
            system.to(self.run.device)
            yield (
                HeadsPhase(system, train, validation, batch=settings.batch, seed=self.run.seed, **settings.own),
                settings,
            )

    def _sampler(self) -> Iterator[tuple[Phase, Schedule]]:
        settings = self.config.sampler
        train, validation = self._features_kept
        for max_skip in self.config.max_skips:
            for crops in self.config.crops:
                start_random(self.run.seed, f"weights of sampler-s{crops}-t{max_skip}", 0)
                system = self._adaptive(crops, max_skip)
                assert system.hallucinator is not None
                self._load(system.hallucinator, "hallucinator")
                self._load(system.classifier, f"heads-s{crops}")
                name = f"sampler-s{crops}-t{max_skip}"
                assert system.temporal_sampler is not None
                start_balanced(system, train, settings.batch)
                # A published checkpoint holds the temporal sampler alone.
                self._start({f"temporal-sampler-t{max_skip}": system.temporal_sampler, name: parts_of(system)[name]})
                system.to(self.run.device)
                counted = count_system(self._find(f"s{crops}-t{max_skip}"), "paper", "always-full").stages
                assert counted is not None
                phase = SamplerPhase(
                    system,
                    train,
                    validation,
                    Costs(counted.prescan / GIGA, counted.full / GIGA),
                    batch=settings.batch,
                    seed=self.run.seed,
                    **settings.own,
                )
                yield phase, settings

    @cached_property
    def _features_kept(self) -> tuple[FeatureCache, FeatureCache]:
        """Features of the training and the validation clips, by the networks that the first phase trained."""
        system = self._adaptive(max(1, *self.config.crops))
        for name, module in parts_of(system).items():
            if name in FROZEN:
                self._load(module, name)
        _placed(system, self.run.device)
        processes = self.run.processes
        folders = [
            fill_cache(
                system,
                dataset,
                self.config.data.frames,
                self.run.out / "cache",
                views=self.config.data.views if split == "train" else 1,
                workers=self.run.workers,
                rank=processes.rank,
                world=processes.world,
                on_clip=partial(self.run.on_clip, split),
                note=self.run.note,
            )
            for split, dataset in self._clips.items()
        ]
        processes.wait()
        self._digests = [folder.name for folder in folders]
        train, validation = (FeatureCache(folder) for folder in folders)
        return train, validation

    @cached_property
    def _clips(self) -> dict[str, Dataset]:
        """Both splits of the data set."""
        data = self.config.data
        root = self.run.root or (Path(data.root) if data.root else None)
        splits = {split: open_dataset(data.name, root, split, data.limit) for split in ("train", "val")}
        expected = self._adaptive(self.config.crops[0]).classes
        for split, dataset in splits.items():
            counts = tuple(map(len, dataset.classes))
            if counts != expected:
                raise RunError(f"{data.name} has {counts} classes, the systems of {self.config.workload} {expected}")
            if dataset.left_out and self.run.processes.first:
                self._tell_left_out(split, [f"{name}: {reason}" for name, reason in dataset.left_out.items()])
        return splits

    def _tell_left_out(self, split: str, clips: Sequence[str]) -> None:
        path = self.run.out / "training" / f"left-out-{split}.txt"
        write_atomically(path, "".join(f"{clip}\n" for clip in clips).encode())
        for clip in clips[:MENTIONED]:
            self.run.note(f"left out: {clip}")
        self.run.note(f"{len(clips)} clips of {split} are left out: all are in {path}")

    def _find(self, name: str) -> System:
        return self.systems.find(f"{self.config.workload}/{name}")

    def _adaptive(self, crops: int, max_skip: int | None = None) -> AdaptiveSystem:
        model = build_model(self._find(f"s{crops}" + (f"-t{max_skip}" if max_skip else "")))
        assert isinstance(model, AdaptiveSystem)
        return model

    def _start(self, parts: Mapping[str, nn.Module]) -> None:
        for name, module in parts.items():
            if name in self.run.init:
                load_part(module, self.run.init[name])

    def _load(self, module: nn.Module, name: str) -> None:
        trained = self.run.out / f"{name}{SUFFIX}"
        load_part(module, trained if trained.exists() else self.run.init.get(name, trained))


def part_names(config: TrainingConfig) -> list[str]:
    """Names of all parts that can be started from a file."""
    names = {*FROZEN, *config.features, "hallucinator"}
    names |= {f"temporal-sampler-t{max_skip}" for max_skip in config.max_skips}
    for crops in config.crops:
        names |= {f"heads-s{crops}", *(f"sampler-s{crops}-t{max_skip}" for max_skip in config.max_skips)}
    return sorted(names)


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    """On the device, with channels last in memory, which suits 1x1 convolutions on a CPU."""
    module.to(device)
    return nn.Module.to(module, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
