"""The pictures and the sound of one clip of `mini`: an object, a hand that comes and goes, and what is heard of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.signal import butter, sosfilt

from adaptive_models.data.spectrogram import SAMPLE_RATE

SIZE = 256
"""Side of a picture in pixels: what `prepare_frame` resizes to, so that it only crops."""
FPS = 12
SOURCE_FRAMES = 96
SECONDS = SOURCE_FRAMES / FPS

VERBS = ("take", "put", "open", "close", "cut", "wipe", "ring", "scrub")
OBJECTS = {"pot": 0.94, "bowl": 0.36, "cup": 0.62}
"""What tells the objects apart at any resolution: their hue."""
CELL, CELLS = 8, 6
_ROWS, _COLUMNS = np.mgrid[:CELLS, :CELLS]
TEXTURES: Mapping[str, np.ndarray] = {
    "plain": np.zeros((CELLS, CELLS), int),
    "chequered": np.where((_ROWS + _COLUMNS) % 2, 0, (-1) ** _ROWS),
    "rough": np.ones((CELLS, CELLS), int),
}
"""Which cells of the surface are rough; all else is smooth and of the same mean. The sign is that of a rough cell's
first pixel: where two cells touch at a corner they must be opposite, for any 2 x 2 pixels to keep the mean."""
NOUNS = tuple(f"{name}:{texture}" for name in OBJECTS for texture in TEXTURES)

RIM = 4
OBJECT_SIZE = CELL * CELLS + 2 * RIM
LID_HEIGHT = 16
EVENT_SECONDS = (1.3, 1.9)
EVENT_CENTRES = (0.12, 0.88)
"""Shares of the clip between which the middle of the event lies."""
OBJECT_CENTRES = (50, 206)
"""Pixels between which the object's centre lies, both ways: inside the centre crop of 224."""
SHAKE = 1
"""Pixels by which the camera shakes, each way."""
_CANVAS = SIZE + 2 * SHAKE
_GRID = np.mgrid[:_CANVAS, :_CANVAS].astype(np.float32) - SHAKE

_CHECKERBOARD = np.where(np.indices((CELL * CELLS, CELL * CELLS)).sum(axis=0) % 2, -1, 1)
_SHADING = np.linspace(10, -10, CELL * CELLS, dtype=np.float32)[:, None, None]
_REACH_OF_HAND, _HAND_WIDTH, _OUT_OF_SIGHT = 30, 13, 290
_HAND, _KNIFE, _CLOTH = (222, 178, 148), (220, 60, 220), (60, 205, 205)
_WHITE = 240
_LID_CLOSED, _LID_OPENED = (235, 200, 60), (22, 22, 26)


@dataclass(frozen=True)
class Style:
    """What the scenes of one split have in common and those of the other have not.

    Attributes:
        hues: between which the hue of the background lies, of 1.
        waves: cosines that the background is made of, each way.
        noise: standard deviation of the sensor's noise in grey levels.
        tones: between which the pitch of a ring lies, in hertz.
    """

    hues: tuple[float, float]
    waves: int
    noise: float
    tones: tuple[float, float]


STYLES = {
    "train": Style(hues=(0.05, 0.55), waves=8, noise=2.0, tones=(700, 2400)),
    "val": Style(hues=(0.55, 1.05), waves=11, noise=2.3, tones=(800, 2800)),
}


