from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from math import cos, inf, nan, pi
from pathlib import Path
from typing import Any

import pytest
import small_phase
import torch
from small_phase import SCHEDULE, Batch, SmallPhase, run
from torch import Tensor, nn

from adaptive_models.checkpoints import CheckpointError
from adaptive_models.training.checkpointing import load_checkpoint
from adaptive_models.training.config import Schedule
from adaptive_models.training.loop import (
    EpochSummary,
    Reports,
    Step,
    TrainingError,
    make_optimizer,
    make_scheduler,
    start_random,
)

SCRIPT = Path(small_phase.__file__)
ROOT = Path(__file__).parents[3]


def changed(**changes: Any) -> Schedule:
    return Schedule(**{**SCHEDULE.model_dump(), **changes})


def checkpoint(out: Path) -> Path:
    return out / "training" / "small" / "checkpoint.pt"


def same(a: Any, b: Any) -> bool:
    """Whether two nests of tensors and values are equal to the bit, timings aside."""
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a if key != "seconds")
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def same_checkpoints(a: Path, b: Path) -> bool:
    return same(vars(load_checkpoint(checkpoint(a))), vars(load_checkpoint(checkpoint(b))))


def started(*command: str | Path) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT), str(SCRIPT.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, command)], env=environment, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE
    )


class Stop:
    """A report that interrupts training at a step."""

    def __init__(self, epoch: int, step: int) -> None:
        self.where = (epoch, step)

    def __call__(self, step: Step) -> None:
        if (step.epoch, step.step) == self.where:
            raise KeyboardInterrupt


# --- going on ---


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adam", "weight_decay": 0.1, "clip": 0.5},
        {"optimizer": "adamw", "decay": "cosine", "milestones": ()},
        {"decay": "one-cycle", "milestones": ()},
    ],
    ids=["sgd", "adam", "adamw, cosine", "one-cycle"],
)
@pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
def test_resumed_training_equals_uninterrupted_training_to_the_bit(
    tmp_path: Path, changes: dict[str, Any], amp: Any
) -> None:
    schedule, whole, parts = changed(**changes), tmp_path / "whole", tmp_path / "parts"
    expected = run(SmallPhase(), whole, schedule, amp=amp)
    for stop in (Stop(2, 0), Stop(2, 2), Stop(3, 3)):
        with pytest.raises(KeyboardInterrupt):
            run(SmallPhase(), parts, schedule, amp=amp, resume=True, reports=Reports(stop))
    torch.manual_seed(99)
    torch.rand(3)
    resumed = run(SmallPhase(), parts, schedule, amp=amp, resume=True)
    assert [replace(each, seconds=0) for each in resumed] == [replace(each, seconds=0) for each in expected]
    assert same_checkpoints(whole, parts)
    assert same(torch.load(whole / "small.pt"), torch.load(parts / "small.pt"))


def test_random_draws_matter_in_the_comparison_above(tmp_path: Path) -> None:
    run(SmallPhase(), tmp_path / "a", seed=0)
    run(SmallPhase(), tmp_path / "b", seed=1)
    assert not same_checkpoints(tmp_path / "a", tmp_path / "b")


def test_each_epoch_rank_phase_and_seed_draws_numbers_of_its_own() -> None:
    drawn = set()
    for start in [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1)]:
        start_random(*start)
        first = torch.rand(1).item()
        start_random(*start)
        assert torch.rand(1).item() == first
        drawn.add(first)
    assert len(drawn) == 5


