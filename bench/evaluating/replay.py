"""Running a system on kept features: a grid of systems that share frozen networks runs these once."""

from __future__ import annotations

import torch
from torch import Tensor

from adaptive_models.spatial_sampler import crops_in_order, follow_boxes
from adaptive_models.system import LOW_SIZE, AdaptiveSystem, Features
from adaptive_models.training.cache import ClipFeatures


class FeatureClip:
    """A clip whose "images" are what frozen networks said of its frames, a row of numbers each.

    Args:
        features: of one clip, T frames.
    """

    def __init__(self, features: ClipFeatures) -> None:
        parts = (features.attention, features.image, features.audio, features.crops, features.boxes)
        self._rows = torch.cat([part[0].flatten(1).float() for part in parts if part is not None], dim=1)
        self.frames = len(self._rows)
        self.notes: list[str] = []

    def image(self, t: int) -> Tensor:
        """All that is kept of frame t, as (n,)."""
        return self._rows[t]

    def spectrogram(self, t: int) -> Tensor:
        """Nothing, for what is kept of the sound is in the image."""
        return torch.empty(0)

    log_mel = spectrogram


class Replay(AdaptiveSystem):
    """An adaptive system on `FeatureClip`s: what its frozen networks would say is looked up.

    Decisions and logits are those of the system itself, but for rounding: networks may round otherwise in a batch of
    another size.

    Args:
        system: whose other parts, hallucinator, temporal sampler and classifier, it shares.
        kept_crops: K, crops of which features are kept; not fewer than the system's.
    """

    def __init__(self, system: AdaptiveSystem, kept_crops: int) -> None:
        self.__dict__ = vars(system).copy()  # the same module, but for the two methods below
        width = self.low_rgb.features
        self._attention_shape = self.low_rgb.attention_shape(LOW_SIZE, LOW_SIZE)
        self._kept_crops = kept_crops
        self._sizes = [
            int(torch.Size(self._attention_shape).numel()),
            width,
            width if self.audio else 0,
            kept_crops * width,
            kept_crops * 4,
        ]

    def scan(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Look the attention up; images are rows (N, n) of `FeatureClip`s, and the state too."""
        return images, images[:, : self._sizes[0]].unflatten(1, self._attention_shape)

    def look(
        self,
        state: Tensor,
        attention: Tensor | None,
        images: Tensor,
        spectrograms: Tensor | None,
        previous_boxes: Tensor | None,
    ) -> tuple[Features, Tensor | None]:
        """Look the features up, crops in the order of the previous boxes, if any."""
        _, image, audio, crops, boxes = state.split(self._sizes, dim=1)
        heard = audio if self.audio else None
        if not self.crops:
            return Features(image, heard, None), None
        salient = boxes.unflatten(1, (self._kept_crops, 4))[:, : self.crops].long()
        followed = salient if previous_boxes is None else follow_boxes(previous_boxes, salient)
        own = crops.unflatten(1, (self._kept_crops, -1))[:, : self.crops]
        return Features(image, heard, crops_in_order(own, salient, followed)), followed
