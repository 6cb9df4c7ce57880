from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaptive_models.data.clips import TensorClip
from adaptive_models.policies import AlwaysFull, GivenNumber, Learned
from adaptive_models.system import FrameResult
from baselines.selecting import Selecting


class Toy(Selecting):
    """Three clips of two frames to choose among; the score of a clip is its mean, and so are its logits.

    Keeps what each stage was given.
    """

    def __init__(self, kept: int = 1) -> None:
        super().__init__(3, 2, kept)
        self.place = nn.Parameter(torch.zeros(1))
        self.calls: dict[str, list[tuple[int, ...]]] = {stage: [] for stage in self.stages}

    def scan(self, frames: Tensor) -> Tensor:
        self.calls["scan"].append(tuple(frames.shape))
        return frames.mean(dim=(1, 2, 3, 4))[:, None]

    def decide(self, features: Tensor) -> Tensor:
        self.calls["decide"].append(tuple(features.shape))
        return features.squeeze(-1)

    def look(self, frames: Tensor) -> tuple[Tensor, ...]:
        self.calls["look"].append(tuple(frames.shape))
        mean = frames.mean(dim=(1, 2, 3, 4))
        return torch.stack([mean, -mean], dim=1), mean[:, None]


class Scripted:
    """Keeps these numbers of clips, and remembers what it was asked."""

    def __init__(self, kept: set[int]) -> None:
        self.kept = kept
        self.asked: list[tuple[list[int], int]] = []

    def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> list[int]:
        self.asked.append((list(videos), t))
        return [int(t not in self.kept) for _ in videos]


def clip(*means: float) -> TensorClip:
    """Each mean is of a clip of two frames."""
    return TensorClip(torch.tensor(means).repeat_interleave(2)[:, None, None, None].expand(-1, 3, 2, 2))


def kept(frames: Sequence[FrameResult]) -> list[int]:
    return [frame.t for frame in frames if frame.decision == "full"]


def test_the_best_clip_of_each_step_is_processed_and_no_other() -> None:
    model = Toy()
    frames = list(model.stream(clip(0.1, 0.7, 0.4, 0.9, 0.2, 0.3), Learned(), video=5))
    assert kept(frames) == [2, 3, 6, 7]
    assert [(frame.video, frame.t) for frame in frames] == [(5, t) for t in range(12)]
    assert {frame.decision for frame in frames} == {"full", "prescan"}
    assert model.calls == {
        "scan": [(1, 2, 3, 2, 2)] * 6,
        "decide": [(1, 3, 1)] * 2,
        "look": [(1, 2, 3, 2, 2)] * 2,  # one call for each that is kept
    }
    assert [frame.ran for frame in frames[:3]] == [("scan", "decide")] * 2 + [("scan", "decide", "look")]


def test_the_prediction_is_the_mean_over_what_is_kept() -> None:
    (result,) = Toy().run([clip(0.1, 0.7, 0.4, 0.9, 0.2, 0.3)], Learned())
    torch.testing.assert_close(result.logits, (torch.tensor([0.8, -0.8]), torch.tensor([0.8])))


def test_without_a_policy_everything_is_processed() -> None:
    model = Toy()
    frames = list(model.stream(clip(0.1, 0.7, 0.4)))
    assert kept(frames) == [0, 1, 2, 3, 4, 5]
    assert len(model.calls["look"]) == 3
    assert kept(list(model.stream(clip(0.1, 0.7, 0.4), AlwaysFull()))) == kept(frames)


def test_of_equal_scores_the_first_are_kept() -> None:
    assert kept(list(Toy(kept=2).stream(clip(0.5, 0.5, 0.5), Learned()))) == [0, 1, 2, 3]


def test_batched_is_as_streamed_and_gathers_those_that_are_kept() -> None:
    clips = [clip(*torch.rand(6, generator=torch.Generator().manual_seed(seed)).tolist()) for seed in range(4)]
    for policy in (Learned(), GivenNumber(1, 3), GivenNumber(2, 3, seed=1), Scripted({0, 1, 5})):
        model = Toy()
        together = model.run(clips, policy, first_video=7)
        batches = [shape[0] for shape in model.calls["look"]]
        assert sum(batches) * 2 == sum(len(kept(result.frames)) for result in together)
        assert model.calls["scan"] == [(4, 2, 3, 2, 2)] * 6
        for number, (alone, result) in enumerate(zip(clips, together, strict=True), start=7):
            streamed = list(Toy().stream(alone, policy, video=number))
            assert [(each.t, each.decision, each.ran) for each in streamed] == [
                (each.t, each.decision, each.ran) for each in result.frames
            ]
            for one, other in zip(streamed, result.frames, strict=True):
                assert (one.logits is None) == (one.decision == "prescan")
                torch.testing.assert_close(one.logits, other.logits)


def test_the_policy_is_asked_about_every_clip_by_its_number() -> None:
    policy = Scripted({0, 1, 2, 3})
    Toy().run([clip(*[0.0] * 6)] * 2, policy, first_video=3)
    assert policy.asked == [([3, 4], t) for t in range(6)]


def test_logits_say_what_the_scores_do() -> None:
    said = []

    class Listening(Learned):
        def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> list[int]:
            said.append(logits.tolist())
            return super().choose(videos, t, logits)

    list(Toy().stream(clip(0.1, 0.7, 0.4), Listening()))
    assert said == [[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 1.0]]]


@pytest.mark.parametrize(
    ("frames", "policy", "message"),
    [
        (8, None, "8 frames, and 6 are decided about at a time: use a multiple"),
        (12, Scripted({0, 1, 2}), "policy Scripted kept nothing of frames 6 to 11 of video 0: something must be kept"),
    ],
)
def test_what_cannot_be_run(frames: int, policy: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(Toy().stream(TensorClip(torch.rand(frames, 3, 2, 2)), policy))


@pytest.mark.parametrize("choice", [2, -1, None, "0"])
def test_choices_that_there_are_not(choice: Any) -> None:
    class Odd:
        def choose(self, videos: Sequence[int], t: int, logits: Tensor) -> Any:
            return [choice]

    with pytest.raises(ValueError, match=r"policy Odd chose .* at frame 0 for 1 videos: it must choose from 0 to 1"):
        list(Toy().stream(clip(0.1, 0.7, 0.4), Odd()))


def test_videos_of_one_run_are_equally_long() -> None:
    with pytest.raises(ValueError, match=r"equally many frames, got \[6, 12\]"):
        Toy().run([clip(*[0.0] * 3), clip(*[0.0] * 6)])


@pytest.mark.parametrize("number", [0, 4])
def test_numbers_that_cannot_be_kept(number: int) -> None:
    with pytest.raises(ValueError, match=f"{number} of 3 cannot be kept"):
        Toy(kept=number)
