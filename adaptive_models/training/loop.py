"""The loop that trains one phase after another: what they have in common, whatever they train."""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import inf, isfinite
from operator import length_hint
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, OneCycleLR

from adaptive_models.training.checkpointing import (
    Checkpoint,
    load_checkpoint,
    refuse_changes,
    save_checkpoint,
    write_atomically,
)
from adaptive_models.training.config import Schedule
from adaptive_models.training.distributed import ALONE, Processes

Amp = Literal["bf16", "fp16"]
AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingError(RuntimeError):
    """Training that cannot go on; the message is one line that names the phase and says what to try."""


class Phase(Protocol):
    """What the loop trains.

    Epochs count from 0. Random draws come from torch's, numpy's or Python's default generator, which start each
    epoch anew, or from one that is made of the seed, the epoch and the step.

    Attributes:
        name: such as "hallucinator" or "heads-s3".
        module: everything that trains, and nothing else; `train()` is called before each epoch, `eval()` before
            validation. It is on the device where the phase runs.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def module(self) -> nn.Module: ...  # noqa: D102

    def batches(self, epoch: int, rank: int, world: int) -> Iterable[Any]:
        """This process's share of each batch; the shares of a batch together are the batch of a single process.

        A batch may have `notes`, sentences on what is wrong with its clips.
        """
        ...

    def size(self, batch: Any) -> int:
        """Clips in a batch, or in a share of one."""
        ...

    def loss(self, batch: Any, epoch: int) -> tuple[Tensor, dict[str, float]]:
        """The mean loss over the clips of a batch, and other means over them to be written down."""
        ...

    def validate(self) -> dict[str, float]:
        """Means over the validation split; may be empty."""
        ...

    def finish(self, folder: Path) -> None:
        """Write what was trained into a folder."""
        ...


@dataclass(frozen=True)
class Step:
    """One step of training, as it is reported.

    Attributes:
        phase: its name.
        epoch, epochs: number of this one, from 0, and of all.
        step, steps: number of this one in the epoch, from 0, and of all of them; 0 as long as that is not known.
        clips: in the batch, over all processes.
        loss: mean over the batch.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    clips: int
    loss: float


@dataclass(frozen=True)
class EpochSummary:
    """What is written down of an epoch.

    Attributes:
        epoch: number, from 1.
        learning_rate: of this epoch.
        steps, clips: that it had, over all processes.
        seconds: that its steps took.
        training: means over its clips: the loss, the scalars of the phase, and the mean norm of the gradients.
        validation: what the phase found on the validation split.
    """

    epoch: int
    learning_rate: float
    steps: int
    clips: int
    seconds: float
    training: dict[str, float]
    validation: dict[str, float]


def _ignore(_: Any) -> None:
    pass


@dataclass(frozen=True)
class Reports:
    """Whom to tell what happens: each step, each epoch, and in words what else there is to say."""

    on_step: Callable[[Step], None] = _ignore
    on_epoch: Callable[[EpochSummary], None] = _ignore
    note: Callable[[str], None] = _ignore


SILENT = Reports()


def train(
    phase: Phase,
    schedule: Schedule,
    out: Path,
    *,
    settings: Mapping[str, Any],
    seed: int = 0,
    device: torch.device | str = "cpu",
    amp: Amp | None = None,
    processes: Processes = ALONE,
    resume: bool = False,
    reports: Reports = SILENT,
) -> list[EpochSummary]:
    """Train a phase, and have it write its parts.

    After each epoch a checkpoint, the summaries of all epochs as JSON lines and, with the package `tensorboard`
    installed, TensorBoard scalars are in `out/training/<name of the phase>`. The last epoch counts.

    Args:
        phase: what to train.
        schedule: how.
        out: folder for the parts; one that all processes see.
        settings: all that the result depends on, besides the schedule and the seed, as mappings of mappings and plain
            values; a checkpoint that was made with others is refused.
        seed: of all random draws.
        device: where the phase runs.
        amp: precision of autocasting; None for none. Gradients are scaled in "fp16".
        processes: that train together.
        resume: whether to go on after the last epoch of which there is a checkpoint.
        reports: whom to tell, in the first process.

    Returns:
        A summary of each epoch.

    Raises:
        TrainingError: a loss that is not finite, a full disk, or a checkpoint where none is expected; the checkpoint
            of the last epoch is unharmed.
        CheckpointError: a damaged checkpoint, or one made with other settings.
    """
    return _Training(phase, schedule, out, settings, seed, torch.device(device), amp, processes, reports).run(resume)


def start_random(seed: int, phase: str, epoch: int, rank: int = 0) -> None:
    """Start all default generators anew, so that an epoch draws the same numbers whatever was drawn before."""
    words = [seed, *phase.encode(), epoch, rank]
    start = int(np.random.SeedSequence(words).generate_state(1, np.uint32)[0])
    torch.manual_seed(start)
    np.random.seed(start)
    random.seed(start)


