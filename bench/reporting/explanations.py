"""What the reproduced tables must say about their columns: conventions, accountings and sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bench.measuring.metrics import SAME_PACE, calibration_seconds
from bench.records.evaluation import Evaluation
from bench.records.measurement import Record
from bench.reporting.measured import setup_of
from bench.systems.registry import spatial_sampler

TITLES = {
    1: "Baselines and spatial samplers on EPIC-KITCHENS",
    2: "Spatial and temporal samplers on EPIC-KITCHENS",
    3: "Accuracy and speed-up of spatial and temporal samplers on EPIC-KITCHENS",
    4: "Baselines and spatial samplers on UCF-101",
    5: "Spatial and temporal samplers on UCF-101",
}

_CONVENTIONS = (
    "GFLOPs counted and as described are in the paper convention, as are those that the authors measured:"
    " multiply-accumulates and biases of convolutions and GRUs (and 7 per unit of these), multiply-accumulates of"
    " linear layers (1 in all where they see a single step of a sequence), 2 per element of normalisation, 1 per"
    " element of ReLU and pooling, and nothing else. Exact GFLOPs are of the system as described, with everything that"
    " it does, 2 per multiply-accumulate."
)
_ACCURACIES = (
    "Accuracies are published; none is measured here. The trade-off is recomputed from GFLOPs counted and top-1"
    " published."
)
_SPATIAL = (
    _CONVENTIONS,
    "Counted: in the accounting of the published tables. For S_k these are the networks, crop by crop, and the GRUs"
    " of its heads (three with crops, one without); its classifier layers, hallucinator and temporal sampler count"
    " nowhere. Baselines are counted whole. What a call of SlowFast and AVSlowFast costs is divided by the 8 frames of"
    " the Slow pathway, as published (the Fast one sees 32), what one of Res3D costs by nothing, as published.",
    "As described: all that S_k executes, that is, with its classifier layers, and with the crops in one batch, which"
    " has the positions of the attention once instead of once for each crop. Res3D is divided by its 8 frames here, and"
    " in the exact GFLOPs and the MACs; DSN and SMART by the 16 of a video, of which they process some fully, where the"
    " counted figure is of one clip or frame that is kept.",
    _ACCURACIES,
    "Reproduced: whether the count rounds to the published digits.",
)
_TEMPORAL = (
    _CONVENTIONS,
    "Counted: shares of frames times the GFLOPs of a frame that is only pre-scanned and of a full one, in the"
    " accounting of the published code. There the first half of SAN19 ends at layer3.0 in the order in which modules"
    " are registered, so that it has the normalisation that runs after that stage, and not the shared ReLU and"
    " max-pool, which run all along; with crops, a single GRU on all features stands for the three heads; classifier"
    " layers count nowhere.",
    "As described: the first half in the order in which it runs, three heads, classifier layers, the crops in one"
    " batch. Either way the first frame is charged for the temporal sampler, which is not asked there.",
)
NOTES = {
    1: _SPATIAL,
    2: (
        *_TEMPORAL,
        "Shares of frames are those published in this table; the total is the average times 2398 clips times 10"
        " frames. S_0 is as in Table I.",
        _ACCURACIES,
        "Speed-up recomputed: the same S_k in Table I, counted, over the average, counted. Those published for S_1 to"
        " S_3 fit the spatial sampler with one crop less instead (audit).",
        "Reproduced: whether the average is within 0.01 GFLOPs and the total within 0.02 TFLOPs; only the average is"
        " asked where the published total contradicts the published average.",
    ),
    3: (
        "Derived from Table II: top-1 (%) and speed-up as published there, and the speed-up recomputed from counts,"
        " of the same S_k in Table I over the average in Table II.",
    ),
    4: _SPATIAL,
    5: (
        *_TEMPORAL,
        "Shares of frames are not published for UCF-101. Those of T_1 are implied by the published total, so that"
        " count and publication agree by construction (circular). Other T_M take those of the same S_k,T_M in Table"
        " II, which are of EPIC-KITCHENS. The total is the average times 3783 clips times 16 frames.",
        _ACCURACIES,
        "Speed-up recomputed: the same S_k in Table IV, counted, over the average, counted.",
    ),
}
"""By number of the table."""

QUOTED_FIGURES = {
    "epic/slowfast-r101-8x8": (
        "published: 106 GMACs of a clip at 256 pixels, over 8 frames; counted: 106.51 GMACs, and 0.77 GFLOPs of"
        " normalisation, activations and pooling; at 224 pixels, the printed size, 81.55 GMACs"
    ),
    "epic/avslowfast-r101-8x8": (
        "published: 129 GMACs of a clip at 256 pixels, over 8 frames; counted: 112.88 GMACs, SlowFast as in its row and"
        " an audio pathway as deep; most likely 129 has temporal kernels in all 23 blocks of res4 (SlowFast alone:"
        " 125.91) and an audio pathway of ResNet-50's depth, together 129.24"
    ),
    "ucf101/res3d-18": (
        "published: of a whole clip, 8 frames at 112 pixels, not of a frame; counted: 20.45 GMACs (20.35 without the"
        " projection in res2a, 20.30 without any); why 19.3 is unclear"
    ),
    "ucf101/dsn": (
        "published: most likely one clip of 8 frames at 112 pixels in a 3D ResNet-18 alone (20.35 GMACs), without the"
        " observation network and not divided; counted: that clip and two that are observed, the middle frame of each"
        " in a ResNet-18 (0.48 GMACs); how many clips are observed, and how closely, is unclear, and assumed here"
    ),
    "ucf101/smart": (
        "published: most likely one frame in ResNet-152 and eight in MobileNetV2, not divided (11.56 + 8 x 0.32);"
        " counted: the same (11.58 and 0.32 each), and 0.03 of the selectors, whose widths are assumed; that one frame"
        " of eight is kept is inferred from the published figure"
    ),
}
"""What the figures are that the paper quotes, and why ours differ; GMACs are those of a call."""

TIMES = (
    "Measured: random weights unless trained ones come with the system, frames of one clip after another, at the"
    " operating point of the policy, of which published is that of the paper's tables. ms per frame is the mean over"
    " frames: the medians of skipped, pre-scanned and full ones, weighed by their shares, with the 95 %"
    " block-bootstrap interval. Decoding is not in it. Frames and clips per second follow from it."
)
BATCHES = "In batches, ms per frame is the time of all batches over the frames in them."
MEMORY = (
    "Peak MB: 1e6 bytes by which the resident memory of a fresh process grows until its first full frames are done; on"
    " a GPU, allocated by torch."
)
SPEED_UPS = (
    "Speed-ups are over the same S_k, with every frame full: counted, by the operations executed (exact convention);"
    " measured, by time, of frames that ran in turns in one process, so that changes of the machine's pace drop out."
    " Realised: measured over counted, 1 where all the saved arithmetic became saved time."
)
IDLE = "Where a counter tells what the idle machine uses, that is in it for the whole hour; else it is left out."


def explain_accuracy(evaluations: Sequence[Evaluation]) -> list[str]:
    """How accuracies that stand in a table were had, from systems' own evaluations; nothing without any."""
    if not evaluations:
        return []
    clips = " or ".join(map(str, sorted({len(each.clips) for each in evaluations})))
    numbers = " or ".join(map(str, sorted({*Counter(each.system for each in evaluations).values()})))
    return [
        f"Accuracy, measured: on {clips} held-out clips of {evaluations[0].data} with trained weights, {numbers}"
        f" seed{'' if numbers == '1' else 's'}; ± is the standard deviation between seeds. Each system decides for"
        " itself: T_M by its temporal sampler, greedily; S_k and baselines process every frame fully."
    ]


