"""A system made ready to be measured: built, on its device, with a real clip's frames in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from adaptive_models.data.clips import TensorClip, VideoClip
from adaptive_models.data.demo import write_demo_clip
from adaptive_models.data.frames import FrameClip, open_any_clip
from adaptive_models.data.images import SUFFIXES
from adaptive_models.data.media import ClipError
from adaptive_models.policies import AlwaysFull, Policy
from adaptive_models.stepwise import Stepwise
from adaptive_models.system import FrameResult
from bench.backends.backend import make_backend
from bench.backends.precision import computed_in, to_precision
from bench.backends.replacing import replace_networks
from bench.errors import RunError
from bench.records.measurement import BackendName, Dtype
from bench.streaming import make_policy
from bench.systems.inputs import SOUNDS, fits, input_of
from bench.systems.registry import System
from bench.systems.weights import load_model

MOST_CLIPS = 8
"""Of a folder; more would only fill the memory."""

FILES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".tar")
"""Endings of files that are clips; of archives, those with images."""


@dataclass
class Footage:
    """Frames of videos in memory.

    Attributes:
        clips: with images, and spectrograms if asked for.
        decode_seconds: of each frame that a clip stands for, decoding and preparing all that was asked for.
        notes: what was put in place of something missing.
    """

    clips: list[TensorClip]
    decode_seconds: list[float]
    notes: list[str]


def footage_for(system: System, name: str, frames: int) -> Footage:
    """Decode what a system is given of a clip that stands for so many frames, as `load_footage`.

    Of a system whose calls are given more frames than they stand for, the clip is sampled more densely.
    """
    footage = load_footage(name, system.sampled(frames), "spectrogram" in system.inputs, "log_mel" in system.inputs)
    density, seconds = system.clip_frames // system.frames, footage.decode_seconds
    footage.decode_seconds = [sum(seconds[start : start + density]) for start in range(0, len(seconds), density)]
    return footage


def load_footage(name: str, frames: int, audio: bool, log_mel: bool = False) -> Footage:
    """Decode a clip, up to eight clips of a folder, or "demo", the built-in one.

    A clip is a video file, or its frames as images in a folder or tar archive. With `audio` it comes with spectrograms,
    with `log_mel` with the pictures that AVSlowFast takes.

    Raises:
        RunError: no such file, or one that cannot serve as a clip, or a folder without any.
    """
    with TemporaryDirectory() as folder:
        if name == "demo":
            paths = [Path(folder, "demo.mp4")]
            write_demo_clip(paths[0])
        else:
            paths = _clips_in(Path(name))
        footage = Footage([], [], [])
        for path in paths[:MOST_CLIPS]:
            try:
                with open_any_clip(path, frames, audio) as clip:
                    _decode(clip, audio, log_mel, footage)
                    footage.notes += [f"{path.name}: {note}" for note in clip.notes]
            except ClipError as error:
                raise RunError(str(error)) from error
        if len(paths) > MOST_CLIPS:
            footage.notes.append(f"the first {MOST_CLIPS} of {len(paths)} clips in {Path(name).name} were used")
        return footage


def _clips_in(path: Path) -> list[Path]:
    if not path.is_dir() or any(_is_image(each) for each in path.iterdir()):
        return [path]
    clips = sorted(
        each
        for each in path.iterdir()
        if each.suffix.lower() in FILES or (each.is_dir() and any(map(_is_image, each.iterdir())))
    )
    if not clips:
        raise RunError(f"{path}: a folder without videos ({', '.join(FILES)}), images or folders of images")
    return clips


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _decode(clip: VideoClip | FrameClip, audio: bool, log_mel: bool, footage: Footage) -> None:
    images, spectrograms, log_mels = [], [], []
    for t in range(clip.frames):
        start = perf_counter()
        images.append(clip.image(t))
        if audio:
            spectrograms.append(clip.spectrogram(t))
        if log_mel:
            log_mels.append(clip.log_mel(t))
        footage.decode_seconds.append(perf_counter() - start)
    sounds = [torch.stack(sound) if sound else None for sound in (spectrograms, log_mels)]
    footage.clips.append(TensorClip(torch.stack(images), *sounds))


@dataclass(frozen=True)
class Frame:
    """A call that was made: for which video and frame, and what was decided there.

    A step that decides about several frames is one call for all of them, and "full".
    """

    video: int
    t: int
    decision: Literal["full", "prescan", "skip"]


class Subject:
    """A system that can be run on footage, frame by frame or in batches.

    Args:
        system: which.
        footage: its clips, from `footage_for`; several are taken in turn.
        policy: name, for an adaptive system.
        device: where.
        dtype: of weights and inputs; int8 of weights.
        seed: of weights, if none come with the system, and of inputs that no clip gives.
        backend: what runs its networks; other than eager, call `compile` before times are taken.

    Attributes:
        model: in evaluation mode.
        notes: what was put in place of something missing.
        frames: of video that a clip stands for.
        decided: how many frames of an adaptive system were of which decision, by its own policy.
        backend: what runs its networks; None for eager.

    Raises:
        RunError: the model cannot be built.
        UsageError: a policy that it cannot follow.
        UnsupportedError: a backend or type that cannot run the system, as also what runs it may raise.
    """

    def __init__(
        self,
        system: System,
        footage: Footage,
        policy: str,
        device: torch.device,
        dtype: Dtype,
        seed: int = 0,
        backend: BackendName = "eager",
    ) -> None:
        self.system, self.device, self.dtype = system, device, computed_in(dtype)
        self.notes = list(footage.notes)
        self.decided: Counter[str] = Counter()
        self.frames = footage.clips[0].frames
        self.backend = make_backend(backend, dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            rounds = self.backend is not None and dtype == "int8"  # by itself, what it is given in float32
            self.model: nn.Module = to_precision(load_model(system, None, seed), device, "float32" if rounds else dtype)
            if system.adaptive:
                self.policy: Policy = make_policy(policy, system, self.frames)[0]
                self._clips = [
                    _moved(clip, "spectrogram" in system.inputs, device, self.dtype) for clip in footage.clips
                ]
            else:
                self._calls = [self._inputs_of(clip) for clip in footage.clips]
                self.frames = len(self._calls[0]) * system.frames
        if self.backend is not None:
            replace_networks(self.model, self.backend)
            self.notes += [f"{backend}: {note}" for note in self.backend.notes]

    def compile(self, batch: int | None) -> None:
        """Have the backend see every shape that can come, so that it compiles nothing while times are taken.

        Args:
            batch: clips at once, of which an adaptive system gathers fewer for a stage; None for single-stream.
        """
        if not isinstance(self.model, Stepwise):
            self.batch(0, batch or 1)
            return
        frames = max(3, self.model.window)  # all memories are there from the third on
        clips = [clip.first(frames) for clip in self._clips]
        for size in range(batch or 1, 0, -1):
            self.model.run([clips[video % len(clips)] for video in range(size)], AlwaysFull())

    def outputs(self, batch: int | None) -> list[Tensor]:
        """What it says of full frames, in the order of the clips: logits of each group, or all that a call returns.

        Args:
            batch: so many clips are run side by side; None for each of its clips alone.

        Returns:
            Tensors (classes,) of float32, on the CPU.
        """
        stepwise = isinstance(self.model, Stepwise)
        number = len(self._clips if stepwise else self._calls)
        runs = [[video] for video in range(number)] if batch is None else [[video % number for video in range(batch)]]
        said: list[Tensor] = []
        for videos in runs:
            if isinstance(self.model, Stepwise):
                clips = self.model.run([self._clips[video] for video in videos], AlwaysFull())
                said += [group for clip in clips for frame in clip.frames for group in frame.logits or ()]
            else:
                for calls in zip(*(self._calls[video] for video in videos), strict=True):
                    for each in tree_leaves(self._call(_together(calls))):
                        said += each.flatten(1) if isinstance(each, Tensor) and each.ndim > 1 else []
        return [each.float().cpu() for each in said]

    @property
    def decides_by_frame(self) -> bool:
        """Whether it decides about single frames, all but the first of a video."""
        return self.system.decides and self.system.frames == 1

    @property
    def through_all_stages(self) -> Policy | None:
        """A policy for `stream` and `batch` under which every call goes through all stages; None for its own."""
        return AlwaysFull() if self.system.frames == 1 else None  # a step of several frames always keeps some

    def stream(self, policy: Policy | None = None) -> Iterator[Frame]:
        """Frames of one video after another, without end; each `next` runs one call.

        Args:
            policy: decides instead of the system's own.
        """
        for video in count():
            if isinstance(self.model, Stepwise):
                results = self.model.stream(self._clips[video % len(self._clips)], policy or self.policy, video)
                while step := list(islice(results, self.model.window)):
                    yield self._frames(step, policy)[0]
            else:
                calls = self._calls[video % len(self._calls)]
                for position, call in enumerate(calls):
                    self._call(call)
                    yield Frame(video, position * self.system.frames, "full")

    def batch(self, first_video: int, size: int, policy: Policy | None = None) -> list[Frame]:
        """Run a batch of clips side by side; returns what happened to each frame."""
        videos = range(first_video, first_video + size)
        if isinstance(self.model, Stepwise):
            clips = [self._clips[video % len(self._clips)] for video in videos]
            results = self.model.run(clips, policy or self.policy, first_video=first_video)
            return self._frames([frame for clip in results for frame in clip.frames], policy)
        clips_of_calls = [self._calls[video % len(self._calls)] for video in videos]
        for calls in zip(*clips_of_calls, strict=True):
            self._call(_together(calls))
        return [Frame(video, t, "full") for video in videos for t in range(self.frames)]

    def _frames(self, results: list[FrameResult], policy: Policy | None) -> list[Frame]:
        if policy is None:
            self.decided.update(result.decision for result in results)
        alone = self.system.frames == 1
        return [Frame(result.video, result.t, result.decision if alone else "full") for result in results]

    @torch.inference_mode()
    def _call(self, inputs: dict[str, Tensor]) -> Any:
        return self.model(*inputs.values()) if len(inputs) == 1 else self.model(**inputs)

    def _inputs_of(self, clip: TensorClip) -> list[dict[str, Tensor]]:
        """Inputs of each call of a clip, with batch 1; the last call may repeat the last frame."""
        calls, given = [], self.system.clip_frames
        for first in range(0, clip.frames, given):
            span = [min(t, clip.frames - 1) for t in range(first, first + given)]
            inputs = {name: self._input(name, tuple(shape), clip, span) for name, shape in self.system.inputs.items()}
            calls.append({name: tensor.to(self.device, self.dtype) for name, tensor in inputs.items()})
        return calls

    def _input(self, name: str, shape: tuple[int, ...], clip: TensorClip, span: Sequence[int]) -> Tensor:
        if not fits(name, shape):
            self._note(f"{name} {'x'.join(map(str, shape))} is of random numbers: a clip does not give it")
            return torch.randn(1, *shape)
        if name not in SOUNDS and clip.image(0).shape[-2:] != shape[-2:]:
            self._note(f"{name} is resized to {shape[-1]}x{shape[-2]}")
        return input_of(clip, name, shape, span)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _together(calls: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Inputs of calls as those of one."""
    return {name: torch.cat([call[name] for call in calls]) for name in calls[0]}


def _moved(clip: TensorClip, audio: bool, device: torch.device, dtype: torch.dtype) -> TensorClip:
    """A clip on a device, so that copying it is no part of a frame's time."""

    def stack(frame: Callable[[int], Tensor]) -> Tensor:
        return torch.stack([frame(t) for t in range(clip.frames)]).to(device, dtype)

    return TensorClip(stack(clip.image), stack(clip.spectrogram) if audio else None)
