"""Results of a system on a data set: what it said of every clip, and what it did to every frame.

A file is the same, byte for byte, however many processes made it. How long a clip took is therefore in a file of its
own beside it, "<name>.times.csv".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from bench.records.files import read_each, read_json, write_text
from bench.records.measurement import Dtype

SCHEMA: Literal[1] = 1

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

LETTERS = {"full": "F", "prescan": "P", "skip": "S"}
"""Of decisions, in a clip's string of them."""

AT_COST_OF_LEARNED = ("random", "uniform")
"""Policies that spend what the learned decisions on the same clips do."""

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class ClipOutcome:
    """What came of one clip.

    Attributes:
        id: of the clip in its data set.
        labels: its true class in each group of classes.
        top: of each group, the classes of the five largest logits (or of all, if they are fewer), the best first.
        logits: theirs; the product of two groups' probabilities ranks as the sum of their logits.
        decisions: a letter for each frame: F(ull), P(re-scanned), S(kipped).
        flops: operations of the stages that ran for it, in the `exact` convention; what clips that run side by side
            share, the encoding of positions, counts for each.
    """

    __pydantic_config__ = STRICT

    id: str
    labels: tuple[Count, ...]
    top: tuple[tuple[Count, ...], ...]
    logits: tuple[tuple[float, ...], ...]
    decisions: Annotated[str, Field(pattern="^[FPS]+$")]
    flops: Count

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.top) == len(self.logits):
            raise ValueError(f"clip {self.id}: labels, top and logits of different numbers of groups")


@dataclass(frozen=True)
class Evaluation:
    """A system on a split of a data set.

    Attributes:
        schema: version of this format.
        data: name of the data set.
        split: "train" or "val".
        limit: how many clips were asked for; None for all.
        system: id.
        policy: who decided; "fixed" for a system that is not adaptive.
        seed: of the training run, of random decisions, and of random weights.
        trained: whether weights were loaded; else they are random, and accuracies are those of guessing.
        weights: "sha256:" and the first 16 digits of the digest of all parameters and buffers.
        frames: T, frames sampled from a clip.
        batch: clips that ran side by side.
        device: where, as torch names its kind.
        replayed: whether kept features stood for running the frozen networks, which differs by rounding.
        versions: of what computed it.
        stages: operations of each stage of one full step, or of "call", in the conventions "exact" and "paper".
        frames_per_call: frames that one "call" stands for, or that a step decides about.
        clips: outcomes in the order of the data set.
        left_out: ids of clips, or names of files, that could not be read, and why.
        notes: what was put in place of something missing in a clip, by its id.
        dtype: of weights and inputs, as of a `measurement.Case`.
    """

    __pydantic_config__ = STRICT

    schema: Literal[1]
    data: str
    split: str
    limit: int | None
    system: str
    policy: str
    seed: int
    trained: bool
    weights: str
    frames: int
    batch: int
    device: str
    replayed: bool
    versions: dict[str, str]
    stages: dict[str, dict[str, Count]]
    frames_per_call: int
    clips: list[ClipOutcome]
    left_out: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    dtype: Dtype = "float32"

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of classes: verb and noun, or class alone."""
        return ("verb", "noun") if self.clips and len(self.clips[0].labels) == 2 else ("class",)


_EVALUATIONS = TypeAdapter(Evaluation)


def evaluation_path(
    out: Path,
    data: str,
    split: str,
    limit: int | None,
    system: str,
    policy: str,
    seed: int,
    dtype: Dtype = "float32",
) -> Path:
    """Where an evaluation lies in a folder of results, as "evaluations/mini/mini--s3-t2.learned.seed0.json".

    Other splits than "val" have folders of their own, and evaluations of some of the clips, or in another type than
    float32, say so in their names.
    """
    folder = data if split == "val" else f"{data}-{split}"
    parts = [
        system.replace("/", "--"),
        policy,
        *([dtype] if dtype != "float32" else []),
        f"seed{seed}",
        *([f"limit-{limit}"] if limit is not None else []),
    ]
    return out / "evaluations" / folder / (".".join(re.sub(r"[^\w-]", "-", part) for part in parts) + ".json")


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write an evaluation as JSON with a line for each clip, whole or not at all.

    Raises:
        RunError: the folder cannot be written to, or the disk is full.
    """
    data = asdict(evaluation)
    clips = ",\n".join("  " + json.dumps(clip, allow_nan=False) for clip in data.pop("clips"))
    head = json.dumps(data, indent=1, allow_nan=False).removesuffix("\n}")
    write_text(path, f'{head},\n "clips": [\n{clips}\n ]\n}}\n')


def read_evaluation(path: Path) -> Evaluation:
    """Read what `write_evaluation` wrote.

    Raises:
        RunError: a file that is not there, damaged, or of another schema.
    """
    return read_json(path, _EVALUATIONS, SCHEMA, "no such evaluation; `foveabench evaluate` makes it")


def read_evaluations(folder: Path, on_problem: Callable[[str], None]) -> list[Evaluation]:
    """All evaluations in a folder and its sub-folders, in the order of their names; a damaged one costs itself alone.

    Args:
        folder: which may be missing, as "results/evaluations".
        on_problem: called with what is wrong with a file that cannot be read.
    """
    # without what was being written when a run was killed
    return read_each(folder.rglob("[!.]*.json"), read_evaluation, on_problem)
