"""Running one real clip through an adaptive system, and what was really computed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptive_models.data.clips import Clip, VideoClip
from adaptive_models.data.demo import write_demo_clip
from adaptive_models.data.frames import FrameClip, open_any_clip
from adaptive_models.data.media import ClipError
from adaptive_models.policies import AlwaysFull, GivenNumber, GivenShares, Learned, Policy
from adaptive_models.stepwise import Stepwise
from adaptive_models.system import FrameResult, mean_logits
from bench.errors import RunError, UsageError, in_words
from bench.systems.accounting import KEPT
from bench.systems.costs import count_system, operating_point
from bench.systems.registry import System, load_object
from bench.systems.weights import load_model
from bench.systems.workloads import WORKLOADS

POLICIES = ("published", "learned", "always-full")


@dataclass(frozen=True)
class StreamedFrame:
    """One frame: what was decided, the operations executed for it, and the time it took, decoding apart.

    Of a system whose step decides about several frames, they share its time, and operations of all, evenly.
    """

    index: int
    source_frame: int
    decision: str
    flops: int
    seconds: float
    decode_seconds: float
    similarity: float | None = None


@dataclass
class Stream:
    """A clip that went through a system.

    Attributes:
        system: id of the system.
        policy: who decided, in words.
        convention: in which the operations are counted.
        weights: where they come from.
        frames: in order.
        always_full: operations of a full frame, had every frame been one.
        predictions: the largest logit's class, for each group of classes.
        notes: fallbacks that were used, in words.
        results: what the system said of each frame, for pictures.
        clip: the clip, for pictures.
        model: the system that it went through, for pictures.
    """

    system: str
    policy: str
    convention: str
    weights: str
    frames: list[StreamedFrame]
    always_full: int
    predictions: list[int]
    notes: list[str]
    results: list[FrameResult] = field(default_factory=list, repr=False)
    clip: VideoClip | FrameClip | None = field(default=None, repr=False)
    model: Stepwise | None = field(default=None, repr=False)

    @property
    def shares(self) -> dict[str, float]:
        """Per cent of frames by decision."""
        decisions = [frame.decision for frame in self.frames]
        return {name: 100 * decisions.count(name) / len(decisions) for name in ("skip", "prescan", "full")}

    @property
    def per_frame(self) -> float:
        """Operations executed per frame of video."""
        return sum(frame.flops for frame in self.frames) / len(self.frames)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `foveabench stream --json` prints it."""
        return {
            "system": self.system,
            "policy": self.policy,
            "convention": self.convention,
            "weights": self.weights,
            "frames": [asdict(frame) for frame in self.frames],
            "shares": self.shares,
            "per_frame": {"flops": self.per_frame, "seconds": sum(f.seconds for f in self.frames) / len(self.frames)},
            "always_full": {"flops": self.always_full},
            "predictions": self.predictions,
            "notes": self.notes,
        }


class TimedClip:
    """A clip that adds up the time spent on decoding and preparing its frames."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.frames, self.notes = clip, clip.frames, clip.notes
        self.seconds = 0.0

    def image(self, t: int) -> Tensor:
        """As the clip's."""
        return self._timed(self.clip.image, t)

    def spectrogram(self, t: int) -> Tensor:
        """As the clip's."""
        return self._timed(self.clip.spectrogram, t)

    def log_mel(self, t: int) -> Tensor:
        """As the clip's."""
        return self._timed(self.clip.log_mel, t)

    def _timed(self, make: Callable[[int], Tensor], t: int) -> Tensor:
        start = time.perf_counter()
        try:
            return make(t)
        finally:
            self.seconds += time.perf_counter() - start


@contextmanager
def open_clip(name: str, system: System, frames: int | None = None) -> Iterator[VideoClip | FrameClip]:
    """Open a clip for a system; `demo` is a small video that is made for the occasion.

    Args:
        name: path of a video file, or of its frames as images in a folder or tar archive; or "demo".
        system: an adaptive system, which says whether sound is wanted.
        frames: how many frames to sample; the workload's if not given.

    Raises:
        UsageError: a system that is not adaptive, or no number of frames, or one that its steps do not fill.
        RunError: a file that cannot serve as a clip.
    """
    if not system.adaptive:
        raise UsageError(f"{system.id} is not adaptive: stream takes systems that decide, such as epic/s3-t4")
    if frames is None and system.workload not in WORKLOADS:
        raise UsageError(f"--frames is needed: {system.id} is of none of the workloads {', '.join(WORKLOADS)}")
    count = WORKLOADS[system.workload].frames if frames is None else frames
    if count < 1:
        raise UsageError(f"--frames {count}: at least 1 frame is needed")
    if count % system.frames:
        raise UsageError(f"--frames {count}: {system.id} decides about {system.frames} at a time: use a multiple of it")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "demo.mp4") if name == "demo" else Path(name)
        if name == "demo":
            write_demo_clip(path)
        try:
            clip = open_any_clip(path, count, audio="spectrogram" in system.inputs)
        except ClipError as error:
            raise RunError(str(error)) from error
        with clip:
            yield clip


def policy_of(system: System, policy: str) -> str:
    """The policy that a system follows if this one is asked for: it may have nothing to decide."""
    if not system.adaptive:
        return "fixed"
    return policy if system.decides else "always-full"


