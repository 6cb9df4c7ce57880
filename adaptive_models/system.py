"""The adaptive system: pre-scan, decide, and look closely only where and when it matters (paper, Figs. 1, 7, 10).

Skipping is executed: a frame that is skipped is not even asked for, and of a frame that is only pre-scanned nothing after
the first half of the network runs. Videos run one by one (`stream`) or batched (`run`), through the same code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_models.classifier import ThreeHeads
from adaptive_models.data.clips import Clip
from adaptive_models.hallucinator import Hallucinator
from adaptive_models.policies import AlwaysFull, Policy
from adaptive_models.san import SAN, build_backbone
from adaptive_models.spatial_sampler import crop_boxes, follow_boxes, order_boxes_along_video, salient_boxes
from adaptive_models.ssim import ssim
from adaptive_models.temporal_sampler import TemporalSampler

HIGH_SIZE, LOW_SIZE, CROP_SIZE, SPECTROGRAM_SIZE = 224, 112, 64, 256

Decision = Literal["full", "prescan", "skip"]
BoxOrder = Literal["causal", "published"]


@dataclass
class Features:
    """Of the frames that are processed fully: (N, F) each, and (N, k, F) of the crops."""

    image: Tensor
    audio: Tensor | None
    crops: Tensor | None


@dataclass
class FrameResult:
    """What happened to one frame of one video.

    Attributes:
        video: position of the video in the run.
        t: index of the frame.
        decision: "full", "prescan" or "skip".
        attention: (C, h, w), unless skipped.
        hallucination: (C, h, w) that was made for this frame before it was seen, if one was.
        similarity: SSIM of the two, if the temporal sampler was asked.
        boxes: (k, 4) of the crops, if full.
        features: of this frame alone, if full.
        logits: for each group of classes, if full.
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


@dataclass
class ClipResult:
    """The outcome of one video: logits of each group of classes, averaged over its full frames, and all its frames."""

    logits: tuple[Tensor, ...]
    frames: list[FrameResult] = field(default_factory=list)

    @property
    def decisions(self) -> list[Decision]:
        """What happened to each frame."""
        return [frame.decision for frame in self.frames]


@dataclass
class Memory:
    """What the system remembers of each of N videos between frames."""

    sampler: Tensor | None = None  # (layers, N, hidden)
    hallucination: Tensor | None = None  # (N, C, h, w), of the next frame
    hallucinator: tuple[Tensor, Tensor] | None = None  # (N, C, h, w) each
    boxes: Tensor | None = None  # (N, k, 4), of the last full frame
    heads: Tensor | None = None  # (heads, layers, N, hidden)