def trained_parameters(phase: str, module: nn.Module, schedule: Schedule) -> dict[str, nn.Parameter]:
    """Parameters of a phase's module that train, by name.

    Raises:
        TrainingError: the schedule has a learning rate for one that is not among them.
    """
    named = {name: each for name, each in module.named_parameters() if each.requires_grad}
    if unknown := schedule.lr_factors.keys() - named.keys():
        wrong = ", ".join(sorted(unknown))
        raise TrainingError(f"{phase}: no parameter {wrong} of lr_factors trains; there are {', '.join(named)}")
    return named


class _Training:
    """A phase on its way through its epochs."""

    def __init__(
        self,
        phase: Phase,
        schedule: Schedule,
        out: Path,
        settings: Mapping[str, Any],
        seed: int,
        device: torch.device,
        amp: Amp | None,
        processes: Processes,
        reports: Reports,
    ) -> None:
        self.phase, self.schedule, self.out, self.seed = phase, schedule, out, seed
        self.device, self.amp, self.processes, self.reports = device, amp, processes, reports
        self.settings = {**settings, "schedule": schedule.model_dump(mode="json"), "seed": seed, "amp": amp or "off"}
        self.folder = out / "training" / phase.name
        named = trained_parameters(phase.name, phase.module, schedule)
        self.parameters = list(named.values())
        self.optimizer = make_optimizer(named, schedule)
        self.scheduler = make_scheduler(self.optimizer, schedule)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
        self.history: list[EpochSummary] = []
        self.noted: set[str] = set()

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def run(self, resume: bool) -> list[EpochSummary]:
        if self.path.exists():
            self._resume(resume)
        self.processes.share(self.phase.module)
        with self._scalars() as write_scalars:
            for epoch in range(len(self.history), self.schedule.epochs):
                summary = self._epoch(epoch)
                self.history.append(summary)
                if self.processes.first:
                    self._keep()
                    write_scalars(summary)
                    self.reports.on_epoch(summary)
                self.processes.wait()
        if self.processes.first:
            self.phase.module.eval()
            self.phase.finish(self.out)
        self.processes.wait()
        return self.history

    def _resume(self, wanted: bool) -> None:
        checkpoint = load_checkpoint(self.path)
        refuse_changes(self.path, checkpoint.settings, self.settings)
        if not wanted:
            raise TrainingError(
                f"{self.path}: there is a checkpoint of {checkpoint.epochs} of {self.schedule.epochs} epochs: "
                "go on with --resume, or train in another folder"
            )
        self.phase.module.load_state_dict(checkpoint.module)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.scheduler.load_state_dict(checkpoint.scheduler)
        self.scaler.load_state_dict(checkpoint.scaler)
        self.history = [EpochSummary(**summary) for summary in checkpoint.history]

    def _epoch(self, epoch: int) -> EpochSummary:
        """Train one epoch, and validate in the first process."""
        start_random(self.seed, self.phase.name, epoch, self.processes.rank)
        self.phase.module.train()
        learning_rate = float(self.scheduler.get_last_lr()[0])
        means, steps, clips, start = _Means(), 0, 0, time.perf_counter()
        batches = self.phase.batches(epoch, self.processes.rank, self.processes.world)
        expected = length_hint(batches, self.history[-1].steps if self.history else 0)
        for batch, size in self._shares(batches):
            loss, scalars = self._step(epoch, steps, batch, size)
            means.add(scalars, self.phase.size(batch))
            steps, clips = steps + 1, clips + size
            if self.processes.first:
                step = Step(self.phase.name, epoch, self.schedule.epochs, steps - 1, expected, size, loss)
                self.reports.on_step(step)
        if not steps:
            raise TrainingError(f"{self.phase.name}: there is nothing to train on: fewer clips than processes")
        seconds = time.perf_counter() - start
        self.scheduler.step()
        training = means.over(self.processes)
        return EpochSummary(epoch + 1, learning_rate, steps, clips, seconds, training, self._validate())

    def _shares(self, batches: Iterable[Any]) -> Iterator[tuple[Any, int]]:
        """This process's share of each batch, and the clips in all shares.

        A batch of which some process has no clip is left out, since all must take every step together.
        """
        shares = iter(batches)
        while True:
            share = next(shares, None)
            size = 0 if share is None else self.phase.size(share)
            ended, empty, clips = map(int, self.processes.sums(share is None, size == 0, size))
            if ended:
                return
            for note in {*getattr(share, "notes", ())} - self.noted:
                self.reports.note(note)
                self.noted.add(note)
            if not empty:
                yield share, clips

    def _step(self, epoch: int, step: int, batch: Any, clips: int) -> tuple[float, dict[str, float]]:
        """Take one step; the loss is the mean over the clips of all processes."""
        self.optimizer.zero_grad()
        with self._autocast():
            loss, scalars = self.phase.loss(batch, epoch)
        # With this weight, the sum of the processes' losses and gradients is that of the mean over all clips.
        loss = loss * (self.phase.size(batch) / clips)
        (value,) = self.processes.sums(loss.item())
        self._refuse_infinite("loss", value, epoch, step)
        self.scaler.scale(loss).backward()
        self.processes.sum_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(self.parameters, self.schedule.clip or inf).item()
        if not self.scaler.is_enabled():  # else it leaves the step out, and scales less from then on
            self._refuse_infinite("norm of the gradients", norm, epoch, step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return value, {"loss": value, **scalars}

    def _refuse_infinite(self, name: str, value: float, epoch: int, step: int) -> None:
        if isfinite(value):
            return
        schedule, remedies = self.schedule, ["a lower lr", "a lower clip", *(["no --amp"] if self.amp else [])]
        kept = f"; epoch {epoch} is safe in {self.path}" if epoch else ""
        raise TrainingError(
            f"{self.phase.name}: the {name} is {value} in epoch {epoch + 1}, step {step + 1}, at lr {schedule.lr:g} "
            f"and clip {schedule.clip or 'none'}: try {' or '.join(remedies)}, in another folder{kept}"
        )

    def _validate(self) -> dict[str, float]:
        """What the phase finds on the validation split, in the first process."""
        if not self.processes.first:
            return {}
        self.phase.module.eval()
        with torch.no_grad(), self._autocast():
            return self.phase.validate()

    def _autocast(self) -> torch.autocast:
        dtype = None if self.amp is None else AUTOCAST_DTYPES[self.amp]
        return torch.autocast(self.device.type, dtype, enabled=self.amp is not None)

    def _keep(self) -> None:
        """Write the checkpoint, and what can be read of it by people."""
        history = [asdict(summary) for summary in self.history]
        checkpoint = Checkpoint(
            self.phase.name,
            self.settings,
            len(history),
            self.phase.module.state_dict(),
            self.optimizer.state_dict(),
            self.scheduler.state_dict(),
            self.scaler.state_dict(),
            history,
        )
        lines = "".join(f"{json.dumps(summary)}\n" for summary in history)
        try:
            save_checkpoint(checkpoint, self.path)
            # From the history, so that it agrees with the checkpoint whenever training was stopped.
            write_atomically(self.folder / "epochs.jsonl", lines.encode())
        except OSError as error:
            raise TrainingError(
                f"{self.phase.name}: epoch {len(history)} cannot be written to {self.folder} ({error.strerror}): make "
                "room and go on with --resume; the checkpoint of the last epoch that could be written is unharmed"
            ) from error

    @contextmanager
    def _scalars(self) -> Iterator[Callable[[EpochSummary], None]]:
        """What writes the summary of an epoch for TensorBoard."""
        if not self.processes.first:
            yield _ignore
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.reports.note("no TensorBoard scalars: the package tensorboard is not installed")
            yield _ignore
            return
        writer: SummaryWriter | None = None

        def write(summary: EpochSummary) -> None:
            nonlocal writer
            if writer is None:
                # Epochs that are trained again after an interruption replace those of before.
                writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=summary.epoch)
            groups = {"training": summary.training, "validation": summary.validation}
            rates = {"learning rate": summary.learning_rate, "clips per second": summary.clips / summary.seconds}
            for group, scalars in {**groups, "progress": rates}.items():
                for name, value in scalars.items():
                    writer.add_scalar(f"{group}/{name}", value, summary.epoch)
            writer.flush()

        try:
            yield write
        finally:
            if writer is not None:
                with suppress(OSError):  # of a full disk, of which the checkpoint tells
                    writer.close()


