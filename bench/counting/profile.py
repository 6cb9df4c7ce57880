"""The result of a count: rows in execution order, and the questions that people ask of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

Grouping = Literal["layer", "stage", "op"]


@dataclass(slots=True)
class OperatorCount:
    """What one family of operators did within a row.

    `exact` are operations in the `exact` convention and `flops` those in the convention of the profile.
    """

    macs: int = 0
    flops: int = 0
    exact: int = 0
    calls: int = 0


@dataclass(slots=True)
class Row:
    """One visit of one module: what it computed itself, between the calls of its children.

    `parameters` are those used here first, by name, so that one that is shared counts once.
    `activations` are the elements that convolutions, matrix products, attention and recurrent layers put out.
    `bytes` are read and written by the operators one by one, as if nothing stayed in a cache; views move nothing.
    """

    name: str
    type: str
    parameters: dict[str, int] = field(default_factory=dict)
    activations: int = 0
    bytes: int = 0
    stage: str = ""
    ops: dict[str, OperatorCount] = field(default_factory=dict)

    def copy(self) -> Row:
        """The same in other objects."""
        ops = {name: replace(op) for name, op in self.ops.items()}
        return replace(self, parameters=dict(self.parameters), ops=ops)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(op.macs for op in self.ops.values())

    @property
    def flops(self) -> int:
        """Operations in the convention of the profile."""
        return sum(op.flops for op in self.ops.values())

    @property
    def params(self) -> int:
        """Elements of `parameters`."""
        return sum(self.parameters.values())


@dataclass(frozen=True, slots=True)
class Unknown:
    """An operator without a formula, and the layer that called it."""

    layer: str
    operator: str
    calls: int = 1


@dataclass
class Profile:
    """What one call of a model computes.

    Attributes:
        convention: "exact", "paper", or the name of another counter.
        rows: in execution order; a module that is called several times has several rows of one name.
        unknown: operators that had no formula and are counted as nothing.
        uncalled: modules with parameters that nothing used; their rows are the last.
        device: where it ran: "meta", where nothing is computed, or the device of the data.
        reason: why it did not run on the meta device, if it did not.
    """

    convention: str
    rows: list[Row]
    unknown: list[Unknown] = field(default_factory=list)
    uncalled: list[str] = field(default_factory=list)
    device: str = "meta"
    reason: str = ""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole call (whole batch)."""
        return sum(row.macs for row in self.rows)

    @property
    def flops(self) -> int:
        """Operations of the whole call in the profile's convention."""
        return sum(row.flops for row in self.rows)

    @property
    def params(self) -> int:
        """Parameters of the model, each once, used or not."""
        return sum(row.params for row in self.rows)

    @property
    def activations(self) -> int:
        """Elements put out by convolutions, matrix products, attention and recurrent layers."""
        return sum(row.activations for row in self.rows)

    @property
    def bytes(self) -> int:
        """Bytes that the operators read and write, one by one."""
        return sum(row.bytes for row in self.rows)

    @property
    def uncounted(self) -> dict[str, int]:
        """Families of operators that the convention leaves out, with their operations in the `exact` convention."""
        left_out: dict[str, int] = {}
        for row in self.rows:
            for name, op in row.ops.items():
                if op.exact and not op.flops:
                    left_out[name] = left_out.get(name, 0) + op.exact
        return dict(sorted(left_out.items(), key=lambda item: -item[1]))

    def by_module(self) -> dict[str, dict[str, int]]:
        """Totals of every module with all that it contains; "" is the whole model."""
        totals: dict[str, dict[str, int]] = {}
        for row in self.rows:
            parts = row.name.split(".") if row.name else []
            for depth in range(len(parts) + 1):
                total = totals.setdefault(".".join(parts[:depth]), {"macs": 0, "flops": 0, "params": 0})
                total["macs"] += row.macs
                total["flops"] += row.flops
                total["params"] += row.params
        return totals

    def layers(self) -> list[dict[str, Any]]:
        """One dictionary per row, in execution order, with the operations accumulated so far."""
        total = 0
        table = []
        for row in self.rows:
            total += row.flops
            table.append(
                {
                    "name": row.name,
                    "type": row.type,
                    "macs": row.macs,
                    "flops": row.flops,
                    "cumulative_flops": total,
                    "params": row.params,
                    "activations": row.activations,
                    "bytes": row.bytes,
                }
            )
        return table

    def stages(self) -> list[dict[str, Any]]:
        """Totals by stage, in execution order; without stages of its own, a model's are its top-level modules."""
        table: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            name = row.stage or row.name.split(".")[0]
            stage = table.setdefault(
                name, {"name": name, "macs": 0, "flops": 0, "params": 0, "activations": 0, "bytes": 0}
            )
            for quantity in ("macs", "flops", "params", "activations", "bytes"):
                stage[quantity] += getattr(row, quantity)
        return list(table.values())

    def operators(self) -> list[dict[str, Any]]:
        """Totals by family of operators, the largest first; `exact_flops` shows what the convention leaves out."""
        table: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            for name, op in row.ops.items():
                total = table.setdefault(name, {"name": name, "calls": 0, "macs": 0, "flops": 0, "exact_flops": 0})
                total["calls"] += op.calls
                total["macs"] += op.macs
                total["flops"] += op.flops
                total["exact_flops"] += op.exact
        return sorted(table.values(), key=lambda op: (-op["flops"], -op["exact_flops"], op["name"]))

    def grouped(self, by: Grouping) -> list[dict[str, Any]]:
        """`layers`, `stages` or `operators`."""
        return {"layer": self.layers, "stage": self.stages, "op": self.operators}[by]()

    def to_frame(self, by: Grouping = "layer") -> pd.DataFrame:
        """The rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.grouped(by))

    def to_json(self, by: Grouping = "layer") -> dict[str, Any]:
        """Totals and rows as plain data."""
        return {
            "convention": self.convention,
            "macs": self.macs,
            "flops": self.flops,
            "params": self.params,
            "activations": self.activations,
            "bytes": self.bytes,
            "device": self.device,
            "reason": self.reason,
            "unknown": [asdict(entry) for entry in self.unknown],
            "uncalled": self.uncalled,
            "uncounted": self.uncounted,
            {"layer": "layers", "stage": "stages", "op": "ops"}[by]: self.grouped(by),
        }

    def __repr__(self) -> str:
        unknown = f", unknown operators: {len(self.unknown)}" if self.unknown else ""
        return (
            f"Profile({self.convention}: {self.flops:,} flops, {self.macs:,} MACs, {self.params:,} parameters,"
            f" {len(self.rows)} rows, on {self.device}{unknown})"
        )