def test_a_killed_training_goes_on_after_its_last_epoch(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with started(SCRIPT, killed, "0.1") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "2 1\n":
                process.send_signal(signal.SIGKILL)
    assert load_checkpoint(checkpoint(killed)).epochs == 2
    run(SmallPhase(), whole)
    run(SmallPhase(), killed, resume=True)
    assert same_checkpoints(whole, killed)


def test_a_training_that_is_done_writes_its_parts_again_and_trains_no_more(tmp_path: Path) -> None:
    history = run(SmallPhase(), tmp_path)
    (tmp_path / "small.pt").unlink()
    phase = SmallPhase()
    steps: list[Step] = []
    assert run(phase, tmp_path, resume=True, reports=Reports(steps.append)) == history
    assert steps == []
    assert same(torch.load(tmp_path / "small.pt"), load_checkpoint(checkpoint(tmp_path)).module)


def test_a_checkpoint_is_not_overwritten_without_resume(tmp_path: Path) -> None:
    run(SmallPhase(), tmp_path)
    before = checkpoint(tmp_path).read_bytes()
    with pytest.raises(TrainingError, match=r"^[^\n]*checkpoint.pt: [^\n]* 4 of 4 epochs[^\n]*--resume"):
        run(SmallPhase(), tmp_path)
    assert checkpoint(tmp_path).read_bytes() == before


def test_other_settings_are_refused_by_name_with_both_values(tmp_path: Path) -> None:
    run(SmallPhase(), tmp_path)
    with pytest.raises(CheckpointError) as caught:
        run(SmallPhase(), tmp_path, changed(lr=0.1, clip=2), resume=True, seed=5)
    assert "schedule.clip was None, is 2.0; schedule.lr was 0.05, is 0.1; seed was 0, is 5: go on" in str(caught.value)


# --- several processes ---


@pytest.fixture(scope="module")
def by_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two")
    with started("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", SCRIPT, out, "0") as process:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    return out


def test_two_processes_equal_one(by_two_processes: Path, tmp_path: Path) -> None:
    alone = run(SmallPhase(noisy=False), tmp_path)
    together = [EpochSummary(**each) for each in load_checkpoint(checkpoint(by_two_processes)).history]
    for one, two in zip(alone, together, strict=True):
        assert two.training == pytest.approx(one.training, abs=1e-5)
        assert two.validation == pytest.approx(one.validation, abs=1e-5)
        assert (two.clips, two.steps, two.learning_rate) == (one.clips, one.steps, one.learning_rate)
    of_one, of_two = torch.load(tmp_path / "small.pt"), torch.load(by_two_processes / "small.pt")
    for name, value in of_one.items():
        torch.testing.assert_close(of_two[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_only_the_first_of_two_processes_writes(by_two_processes: Path) -> None:
    lines = (by_two_processes / "training" / "small" / "epochs.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]
    assert {json.loads(line)["clips"] for line in lines} == {21}


# --- steps ---


class Line:
    """Fits y = w x to (x, y) clips, one epoch of one batch; what it returns can be spoilt."""

    name = "line"

    def __init__(self, *clips: tuple[float, float], start: float = 0.0) -> None:
        self.module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.module.weight, start)
        self.clips = torch.tensor(clips)

    def batches(self, epoch: int, rank: int, world: int) -> list[Tensor]:
        return list(self.clips.split(2))

    def size(self, batch: Tensor) -> int:
        return len(batch)

    def loss(self, batch: Tensor, epoch: int) -> tuple[Tensor, dict[str, float]]:
        x, y = batch.T
        return (self.module(x[:, None])[:, 0] - y).square().mean(), {"x": x.mean().item()}

    def validate(self) -> dict[str, float]:
        return {}

    def finish(self, folder: Path) -> None:
        pass


ONCE = Schedule(epochs=1, batch=2, optimizer="sgd", lr=0.1, momentum=0.0)


def test_a_step_of_gradient_descent_by_hand(tmp_path: Path) -> None:
    phase = Line((1.0, 2.0), (2.0, 6.0))
    (summary,) = run(phase, tmp_path, ONCE)
    assert summary.training == pytest.approx({"loss": (4 + 36) / 2, "x": 1.5})
    # the mean gradient at w = 0 is (-2 * 1 * 2 - 2 * 2 * 6) / 2 = -14
    assert phase.module.weight.item() == pytest.approx(1.4)


@pytest.mark.parametrize(("clip", "moved"), [(5.0, 0.5), (14.5, 1.4), (None, 1.4)])
def test_gradients_are_clipped_to_a_norm(tmp_path: Path, clip: float | None, moved: float) -> None:
    phase = Line((1.0, 2.0), (2.0, 6.0))
    run(phase, tmp_path, Schedule(**{**ONCE.model_dump(), "clip": clip}))
    assert phase.module.weight.item() == pytest.approx(moved, abs=1e-5)


def test_single_parameters_learn_at_rates_of_their_own(tmp_path: Path) -> None:
    phase = SmallPhase(noisy=False, batch=21)
    before = {name: own.detach().clone() for name, own in phase.module.named_parameters()}
    run(phase, tmp_path, changed(optimizer="adam", epochs=1, milestones=(), lr_factors={"5.weight": 0.1}))
    moved = {name: (own - before[name]).abs().max().item() for name, own in phase.module.named_parameters()}
    assert (moved["5.weight"], moved["5.bias"]) == pytest.approx((0.005, 0.05), rel=1e-3)  # Adam's first step


def test_one_cycle_keeps_the_ratio_of_rates() -> None:
    schedule = changed(optimizer="adam", decay="one-cycle", milestones=(), lr_factors={"5.weight": 0.1})
    optimizer = make_optimizer(dict(SmallPhase().module.named_parameters()), schedule)
    scheduler = make_scheduler(optimizer, schedule)
    for _ in range(schedule.epochs):
        others, own = scheduler.get_last_lr()
        assert own == pytest.approx(others / 10)
        optimizer.step()
        scheduler.step()


def test_a_rate_for_what_does_not_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no parameter 6\.weight of lr_factors trains; there are 0\.weight,"):
        run(SmallPhase(), tmp_path, changed(lr_factors={"6.weight": 0.1}))


def test_means_of_an_epoch_weigh_every_clip_the_same(tmp_path: Path) -> None:
    (summary,) = run(Line((3.0, 0.0), (3.0, 0.0), (9.0, 0.0)), tmp_path, ONCE)
    assert summary.training == {"loss": 0.0, "x": 5.0}
    assert (summary.steps, summary.clips) == (2, 3)


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({"milestones": (1, 3), "gamma": 0.5}, [1, 0.5, 0.5, 0.25]),
        ({"decay": "cosine", "milestones": ()}, [(1 + cos(pi * epoch / 4)) / 2 for epoch in range(4)]),
    ],
)
def test_learning_rates_follow_the_schedule(tmp_path: Path, changes: dict[str, Any], rates: list[float]) -> None:
    history = run(SmallPhase(), tmp_path, changed(**changes))
    assert [each.learning_rate for each in history] == pytest.approx([0.05 * rate for rate in rates])


def test_one_cycle_rises_to_the_learning_rate_and_falls(tmp_path: Path) -> None:
    schedule = changed(decay="one-cycle", milestones=(), epochs=10)
    rates = [each.learning_rate for each in run(SmallPhase(), tmp_path, schedule)]
    top = rates.index(max(rates))
    assert 0 < top < 5
    assert max(rates) == pytest.approx(0.05)
    assert rates == sorted(rates[:top]) + sorted(rates[top:], reverse=True)


def test_training_lowers_the_loss_in_every_precision(tmp_path: Path) -> None:
    losses = {}
    for amp in (None, "bf16", "fp16"):
        history = run(SmallPhase(noisy=False), tmp_path / str(amp), changed(epochs=8, milestones=()), amp=amp)
        losses[amp] = [each.training["loss"] for each in history]
        assert losses[amp][-1] < losses[amp][0] - 0.1
    assert losses["bf16"] != losses[None]
    assert losses["bf16"] == pytest.approx(losses[None], rel=0.15)
    assert losses["fp16"] == pytest.approx(losses[None], rel=0.15)


def test_steps_are_reported_with_what_is_known_of_the_length_of_an_epoch(tmp_path: Path) -> None:
    steps: list[Step] = []
    run(SmallPhase(), tmp_path, reports=Reports(steps.append))
    assert [(each.epoch, each.step, each.clips) for each in steps[:5]] == [
        (0, 0, 6),
        (0, 1, 6),
        (0, 2, 6),
        (0, 3, 3),
        (1, 0, 6),
    ]
    assert {each.steps for each in steps if each.epoch == 0} == {0}
    assert {each.steps for each in steps if each.epoch > 0} == {4}


class Gaps(Line):
    """Between whose batches there is one of which no clip could be read."""

    def batches(self, epoch: int, rank: int, world: int) -> list[Tensor]:
        first, second = super().batches(epoch, rank, world)
        empty = first[:0]
        first.notes, empty.notes = ["a.mp4: cut short"], ["b.mp4: left out"]  # type: ignore[attr-defined]
        return [empty, first, empty, second]


def test_batches_without_clips_are_passed_over_and_what_is_wrong_is_said_once(tmp_path: Path) -> None:
    clips = [(1.0, 2.0), (2.0, 6.0), (3.0, 1.0)]
    whole, gaps, notes = Line(*clips), Gaps(*clips), list[str]()
    twice = Schedule(**{**ONCE.model_dump(), "epochs": 2})
    expected = run(whole, tmp_path / "whole", twice)
    found = run(gaps, tmp_path / "gaps", twice, reports=Reports(note=notes.append))
    assert [each.training for each in found] == [each.training for each in expected]
    assert [each.steps for each in found] == [2, 2]
    assert [note for note in notes if "TensorBoard" not in note] == ["b.mp4: left out", "a.mp4: cut short"]


def test_no_clips_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^small: there is nothing to train on"):
        run(SmallPhase(clips=0), tmp_path)


# --- failures ---


class Spoilt(SmallPhase):
    """Whose loss goes wrong in the second step of the third epoch."""

    def __init__(self, value: float, gradient: float) -> None:
        super().__init__()
        self.value, self.gradient, self.steps = value, gradient, 0

    def loss(self, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, float]]:
        loss, scalars = super().loss(batch, epoch)
        self.steps += 1
        if epoch == 2 and self.steps % 4 == 2:
            loss = loss - loss.detach() + self.value
            loss.register_hook(lambda gradient: gradient * self.gradient)
        return loss, scalars


