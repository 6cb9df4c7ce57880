"""Results of single commands, shown to people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table

from bench.display import console, giga, note, print_table, say
from bench.published.tables import published_row
from bench.systems.libraries.find import LIBRARIES

if TYPE_CHECKING:
    from bench.compare.result import Comparison
    from bench.counting.crosschecks import Difference
    from bench.counting.profile import Grouping
    from bench.measuring.statistics import Interval
    from bench.published.audit import Finding
    from bench.streaming import Stream, StreamedFrame
    from bench.systems.costs import SystemCost
    from bench.systems.registry import System

DECISION_STYLES = {"full": "red", "prescan": "green", "skip": "dim"}


def describe(system: System) -> dict[str, Any]:
    """A system as `foveabench list --json` prints it, with what is published about it."""
    published = system.published or published_row(system.id)
    return {
        "system": system.id,
        "title": system.title,
        "backbone": system.backbone,
        "inputs": {name: list(shape) for name, shape in system.inputs.items()},
        "frames": system.frames,
        "adaptive": system.adaptive,
        "published_gflops": published.get("avg_gflops"),
        "published_top1": published.get("top1"),
        "source": published.get("source"),
    }


def show_systems(systems: Sequence[System]) -> None:
    """What can be counted and run."""
    rows = []
    for system in systems:
        row = describe(system)
        numbers = [None if row[name] is None else f"{row[name]:.2f}" for name in ("published_gflops", "published_top1")]
        rows.append(
            [system.id, system.title, system.backbone, system.shapes, "yes" if system.adaptive else "no", *numbers]
        )
    print_table(
        ["system", "title", "backbone", "inputs", "adaptive", "GFLOPs/frame (published)", "top-1 % (published)"], rows
    )
    say(
        "and models of these libraries, where they are installed: {names}",
        names=", ".join(f"{x}:NAME" for x in LIBRARIES),
    )


def show_cost(cost: SystemCost, by: Grouping) -> None:
    """A count: its rows, its totals, and what it leaves out."""
    profile, stages, shares = cost.profile, cost.stages, cost.shares
    rows = [row for row in profile.grouped(by) if row["flops"] or row["macs"] or row.get("params")]
    columns = [name for name in rows[0] if name != "bytes"] if rows else []
    print_table(columns, [[row[column] for column in columns] for row in rows])
    say("")
    say(
        "[bold]{system}[/bold] on {shapes}, {convention} convention, counted on {device}",
        system=cost.system.id,
        shapes=cost.system.shapes,
        convention=profile.convention,
        device=profile.device,
    )
    say(
        f"{giga(profile.flops)} GFLOPs, {giga(profile.macs)} GMACs, {profile.params:,} parameters, "
        f"{profile.activations:,} activations, {profile.bytes / 1e6:,.1f} MB moved"
    )
    frames = cost.system.frames
    if stages is not None and shares is not None:
        say(
            f"pre-scan {giga(stages.prescan / frames)}, rest {giga(stages.rest / frames)}, "
            f"full {giga(stages.full / frames)} GFLOPs per frame; "
            f"{shares.skip:.2f} % skipped, {shares.prescan:.2f} % pre-scanned, {shares.full:.2f} % full "
            f"({cost.shares_source}): [bold]{giga(cost.per_frame)} GFLOPs per frame[/bold]"
        )
    elif cost.system.frames > 1:
        say(f"{cost.system.frames} frames: [bold]{giga(cost.per_frame)} GFLOPs per frame[/bold]")
    if profile.uncounted:
        left_out = ", ".join(f"{name} {giga(flops)}" for name, flops in profile.uncounted.items())
        say("not counted in this convention (GFLOPs, exact): {left_out}", left_out=left_out)
    if profile.reason:
        note(f"note: not counted on the meta device: {profile.reason}")
    for entry in profile.unknown:
        note(
            f"warning: no formula for {entry.operator}, called {entry.calls} x in {entry.layer or 'the model itself'}:"
            " it counts nothing"
        )
    if profile.uncalled:
        note(f"note: parameters that nothing used: {', '.join(profile.uncalled)}")


def show_cross_check(system: str, differences: Sequence[Difference]) -> None:
    """Why the counts of other libraries differ from ours, the largest reasons first; JSON has them by layer."""
    groups: dict[tuple[str, str], list[Difference]] = {}
    for difference in differences:
        groups.setdefault((difference.library, difference.reason), []).append(difference)
    rows: list[tuple[str, int, str, int, int, str]] = []
    for (library, reason), group in groups.items():
        which = group[0].layer + (", ..." if len(group) > 1 else "")
        ours, theirs = sum(each.ours for each in group), sum(each.theirs for each in group)
        rows.append((library, len(group), which, ours, theirs, reason))
    rows.sort(key=lambda row: (row[0], -abs(row[3] - row[4])))
    print_table(
        ["library", "layers", "which", "MACs ours", "MACs theirs", "reason"],
        rows,
        title=f"{system}: where fvcore, thop and torch count other multiply-accumulates than we do",
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
    shares = stream.shares
    say("")
    say(
        "[bold]{system}[/bold], policy {policy}, weights {weights}",
        system=stream.system,
        policy=stream.policy,
        weights=stream.weights,
    )
    say(
        f"{shares['skip']:.1f} % skipped, {shares['prescan']:.1f} % pre-scanned, {shares['full']:.1f} % full: "
        f"[bold]{giga(stream.per_frame)} GFLOPs per frame executed[/bold] ({stream.convention}), "
        f"{giga(stream.always_full)} always full, {stream.always_full / stream.per_frame:.2f} x fewer"
    )
    seconds = sum(frame.seconds for frame in stream.frames)
    say(f"{1e3 * seconds:.0f} ms in all, {1e3 * seconds / len(stream.frames):.1f} ms per frame, one run")
    for text in stream.notes:
        note(f"note: {text}")
    if figure is not None:
        print(figure)


def show_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Which is faster, B or A."""
    if len(comparisons) > 1:
        rows = [[each.a, each.b, _with_interval(each.ratio), each.outcome] for each in comparisons]
        print_table(["A", "B", "time of B / A", "B is"], rows)
    for each in comparisons if len(comparisons) == 1 else []:
        say("[bold]{b}[/bold] is [bold]{words}[/bold]", b=each.b, words=_in_words(each))
        say("time per frame over that of {a}: {ratio}, {how}", a=each.a, ratio=_with_interval(each.ratio), how=each.how)
        for words, ratio in (("medians", each.median), ("10th percentiles", each.fast)):
            if ratio is not None:
                say("ratio of the {words}: {ratio}", words=words, ratio=_with_interval(ratio))
    for each in comparisons:
        for warning in each.warnings:
            note(f"warning: {each.b}: {warning}")


def _in_words(comparison: Comparison) -> str:
    if comparison.outcome in ("faster", "slower"):
        ratio = comparison.ratio.value
        factor = max(ratio, 1 / ratio)
        by = f"{factor:.2f} x" if factor >= 1.5 else f"{factor - 1:.1%}"
        return f"{comparison.outcome} than {comparison.a}, by {by}"
    if comparison.outcome == "no difference shown":
        return f"not shown to differ from {comparison.a}"
    return f"too noisy to be told from {comparison.a}: run longer, or quiet the machine (foveabench doctor)"


def _with_interval(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def show_findings(findings: Sequence[Finding]) -> None:
    """What the audit found."""
    print_table(
        ["table", "system", "check", "column", "published", "should be", "why"],
        [[f.table, f.system, f.check, f.column, f.published, f.recomputed, f.explanation] for f in findings],
        title=f"{len(findings)} published values that no rounding explains",
    )
