"""The step-by-step interface of adaptive systems: what they offer to be run, counted and timed stage by stage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from adaptive_models.data.clips import Clip
from adaptive_models.policies import Policy

if TYPE_CHECKING:
    from adaptive_models.system import ClipResult, FrameResult


class Stepwise(nn.Module):
    """A model that decides, step by step along a video, how much to compute for its frames.

    A step looks at one frame, or at the `window` frames that it decides about together, asks the policy, and computes
    what was chosen and nothing else. What it computes it computes in *stages*, methods of these names: so the harness
    can count and time them, and what is executed for a frame is the sum of the stages that ran for it.

    Two are in this package: the paper's `AdaptiveSystem`, whose step is a frame, and `baselines.selecting`, for systems
    that look at several frames or clips of frames before they choose some (DSN, SMART).

    Attributes:
        stages: in the order in which they run for a frame that is processed fully. "scan", "decide" and "hallucinate"
            run whatever is decided; others, "look" and "classify", where a frame is processed fully.
        parts: what stages consist of, for a profile: methods, as "low_rgb.resume", and what people call what they do.
        depends_on: all attributes, networks and plain values, that decide what a stage computes; where it is given, the
            stage is counted once for all models in which these are built alike.
        window: frames that a step decides about; what a stage costs in a step is spread evenly over them.
    """

    stages: ClassVar[tuple[str, ...]]
    parts: ClassVar[Mapping[str, str]] = {}
    depends_on: ClassVar[Mapping[str, Sequence[str]]] = {}
    window: int = 1

    @property
    def networks(self) -> Sequence[str]:
        """What may be compiled: the methods, as "low_rgb.resume", that compute without deciding.

        They take and return tensors, and what is the same at every call, and none of them calls another.
        """
        return ()

    @abstractmethod
    def trace(self, call: Callable[..., Any], inputs: Mapping[str, Tensor]) -> None:
        """Go once through all stages, as in a step in which every frame is processed fully.

        It needs no values, so that it can be counted on the meta device.

        Args:
            call: runs a stage, as in call("scan", images), and returns what it returns.
            inputs: of a step, with batch 1.
        """

    @abstractmethod
    def stream(self, clip: Clip, policy: Policy | None = None, video: int = 0) -> Iterator[FrameResult]:
        """Run one video, and yield a result for each frame in order; frames that are skipped are not asked of the clip.

        All that a step does is done when the first of its results comes.

        Args:
            clip: the video.
            policy: who decides; every frame is full if not given.
            video: number under which the policy knows the video.

        Raises:
            ValueError: a choice that there is not, or a clip of a length that cannot be run.
        """

    @abstractmethod
    def run(self, clips: Sequence[Clip], policy: Policy | None = None, *, first_video: int = 0) -> list[ClipResult]:
        """Run several videos of equally many frames at once; at each stage only those that need it go through.

        Args:
            clips: the videos.
            policy: who decides; every frame is full if not given.
            first_video: number under which the policy knows the first of the clips; the others follow.

        Raises:
            ValueError: as `stream`, or clips of different lengths.
        """


def ask(policy: Policy, videos: Sequence[int], t: int, logits: Tensor) -> list[int]:
    """What a policy chooses for several videos (see `Policy.choose`), checked.

    Raises:
        ValueError: not a choice for each video, or one that there is not.
    """
    choices: Any = policy.choose(videos, t, logits)
    chosen = list(choices) if isinstance(choices, Iterable) else []
    options = range(logits.shape[1])
    if len(chosen) != len(videos) or not all(choice in options for choice in chosen):
        raise ValueError(
            f"policy {type(policy).__name__} chose {choices} at frame {t} for {len(videos)} videos:"
            f" it must choose from 0 to {options[-1]} for each"
        )
    return [int(choice) for choice in chosen]
