"""What every layer of every system costs, as plain data; stages that several systems have are kept once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter

from bench.records.files import read_json, write_text

if TYPE_CHECKING:
    from bench.counting.profile import Profile

SCHEMA: Literal[1] = 1
STRICT = ConfigDict(extra="forbid", strict=True)

Operations = Annotated[int, Field(ge=0)]


class Layer(NamedTuple):
    """One visit of one module, its own multiply-accumulates, and its own operations in the two conventions."""

    name: str
    type: str
    macs: Operations
    paper: Operations
    exact: Operations


class Stage(NamedTuple):
    """Of one call: a stage of an adaptive system, or "call"; its layers are those in a place of `LayerFile.layers`."""

    name: str
    place: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class LayerFile:
    """What a file of layers holds.

    Attributes:
        schema: version of this format.
        systems: the stages of each system or backbone, in the order in which they run in one call, which is one full
            frame of an adaptive system.
        layers: of stages, in execution order, without those that compute nothing.
    """

    __pydantic_config__ = STRICT

    schema: Literal[1]
    systems: dict[str, list[Stage]]
    layers: list[list[Layer]]

    def __post_init__(self) -> None:
        for system, stages in self.systems.items():
            if missing := [stage.place for stage in stages if stage.place >= len(self.layers)]:
                raise ValueError(f"{system}: no layers in the places {missing}")


def layer_file(profiles: Iterable[tuple[str, Profile]]) -> LayerFile:
    """The layers of systems by id, each counted in the `paper` convention, beside which a count has the `exact` one."""
    places: dict[tuple[Layer, ...], int] = {}
    systems: dict[str, list[Stage]] = {}
    for system, profile in profiles:
        stages: dict[str, list[Layer]] = {}
        for row in profile.rows:
            layer = Layer(row.name, row.type, row.macs, row.flops, sum(op.exact for op in row.ops.values()))
            if layer.exact or layer.paper:
                stages.setdefault(row.stage or "call", []).append(layer)
        systems[system] = [
            Stage(name, places.setdefault(tuple(layers), len(places))) for name, layers in stages.items()
        ]
    return LayerFile(SCHEMA, systems, [list(layers) for layers in places])


def write_layers(file: LayerFile, path: Path) -> None:
    """Write layers as JSON, a line for each, whole or not at all.

    Raises:
        RunError: the folder cannot be written to, or the disk is full.
    """
    systems = ",\n".join(f"  {json.dumps(name)}: {json.dumps(stages)}" for name, stages in file.systems.items())
    layers = ",\n".join(
        "  [\n" + ",\n".join(f"   {json.dumps(layer)}" for layer in stage) + "\n  ]" for stage in file.layers
    )
    text = f'{{\n "schema": {SCHEMA},\n "systems": {{\n{systems}\n }},\n "layers": [\n{layers}\n ]\n}}\n'
    write_text(path, text)


def read_layers(path: Path) -> LayerFile:
    """Read what `write_layers` wrote.

    Raises:
        RunError: a file that is not there, damaged, or of another schema.
    """
    return read_json(path, TypeAdapter(LayerFile), SCHEMA, "no such file; `foveabench reproduce` makes it")