@pytest.mark.parametrize(
    ("value", "gradient", "what"),
    [(nan, 1, "loss is nan"), (inf, 1, "loss is inf"), (1, nan, "norm of the gradients is nan")],
)
def test_what_is_not_finite_stops_training_and_spoils_nothing(
    tmp_path: Path, value: float, gradient: float, what: str
) -> None:
    with pytest.raises(
        TrainingError, match=rf"^small: the {what} in epoch 3, step 2, [^\n]*lower lr[^\n]*epoch 2 is safe"
    ):
        run(Spoilt(value, gradient), tmp_path)
    kept = load_checkpoint(checkpoint(tmp_path))
    assert kept.epochs == 2
    assert all(tensor.isfinite().all() for tensor in kept.module.values())
    run(SmallPhase(), tmp_path, resume=True)
    run(SmallPhase(), tmp_path / "whole")
    assert same_checkpoints(tmp_path, tmp_path / "whole")


def stop_after_two_epochs(out: Path) -> bytes:
    with pytest.raises(KeyboardInterrupt):
        run(SmallPhase(), out, reports=Reports(Stop(2, 0)))
    return checkpoint(out).read_bytes()


@pytest.mark.parametrize("room", [0, 1000, 5000])
def test_a_checkpoint_that_cannot_be_written_whole_leaves_the_last_one(
    files_up_to: Callable[[int], AbstractContextManager[None]], tmp_path: Path, room: int
) -> None:
    before = stop_after_two_epochs(tmp_path)
    assert len(before) > room
    with (
        files_up_to(room),
        pytest.raises(TrainingError, match=r"^small: epoch 3 cannot be written to [^\n]*\(File too large\)[^\n]*$"),
    ):
        run(SmallPhase(), tmp_path, resume=True)
    assert checkpoint(tmp_path).read_bytes() == before
    assert not list(tmp_path.rglob("*.partial"))
    run(SmallPhase(), tmp_path, resume=True)
    run(SmallPhase(), tmp_path / "whole")
    assert same_checkpoints(tmp_path, tmp_path / "whole")


