from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_data import ASKED, TinySet

from adaptive_models.system import AdaptiveSystem, mean_logits
from bench.counting.counter import Counter, counting
from bench.errors import RunError, UsageError
from bench.evaluating.evaluate import evaluate
from bench.evaluating.metrics import executed_flops
from bench.evaluating.runner import Task
from bench.records.evaluation import Evaluation, read_evaluation, write_evaluation
from bench.streaming import make_policy
from bench.systems.costs import count_system
from bench.systems.weights import load_model

MakeTask = Callable[..., Task]

CLIPS = 4

OWN_POLICY = """
class Scripted:
    def choose(self, videos, t, logits):
        return [(video + t) % 4 for video in videos]

class Failing:
    def choose(self, videos, t, logits):
        raise KeyError("lost")
"""


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("policies") / "own.py"
    path.write_text(OWN_POLICY)
    return f"{path}:Scripted"


@pytest.fixture(scope="module")
def learned(make_task: MakeTask, scripted: str) -> Evaluation:
    """What a policy of one's own did, which stands for what was learned: random weights do the same to all frames."""
    return replace(evaluate(make_task(scripted, batch=1), TinySet(CLIPS))[0], policy="learned")


@pytest.mark.parametrize("policy", ["learned", "scripted"])
def test_what_is_said_of_a_clip_is_what_the_system_streams(make_task: MakeTask, scripted: str, policy: str) -> None:
    task = make_task(scripted if policy == "scripted" else policy)
    model, data = load_model(task.find(), None, 1), TinySet(5)
    assert isinstance(model, AdaptiveSystem)
    evaluation, _ = evaluate(task, data)
    assert [clip.id for clip in evaluation.clips] == [clip.id for clip in data.clips]
    for video, (labelled, outcome) in enumerate(zip(data.clips, evaluation.clips, strict=True)):
        frames = list(model.stream(data.open(labelled, 6), make_policy(task.policy, task.find(), 6)[0], video))
        logits = mean_logits(frames)
        assert outcome.labels == labelled.labels
        assert outcome.decisions == "".join(frame.decision[0].upper() for frame in frames)
        for group, top, values in zip(logits, outcome.top, outcome.logits, strict=True):
            assert list(top) == group.sort(descending=True).indices.tolist()
            torch.testing.assert_close(torch.tensor(values), group.sort(descending=True).values)


