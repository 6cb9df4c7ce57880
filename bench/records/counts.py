"""Counts of all systems as plain data: what tables are made from, without running a model again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, TypeAdapter

from bench.records.files import read_json, write_text

if TYPE_CHECKING:
    from bench.systems.costs import SystemCost
    from bench.systems.registry import System

SCHEMA: Literal[1] = 1
STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Stages:
    """Operations of a step of an adaptive system, mostly a frame: pre-scanned only, and what a full one has besides."""

    __pydantic_config__ = STRICT

    prescan: int
    rest: int

    @property
    def full(self) -> int:
        """A full frame is pre-scanned too."""
        return self.prescan + self.rest

    def per_frame(self, shares: Mapping[str, float]) -> float:
        """Mean over frames of which these shares, in per cent, are pre-scanned and full."""
        return (shares["prescan"] * self.prescan + shares["full"] * self.full) / 100


@dataclass(frozen=True)
class Count:
    """What one system costs, counted; all operations are per call unless they say per frame.

    Attributes:
        system: its id.
        title: what the published tables call it.
        backbone: of which network it is made.
        modalities: its inputs, e.g. "R+A".
        frames: frames of video that one call stands for.
        params: parameters.
        macs: multiply-accumulates of one call; of one full step, mostly a frame, for an adaptive system.
        paper_flops: in the `paper` convention.
        exact_flops: in the `exact` convention.
        paper_stages: of an adaptive system, as the paper describes it (execution order, three heads, classifiers).
        exact_stages: the same in the `exact` convention.
        published_stages: O_pre and the rest of O_full in the accounting of Tables II and V; of T_M systems.
        published_spatial: per frame in the accounting of Tables I and IV; of S_k, and of a system whose published
            figure is that of a whole call, or of what is kept.
        shares: per cent of frames {"skip", "prescan", "full"} at the published operating point, if adaptive.
        shares_source: where they come from.
        unknown: operators without a formula, which count nothing.
        macs_stages: multiply-accumulates of the stages of an adaptive system.
        published: what is published about a system that is not the paper's: "top1", "avg_gflops", and their "source".
    """

    __pydantic_config__ = STRICT

    system: str
    title: str
    backbone: str
    modalities: str
    frames: int
    params: int
    macs: int
    paper_flops: int
    exact_flops: int
    paper_stages: Stages | None = None
    exact_stages: Stages | None = None
    published_stages: Stages | None = None
    published_spatial: int | None = None
    shares: dict[str, float] | None = None
    shares_source: str = ""
    unknown: tuple[str, ...] = ()
    macs_stages: Stages | None = None
    published: dict[str, float | str] = field(default_factory=dict)

    def per_frame(self, flops: int, stages: Stages | None) -> float:
        """Operations per frame of video: of one call spread over its frames, or of the stages weighed by the shares."""
        if stages is None or self.shares is None:
            return flops / self.frames
        return stages.per_frame(self.shares) / self.frames

    @property
    def macs_per_frame(self) -> float:
        """Multiply-accumulates."""
        return self.per_frame(self.macs, self.macs_stages)

    @property
    def paper_per_frame(self) -> float:
        """In the `paper` convention, of the system as the paper describes it."""
        return self.per_frame(self.paper_flops, self.paper_stages)

    @property
    def exact_per_frame(self) -> float:
        """In the `exact` convention."""
        return self.per_frame(self.exact_flops, self.exact_stages)

    @property
    def published_per_frame(self) -> float:
        """In the `paper` convention and, where the published code accounts differently, in its accounting."""
        if self.published_stages is not None:
            return self.per_frame(0, self.published_stages)
        return self.paper_per_frame if self.published_spatial is None else float(self.published_spatial)


def count_one(system: System) -> Count:
    """Count one system in both conventions, and in the published accounting if it is one of the paper's.

    Raises:
        UsageError, RunError: as `count_system`.
    """
    from bench.systems.costs import count_system

    return count_of(count_system(system, "paper"))


def count_of(cost: SystemCost) -> Count:
    """What a count in the `paper` convention, beside which it has the `exact` one, says of a system of a workload."""
    from bench.published.tables import FRAMES, published_row
    from bench.systems.accounting import KEPT, UNDIVIDED, published_spatial, published_stages
    from bench.systems.builtin import CROPS

    system, exact = cost.system, cost.exact
    workload, crops = system.workload, system.crops or 0
    # Only the paper's own systems can have these ids.
    published = workload in FRAMES and crops in CROPS
    spatial, temporal = f"{workload}/s{crops}", f"{workload}/s{crops}-t{system.max_skip}"
    undivided = cost.profile.flops if system.id in UNDIVIDED else None
    if kept := KEPT.get(system.id):
        undivided = round(cost.per_frame * system.frames / kept.number)
    return Count(
        system=system.id,
        title=system.title,
        backbone=system.backbone,
        modalities=system.modalities,
        frames=system.frames,
        params=cost.profile.params,
        macs=cost.profile.macs,
        paper_flops=cost.profile.flops,
        exact_flops=exact.profile.flops,
        paper_stages=cost.stages,
        exact_stages=exact.stages,
        published_stages=published_stages(workload, crops) if published and system.id == temporal else None,
        published_spatial=published_spatial(workload, crops) if published and system.id == spatial else undivided,
        shares=asdict(cost.shares) if cost.shares else None,
        shares_source=cost.shares_source,
        unknown=tuple(sorted({entry.operator for entry in cost.profile.unknown})),
        macs_stages=cost.macs_stages,
        published={} if published_row(system.id) else dict(system.published),
    )


@dataclass(frozen=True)
class CountFile:
    """What a file of counts holds."""

    __pydantic_config__ = STRICT

    schema: Literal[1]
    counts: list[Count]


def write_counts(counts: Iterable[Count], path: Path) -> None:
    """Write counts as JSON, whole or not at all."""
    write_text(path, json.dumps(asdict(CountFile(SCHEMA, list(counts))), indent=1) + "\n")


def read_counts(path: Path) -> list[Count]:
    """Read what `write_counts` wrote.

    Raises:
        RunError: a file that is not there, damaged, or of another schema.
    """
    return read_json(path, TypeAdapter(CountFile), SCHEMA, "no such file; `foveabench reproduce` makes it").counts
