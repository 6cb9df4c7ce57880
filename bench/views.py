"""Results of single commands, shown to people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table

from bench.display import console, giga, notes, print_table

if TYPE_CHECKING:
    from bench.counting.crosschecks import Difference
    from bench.counting.profile import Grouping
    from bench.streaming import Stream, StreamedFrame
    from bench.systems.costs import SystemCost

DECISION_STYLES = {"full": "red", "prescan": "green", "skip": "dim"}


def show_cost(cost: SystemCost, by: Grouping) -> None:
    """A count: its rows, its totals, and what it leaves out."""
    profile = cost.profile
    rows = [row for row in profile.grouped(by) if row["flops"] or row["macs"] or row.get("params")]
    columns = [name for name in rows[0] if name != "bytes"] if rows else []
    print_table(columns, [[row[column] for column in columns] for row in rows])
    out = console()
    out.print()
    inputs = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in cost.system.inputs.items())
    out.print(
        f"[bold]{cost.system.id}[/bold] on {inputs}, {profile.convention} convention, counted on {profile.device}"
    )
    out.print(
        f"{giga(profile.flops)} GFLOPs, {giga(profile.macs)} GMACs, {profile.params:,} parameters, "
        f"{profile.activations:,} activations, {profile.bytes / 1e6:,.1f} MB moved"
    )
    if cost.stages is not None and cost.shares is not None:
        shares = cost.shares
        out.print(
            f"pre-scan {giga(cost.stages.prescan)}, rest {giga(cost.stages.rest)}, full {giga(cost.stages.full)} GFLOPs; "
            f"{shares.skip:.2f} % skipped, {shares.prescan:.2f} % pre-scanned, {shares.full:.2f} % full "
            f"({cost.shares_source}): [bold]{giga(cost.per_frame)} GFLOPs per frame[/bold]"
        )
    if profile.uncounted:
        left_out = ", ".join(f"{name} {giga(flops)}" for name, flops in profile.uncounted.items())
        out.print(f"not counted in this convention (GFLOPs, exact): {left_out}")
    if profile.reason:
        notes().print(f"note: not counted on the meta device: {profile.reason}", markup=False)
    for entry in profile.unknown:
        notes().print(
            f"warning: no formula for {entry.operator}, called {entry.calls} x in {entry.layer or 'the model itself'}:"
            " it counts nothing",
            markup=False,
        )
    if profile.uncalled:
        notes().print(f"note: parameters that nothing used: {', '.join(profile.uncalled)}", markup=False)


def show_cross_check(system: str, differences: Sequence[Difference]) -> None:
    """Where the counts of other libraries differ from ours, by layer."""
    print_table(
        ["library", "layer", "type", "MACs ours", "MACs theirs", "reason"],
        [[d.library, d.layer, d.type, d.ours, d.theirs, d.reason] for d in differences],
        title=f"{system}: {len(differences)} layers where fvcore, thop or torch differ from us",
    )


@contextmanager
def frame_table(silent: bool) -> Iterator[Callable[[StreamedFrame], None]]:
    """A table that grows by a row per frame, while they run; nothing if silent."""
    if silent:
        yield lambda _: None
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("t", "source frame", "decision", "GFLOPs executed", "ms", "ms decoding", "SSIM"):
        table.add_column(column, justify="left" if column == "decision" else "right")

    live = Live(table, console=console(), refresh_per_second=8, vertical_overflow="visible")

    def add(frame: StreamedFrame) -> None:
        live.start()  # at the first frame, so that an error before it stands alone
        table.add_row(
            str(frame.index),
            str(frame.source_frame),
            f"[{DECISION_STYLES[frame.decision]}]{frame.decision}",
            giga(frame.flops) if frame.flops else "0",
            f"{1e3 * frame.seconds:.1f}",
            f"{1e3 * frame.decode_seconds:.1f}",
            "" if frame.similarity is None else f"{frame.similarity:.3f}",
        )

    try:
        yield add
    finally:
        live.stop()


def show_stream(stream: Stream, figure: Path | None) -> None:
    """What a clip cost, beside what it would have cost with every frame full."""
    out = console()
    shares = stream.shares
    out.print()
    out.print(f"[bold]{stream.system}[/bold], policy {stream.policy}, weights {stream.weights}", highlight=False)
    out.print(
        f"{shares['skip']:.1f} % skipped, {shares['prescan']:.1f} % pre-scanned, {shares['full']:.1f} % full: "
        f"[bold]{giga(stream.per_frame)} GFLOPs per frame executed[/bold] ({stream.convention}), "
        f"{giga(stream.always_full)} always full, {stream.always_full / stream.per_frame:.2f} x fewer"
    )
    milliseconds = [1e3 * frame.seconds for frame in stream.frames]
    out.print(f"{sum(milliseconds):.0f} ms in all, {sum(milliseconds) / len(milliseconds):.1f} ms per frame, one run")
    for note in stream.notes:
        notes().print(f"note: {note}", markup=False)
    if figure is not None:
        out.print(str(figure), soft_wrap=True)


def show_files(paths: Sequence[Path]) -> None:
    """The files that were written."""
    for path in paths:
        console().print(str(path), soft_wrap=True)


def show_findings(findings: Sequence[Any]) -> None:
    """What the audit found."""
    print_table(
        ["table", "system", "check", "column", "published", "should be", "why"],
        [[f.table, f.system, f.check, f.column, f.published, f.recomputed, f.explanation] for f in findings],
        title=f"{len(findings)} published values that no rounding explains",
    )
