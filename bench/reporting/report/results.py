"""What the report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pydantic import TypeAdapter

from bench.errors import RunError
from bench.published.audit import Finding
from bench.records.counts import Count
from bench.records.evaluation import Evaluation
from bench.records.files import read_json
from bench.records.layers import LayerFile
from bench.records.measurement import Record

MISSING = "no such file; `foveabench reproduce` makes it"


class Size(NamedTuple):
    """SAN19's GFLOPs on an RGB image of that side, in the two conventions."""

    size: int
    gflops_paper: float
    gflops_exact: float


@dataclass(frozen=True)
class Results:
    """What lies in a folder of results.

    Attributes:
        counts: of systems.
        layers: of systems and backbones.
        sizes: what Fig. 3 shows.
        findings: of the audit.
        machines: records of each machine, by the name of its folder; those of the first stand in Tables I to V.
        evaluations: of any systems, in float32.
        foresight: how well attention is foreseen on a data set, as `foresight_over_seeds` has it.
        precision: what other types than float32 do, as `against_float32` has it.
    """

    counts: Sequence[Count]
    layers: LayerFile
    sizes: Sequence[Size]
    findings: Sequence[Finding]
    machines: Mapping[str, Sequence[Record]]
    evaluations: Sequence[Evaluation]
    foresight: Mapping[str, pd.DataFrame]
    precision: pd.DataFrame


def read_audit(path: Path) -> list[Finding]:
    """Read the findings of an audit from its JSON.

    Raises:
        RunError: a file that is not there or damaged.
    """
    file = read_json(path, TypeAdapter(dict[str, list[Finding]]), 1, MISSING)
    if "findings" not in file:
        raise RunError(f"{path}: damaged (findings: missing)")
    return file["findings"]


def read_sizes(path: Path) -> list[Size]:
    """Read the data of Fig. 3 from its CSV.

    Raises:
        RunError: a file that is not there or damaged.
    """
    try:
        rows = pd.read_csv(path)[list(Size._fields)].astype(float).to_numpy().tolist()
    except FileNotFoundError:
        raise RunError(f"{path}: {MISSING}") from None
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path}: damaged ({error})") from None
    return [Size(int(size), paper, exact) for size, paper, exact in rows]