def explain_measured(points: Mapping[str, Sequence[Record]]) -> list[str]:
    """What a table must say about its measured columns, made of records by the name of their setup."""
    temporal = any(spatial_sampler(record.case.system) for records in points.values() for record in records)
    common = [TIMES, *([SPEED_UPS] if temporal else []), MEMORY]
    return [*common, *(note for name, records in points.items() for note in _explain_setup(name, records))]


def explain_pace(records: Sequence[Record]) -> list[str]:
    """How far the machine's own pace differed between the measurements of a setup's records, if it is known to."""
    medians = [seconds for record in records if (seconds := calibration_seconds(record))]
    if not medians or max(medians) < (1 + SAME_PACE) * min(medians):
        return []
    low, high = min(medians) * 1e3, max(medians) * 1e3
    return [
        f"The machine's own pace changed: a calibration workload took from {low:.3g} to {high:.3g} ms (medians while"
        " each case was timed). Differences of that size, or somewhat more, between absolute times of systems say"
        " nothing. Speed-ups are of frames side by side, and not touched."
    ]


def explain_energy(name: str, records: Sequence[Record]) -> list[str]:
    """How the energy of a setup's records was had, or why there is none."""
    energies = {(record.energy.label, record.energy.how): None for record in records if record.energy}
    return [f"Energy on {name}, {label}: {how}." for label, how in energies]


def _explain_setup(name: str, records: Sequence[Record]) -> list[str]:
    on = {
        f"{setup_of(record).words}; torch {record.environment.torch}, {record.environment.platform}": None
        for record in records
        if record.environment
    }
    return [*(f"{name}: {words}." for words in on), *explain_energy(name, records), *explain_pace(records)]
