"""What a record says in figures that people compare: pure functions of records, each figure with its interval."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import numpy as np

from bench.measuring.statistics import (
    Interval,
    Percentile,
    bounds,
    drift,
    interval,
    modes,
    resampled,
    samples_needed,
    total,
)
from bench.records.measurement import BatchSamples, FrameSamples, Record, ReferenceSamples, Timing
from bench.records.once import once_per_record

PERCENTILES = (50, 90, 99)
DECISIONS = ("full", "prescan", "skip")
FIRST = "first"
"""The kind of a full frame about which nothing is decided, as about the first of a video: it takes less time."""

NAMES = {
    "full": "full frames",
    FIRST: "first frames",
    "prescan": "pre-scanned frames",
    "skip": "skipped frames",
    "batch": "batches",
}

SAME_PACE = 0.05
"""Times of the calibration workload that differ by less say nothing of the machine."""

MATERIAL = 0.05
"""Kinds of samples that take a smaller part of the time need not converge."""


def kind_of(decision: str, t: int, decides: bool) -> str:
    """Of a frame: the decision on it, or `FIRST`.

    Args:
        decision: on the frame.
        t: its index in its video.
        decides: whether its system is one that decides frame by frame, about all but the first.
    """
    return FIRST if decides and t == 0 and decision == "full" else decision


def shares_of_kinds(kinds: Container[str], shares: Mapping[str, float], frames: int) -> dict[str, float]:
    """Per cent of frames by kind.

    Args:
        kinds: of which there are samples.
        shares: per cent of frames by decision.
        frames: of a clip, the first of which is of the kind `FIRST`, if any is.
    """
    full = shares.get("full", 0.0)
    first = 0.0 if FIRST not in kinds else min(100 / frames, full) if "full" in kinds else full
    return {**shares, **({FIRST: first} if FIRST in kinds else {}), "full": full - first}


@once_per_record
def samples_by_kind(record: Record) -> dict[str, list[float]]:
    """Seconds of a call, by the kind of its frame, or of "batch"; kinds without samples are left out."""
    timing = record.timing
    if timing is None or timing.frames is None:
        return {"batch": timing.batches.seconds} if timing and timing.batches else {}
    samples, decides = timing.frames, _decides(record)
    kinds: dict[str, list[float]] = {}
    for decision, t, seconds in zip(samples.decision, samples.t, samples.seconds, strict=True):
        kinds.setdefault(kind_of(decision, t, decides), []).append(seconds)
    return kinds


def _decides(record: Record) -> bool:
    """Whether a temporal sampler is asked about single frames."""
    counts = record.counts
    return counts is not None and counts.frames == 1 and any(stage.name == "decide" for stage in counts.stages)


def material(kinds: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """The kinds of samples that take a material part of the time."""
    total = sum(map(sum, kinds.values()))
    return {kind: seconds for kind, seconds in kinds.items() if sum(seconds) >= MATERIAL * total}


def widest(kinds: Mapping[str, Sequence[float]]) -> float:
    """The largest half-width of the intervals of the medians of material kinds, as a part of the median.

    Too few samples for a median (MLPerf's early stopping: 11) have an infinite width.
    """
    needed = samples_needed(50)
    return max(
        (
            interval(seconds, Percentile(50)).half_width if len(seconds) >= needed else float("inf")
            for seconds in material(kinds).values()
        ),
        default=float("inf"),
    )


def frame_latency(record: Record, decision: str, q: float) -> Interval | None:
    """Percentile of the seconds of a frame after that decision; None if there are too few samples to tell.

    A median is told of three samples or more, and `warnings` says if it takes more to trust it.
    """
    seconds = frame_seconds(record, decision)
    return interval(seconds, Percentile(q)) if tells(seconds, q) else None


def frame_seconds(record: Record, decision: str) -> list[float]:
    """Seconds of each frame after that decision; where a call takes several frames, its time by their number."""
    if record.timing is None or record.counts is None:
        return []
    frames = record.counts.frames
    return [seconds / frames for seconds in samples_by_kind(record).get(decision, [])]


def tells(samples: Sequence[float], q: float) -> bool:
    """Whether there are enough samples to tell of a percentile: of a median, three."""
    return len(samples) >= (3 if q == 50 else samples_needed(q))


def clip_seconds(record: Record) -> list[float]:
    """Seconds of each whole clip of single-stream, in order; a last clip that was cut short is left out."""
    if record.timing is None or record.timing.frames is None or record.counts is None:
        return []
    clips: dict[int, list[float]] = {}
    for video, seconds in zip(record.timing.frames.video, record.timing.frames.seconds, strict=True):
        clips.setdefault(video, []).append(seconds)
    return [sum(calls) for calls in clips.values() if len(calls) * record.counts.frames >= record.case.frames]


def clip_latency(record: Record, q: float) -> Interval | None:
    """Percentile of the seconds of a clip in single-stream; None if there are too few to tell."""
    seconds = clip_seconds(record)
    return interval(seconds, Percentile(q)) if tells(seconds, q) else None


def decode_seconds(record: Record) -> float | None:
    """Mean seconds per frame of decoding the clip and preparing its images and spectrograms; None without a clip."""
    decode = record.timing.decode_seconds if record.timing else []
    return float(np.mean(decode)) if decode else None


def stage_seconds(record: Record) -> dict[str, float]:
    """Median seconds of each stage of a full frame; of the whole call, "call", where a system is not adaptive."""
    timing = record.timing
    if timing is None or timing.frames is None:
        return {}
    if timing.stage_seconds:
        return {stage: float(np.median(seconds)) for stage, seconds in timing.stage_seconds.items()}
    return {"call": float(np.median(timing.frames.seconds))} if timing.frames.seconds else {}


def executed_shares(record: Record) -> dict[str, float]:
    """Per cent of frames by decision in the measured phase."""
    if record.timing is None:
        return {}
    samples = record.timing.frames or record.timing.batches
    if isinstance(samples, BatchSamples):
        counts = {name: sum(getattr(samples, name)) for name in DECISIONS}
    else:
        decisions: Sequence[str] = samples.decision if samples else []
        counts = {name: list(decisions).count(name) for name in DECISIONS}
    total = sum(counts.values())
    return {name: 100 * count / total for name, count in counts.items()} if total else {}


def seconds_per_frame(record: Record) -> Interval | None:
    """Seconds per frame of video at the operating point; None without samples.

    In single-stream, the median of each decision's frames, weighed by the policy's shares of decisions: inputs of
    variable cost would bias a plain mean by the mix that happened to be drawn. Where a decision of the policy was never
    drawn, or the shares are not known, the executed shares weigh. First frames of clips, about which a temporal sampler
    is not asked, are a kind of their own. Offline, the time of all batches by their frames.
    """
    timing, counts = record.timing, record.counts
    if timing is None or counts is None:
        return None
    if timing.batches is not None:
        return _mean_per_frame(timing.batches) if timing.batches.seconds else None
    kinds = samples_by_kind(record)
    shares = shares_of_kinds(kinds, operating_shares(record), record.case.frames)
    return _weighed(kinds, shares).scaled(1 / counts.frames) if kinds else None


def operating_shares(record: Record) -> dict[str, float]:
    """Per cent of frames by decision that weigh the record's costs; see `seconds_per_frame`."""
    executed = executed_shares(record)
    shares = (record.counts and record.counts.shares) or executed
    offline = record.case.scenario == "offline"
    return executed if offline or any(share and not executed.get(name) for name, share in shares.items()) else shares


def _weighed(kinds: Mapping[str, Sequence[float]], shares: Mapping[str, float]) -> Interval:
    """Medians of each kind's samples, weighed by the shares of kinds, in per cent."""
    medians = {kind: interval(samples, Percentile(50)) for kind, samples in kinds.items()}
    return total([median.scaled(shares[kind] / 100) for kind, median in medians.items()])


def _mean_per_frame(batches: BatchSamples) -> Interval:
    frames = np.array([batches.full, batches.prescan, batches.skip]).sum(axis=0)
    rows = np.column_stack([batches.seconds, frames])
    sums = resampled(rows, np.random.default_rng(0)).sum(axis=1)
    total = rows.sum(axis=0)
    return Interval(float(total[0] / total[1]), *bounds(sums[:, 0] / sums[:, 1]))


def speed_up(record: Record) -> Interval | None:
    """Time per frame of the reference over that of the case, which ran in turns in one process; None without one.

    Each sample is divided by the mean of the reference's beside it, before and after, so that the machine's changes of
    pace drop out; the medians of these ratios are weighed as in `seconds_per_frame`. Offline, the mean over batches.
    """
    timing, counts, theirs = record.timing, record.counts, record.reference_counts
    if timing is None or timing.reference is None or counts is None or theirs is None or not timing.reference.seconds:
        return None
    samples = timing.frames or timing.batches
    if samples is None or not samples.seconds:
        return None
    ratios = np.asarray(samples.seconds) / _beside(timing.reference, len(samples.seconds))
    if isinstance(samples, FrameSamples):
        of_frame = ratios * theirs.frames / counts.frames
        kinds: dict[str, list[float]] = {}
        decides = _decides(record)
        for decision, t, ratio in zip(samples.decision, samples.t, of_frame.tolist(), strict=True):
            kinds.setdefault(kind_of(decision, t, decides), []).append(ratio)
        part = _weighed(kinds, shares_of_kinds(kinds, operating_shares(record), record.case.frames))
    else:
        part = interval(ratios.tolist(), lambda drawn: drawn.mean(axis=-1))
    return Interval(1 / part.value, 1 / part.high, 1 / part.low)


def _beside(reference: ReferenceSamples, samples: int) -> np.ndarray:
    """Seconds of the reference beside each sample: the mean of the ones before and after it; one came first."""
    before = np.searchsorted(reference.after, np.arange(samples), side="right") - 1
    seconds = np.asarray(reference.seconds)
    return (seconds[before] + seconds[np.minimum(before + 1, len(seconds) - 1)]) / 2


def frames_per_second(record: Record) -> Interval | None:
    """Frames of video per second at the operating point."""
    per_frame = seconds_per_frame(record)
    return per_frame and Interval(1 / per_frame.value, 1 / per_frame.high, 1 / per_frame.low)


def clips_per_second(record: Record) -> Interval | None:
    """Clips of the case's length per second at the operating point."""
    per_second = frames_per_second(record)
    return per_second and per_second.scaled(1 / record.case.frames)


def peak_bytes(record: Record) -> int | None:
    """Memory that the system took at its peak: allocated on the GPU, else resident growth of its fresh process."""
    memory = record.memory
    if memory is None:
        return None
    if memory.cuda_allocated_bytes is not None:
        return memory.cuda_allocated_bytes
    return memory.peak_bytes - memory.start_bytes


def calibration_seconds(record: Record) -> float | None:
    """Median seconds of the calibration workload while the case was timed; None if it did not run."""
    seconds = record.timing.calibration_seconds if record.timing else []
    return float(np.median(seconds)) if seconds else None


def overhead(timing: Timing) -> float:
    """Time of the measured phase that no sample holds, as a part of the phase: what the harness itself took."""
    samples = timing.frames or timing.batches
    total = (sum(samples.seconds) if samples else 0.0) + sum(timing.calibration_seconds)
    total += sum(timing.reference.seconds) if timing.reference else 0.0
    return 1 - total / timing.phase_seconds if timing.phase_seconds else 0.0


def warnings(record: Record) -> list[str]:
    """What is wrong with a record's times, in words."""
    from bench.measuring.machine import disturbances

    timing = record.timing
    if timing is None:
        return []
    found = [] if timing.steady else ["times were still falling when the warm-up ended"]
    for kind, seconds in material(samples_by_kind(record)).items():
        name = NAMES[kind]
        width = widest({kind: seconds})
        if width == float("inf"):
            found.append(f"only {len(seconds)} {name}, {samples_needed(50)} are needed for a median: raise --budget")
        elif width > record.settings.width:
            found.append(f"median of {name} known to ±{width:.1%}, ±{record.settings.width:.1%} wanted: raise --budget")
        if change := drift(seconds):
            found.append(f"{name} drifted by {change:+.0%} while measuring")
        if clusters := modes(seconds):
            found.append(f"{name} are bimodal: {clusters[0] * 1e3:.3g} ms and {clusters[1] * 1e3:.3g} ms")
    return found + disturbances(timing.activity)