@pytest.mark.parametrize("policy", ["scripted", "random", "uniform"])
def test_operations_are_those_that_are_executed(
    make_task: MakeTask, learned: Evaluation, scripted: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(scripted if policy == "scripted" else policy, batch=1)
    model = load_model(task.find(), None, 1)
    executed = 0

    def counted(stage: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            nonlocal executed
            with counting(Counter({"": model}, "exact")) as counter:
                result = stage(*arguments)
            executed += counter.profile().flops
            return result

        return run

    for stage in ("scan", "decide", "hallucinate", "look", "classify"):
        monkeypatch.setattr(model, stage, counted(getattr(model, stage)))
    monkeypatch.setattr("bench.evaluating.runner.load_model", lambda *_: model)
    evaluation, _ = evaluate(task, TinySet(CLIPS), learned=learned)
    assert sum(clip.flops for clip in evaluation.clips) == executed
    assert [executed_flops(evaluation, clip) for clip in evaluation.clips] == [clip.flops for clip in evaluation.clips]


@pytest.mark.parametrize("policy", ["scripted", "uniform"])
def test_skipped_frames_are_neither_decoded_nor_transformed(
    make_task: MakeTask, learned: Evaluation, scripted: str, policy: str
) -> None:
    ASKED.clear()
    task = make_task(scripted if policy == "scripted" else policy)
    evaluation, _ = evaluate(task, TinySet(CLIPS), learned=learned)
    wanted = {}
    for clip in evaluation.clips:
        for t, decision in enumerate(clip.decisions):
            if decision != "S":
                wanted[clip.id, "image", t] = 1
            if decision == "F":
                wanted[clip.id, "spectrogram", t] = 1
    assert wanted == ASKED
    assert {"F", "S"} <= set("".join(clip.decisions for clip in evaluation.clips))


def test_random_and_uniform_decisions_cost_what_learned_ones_do(make_task: MakeTask, learned: Evaluation) -> None:
    cost = sum(clip.flops for clip in learned.clips)
    shuffled, _ = evaluate(make_task("random"), TinySet(CLIPS), learned=learned)
    assert sum(clip.flops for clip in shuffled.clips) == cost
    assert [clip.decisions for clip in shuffled.clips] != [clip.decisions for clip in learned.clips]
    uniform, _ = evaluate(make_task("uniform"), TinySet(CLIPS), learned=learned)
    assert "decide" not in uniform.stages["exact"]
    full = sum(uniform.stages["exact"].values())
    assert 0 <= cost - sum(clip.flops for clip in uniform.clips) < full
    assert full == count_system(make_task().find()).profile.flops - sum(
        learned.stages["exact"][stage] for stage in ("decide", "hallucinate")
    )


def test_every_frame_is_full_without_a_sampler(make_task: MakeTask) -> None:
    evaluation, _ = evaluate(make_task("always-full", "small/s2"), TinySet(2))
    assert [clip.decisions for clip in evaluation.clips] == ["FFFFFF"] * 2
    assert {clip.flops for clip in evaluation.clips} == {6 * sum(evaluation.stages["exact"].values())}


def test_a_fixed_system_averages_over_segments(make_task: MakeTask) -> None:
    task = make_task("fixed", "small/squares")
    evaluation, _ = evaluate(task, TinySet(3))
    model, data = load_model(task.find(), None, 1), TinySet(3)
    cost = count_system(task.find()).profile.flops
    for labelled, outcome in zip(data.clips, evaluation.clips, strict=True):
        clip = data.open(labelled, 6)
        whole = [torch.stack([make(t) for t in range(6)])[None] for make in (clip.image, clip.spectrogram)]
        with torch.inference_mode():
            logits = model(*whole)
        for group, top, values in zip(logits, outcome.top, outcome.logits, strict=True):
            assert list(top) == group[0].sort(descending=True).indices.tolist()
            torch.testing.assert_close(torch.tensor(values), group[0].sort(descending=True).values)
        assert (outcome.decisions, outcome.flops) == ("FFFFFF", 3 * cost)


def test_a_clip_is_sampled_for_whole_calls(make_task: MakeTask) -> None:
    ASKED.clear()
    evaluation, _ = evaluate(make_task("fixed", "small/squares", frames=5), TinySet(1))
    assert sorted(ASKED) == [("clip-0", kind, t) for kind in ("image", "spectrogram") for t in range(6)]
    (clip,) = evaluation.clips
    assert (clip.decisions, clip.flops) == ("FFFFF", 3 * evaluation.stages["exact"]["call"])
    assert executed_flops(evaluation, clip) == clip.flops


def test_a_system_may_look_at_more_frames_than_it_stands_for(make_task: MakeTask) -> None:
    ASKED.clear()
    evaluation, _ = evaluate(make_task("fixed", "small/dense", frames=3), TinySet(1))
    # two calls of four images each; the sound is that of their middle, and images are resized to 32x32
    images, sounds = ({t: n for (_, what, t), n in ASKED.items() if what == kind} for kind in ("image", "spectrogram"))
    assert images == dict.fromkeys(range(8), 1)
    assert sounds == {2: 1, 6: 1}
    assert evaluation.clips[0].flops == 2 * evaluation.stages["exact"]["call"]


def test_processes_do_not_change_a_byte(make_task: MakeTask, scripted: str, tmp_path: Path) -> None:
    files = []
    for workers in (1, 2, 4):
        task = make_task(scripted, seed=3)
        evaluation, runs = evaluate(task, TinySet(9, {4: "damaged", 6: "silent"}), workers)
        write_evaluation(evaluation, tmp_path / f"{workers}.json")
        files.append((tmp_path / f"{workers}.json").read_bytes())
        assert all(run.seconds > 0 for run in runs if run.outcome is not None)
        assert read_evaluation(tmp_path / f"{workers}.json") == evaluation
    assert files[0] == files[1] == files[2]


def test_batches_change_nothing_but_rounding(make_task: MakeTask, scripted: str) -> None:
    one, five = (evaluate(make_task(scripted, batch=batch), TinySet(5))[0] for batch in (1, 5))
    for a, b in zip(one.clips, five.clips, strict=True):
        assert (a.top, a.decisions, a.flops) == (b.top, b.decisions, b.flops)
        assert sum(a.logits, ()) == pytest.approx(sum(b.logits, ()), rel=1e-4, abs=1e-5)


def test_what_cannot_be_read_is_left_out_by_name(make_task: MakeTask, scripted: str) -> None:
    advanced: list[int] = []
    trouble = {1: "missing", 2: "damaged", 3: "silent"}
    evaluation, runs = evaluate(make_task(scripted), TinySet(6, trouble), on_clips=advanced.append)
    assert evaluation.left_out == {
        "clip-x": "clip-x.avi: no such file",
        "clip-1": "clip-1.avi: is empty",
        "clip-2": "clip-2.avi: frame 1 is damaged",
    }
    assert evaluation.notes == {"clip-3": ["silence stands for the sound"]}
    whole = evaluate(make_task(scripted), TinySet(6))[0]
    kept = [clip for clip in whole.clips if clip.id in ("clip-0", "clip-3", "clip-4", "clip-5")]
    # the policy decides by the clip's place in the data set, whatever is left out
    assert [clip.decisions for clip in evaluation.clips] == [clip.decisions for clip in kept]
    assert [run.id for run in runs] == [f"clip-{i}" for i in range(6)]
    assert sum(advanced) == 6
    learned = replace(evaluation, policy="learned")
    shuffled, _ = evaluate(make_task("random"), TinySet(6, trouble), learned=learned)
    assert [clip.id for clip in shuffled.clips] == [clip.id for clip in learned.clips]
    assert shuffled.left_out == learned.left_out
    assert sum(clip.flops for clip in shuffled.clips) == sum(clip.flops for clip in learned.clips)


def test_nothing_that_can_be_read_is_an_error(make_task: MakeTask) -> None:
    with pytest.raises(RunError, match=r"no clip of tiny val can be evaluated: clip-x: clip-x.avi: no such file"):
        evaluate(make_task(), TinySet(1, {0: "missing"}))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"system": "small/s9"}, UsageError, "no system or backbone 'small/s9'"),
        ({"policy": "best"}, UsageError, "no policy 'best'"),
        ({"policy": "random"}, UsageError, "evaluate small/s2-t3 with the policy learned first"),
        ({"policy": "uniform", "system": "small/s2"}, UsageError, "small/s2 has no temporal sampler"),
        ({"device": "tpu"}, UsageError, "--device tpu"),
        ({"system": "small/flow", "policy": "fixed"}, UsageError, "a clip gives rgb and spectrogram"),
        ({"weights": Path("nowhere")}, RunError, "nowhere: no such checkpoint, and no folder of parts"),
    ],
)
def test_what_cannot_be_run_is_refused(
    make_task: MakeTask, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate(make_task(**changes), TinySet(2))


def test_decisions_of_something_else_are_refused(make_task: MakeTask, learned: Evaluation) -> None:
    with pytest.raises(UsageError, match=r"not of small/s2-t3 with sha256:.* on these 3: evaluate the policy learned"):
        evaluate(make_task("random"), TinySet(3), learned=learned)
    with pytest.raises(UsageError, match="evaluate the policy learned again"):
        evaluate(make_task("uniform", seed=2), TinySet(CLIPS), learned=learned)  # other random weights


def test_systems_and_data_sets_that_do_not_fit(make_task: MakeTask) -> None:
    silent, other = TinySet(2), TinySet(2)
    silent.audio = False
    with pytest.raises(UsageError, match="small/s2-t3 listens, and tiny is without sound"):
        evaluate(make_task(), silent)
    other.classes = (("a", "b"), ("c",))
    with pytest.raises(UsageError, match=r"small/s2-t3 tells \[5, 3\] classes apart, tiny has \[2, 1\]"):
        evaluate(make_task(), other)


def test_a_policy_that_fails_is_a_failed_run(make_task: MakeTask, scripted: str) -> None:
    failing = scripted.replace("Scripted", "Failing")
    with pytest.raises(RunError, match="Failing' failed at frame 1: KeyError"):
        evaluate(make_task(failing), TinySet(4))
    with pytest.raises(RunError, match="Failing' failed at frame 1: KeyError"):
        evaluate(make_task(failing), TinySet(4), workers=2)