class _Means:
    """Means over all clips of scalars that are means over the clips of batches."""

    def __init__(self) -> None:
        self.sums: defaultdict[str, float] = defaultdict(float)
        self.clips = 0

    def add(self, scalars: Mapping[str, float], clips: int) -> None:
        self.clips += clips
        for name, value in scalars.items():
            self.sums[name] += value * clips

    def over(self, processes: Processes) -> dict[str, float]:
        clips, *sums = processes.sums(self.clips, *self.sums.values())
        return {name: total / clips for name, total in zip(self.sums, sums, strict=True)}


def make_optimizer(parameters: Mapping[str, nn.Parameter], schedule: Schedule) -> Optimizer:
    """The optimizer of a schedule, of parameters by name."""
    factors = schedule.lr_factors
    groups: list[dict[str, Any]] = [{"params": [each for name, each in parameters.items() if name not in factors]}]
    groups += [{"params": [parameters[name]], "lr": schedule.lr * factor} for name, factor in factors.items()]
    if schedule.optimizer == "sgd":
        return SGD(groups, schedule.lr, schedule.momentum, weight_decay=schedule.weight_decay)
    kind = {"adam": Adam, "adamw": AdamW}[schedule.optimizer]
    return kind(groups, schedule.lr, weight_decay=schedule.weight_decay)


def make_scheduler(optimizer: Optimizer, schedule: Schedule) -> LRScheduler:
    """The learning rate of a schedule, which changes between epochs."""
    if schedule.decay == "cosine":
        return CosineAnnealingLR(optimizer, schedule.epochs)
    if schedule.decay == "one-cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, highest, total_steps=schedule.epochs)
    return MultiStepLR(optimizer, list(schedule.milestones), schedule.gamma)
