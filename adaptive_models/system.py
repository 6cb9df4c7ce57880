"""The adaptive system: pre-scan, decide, and look closely only where and when it matters (paper, Figs. 1, 7, 10).

Skipping is executed: a frame that is skipped is not even asked for, and of a frame that is only pre-scanned nothing
after the first half of the network runs. Videos run one by one (`stream`) or batched (`run`), through the same code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptive_models.backbone import AttentionBackbone
from adaptive_models.backbones import build_backbone
from adaptive_models.classifier import ThreeHeads
from adaptive_models.data.clips import Clip
from adaptive_models.folding import Looked, trusting
from adaptive_models.hallucinator import Hallucinator
from adaptive_models.policies import AlwaysFull, Policy
from adaptive_models.spatial_sampler import (
    crop_boxes,
    crops_in_order,
    follow_boxes,
    order_boxes_along_video,
    salient_boxes,
)
from adaptive_models.ssim import ssim
from adaptive_models.stepwise import Stepwise, ask
from adaptive_models.temporal_sampler import TemporalSampler

HIGH_SIZE, LOW_SIZE, CROP_SIZE, SPECTROGRAM_SIZE = 224, 112, 64, 256

SAN19 = partial(build_backbone, "san19")
"""Makes the backbone of the paper for images of 3 channels, or spectrograms of 1."""

Decision = Literal["full", "prescan", "skip"]
BoxOrder = Literal["causal", "published"]


@dataclass
class Features:
    """Of the frames that are processed fully: (N, F) each, and (N, k, F) of the crops."""

    image: Tensor
    audio: Tensor | None
    crops: Tensor | None

    def of(self, position: int) -> Features:
        """Of one frame alone, as a batch of one."""

        def one(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[position : position + 1]

        return Features(self.image[position : position + 1], one(self.audio), one(self.crops))

    def at(self, positions: Positions) -> Features:
        """Of several frames, or of all."""

        def some(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else _at(positions, tensor)

        return Features(_at(positions, self.image), some(self.audio), some(self.crops))


@dataclass
class FrameResult:
    """What happened to one frame of one video.

    Attributes:
        video: number of the video.
        t: index of the frame.
        decision: "full", "prescan" or "skip".
        attention: (C, h, w), unless skipped.
        hallucination: (C, h, w) that was made for this frame before it was seen, if one was.
        similarity: SSIM of the two, if the temporal sampler was asked.
        boxes: (k, 4) of the crops, if full.
        features: of this frame alone, if full.
        logits: for each group of classes, if full.
        ran: the stages that were executed for it, alone or with others of its step.
    """

    video: int
    t: int
    decision: Decision
    attention: Tensor | None = None
    hallucination: Tensor | None = None
    similarity: float | None = None
    boxes: Tensor | None = None
    features: Features | None = None
    logits: tuple[Tensor, ...] | None = None
    ran: tuple[str, ...] = ()


@dataclass
class ClipResult:
    """The outcome of one video: logits of each group of classes, averaged over its full frames, and all its frames."""

    logits: tuple[Tensor, ...]
    frames: list[FrameResult]

    @property
    def decisions(self) -> list[Decision]:
        """What happened to each frame."""
        return [frame.decision for frame in self.frames]


class AdaptiveSystem(Stepwise):
    """S_k, or (S_k, T_M) with a temporal sampler.

    The low-resolution frame, the crops and the spectrogram have networks of their own, as they are trained for their
    sizes. Like any module, it is made in training mode: call `eval()` before running videos.

    Args:
        crops: k, high-resolution crops of a full frame; 0 for none.
        max_skip: M of the temporal sampler, or None for a system that processes every frame fully.
        classes: number of classes in each group, e.g. (125, 352) for verbs and nouns.
        audio: whether there are spectrograms.
        head_layers: layers of the GRU heads: 2 for `epic`, 1 for `ucf101`.
        make_backbone: makes a network for a number of input channels, 3 or 1; see `AttentionBackbone`.
        hidden: width of the heads' GRUs.
        sampler_hidden: width of the temporal sampler's GRU; that of the heads if not given.
        hallucinator_hidden: channels of the memory of the hallucinator, 32 in the paper.

    Raises:
        ValueError: a negative k, or an M below 1.
    """

    stages = ("scan", "decide", "hallucinate", "look", "classify")
    parts: ClassVar[dict[str, str]] = {
        "low_rgb.prescan": "pre-scan",
        "low_rgb.forward": "pre-scan",  # of an S_0, which goes on to the rest
        "low_rgb.resume": "rest",
        "temporal_sampler.forward": "temporal sampler",
        "hallucinator.forward": "hallucinator",
        "spectrogram.forward": "spectrogram",
        "find_crops": "spatial sampler",
        "high_rgb.forward": "crops",
        "classifier.forward": "GRU heads",
    }
    depends_on: ClassVar[dict[str, tuple[str, ...]]] = {
        "scan": ("low_rgb", "uses_attention"),
        "decide": ("temporal_sampler",),
        "hallucinate": ("hallucinator",),
        "look": ("low_rgb", "spectrogram", "high_rgb", "crops"),
        "classify": ("classifier",),
    }

    def __init__(
        self,
        crops: int,
        max_skip: int | None,
        classes: tuple[int, ...],
        audio: bool,
        head_layers: int,
        make_backbone: Callable[[int], AttentionBackbone] = SAN19,
        hidden: int = 1024,
        sampler_hidden: int | None = None,
        hallucinator_hidden: int = 32,
    ) -> None:
        super().__init__()
        if crops < 0:
            raise ValueError(f"the number of crops k must be 0 or more, got {crops}")
        self.crops, self.max_skip, self.classes, self.audio = crops, max_skip, classes, audio
        self.low_rgb = make_backbone(3)
        self.high_rgb = make_backbone(3) if crops else None
        self.spectrogram = make_backbone(1) if audio else None
        self.hallucinator: Hallucinator | None = None
        self.temporal_sampler: TemporalSampler | None = None
        if max_skip is not None:
            attention_shape = self.low_rgb.attention_shape(LOW_SIZE, LOW_SIZE)
            self.hallucinator = Hallucinator(attention_shape[0], hallucinator_hidden)
            self.temporal_sampler = TemporalSampler(max_skip, attention_shape, sampler_hidden or hidden)
        width = self.low_rgb.features
        self.classifier = ThreeHeads(width, width if audio else 0, width, crops, classes, hidden, head_layers)

    @property
    def uses_attention(self) -> bool:
        """Whether there is a sampler, of regions or of frames, to use the first network's attention."""
        return self.crops > 0 or self.temporal_sampler is not None

    @property
    def networks(self) -> tuple[str, ...]:
        """See `Stepwise`; without a sampler to use its attention, the first network is not run in halves."""
        modules = {
            "temporal_sampler": self.temporal_sampler,
            "hallucinator": self.hallucinator,
            "spectrogram": self.spectrogram,
            "high_rgb": self.high_rgb,
            "classifier": self.classifier,
        }
        first = ("low_rgb.prescan", "low_rgb.resume") if self.uses_attention else ("low_rgb.forward",)
        return (*first, *(f"{name}.forward" for name, module in modules.items() if module is not None))

    # --- stages of a frame, on a batch of videos ---

    def scan(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Look at frames (N, 3, 224, 224) at low resolution, through the first half of the network.

        Returns:
            The state from which the second half goes on, and the attention (N, C, h, w), of SAN19 (N, 32, 7, 7);
            without a sampler to use it, there is no attention, and the state is the low-resolution image.

        Raises:
            ValueError: images of another shape.
        """
        if images.shape[1:] != (3, HIGH_SIZE, HIGH_SIZE):
            raise ValueError(
                f"images of shape {tuple(images.shape)}: the system takes (N, 3, {HIGH_SIZE}, {HIGH_SIZE})"
            )
        low = F.interpolate(images, size=(LOW_SIZE, LOW_SIZE), mode="bilinear", align_corners=False)
        if not self.uses_attention:
            return low, None
        return self.low_rgb.prescan(low)

    def decide(self, attention: Tensor, hallucination: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Compare attention and hallucination, both (N, C, h, w), and score the choices.

        Returns:
            Logits (N, M + 1), the sampler's memory, and the SSIM (N,).
        """
        assert self.temporal_sampler is not None
        similarity = ssim(attention, hallucination)
        logits, memory = self.temporal_sampler(attention, hallucination, similarity, memory)
        return logits, memory, similarity

    def hallucinate(
        self, attention: Tensor, memory: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Predict the attention of the next frame from this one's (N, C, h, w), and remember."""
        assert self.hallucinator is not None
        return self.hallucinator(attention, memory)

    def look(
        self,
        state: Tensor,
        attention: Tensor | None,
        images: Tensor,
        spectrograms: Tensor | None,
        previous_boxes: Tensor | None,
    ) -> tuple[Features, Tensor | None]:
        """Process frames fully: the second half, the spectrogram (N, 1, 256, 256), and the crops.

        Returns:
            The features, and the boxes (N, k, 4) of the crops in the order of the previous ones, if any.
        """
        image = self.low_rgb(state) if attention is None else self.low_rgb.resume(state)
        audio = self.spectrogram(spectrograms) if self.spectrogram is not None else None
        if self.high_rgb is None:
            return Features(image, audio, None), None
        assert attention is not None
        crops, boxes = self.find_crops(attention, images, previous_boxes)
        features = self.high_rgb(crops.flatten(0, 1)).unflatten(0, (-1, self.crops))
        return Features(image, audio, features), boxes

    def find_crops(self, attention: Tensor, images: Tensor, previous_boxes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cut the most salient regions out of images; arguments as of `look`.

        Returns:
            Crops (N, k, 3, 64, 64), and their boxes (N, k, 4).
        """
        boxes = salient_boxes(attention, self.crops, HIGH_SIZE, CROP_SIZE)
        if previous_boxes is not None:
            boxes = follow_boxes(previous_boxes, boxes)
        return crop_boxes(images, boxes, CROP_SIZE), boxes

    def classify(self, features: Features, memory: Tensor | None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Logits (N, classes) of each group, averaged over the heads, and the heads' memory."""
        return self.classifier(features.image, features.audio, features.crops, memory)

    def trace(self, call: Callable[..., Any], inputs: Mapping[str, Tensor]) -> None:
        """Go once through all stages of a full frame (see `Stepwise`); inputs "rgb", or "spectrogram" too."""
        images = inputs["rgb"]
        state, attention = call("scan", images)
        if self.hallucinator is not None:
            hidden = attention.new_zeros(len(attention), self.hallucinator.hidden, *attention.shape[2:])
            call("decide", attention, torch.zeros(attention.shape).to(attention), None)
            call("hallucinate", attention, (hidden, hidden))
        features, _ = call("look", state, attention, images, inputs.get("spectrogram"), None)
        call("classify", features, None)

    # --- videos ---

    @torch.inference_mode()
    def stream(self, clip: Clip, policy: Policy | None = None, video: int = 0) -> Iterator[FrameResult]:
        """Run one video frame by frame, as it would arrive; frames that are skipped are not asked of the clip.

        Weights are expected not to change before the video is over.

        Args:
            clip: the video.
            policy: who decides, if there is a temporal sampler; every frame is full if not given.
            video: number under which the policy knows the video.

        Raises:
            ValueError: a choice that T_M does not have.
        """
        for results in _Run(self, [clip], policy, video).steps():
            yield results[0]

    @torch.inference_mode()
    def run(
        self,
        clips: Sequence[Clip],
        policy: Policy | None = None,
        box_order: BoxOrder = "causal",
        first_video: int = 0,
    ) -> list[ClipResult]:
        """Run several videos at once; at each step only those that need a stage go through it.

        Frames that are to be processed fully wait until there is one for each video, since no decision depends on what
        comes of them, and larger batches are faster.

        Args:
            clips: videos of equally many frames.
            policy: who decides, if there is a temporal sampler; every frame is full if not given.
            box_order: how crops keep to their slots along a video: "causal", by the frame before, or "published", by
                the shortest paths over the whole video, which needs all its frames.
            first_video: number under which the policy knows the first of the clips; the others follow.

        Raises:
            ValueError: clips of different lengths, an unknown order, or a choice that T_M does not have.
        """
        if box_order not in ("causal", "published"):
            raise ValueError(f"unknown order of boxes {box_order!r}: use 'causal' or 'published'")
        causal = box_order == "causal" or not self.crops
        steps = list(_Run(self, clips, policy, first_video, causal, together=len(clips)).steps())
        videos = [list(frames) for frames in zip(*steps, strict=True)]
        if not causal:
            for frames in videos:
                self._classify_in_published_order([frame for frame in frames if frame.decision == "full"])
        return [ClipResult(mean_logits(frames), frames) for frames in videos]

    def _classify_in_published_order(self, full: list[FrameResult]) -> None:
        boxes = torch.stack([frame.boxes for frame in full if frame.boxes is not None])
        ordered = order_boxes_along_video(boxes)
        memory = None
        for frame, before, after in zip(full, boxes, ordered, strict=True):
            assert frame.features is not None
            assert frame.features.crops is not None
            frame.boxes = after
            frame.features.crops = crops_in_order(frame.features.crops, before[None], after[None])
            logits, memory = self.classify(frame.features, memory)
            frame.logits = tuple(group[0] for group in logits)


def mean_logits(frames: Sequence[FrameResult]) -> tuple[Tensor, ...]:
    """The prediction of a video: for each group of classes, the mean of the logits of its full frames."""
    of_full_frames = [frame.logits for frame in frames if frame.logits is not None]
    return tuple(torch.stack(group).mean(dim=0) for group in zip(*of_full_frames, strict=True))


Positions: TypeAlias = Tensor | None
"""Of some videos among several; None for all of them in order, of which nothing has to be copied."""


def _positions(some: Sequence[int], of: Sequence[Any], device: torch.device) -> Positions:
    return None if list(some) == list(range(len(of))) else torch.tensor(some, device=device)


def _at(positions: Positions, values: Tensor, dim: int = 0) -> Tensor:
    return values if positions is None else values.index_select(dim, positions)


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _turns(videos: Sequence[int]) -> list[list[int]]:
    """Positions of frames, given the videos that they are of, in turns in which each video has at most one."""
    seen: Counter[int] = Counter()
    turns: list[list[int]] = []
    for position, video in enumerate(videos):
        if seen[video] == len(turns):
            turns.append([])
        turns[seen[video]].append(position)
        seen[video] += 1
    return turns


@dataclass
class _Memory:
    """What one stage remembers of each of N videos from frame to frame, with the videos in dimension `dim`."""

    dim: int = 0
    values: Tensor | None = None

    def recall(self, videos: Positions) -> Tensor | None:
        """What it remembers of the videos at these positions; nothing before the first frame."""
        return None if self.values is None else _at(videos, self.values, self.dim)

    def keep(self, videos: Positions, values: Tensor) -> None:
        """Remember this of the videos at these positions; the first time, they are all there are."""
        known = self.values
        self.values = values if videos is None or known is None else known.index_copy(self.dim, videos, values)


@dataclass
class _Waiting:
    """Frames of one step that are to be processed fully: where their videos are, and what came of them so far."""

    t: int
    positions: list[int]
    results: list[FrameResult]
    state: Tensor
    attention: Tensor | None
    images: Tensor


class _Run:
    """Videos of equally many frames on their way through a system.

    Where it is not `causal`, boxes do not follow those of the frame before, and nothing is classified. Full frames are
    processed when at least so many wait `together`, or there are no more; their results are filled in then.
    """

    def __init__(
        self,
        system: AdaptiveSystem,
        clips: Sequence[Clip],
        policy: Policy | None,
        first_video: int,
        causal: bool = True,
        together: int = 1,
    ) -> None:
        lengths = sorted({clip.frames for clip in clips})
        if len(lengths) != 1:
            raise ValueError(f"videos of one run must have equally many frames, got {lengths}")
        self.system, self.clips, self.length = system, clips, lengths[0]
        self.policy = AlwaysFull() if policy is None else policy
        self.first_video, self.causal, self.together = first_video, causal, together
        self.waiting: list[_Waiting] = []
        self.weight, self.weights_seen = next(system.parameters()), Looked()
        self.sampler, self.heads, self.boxes = _Memory(dim=1), _Memory(dim=2), _Memory()
        self.hallucination, self.hidden, self.cell = _Memory(), _Memory(), _Memory()

    def steps(self) -> Iterator[list[FrameResult]]:
        """Of each frame in turn, what happened to it in every video."""
        next_look = [0] * len(self.clips)
        for t in range(self.length):
            results = [FrameResult(self.first_video + position, t, "skip") for position in range(len(self.clips))]
            looking = [position for position, frame in enumerate(next_look) if frame == t]
            if looking:
                with trusting(self.weights_seen):
                    choices = self._look_at(t, looking, [results[position] for position in looking])
                    if sum(len(step.results) for step in self.waiting) >= self.together:
                        self._process()
                for position, choice in zip(looking, choices, strict=True):
                    next_look[position] = t + max(choice, 1)
            yield results
        if self.waiting:
            with trusting(self.weights_seen):
                self._process()

    def _look_at(self, t: int, looking: list[int], results: list[FrameResult]) -> list[int]:
        """Look at frame t of the videos at positions `looking`, fill in their results, and return the choices."""
        images = self._stack([self.clips[position].image(t) for position in looking])
        videos = _positions(looking, self.clips, images.device)
        state, attention = self.system.scan(images)
        choices = [0] * len(looking)
        if attention is not None:
            for result, own in zip(results, attention, strict=True):
                result.attention = own
            if self.system.temporal_sampler is not None:
                hallucination = self.hallucination.recall(videos)
                # Before the sampler, whose weights leave nothing else in the caches
                self._hallucinate(attention, videos)
                if hallucination is not None:
                    choices = self._decide(t, attention, hallucination, videos, results)
        for result, choice in zip(results, choices, strict=True):
            result.decision = "prescan" if choice else "full"
            result.ran = self._ran(result)
        full = [i for i, choice in enumerate(choices) if choice == 0]
        if full:
            chosen = _positions(full, looking, images.device)
            self.waiting.append(
                _Waiting(
                    t,
                    [looking[i] for i in full],
                    [results[i] for i in full],
                    _at(chosen, state),
                    None if attention is None else _at(chosen, attention),
                    _at(chosen, images),
                )
            )
        return choices

    def _ran(self, result: FrameResult) -> tuple[str, ...]:
        """The stages that run for a frame that is looked at; the temporal sampler is not asked at the first."""
        ran = {
            "scan": True,
            "decide": result.similarity is not None,
            "hallucinate": self.system.hallucinator is not None,
            "look": result.decision == "full",
            "classify": result.decision == "full",
        }
        return tuple(stage for stage, runs in ran.items() if runs)

    def _decide(
        self, t: int, attention: Tensor, hallucination: Tensor, videos: Positions, results: list[FrameResult]
    ) -> list[int]:
        logits, memory, similarity = self.system.decide(attention, hallucination, self.sampler.recall(videos))
        self.sampler.keep(videos, memory)
        for result, own, value in zip(results, hallucination, similarity.tolist(), strict=True):
            result.hallucination, result.similarity = own, value
        return ask(self.policy, [result.video for result in results], t, logits)

    def _hallucinate(self, attention: Tensor, videos: Positions) -> None:
        hidden, cell = self.hidden.recall(videos), self.cell.recall(videos)
        memory = None if hidden is None or cell is None else (hidden, cell)
        hallucination, (hidden, cell) = self.system.hallucinate(attention, memory)
        self.hallucination.keep(videos, hallucination)
        self.hidden.keep(videos, hidden)
        self.cell.keep(videos, cell)

    def _process(self) -> None:
        """Look at all frames that wait, and classify them in the order of each video."""
        steps, self.waiting = self.waiting, []
        results = [result for step in steps for result in step.results]
        positions = [position for step in steps for position in step.positions]
        device = steps[0].images.device
        frames = zip(positions, results, strict=True)
        audio = [self.clips[at].spectrogram(result.t) for at, result in frames] if self.system.audio else []
        attention = [step.attention for step in steps if step.attention is not None]
        alone = len(steps) == 1
        previous = self.boxes.recall(_positions(positions, self.clips, device)) if alone and self.causal else None
        features, boxes = self.system.look(
            _joined([step.state for step in steps]),
            _joined(attention) if attention else None,
            _joined([step.images for step in steps]),
            self._stack(audio) if audio else None,
            previous,
        )
        for turn in _turns(positions):
            here = _positions(turn, positions, device)
            own, found = features.at(here), None if boxes is None else _at(here, boxes)
            videos = _positions([positions[i] for i in turn], self.clips, device)
            if self.causal and found is not None:
                if not alone:
                    own, found = self._follow(own, found, videos)
                self.boxes.keep(videos, found)
            self._fill_in([results[i] for i in turn], own, found, videos)

    def _follow(self, features: Features, boxes: Tensor, videos: Positions) -> tuple[Features, Tensor]:
        """Crops in the order of those of the full frames before, which were not known when they were cut."""
        previous = self.boxes.recall(videos)
        if previous is None or features.crops is None:
            return features, boxes
        order = follow_boxes(previous, boxes)
        return replace(features, crops=crops_in_order(features.crops, boxes, order)), order

    def _fill_in(self, results: list[FrameResult], features: Features, boxes: Tensor | None, videos: Positions) -> None:
        for position, result in enumerate(results):
            result.features = features.of(position)
            if boxes is not None:
                result.boxes = boxes[position]
        if self.causal:
            logits, memory = self.system.classify(features, self.heads.recall(videos))
            self.heads.keep(videos, memory)
            for position, result in enumerate(results):
                result.logits = tuple(group[position] for group in logits)

    def _stack(self, tensors: list[Tensor]) -> Tensor:
        together = tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)
        return together.to(self.weight.device, self.weight.dtype)
