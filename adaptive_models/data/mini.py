"""`mini`: a small data set of actions, rendered on the spot from a seed, with the structure that adaptive systems use.

Actions are a verb and a noun, as in EPIC-KITCHENS, and a clip lasts 8 s at 12 frames per second.

- **The noun** is one of three kinds of object, told by the colour inside a white rim, with one of three surfaces:
  plain, rough all over, or rough in every other cell of 8 pixels, like a chess-board. Rough means a checkerboard of
  single pixels: any 2 x 2 pixels have the mean of a plain surface, so that at 112 pixels, half the size of the image,
  all three are alike; in a crop at full size they differ. So low resolution tells the noun in one case of three.
- **The verb** is what a hand does, which comes into sight for 1.3 to 1.9 s, anywhere in the clip; in the rest
  of the clip the camera shakes by a pixel and the sensor is noisy, and no more. *take*, *put*, *open* and *close* are
  told by what is there before and afterwards, *cut* and *wipe* by what the hand holds, and *ring* and *scrub* by the
  sound alone, which lasts no longer than the hand is there.
- The object of 56 pixels lies anywhere, on backgrounds of soft patches and faint shapes. Training and validation differ
  in the hues and the scale of the backgrounds, in noise and pitches; every clip has colours, contrasts and times of its
  own.

A clip depends on (seed, split, number) alone. Verbs and nouns are balanced in any first few clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from adaptive_models.data.datasets import LabelledClip
from adaptive_models.data.log_mel import log_mel
from adaptive_models.data.mini_scene import FPS, NOUNS, SOURCE_FRAMES, STYLES, VERBS, Scene
from adaptive_models.data.sampling import sampling
from adaptive_models.data.spectrogram import log_spectrogram
from adaptive_models.data.transforms import prepare_frame

CLIPS = {"train": 288, "val": 144}
"""Clips of each split: every pair of a verb and a noun four times, and twice."""


class MiniClip:
    """Frames of a scene, rendered when they are asked for. Usable as a context manager.

    Args:
        scene: what is seen and heard.
        frames: T.
        seed: None for the frames at the centres of T equal segments, else of a random frame in each.

    Attributes:
        frames: T.
        notes: empty: nothing is ever missing.
        indices: source frame of each sampled frame, zero-based.
        times: of each, in seconds from the start.
        source_frames: number of frames of the scene.
        fps: frames per second.
    """

    source_frames, fps = SOURCE_FRAMES, float(FPS)

    def __init__(self, scene: Scene, frames: int, seed: int | None = None) -> None:
        self.scene, self.frames = scene, frames
        self.notes: list[str] = []
        self.indices = sampling(seed)(SOURCE_FRAMES, frames)
        self.times = [index / FPS for index in self.indices]

    def image(self, t: int) -> Tensor:
        """Frame t as the networks see it: (3, 224, 224) float32 (see `prepare_frame`)."""
        return prepare_frame(self.rgb(t))

    def rgb(self, t: int) -> np.ndarray:
        """Frame t as rendered: (256, 256, 3) uint8."""
        return self.scene.picture(self.indices[self._checked(t)])

    def spectrogram(self, t: int) -> Tensor:
        """The sound round frame t: (1, 256, 256) float32."""
        return log_spectrogram(self.scene.sound, self.times[self._checked(t)])

    def log_mel(self, t: int) -> Tensor:
        """The sound round frame t on the mel scale: (1, 80, 128) float32."""
        return log_mel(self.scene.sound, self.times[self._checked(t)])

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> MiniClip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, t: int) -> int:
        if not 0 <= t < self.frames:
            raise IndexError(f"frame {t} of a clip of {self.frames} frames; they count from 0")
        return t


class Mini:
    """The clips of one split of `mini`.

    Args:
        split: "train" or "val".
        limit: use the first `limit` clips only.
        seed: another seed is another data set of the same kind.

    Raises:
        ValueError: an unknown split, or a limit below 1.
    """

    name = "mini"
    classes = (VERBS, NOUNS)
    audio = True

    def __init__(self, split: str, limit: int | None = None, seed: int = 0) -> None:
        if split not in CLIPS:
            raise ValueError(f"unknown split {split!r} of mini: use one of {', '.join(CLIPS)}")
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}: at least 1 clip is needed")
        self.split, self.seed = split, seed
        self.left_out: Mapping[str, str] = {}
        self._scenes: dict[str, Scene] = {}
        count = min(limit or CLIPS[split], CLIPS[split])
        # 8 verbs and 9 nouns have no common divisor: 72 numbers in a row give every pair once.
        self.clips: Sequence[LabelledClip] = [
            LabelledClip(f"{split}-{number:04d}", (number % len(VERBS), number % len(NOUNS))) for number in range(count)
        ]

    def scene(self, clip: LabelledClip) -> Scene:
        """What is seen and heard in a clip; kept, as its background and sound are costly: 1.6 MB."""
        if clip.id not in self._scenes:
            verb, noun = clip.labels
            seed = (self.seed, list(CLIPS).index(self.split), int(clip.id.split("-")[1]))
            self._scenes[clip.id] = Scene(VERBS[verb], NOUNS[noun], STYLES[self.split], seed)
        return self._scenes[clip.id]

    def open(self, clip: LabelledClip, frames: int, seed: int | None = None) -> MiniClip:
        """Open a clip: T = `frames` at the centres of equal segments, or with a seed at random within them."""
        return MiniClip(self.scene(clip), frames, seed)
