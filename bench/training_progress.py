"""How far training is, for people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from adaptive_models.training.loop import EpochSummary, Step


class TrainingProgress:
    """Shows on standard error how far training is: a bar, if that is a terminal, and a line for each epoch."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._epoch: tuple[str, int, int] | None = None
        self._start = 0.0
        self._notes: set[str] = set()

    @contextmanager
    def shown(self, first: bool) -> Iterator[TrainingProgress]:
        """Show the bar, in the first of several processes."""
        if not first:
            yield self
            return
        with self._bar:
            yield self

    def on_step(self, step: Step) -> None:
        """A step of training is done."""
        now, epoch = time.monotonic(), (step.phase, step.epoch + 1, step.epochs)
        if epoch != self._epoch:
            if self._epoch is None or self._epoch[0] != step.phase:
                self._begin()
            self._epoch, self._start = epoch, now
        # The first step of an epoch starts the clock, as it may have to start processes that load clips.
        rate = step.step / (now - self._start) if step.step else 0.0
        self._show(
            "{}, epoch {} of {}".format(*epoch),
            step.epoch * step.steps + step.step + 1,
            step.epochs * step.steps,
            f"{rate:.3g} steps/s, {rate * step.clips:.3g} clips/s" if rate else "",
        )

    def on_epoch(self, summary: EpochSummary) -> None:
        """An epoch is done, and its checkpoint written."""
        assert self._epoch is not None
        name, _, epochs = self._epoch
        left = timedelta(seconds=round((epochs - summary.epoch) * (time.monotonic() - self._start)))
        words = [
            f"training {in_words(summary.training)}",
            f"validation {in_words(summary.validation)}",
            f"{summary.clips / summary.seconds:.3g} clips/s",
            f"{left} left",
        ]
        self.note(f"{name}, epoch {summary.epoch} of {epochs}: {'; '.join(words)}")

    def on_clip(self, split: str, done: int, count: int) -> None:
        """The features of a clip are computed."""
        if done == 0:
            self._begin()
        self._show(f"features of {split} clips", done, count, "")

    def note(self, text: str) -> None:
        """Print a line above the bar, unless it was printed before."""
        if text in self._notes:
            return
        self._notes.add(text)
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _begin(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task("", total=None, rate="")

    def _show(self, description: str, done: int, count: int, rate: str) -> None:
        """Show that so much is done of a count, or of what is not known, if that is 0."""
        assert self._task is not None
        self._bar.update(self._task, description=description, completed=done, total=count or None, rate=rate)


def in_words(scalars: Mapping[str, float]) -> str:
    """Names and values in a row."""
    return ", ".join(f"{name} {value:.4g}" for name, value in scalars.items())
