"""Baselines: reviewed files beside the tests that say what a system costs, one file per system, one line per layer."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from pydantic import TypeAdapter

from bench.errors import RunError
from bench.guards.exact import Fingerprint
from bench.guards.timing import TimeRatio
from bench.records.counts import STRICT
from bench.records.files import read_json, write_text

SCHEMA: Literal[1] = 1
COLUMNS: Literal["stage, name, type, macs, exact, paper, params, activations"] = (
    "stage, name, type, macs, exact, paper, params, activations"
)


@dataclass(frozen=True)
class Baseline:
    """What a file holds.

    Attributes:
        schema: version of this format.
        system: id.
        made_with: versions and platform that made it.
        peak_memory: bytes that one call adds to a fresh process at most; None where no fresh process can build it.
        time: of one call; None if it is not guarded.
        columns: of a layer.
        fingerprint: what is deterministic.
    """

    __pydantic_config__ = STRICT

    schema: Literal[1]
    system: str
    made_with: dict[str, str]
    peak_memory: int | None
    time: TimeRatio | None
    columns: Literal["stage, name, type, macs, exact, paper, params, activations"]
    fingerprint: Fingerprint

    @property
    def surroundings(self) -> str:
        """On what memory depends."""
        return f"{self.made_with.get('platform', 'an unknown platform')} with torch {self.made_with.get('torch')}"


def new_baseline(system: str, fingerprint: Fingerprint, peak_memory: int | None, time: TimeRatio | None) -> Baseline:
    """What is found here and now."""
    return Baseline(SCHEMA, system, made_here(), peak_memory, time, COLUMNS, fingerprint)


def made_here() -> dict[str, str]:
    """Versions and platform on which counts and memory may depend."""
    return {
        "foveabench": version("foveabench"),
        "torch": torch.__version__.partition("+")[0],
        "platform": f"{platform.system()} {platform.machine()}",
    }


def path_of(folder: Path, system: str) -> Path:
    """The file of a system."""
    return folder / f"{re.sub('[/:]', '-', system)}.json"


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline, whole or not at all.

    Raises:
        RunError: the folder cannot be written to, or the disk is full.
    """
    data = asdict(baseline)
    data["fingerprint"]["layers"] = "LAYERS"
    layers = ",\n   ".join(json.dumps(layer) for layer in baseline.fingerprint.layers)
    write_text(path, json.dumps(data, indent=1).replace('"LAYERS"', f"[\n   {layers}\n  ]") + "\n")


def read_baseline(path: Path, system: str) -> Baseline | None:
    """Read the baseline of a system; None if there is none.

    Raises:
        RunError: a file that is damaged, of another schema, or of another system.
    """
    if not path.exists():
        return None
    try:
        baseline = read_json(path, TypeAdapter(Baseline), SCHEMA, "gone")
        if baseline.system != system:
            raise RunError(f"{path}: the baseline of {baseline.system!r}, not of {system!r}")
    except RunError as error:
        remedy = "restore it, or make it anew with pytest --benchmark --efficiency-update"
        raise RunError(f"{error}: {remedy}") from None
    return baseline