class AdaptiveSystem(nn.Module):
    """S_k, or (S_k, T_M) with a temporal sampler.

    The low-resolution frame, the crops and the spectrogram have networks of their own, as they are trained for their sizes.

    Args:
        crops: k, high-resolution crops of a full frame; 0 for none.
        max_skip: M of the temporal sampler, or None for a system that processes every frame fully.
        classes: number of classes in each group, e.g. (125, 352) for verbs and nouns.
        audio: whether there are spectrograms.
        head_layers: layers of the GRU heads: 2 for `epic`, 1 for `ucf101`.
        backbone: name for `build_backbone`.
    """

    def __init__(
        self,
        crops: int,
        max_skip: int | None,
        classes: tuple[int, ...],
        audio: bool,
        head_layers: int,
        backbone: str = "san19",
    ) -> None:
        super().__init__()
        if crops < 0:
            raise ValueError(f"the number of crops k must be 0 or more, got {crops}")
        self.crops, self.max_skip, self.classes, self.audio = crops, max_skip, classes, audio
        self.low_rgb = build_backbone(backbone)
        self.high_rgb: SAN | None = build_backbone(backbone) if crops else None
        self.spectrogram: SAN | None = build_backbone(backbone, channels=1) if audio else None
        self.hallucinator: Hallucinator | None = None
        self.temporal_sampler: TemporalSampler | None = None
        if max_skip is not None:
            self.hallucinator = Hallucinator()
            self.temporal_sampler = TemporalSampler(max_skip)
        width = self.low_rgb.features
        self.classifier = ThreeHeads(width, width if audio else 0, width, crops, classes, layers=head_layers)

    # --- stages of a frame, on a batch of videos ---

    def scan(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Look at frames (N, 3, 224, 224) at low resolution, through the first half of the network.

        Returns:
            The state from which the second half goes on, and the attention (N, 32, 7, 7); without a sampler to use
            it, there is no attention, and the state is the low-resolution image.
        """
        low = F.interpolate(images, size=(LOW_SIZE, LOW_SIZE), mode="bilinear", align_corners=False)
        if not self.crops and self.temporal_sampler is None:
            return low, None
        return self.low_rgb.prescan(low)

    def decide(self, attention: Tensor, hallucination: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Compare attention and hallucination, both (N, 32, 7, 7), and score the choices.

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
        """Predict the attention of the next frame from this one's (N, 32, 7, 7), and remember."""
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
        boxes = salient_boxes(attention, self.crops, HIGH_SIZE, CROP_SIZE)
        if previous_boxes is not None:
            boxes = follow_boxes(previous_boxes, boxes)
        crops = self.high_rgb(crop_boxes(images, boxes, CROP_SIZE).flatten(0, 1)).unflatten(0, (-1, self.crops))
        return Features(image, audio, crops), boxes

    def classify(self, features: Features, memory: Tensor | None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Logits (N, classes) of each group, averaged over the heads, and the heads' memory."""
        return self.classifier(features.image, features.audio, features.crops, memory)

    # --- videos ---

    @torch.inference_mode()
    def stream(self, clip: Clip, policy: Policy | None = None) -> Iterator[FrameResult]:
        """Run one video frame by frame, as it would arrive; frames that are skipped are not asked of the clip."""
        for results in self._steps([clip], policy or AlwaysFull()):
            yield results[0]

    @torch.inference_mode()
    def run(
        self, clips: Sequence[Clip], policy: Policy | None = None, box_order: BoxOrder = "causal"
    ) -> list[ClipResult]:
        """Run several videos at once; at each step only those that need a stage go through it.

        Args:
            clips: videos of equally many frames.
            policy: who decides; every frame is full if not given.
            box_order: how crops keep to their slots along a video: "causal", by the frame before, or "published", by
                the shortest paths over the whole video, which needs all its frames.

        Raises:
            ValueError: clips of different lengths, an unknown order, or a choice that T_M does not have.
        """
        if box_order not in ("causal", "published"):
            raise ValueError(f"unknown order of boxes {box_order!r}: use 'causal' or 'published'")
        frames: list[list[FrameResult]] = [[] for _ in clips]
        for results in self._steps(clips, policy or AlwaysFull()):
            for result in results:
                frames[result.video].append(result)
        if box_order == "published" and self.crops:
            for video in frames:
                self._reorder([frame for frame in video if frame.decision == "full"])
        return [ClipResult(mean_logits(video), video) for video in frames]

    def _steps(self, clips: Sequence[Clip], policy: Policy) -> Iterator[list[FrameResult]]:
        lengths = {clip.frames for clip in clips}
        if len(lengths) != 1:
            raise ValueError(f"videos of one run must have equally many frames, got {sorted(lengths)}")
        memory = Memory()
        waiting = [0] * len(clips)
        for t in range(lengths.pop()):
            looking = [video for video, frames in enumerate(waiting) if frames == 0]
            results = self._step(clips, looking, t, policy, memory, waiting) if looking else {}
            for video in set(range(len(clips))) - set(looking):
                waiting[video] -= 1
            yield [results.get(video) or FrameResult(video, t, "skip") for video in range(len(clips))]

    def _step(
        self,
        clips: Sequence[Clip],
        looking: list[int],
        t: int,
        policy: Policy,
        memory: Memory,
        waiting: list[int],
    ) -> dict[int, FrameResult]:
        """Look at frame t of the videos `looking`; writes to `memory`, and to `waiting` how many frames each skips."""
        images = self._stack([clips[video].image(t) for video in looking])
        videos = torch.tensor(looking, device=images.device)
        state, attention = self.scan(images)
        results = {video: FrameResult(video, t, "full") for video in looking}
        choices = [0] * len(looking)
        if self.temporal_sampler is not None:
            assert attention is not None
            if t > 0:
                choices = self._ask(policy, looking, videos, t, attention, memory, results)
            self._expect(videos, attention, memory)
        for position, (video, choice) in enumerate(zip(looking, choices, strict=True)):
            result = results[video]
            result.attention = None if attention is None else attention[position]
            if choice:
                result.decision = "prescan"
                waiting[video] = choice - 1
        full = [position for position, choice in enumerate(choices) if choice == 0]
        if full:
            chosen = torch.tensor(full, device=images.device)
            self._process(
                [results[looking[position]] for position in full],
                [clips[looking[position]] for position in full],
                state.index_select(0, chosen),
                None if attention is None else attention.index_select(0, chosen),
                images.index_select(0, chosen),
                videos.index_select(0, chosen),
                memory,
            )
        return results

    def _ask(
        self,
        policy: Policy,
        looking: list[int],
        videos: Tensor,
        t: int,
        attention: Tensor,
        memory: Memory,
        results: dict[int, FrameResult],
    ) -> list[int]:
        assert self.temporal_sampler is not None
        assert memory.hallucination is not None
        hallucination = memory.hallucination.index_select(0, videos)
        if memory.sampler is None:
            rnn = self.temporal_sampler.rnn
            memory.sampler = attention.new_zeros(rnn.num_layers, len(memory.hallucination), rnn.hidden_size)
        logits, sampler, similarity = self.decide(attention, hallucination, memory.sampler.index_select(1, videos))
        memory.sampler.index_copy_(1, videos, sampler)
        for position, video in enumerate(looking):
            results[video].hallucination = hallucination[position]
            results[video].similarity = float(similarity[position])
        choices = list(policy.choose(looking, t, logits))
        if len(choices) != len(looking) or not all(choice in range(logits.shape[1]) for choice in choices):
            raise ValueError(
                f"policy {type(policy).__name__} chose {choices} at frame {t} for {len(looking)} videos:"
                f" it must choose from 0 to {logits.shape[1] - 1} for each"
            )
        return choices

    def _expect(self, videos: Tensor, attention: Tensor, memory: Memory) -> None:
        if memory.hallucinator is None:  # the first frame, which is looked at in every video
            memory.hallucination, memory.hallucinator = self.hallucinate(attention, None)
            return
        assert memory.hallucination is not None
        before = (
            memory.hallucinator[0].index_select(0, videos),
            memory.hallucinator[1].index_select(0, videos),
        )
        hallucination, after = self.hallucinate(attention, before)
        memory.hallucination.index_copy_(0, videos, hallucination)
        for stored, new in zip(memory.hallucinator, after, strict=True):
            stored.index_copy_(0, videos, new)

    def _process(
        self,
        results: list[FrameResult],
        clips: list[Clip],
        state: Tensor,
        attention: Tensor | None,
        images: Tensor,
        videos: Tensor,
        memory: Memory,
    ) -> None:
        t = results[0].t
        spectrograms = self._stack([clip.spectrogram(t) for clip in clips]) if self.audio else None
        previous_boxes = None if memory.boxes is None else memory.boxes.index_select(0, videos)
        features, boxes = self.look(state, attention, images, spectrograms, previous_boxes)
        if memory.heads is None:  # the first frame, which is full in every video
            logits, memory.heads = self.classify(features, None)
            memory.boxes = boxes
        else:
            logits, heads = self.classify(features, memory.heads.index_select(2, videos))
            memory.heads.index_copy_(2, videos, heads)
            if memory.boxes is not None and boxes is not None:
                memory.boxes.index_copy_(0, videos, boxes)
        for position, result in enumerate(results):
            result.boxes = None if boxes is None else boxes[position]
            result.features = _of_one(features, position)
            result.logits = tuple(group[position] for group in logits)

    def _reorder(self, full: list[FrameResult]) -> None:
        """Put a video's crops in the published order, and classify its full frames anew."""
        boxes = torch.stack([frame.boxes for frame in full if frame.boxes is not None])
        ordered = order_boxes_along_video(boxes)
        heads = None
        for frame, before, after in zip(full, boxes, ordered, strict=True):
            assert frame.features is not None
            assert frame.features.crops is not None
            # Boxes that are equal have equal crops, so that any of them will do.
            slots = (after[:, None] == before[None]).all(dim=2).int().argmax(dim=1)
            frame.boxes = after
            frame.features.crops = frame.features.crops[:, slots]
            logits, heads = self.classify(frame.features, heads)
            frame.logits = tuple(group[0] for group in logits)

    def _stack(self, tensors: list[Tensor]) -> Tensor:
        parameter = self.low_rgb.conv_in.weight
        return torch.stack(tensors).to(parameter.device, parameter.dtype)


def mean_logits(frames: Sequence[FrameResult]) -> tuple[Tensor, ...]:
    """The prediction of a video: for each group of classes, the mean of the logits of its full frames."""
    of_full_frames = [frame.logits for frame in frames if frame.logits is not None]
    return tuple(torch.stack(group).mean(dim=0) for group in zip(*of_full_frames, strict=True))


def _of_one(features: Features, position: int) -> Features:
    def one(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[position : position + 1]

    return Features(features.image[position : position + 1], one(features.audio), one(features.crops))
