"""A data set in memory whose clips count what is asked of them; at the top of a module, so that it can be pickled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adaptive_models.data.datasets import LabelledClip
from adaptive_models.data.media import ClipError

ASKED: Counter[tuple[str, str, int]] = Counter()
"""How often clip (by id) was asked for its image or spectrogram of frame t."""


class TinyClip:
    def __init__(self, clip: LabelledClip, number: int, frames: int, trouble: str) -> None:
        self.id, self.frames, self.trouble = clip.id, frames, trouble
        self.notes = ["silence stands for the sound"] if trouble == "silent" else []
        generator = torch.Generator().manual_seed(number)
        self.images = 60 * torch.randn(frames, 3, 7, 7, generator=generator)
        self.spectrograms = torch.randn(frames, 1, 8, 8, generator=generator)

    def image(self, t: int) -> Tensor:
        ASKED[self.id, "image", t] += 1
        if self.trouble == "damaged" and t > 0:
            raise ClipError(f"{self.id}.avi: frame {t} is damaged")
        return self.images[t].repeat_interleave(32, 1).repeat_interleave(32, 2)

    def spectrogram(self, t: int) -> Tensor:
        ASKED[self.id, "spectrogram", t] += 1
        return self.spectrograms[t].repeat_interleave(32, 1).repeat_interleave(32, 2)

    def log_mel(self, t: int) -> Tensor:
        raise AssertionError("no system of these tests takes it")

    def __enter__(self) -> TinyClip:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class TinySet:
    """Clips of coloured squares; `trouble` says which of them are "missing", "damaged" or "silent"."""

    name, split, audio = "tiny", "val", True
    classes = (("cut", "put", "take", "wash", "open"), ("cup", "pan", "lid"))

    def __init__(self, clips: int, trouble: Mapping[int, str] | None = None) -> None:
        self.trouble = dict(trouble or {})
        self.left_out: Mapping[str, str] = {"clip-x": "clip-x.avi: no such file"} if trouble else {}
        self.clips: Sequence[LabelledClip] = [LabelledClip(f"clip-{i}", (i % 5, i % 3)) for i in range(clips)]

    def open(self, clip: LabelledClip, frames: int, seed: int | None = None) -> TinyClip:
        number = int(clip.id.split("-")[1])
        if self.trouble.get(number) == "missing":
            raise ClipError(f"{clip.id}.avi: is empty")
        return TinyClip(clip, number, frames, self.trouble.get(number, ""))