class Scene:
    """One clip: pictures and sound that follow from a verb, a noun and a seed, made when asked for.

    Args:
        verb: one of `VERBS`.
        noun: one of `NOUNS`.
        style: of the split.
        seed: numbers that name the clip; all that is random follows from them.

    Attributes:
        begin: time at which the hand comes into sight, in seconds.
        end: time at which it is gone.
        centre: row and column of the object's centre, in pixels.
    """

    def __init__(self, verb: str, noun: str, style: Style, seed: tuple[int, ...]) -> None:
        self.verb, self.style, self._seed = verb, style, seed
        self._object, self._texture = noun.split(":")
        random = np.random.default_rng((*seed, 0))
        duration = random.uniform(*EVENT_SECONDS)
        self.begin = SECONDS * random.uniform(*EVENT_CENTRES) - duration / 2
        self.end = self.begin + duration
        self.centre = random.integers(*OBJECT_CENTRES, size=2)
        angle = random.uniform(0, 2 * math.pi)
        self._towards_hand = np.array([math.sin(angle), math.cos(angle)])

    # --- pictures ---

    def picture(self, index: int) -> np.ndarray:
        """Source frame `index`, (256, 256, 3) uint8 RGB."""
        random = np.random.default_rng((*self._seed, 1, index))
        canvas = self._background.copy()
        progress = (index / FPS - self.begin) / (self.end - self.begin)
        reach = float(np.clip(min(progress, 1 - progress) / 0.3, 0, 1))
        away = (1 - reach) * _OUT_OF_SIGHT * self._towards_hand
        carried = {"take": progress, "put": 1 - progress}.get(self.verb, 0)
        if carried < 1:
            self._draw_object(canvas, away if carried > 0.5 else 0 * away, progress)
        if 0 < progress < 1:
            self._draw_hand(canvas, away)
        top, left = random.integers(0, 2 * SHAKE + 1, size=2)
        seen = canvas[top : top + SIZE, left : left + SIZE]
        seen += self.style.noise * random.standard_normal((SIZE, SIZE, 1), dtype=np.float32)
        return seen.round().clip(0, 255).astype(np.uint8)

    @cached_property
    def _background(self) -> np.ndarray:
        """(258, 258, 3) float32: soft patches of one dull colour, and a few shapes hardly different from it."""
        random = np.random.default_rng((*self._seed, 2))
        hue = random.uniform(*self.style.hues) % 1
        colour = 255 * np.array(hsv_to_rgb(hue, random.uniform(0.02, 0.14), random.uniform(0.4, 0.6)))
        waves = np.arange(self.style.waves)
        cosines = np.cos(np.pi * waves * np.linspace(0, 1, _CANVAS)[:, None])
        scale = np.where(np.add.outer(waves, waves) > 0, 14 / self.style.waves, 0)[..., None]
        grey_field, colour_field = (random.normal(size=(len(waves), len(waves), channels)) for channels in (1, 3))
        field = scale * (grey_field + 0.3 * colour_field)
        picture = (colour + np.einsum("yi,ijc,xj->yxc", cosines, field, cosines, optimize=True)).astype(np.float32)
        for _ in range(3):
            centre, radii = random.uniform(0, SIZE, size=2), random.uniform(20, 60, size=2)
            rows, columns = (_GRID - centre[:, None, None]) / radii[:, None, None]
            inside = np.clip((1 - np.hypot(rows, columns)) * 8, 0, 1)[..., None].astype(np.float32)
            picture += inside * (random.normal(scale=9) + random.normal(scale=3, size=3)).astype(np.float32)
        return picture

    @cached_property
    def _surface(self) -> np.ndarray:
        """(56, 56, 3) float32: the object's colour, shaded, its texture, and a white rim."""
        random = np.random.default_rng((*self._seed, 3))
        hue = OBJECTS[self._object] + random.uniform(-0.03, 0.03)
        colour = 255 * np.array(hsv_to_rgb(hue % 1, random.uniform(0.6, 0.75), random.uniform(0.62, 0.78)))
        roughness = TEXTURES[self._texture].repeat(CELL, axis=0).repeat(CELL, axis=1)
        contrast = random.uniform(24, 32)
        surface = (colour + _SHADING + (contrast * roughness * _CHECKERBOARD)[..., None]).astype(np.float32)
        return np.pad(surface, ((RIM, RIM), (RIM, RIM), (0, 0)), constant_values=_WHITE)

    def _draw_object(self, canvas: np.ndarray, shift: np.ndarray, progress: float) -> None:
        top, left = np.round(self.centre + shift).astype(int) - OBJECT_SIZE // 2 + SHAKE
        bottom, right = top + OBJECT_SIZE, left + OBJECT_SIZE
        surface = self._surface.copy()
        if self.verb in ("open", "close"):
            opened = (progress > 0.5) == (self.verb == "open")
            surface[RIM : RIM + LID_HEIGHT, RIM:-RIM] = _LID_OPENED if opened else _LID_CLOSED
        inside = canvas[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        height, width = inside.shape[:2]
        inside[:] = surface[max(-top, 0) :, max(-left, 0) :][:height, :width]

    def _draw_hand(self, canvas: np.ndarray, away: np.ndarray) -> None:
        tip = self.centre + away + _REACH_OF_HAND * self._towards_hand
        if self.verb == "cut":
            self._draw_bar(canvas, tip, -30, 40, 6, _KNIFE)
        self._draw_bar(canvas, tip, 8, _OUT_OF_SIGHT, _HAND_WIDTH, _HAND)
        if self.verb == "wipe":
            self._draw_bar(canvas, tip, 0, 1, 18, _CLOTH)

    def _draw_bar(
        self, canvas: np.ndarray, tip: np.ndarray, start: float, end: float, width: float, colour: tuple[int, int, int]
    ) -> None:
        """Draw a bar with round ends from `start` to `end` pixels behind the tip of the hand."""
        rows, columns = _GRID - tip.astype(np.float32)[:, None, None]
        down, across = self._towards_hand.astype(np.float32)
        along = rows * down + columns * across
        beside = columns * down - rows * across
        distance = np.hypot(along - along.clip(start, end), beside)
        inside = (width - distance).clip(0, 1)[..., None]
        canvas += inside * (np.array(colour, np.float32) - canvas)

    # --- sound ---

    @cached_property
    def sound(self) -> np.ndarray:
        """(S,) float32 in [-1, 1] at `SAMPLE_RATE`: a quiet room, and while the hand is there a ring or a scrub."""
        random = np.random.default_rng((*self._seed, 4))
        time = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
        noise = random.standard_normal(len(time), dtype=np.float32)
        hum = random.uniform(0.001, 0.004) * np.sin(2 * np.pi * random.uniform(50, 200) * time)
        sound = random.uniform(0.002, 0.006) * noise + hum
        touching = np.clip(np.minimum(time - self.begin, self.end - time) / 0.15 - 1, 0, 1)
        if self.verb == "ring":
            pitch = random.uniform(*self.style.tones)
            sound += touching * sum(0.1 / n * np.sin(2 * np.pi * n * pitch * time) for n in (1, 2, 3))
        if self.verb == "scrub":
            band = butter(
                2, (random.uniform(800, 1500), random.uniform(4000, 7000)), "bandpass", fs=SAMPLE_RATE, output="sos"
            )
            strokes = 0.6 + 0.4 * np.sin(2 * np.pi * random.uniform(3, 6) * time)
            sound += 0.15 * touching * strokes * sosfilt(band, noise)
        return sound.clip(-1, 1).astype(np.float32)
