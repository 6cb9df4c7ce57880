"""Systems of other kinds than the paper's that decide step by step: DSN, SMART, and somebody's own."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from adaptive_models.data.clips import TensorClip
from adaptive_models.policies import AlwaysFull, GivenNumber, Learned
from baselines.dsn import DSN
from bench.errors import RunError, UsageError
from bench.evaluating.metrics import executed_flops
from bench.evaluating.ways import AsDecided
from bench.guards.exact import fingerprint
from bench.measuring.clock import Clock
from bench.measuring.scenarios import SingleStream
from bench.measuring.subject import Footage, Frame, Subject
from bench.records.counts import count_one
from bench.reporting.clip_figures import make_clip_figures
from bench.streaming import make_policy, open_clip, policy_of, stage_flops, stream_clip
from bench.systems.builtin import registry
from bench.systems.costs import count_system, operating_point
from bench.systems.registry import System

INPUTS = {"rgb": (16, 3, 224, 224)}
POINTS = {"ucf101/dsn": (1, 2), "ucf101/smart": (2, 16)}
"""Kept of how many choices of a step."""


def narrow() -> nn.Module:
    return DSN((5,), width=0.125)


@pytest.fixture(scope="module")
def small() -> System:
    return System("small/dsn", narrow, INPUTS, frames=16, stepwise=True)


@pytest.fixture(scope="module")
def footage() -> Footage:
    generator = torch.Generator().manual_seed(0)
    return Footage([TensorClip(torch.randn(32, 3, 224, 224, generator=generator)) for _ in range(2)], [], [])


@pytest.mark.parametrize("id", POINTS)
def test_costs_follow_from_the_stages_and_the_shares(id: str) -> None:
    number, of = POINTS[id]
    system = registry().find(id)
    assert (system.adaptive, system.decides, system.frames) == (True, True, 16)
    cost = count_system(system, "paper")
    stages = {stage["name"]: stage["flops"] for stage in cost.profile.stages()}
    assert list(stages) == ["scan", "decide", "look"]
    step = stages["scan"] + stages["decide"] + stages["look"] * number / of
    assert cost.per_frame == pytest.approx(step / 16, rel=1e-12)
    data = cost.to_json("stage")
    mean = (
        data["shares"]["prescan"] * data["stages"]["prescan"] + data["shares"]["full"] * data["stages"]["full"]
    ) / 100
    assert data["per_frame"]["flops"] == pytest.approx(mean)
    full = count_system(system, "paper", "always-full")
    assert full.per_frame == full.profile.flops / 16
    count = count_one(system)
    assert count.paper_per_frame == pytest.approx(cost.per_frame)
    assert count.published_per_frame == pytest.approx(step / number, abs=1)  # for each that is kept
    assert count.unknown == ()
    macs = {stage["name"]: stage["macs"] for stage in cost.profile.stages()}
    expected = (macs["scan"] + macs["decide"] + macs["look"] * number / of) / 16
    assert count.macs_per_frame == pytest.approx(expected)


@pytest.mark.parametrize("id", POINTS)
def test_the_published_policy_keeps_the_same_number_of_every_video(id: str) -> None:
    number, of = POINTS[id]
    system = registry().find(id)
    (first, words), (second, _) = (make_policy("published", system, 16) for _ in range(2))
    videos, empty = range(50), torch.empty(50, 2)
    choices = torch.tensor([first.choose(videos, t, empty) for t in range(2 * of)])
    assert (choices == 0).unflatten(0, (2, of)).sum(dim=1).eq(number).all()
    assert choices.tolist() == [second.choose(videos, t, empty) for t in range(2 * of)]
    assert len({tuple(video) for video in choices[:of].T.tolist()}) > 1  # not the same ones
    assert words == f"published ({operating_point(system)[1]})"
    assert policy_of(system, "published") == "published"
    assert isinstance(make_policy("learned", system, 16)[0], Learned)
    assert make_policy("always-full", system, 16)[1] == "always-full"


def test_what_is_drawn_for_a_video_does_not_depend_on_the_others() -> None:
    policy = GivenNumber(2, 5, seed=3)
    alone = [[policy.choose([video], t, torch.empty(1, 2))[0] for t in range(5)] for video in (4, 9)]
    together = [policy.choose([4, 9], t, torch.empty(2, 2)) for t in range(5)]
    assert [list(video) for video in zip(*together, strict=True)] == alone
    drawn = [[GivenNumber(1, 4, seed).choose(range(400), t, torch.empty(400, 2)) for t in range(4)] for seed in (0, 1)]
    for seed in drawn:
        assert [80 < row.count(0) < 120 for row in seed] == [True] * 4  # each place as likely as another
    assert drawn[0] != drawn[1]
    with pytest.raises(ValueError, match="0 of 4 cannot be kept"):
        GivenNumber(0, 4)


def test_nothing_is_published_for_somebody_s_own(small: System) -> None:
    with pytest.raises(UsageError, match="no shares are published for small/dsn: use the policy always-full"):
        make_policy("published", small, 16)
    assert fingerprint(small).policy == "always-full"


def test_the_decisions_of_a_guarded_system_are_kept() -> None:
    found = fingerprint(registry().find("ucf101/dsn"))
    assert set(found.decisions) == {"01", "10"}
    assert len(found.decisions) == 16
    assert found.shares == {"skip": 0.0, "prescan": 50.0, "full": 50.0}


@pytest.mark.parametrize(
    ("build", "frames", "message"),
    [
        (narrow, 8, "a step of its DSN decides about 16 frames, the system says 8"),
        (nn.ReLU, 16, "made a ReLU, no Stepwise"),
    ],
)
def test_builders_that_do_not_fit(build: type[nn.Module], frames: int, message: str) -> None:
    with pytest.raises(RunError, match=message):
        count_system(System("my/net", build, INPUTS, frames=frames, stepwise=True), policy="always-full")


# --- streamed ---


@pytest.mark.parametrize("id", POINTS)
@pytest.mark.parametrize("policy", ["published", "learned"])
def test_a_real_clip(shared: Path, id: str, policy: str) -> None:
    number, of = POINTS[id]
    system = registry().find(id)
    with open_clip(str(shared / "clips" / "clip_silent.mp4"), system) as clip:
        stream = stream_clip(clip, system, policy, convention="paper")
    costs = stage_flops(system, "paper")
    assert sum(frame.flops for frame in stream.frames) == costs["scan"] + costs["decide"] + costs["look"] * number // of
    assert stream.shares["full"] == 100 * number / of
    assert stream.per_frame == pytest.approx(count_system(system, "paper").per_frame)
    assert [frame.index for frame in stream.frames] == list(range(16))
    assert all(frame.seconds > 0 for frame in stream.frames)
    assert len(stream.predictions) == 1


def test_steps_must_be_filled(small: System) -> None:
    with (
        pytest.raises(UsageError, match="--frames 20: small/dsn decides about 16 at a time: use a multiple of it"),
        open_clip("demo", small, 20),
    ):
        pass


def test_there_is_no_attention_to_draw(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fig5: ucf101/dsn has no attention to draw"):
        make_clip_figures(["fig5"], "demo", registry().find("ucf101/dsn"), "published", None, tmp_path)


# --- measured and evaluated ---


def test_a_sample_is_a_step(small: System, footage: Footage) -> None:
    subject = Subject(small, footage, "learned", torch.device("cpu"), "float32")
    made = list(islice(subject.stream(), 4))
    assert made == [Frame(0, 0, "full"), Frame(0, 16, "full"), Frame(1, 0, "full"), Frame(1, 16, "full")]
    assert subject.decided == {"full": 32, "prescan": 32}
    assert len(subject.batch(0, 2)) == 64
    assert subject.decided == {"full": 64, "prescan": 64}
    next(subject.stream(AlwaysFull()))
    assert subject.decided == {"full": 64, "prescan": 64}  # by its own policy alone
    assert subject.through_all_stages is None
    scenario = SingleStream(subject, Clock(torch.device("cpu")))
    assert scenario.warm_up() > 0
    assert scenario.step() > 0
    assert scenario.samples.t == [0]


def test_predictions_say_what_was_executed(small: System, footage: Footage) -> None:
    costs = stage_flops(small, "exact")
    torch.manual_seed(0)
    way = AsDecided(narrow().eval(), Learned(), costs)  # type: ignore[arg-type]
    for prediction in way(0, footage.clips):
        assert prediction.decisions.count("F") == prediction.decisions.count("P") == 16
        assert prediction.flops == 2 * (costs["scan"] + costs["decide"]) + costs["look"]
        assert [logits.shape for logits in prediction.logits] == [(5,)]
        evaluation = SimpleNamespace(stages={"exact": costs}, frames_per_call=16)
        assert executed_flops(evaluation, prediction) == prediction.flops  # type: ignore[arg-type]