@pytest.mark.usefixtures("without_tensorboard")
def test_a_disk_that_fills_up_costs_the_current_epoch_alone(small_disk: Path, tmp_path: Path) -> None:
    before = stop_after_two_epochs(small_disk)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(100_000))
    with pytest.raises(TrainingError, match=r"^small: epoch 3 [^\n]*\(No space left on device\)[^\n]*$"):
        run(SmallPhase(), small_disk, resume=True)
    assert checkpoint(small_disk).read_bytes() == before
    (small_disk / "filler").unlink()
    run(SmallPhase(), small_disk, resume=True)
    run(SmallPhase(), tmp_path / "whole")
    assert same_checkpoints(small_disk, tmp_path / "whole")


# --- what can be read ---


@pytest.fixture
def without_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)


def test_epochs_are_written_as_json_lines_that_agree_with_the_checkpoint(tmp_path: Path) -> None:
    history = run(SmallPhase(), tmp_path)
    lines = (tmp_path / "training" / "small" / "epochs.jsonl").read_text().splitlines()
    assert [EpochSummary(**json.loads(line)) for line in lines] == history
    assert [EpochSummary(**each) for each in load_checkpoint(checkpoint(tmp_path)).history] == history


@pytest.mark.usefixtures("without_tensorboard")
def test_it_is_said_that_tensorboard_is_missing(tmp_path: Path) -> None:
    notes: list[str] = []
    run(SmallPhase(), tmp_path, reports=Reports(note=notes.append))
    assert notes == ["no TensorBoard scalars: the package tensorboard is not installed"]


def test_scalars_of_an_interrupted_training_are_in_tensorboard_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stop_after_two_epochs(tmp_path)
    history = run(SmallPhase(), tmp_path, resume=True)
    events = EventAccumulator(str(tmp_path / "training" / "small" / "tensorboard"))
    events.Reload()
    for tag, values in {
        "training/loss": [each.training["loss"] for each in history],
        "validation/loss": [each.validation["loss"] for each in history],
        "progress/learning rate": [each.learning_rate for each in history],
    }.items():
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == [1, 2, 3, 4]
        assert [scalar.value for scalar in scalars] == pytest.approx(values)
