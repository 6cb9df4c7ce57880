"""The data sets that systems are measured on: frames, classes and inputs (paper, section IV; facts in the tables)."""

from __future__ import annotations

from dataclasses import dataclass

from bench.published.tables import FRAMES

IMAGE = (3, 224, 224)
SPECTROGRAM = (1, 256, 256)
FLOW = (10, 224, 224)


@dataclass(frozen=True)
class Workload:
    """What a clip of the data set gives a system.

    Attributes:
        name: the first part of a system's id.
        title: the data set's name.
        frames: frames that are sampled from a clip.
        classes: number of classes in each group of labels.
        audio: whether clips have sound.
        head_layers: layers of the GRU heads of the paper's system on it.
        fusion: width of SAN19-base's fusion layer; None for classifiers right on the features.
        backbone: of the paper's system and of SAN19-base.
        hidden: width of the heads' GRUs.
        sampler_hidden: width of the temporal samplers' GRUs.
        hallucinator_hidden: channels of the hallucinator's memory.
        width: of the other baselines' networks, as a part of the published ones'.
    """

    name: str
    title: str
    frames: int
    classes: tuple[int, ...]
    audio: bool
    head_layers: int
    fusion: int | None
    backbone: str = "san19"
    hidden: int = 1024
    sampler_hidden: int = 1024
    hallucinator_hidden: int = 32
    width: float = 1.0

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Shape of one frame of each modality."""
        return {"rgb": IMAGE, "spectrogram": SPECTROGRAM} if self.audio else {"rgb": IMAGE}


WORKLOADS = {
    "epic": Workload("epic", "EPIC-KITCHENS-55", FRAMES["epic"], (125, 352), audio=True, head_layers=2, fusion=512),
    "ucf101": Workload("ucf101", "UCF-101", FRAMES["ucf101"], (101,), audio=False, head_layers=1, fusion=None),
    # Narrow networks, as they are trained from scratch on a CPU
    "mini": Workload(
        "mini",
        "mini",
        frames=10,
        classes=(8, 9),
        audio=True,
        head_layers=1,
        fusion=64,
        backbone="san-mini",
        hidden=32,
        sampler_hidden=12,
        hallucinator_hidden=16,
        width=0.0625,
    ),
}