def make_policy(name: str, system: System, frames: int) -> tuple[Policy, str]:
    """A policy by name, or one's own as "module:name" or "path/to/file.py:name", and what it is in words.

    Raises:
        UsageError: no such policy, or one that the system cannot follow on so many frames.
    """
    if ":" in name:
        policy = _own_policy(name)
    elif name not in POLICIES:
        raise UsageError(f"no policy {name!r}: use {', '.join(POLICIES)}, or module:name or path/to/file.py:name")
    elif name == "learned":
        policy = Learned()
    elif name == "published" and system.decides:
        shares, source = operating_point(system)
        if system.max_skip is None:
            kept = KEPT[system.id]
            return GivenNumber(kept.number, kept.of), f"published ({source})"
        try:
            return GivenShares(shares, system.max_skip, frames), f"published ({source})"
        except ValueError as error:
            raise UsageError(f"policy published: {error}") from error
    else:
        policy = AlwaysFull()
    return policy, name if system.decides else f"{name} (no temporal sampler: every frame is full)"


def _own_policy(name: str) -> Policy:
    """A user's policy, or one made by a user's class; what goes wrong in it is a failed run that names it."""
    own = load_object(name)
    if isinstance(own, type):
        try:
            own = own()
        except Exception as error:
            raise UsageError(f"policy {name!r} cannot be made: {in_words(error)}") from error
    if not callable(getattr(own, "choose", None)):
        raise UsageError(f"policy {name!r} has no method choose(videos, t, logits)")

    def choose(_: Policy, videos: Sequence[int], t: int, logits: Tensor) -> Sequence[int]:
        try:
            return own.choose(videos, t, logits)
        except Exception as error:
            raise RunError(f"policy {name!r} failed at frame {t}: {in_words(error)}") from error

    return type(name, (), {"choose": choose})()  # the system's messages call a policy by its class


def stream_clip(
    clip: VideoClip | FrameClip,
    system: System,
    policy: str = "published",
    weights: Path | None = None,
    device: str = "cpu",
    convention: str = "exact",
    on_frame: Callable[[StreamedFrame], None] = lambda _: None,
) -> Stream:
    """Stream a clip through an adaptive system, step by step: frame by frame, or by the frames decided about at once.

    The operations of a frame are those of the stages that ran for it, counted beforehand. The time is that of this one
    run, without warm-up.

    Args:
        clip: from `open_clip`.
        system: an adaptive system.
        policy: see `make_policy`.
        weights: a folder of trained parts, or a checkpoint of the whole system; if not given, those that come with
            the system, or random ones from a fixed seed.
        device: where to run, as torch names it.
        convention: in which to count, "exact" or "paper".
        on_frame: called after each frame.

    Raises:
        UsageError: a wrong policy or device.
        RunError: weights that do not fit, a clip that cannot be decoded, or a policy that fails or makes choices that
            there are not.
    """
    chosen, policy_name = make_policy(policy, system, clip.frames)
    where = usable_device(device)
    model = load_model(system, weights).to(where)
    assert isinstance(model, Stepwise)
    costs = stage_flops(system, convention)
    timed = TimedClip(clip)
    streamed: list[StreamedFrame] = []
    results: list[FrameResult] = []
    steps = model.stream(timed, chosen)
    while len(results) < clip.frames:
        timed.seconds = 0.0
        start = time.perf_counter()
        try:
            step = list(islice(steps, model.window))
        except ClipError as error:
            raise RunError(str(error)) from error
        except ValueError as error:
            raise RunError(f"{clip.path}: {error}") from error
        _synchronize(where)
        elapsed = time.perf_counter() - start
        for result, flops in zip(step, step_flops(costs, step), strict=True):
            frame = StreamedFrame(
                index=result.t,
                source_frame=clip.indices[result.t],
                decision=result.decision,
                flops=flops,
                seconds=max(elapsed - timed.seconds, 0.0) / len(step),
                decode_seconds=timed.seconds / len(step),
                similarity=result.similarity,
            )
            streamed.append(frame)
            results.append(result)
            on_frame(frame)
    return Stream(
        system=system.id,
        policy=policy_name,
        convention=convention,
        weights=str(weights) if weights else "that come with it" if system.weights else "random, from seed 0",
        frames=streamed,
        always_full=sum(costs.values()) // model.window,
        predictions=[int(group.argmax()) for group in mean_logits(results)],
        notes=list(clip.notes),
        results=results,
        clip=clip,
        model=model,
    )


def stage_flops(system: System, convention: str) -> dict[str, int]:
    """Operations of each stage of a step in which every frame is processed fully."""
    stages = count_system(system, convention, "always-full").profile.stages()
    return {stage["name"]: stage["flops"] for stage in stages}


def frame_flops(costs: Mapping[str, int], result: FrameResult) -> int:
    """Operations executed for a frame, none if it is skipped; times the frames of a step, of which a stage's are all.

    Args:
        costs: of each stage of a step in which every frame is processed fully.
        result: of the frame.
    """
    return sum(costs[stage] for stage in result.ran if stage in costs)


def step_flops(costs: Mapping[str, int], step: Sequence[FrameResult]) -> list[int]:
    """Operations executed for each frame of a step, rounded so that their sum is that of the step."""
    ends = [done // len(step) for done in accumulate(frame_flops(costs, result) for result in step)]
    return [end - start for start, end in pairwise([0, *ends])]


def usable_device(name: str) -> torch.device:
    """A device by its name for torch.

    Raises:
        UsageError: there is none, or it cannot be used.
    """
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: cannot be used: {in_words(error)}") from error
    return device


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
