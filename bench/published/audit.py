"""The published tables checked against themselves: which printed values does no rounding explain?

A printed number stands for the interval of half a unit of its last digit to either side. A value that follows
from others is recomputed from their intervals, in exact arithmetic, and listed if the two do not meet.
Copies (Table III, the accuracies in the S_0 row of Table II) are only held against their original.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from bench.published.claims import DIFFERENCES, LARGEST_SPEED_UPS, ORDERS
from bench.published.tables import (
    FRAMES,
    NUMERALS,
    QUOTED,
    VALIDATION_CLIPS,
    Interval,
    Printed,
    Row,
    Table,
    exactly,
    read_table,
)

Tables = Mapping[int, Table]

_UNITS = {
    "avg_gflops": " GFLOPs per frame",
    "total_tflops": " TFLOPs",
    "trade_off": " GFLOPs per per cent",
    "speed_up": "x",
}
#: Tables with temporal samplers, and the tables where the same spatial sampler S_k stands without one.
_SPATIAL_TABLE = {2: 1, 5: 4}


@dataclass(frozen=True)
class Finding:
    """A printed value that no rounding explains.

    table: Roman numeral, or `text` for a statement about the tables. recomputed: what should be printed.
    interval: what the recomputed value may be, in the unit of the column, None where nothing bounds it from
    above; for `accuracy_grid` the two nearest possible values.
    """

    table: str
    system: str
    check: str
    column: str
    published: str
    recomputed: str
    interval: tuple[float, float | None]
    explanation: str


@dataclass(frozen=True)
class StageCosts:
    """GFLOPs of a frame that is only pre-scanned (O_pre) and of a full one (O_full; section III-D)."""

    prescan: float
    full: float


Costs = Mapping[str, StageCosts]


def audit(costs: Costs | None = None, tables: Tables | None = None) -> list[Finding]:
    """Every printed value that no rounding explains, by table, statements of the text last.

    costs: counted O_pre and O_full under the published convention by spatial sampler (`epic/s0`, ...,
    `ucf101/s3`); checks that need one which is missing are left out. tables: the five tables by number, the
    paper's by default.
    """
    tables = tables or {number: read_table(number) for number in NUMERALS}
    findings = [finding for check in _CHECKS for finding in check(tables)]
    findings += [finding for stage_check in _STAGE_CHECKS for finding in stage_check(tables, costs or {})]
    order = [*NUMERALS.values(), "text"]
    return sorted(findings, key=lambda finding: order.index(finding.table))


def _finding(printed: Printed, check: str, recomputed: str, should: Interval, explanation: str) -> Finding:
    interval = float(should.low), float(should.high)
    return Finding(
        printed.table, printed.system, check, printed.column, printed.text, recomputed, interval, explanation
    )


def _digits(value: Fraction, like: Printed) -> str:
    return f"{float(value):.{like.decimals}f}"


def _mismatch(printed: Printed, should: Interval, check: str, how: str, hint: str = "") -> Iterator[Finding]:
    """A finding if what is printed does not meet what it should be; `how` says where `should` comes from."""
    actual = printed.interval
    if actual.meets(should):
        return
    low, high = _digits(should.low, printed), _digits(should.high, printed)
    recomputed = low if low == high else f"{low} to {high}"
    unit = _UNITS.get(printed.column, " %")
    miss = float(max(should.low - actual.high, actual.low - should.high))
    explanation = f"{how}: {recomputed}{unit}; the printed {printed.text} is {miss:.2g}{unit} off beyond rounding{hint}"
    yield _finding(printed, check, recomputed, should, explanation)


def _adaptive_rows(table: Table) -> Iterator[tuple[Row, str, int]]:
    """Rows with a temporal sampler T_M: the row, the id of its spatial sampler alone, and M."""
    for system, row in table.items():
        if match := re.fullmatch(r"(\w+/s\d)-t(\d)", system):
            yield row, match[1], int(match[2])


def _measured_rows(tables: Tables) -> Iterator[tuple[str, Row]]:
    """Rows that the authors measured themselves, each once."""
    for number in (1, 2, 4, 5):
        for system, row in tables[number].items():
            copied = number == 2 and system in tables[1]
            if system not in QUOTED and not copied:
                yield system, row


def _workload(system: str) -> str:
    return system.split("/")[0]


def _teraflops_per_gigaflop(system: str) -> Interval:
    """TFLOPs of the whole validation set for each GFLOP per frame."""
    workload = _workload(system)
    return exactly(Fraction(VALIDATION_CLIPS[workload] * FRAMES[workload], 1000))


def _trade_off(tables: Tables) -> Iterator[Finding]:
    for number in (1, 2, 4, 5):
        for row in tables[number].values():
            should = row["avg_gflops"].interval / row["top1"].interval
            yield from _mismatch(row["trade_off"], should, "trade_off", "average GFLOPs over top-1 accuracy")


def _speed_up(tables: Tables) -> Iterator[Finding]:
    for number, spatial_table in _SPATIAL_TABLE.items():
        references = {system: row["avg_gflops"].interval for system, row in tables[spatial_table].items()}
        for row, spatial, _ in _adaptive_rows(tables[number]):
            printed, own = row["speed_up"], row["avg_gflops"].interval
            how = f"average of {spatial} in Table {NUMERALS[spatial_table]} over the row's own"
            fitting = [name for name, average in references.items() if printed.interval.meets(average / own)]
            hint = f"; with {' or '.join(fitting)} as reference it would fit" if fitting else ""
            yield from _mismatch(printed, references[spatial] / own, "speed_up", how, hint)


def _speed_up_from_totals(tables: Tables) -> Iterator[Finding]:
    """The totals of Table II show more digits of the averages; of the S_k alone only S_0 has one."""
    for row, spatial, _ in _adaptive_rows(tables[2]):
        if spatial in tables[2]:
            printed, own = row["speed_up"], row["total_tflops"].interval
            how = f"total of {spatial} over the row's own"
            implied = printed.interval * own / _teraflops_per_gigaflop(spatial)
            low, high = float(implied.low), float(implied.high)
            hint = f"; with a reference of {low:.3f} to {high:.3f} GFLOPs per frame it would fit"
            should = tables[2][spatial]["total_tflops"].interval / own
            yield from _mismatch(printed, should, "speed_up_from_totals", how, hint)


def _total_vs_average(tables: Tables) -> Iterator[Finding]:
    for number in _SPATIAL_TABLE:
        for system, row in tables[number].items():
            should = row["avg_gflops"].interval * _teraflops_per_gigaflop(system)
            how = "average times clips times frames"
            yield from _mismatch(row["total_tflops"], should, "total_vs_average", how)


def _copies(tables: Tables) -> Iterator[Finding]:
    for number, source, check in ((3, 2, "table_iii_vs_ii"), (2, 1, "table_ii_vs_i")):
        for system, row in tables[number].items():
            original = tables[source].get(system, {})
            for column in (column for column in row if column in original):
                how = f"copied from Table {NUMERALS[source]}"
                yield from _mismatch(row[column], exactly(original[column].value), check, how)


def _shares_sum(tables: Tables) -> Iterator[Finding]:
    for row in tables[2].values():
        rest = exactly(100) - row["skip_pct"].interval - row["prescan_pct"].interval
        yield from _mismatch(row["full_pct"], rest, "shares_sum", "100 less skipped and pre-scanned")


def _shares_possible(tables: Tables) -> Iterator[Finding]:
    for row, spatial, maximum in _adaptive_rows(tables[2]):
        skipped = Interval(Fraction(0), (maximum - 1) * row["prescan_pct"].interval.high)
        how = f"at most {maximum - 1} skipped frames after each pre-scanned one"
        yield from _mismatch(row["skip_pct"], skipped, "skip_possible", how)
        full = Interval(Fraction(100, FRAMES[_workload(spatial)]), Fraction(100))
        yield from _mismatch(row["full_pct"], full, "full_possible", "at least the first frame of each clip")


def _accuracy_grid(tables: Tables) -> Iterator[Finding]:
    """An accuracy of N clips is a whole number of them."""
    for system, row in _measured_rows(tables):
        clips = VALIDATION_CLIPS[_workload(system)]
        for printed in (cell for column, cell in row.items() if column.endswith(("top1", "top5"))):
            right = floor(printed.value * clips / 100)
            below, above = Fraction(100 * right, clips), Fraction(100 * (right + 1), clips)
            if printed.interval.meets(exactly(below)) or printed.interval.meets(exactly(above)):
                continue
            explanation = f"{right} of {clips} clips are {float(below):.5f} %, one more {float(above):.5f} %"
            if printed.value - below < Fraction(1, 10**printed.decimals):
                explanation += f"; {float(below):.5f} rounded up would be {printed.text}"
            recomputed = f"{_digits(below, printed)} or {_digits(above, printed)}"
            yield _finding(printed, "accuracy_grid", recomputed, Interval(below, above), explanation)


def _top5_vs_top1(tables: Tables) -> Iterator[Finding]:
    for _, row in _measured_rows(tables):
        for column in (column for column in row if column.endswith("top5")):
            should = Interval(row[column.replace("5", "1")].interval.low, Fraction(100))
            yield from _mismatch(row[column], should, "top5_vs_top1", "no less than top-1")


def _action_vs_verb_noun(tables: Tables) -> Iterator[Finding]:
    """The paper's rule: an action is right where verb and noun both are, so the two bound how often."""
    for _, row in _measured_rows(tables):
        for top in (top for top in ("top1", "top5") if f"verb_{top}" in row):
            verb, noun = row[f"verb_{top}"].interval, row[f"noun_{top}"].interval
            should = Interval((verb + noun).low - 100, min(verb.high, noun.high))
            how = "verb and noun both right, from verb + noun - 100 to the smaller of the two"
            yield from _mismatch(row[top], should, "action_vs_verb_noun", how)


def _average_from_shares(row: Row, spatial: str, cost: StageCosts) -> Interval:
    prescan, full = exactly(cost.prescan), exactly(cost.full)
    if "full_pct" in row:
        return (row["prescan_pct"].interval * prescan + row["full_pct"].interval * full) / exactly(100)
    # Table V prints no shares; its T_1 skips nothing, and the first frame of a clip is full
    first = Fraction(1, FRAMES[_workload(spatial)])
    return Interval(first * full.low + (1 - first) * prescan.low, full.high)


def _average_vs_shares(tables: Tables, costs: Costs) -> Iterator[Finding]:
    for number in _SPATIAL_TABLE:
        for row, spatial, _ in _adaptive_rows(tables[number]):
            if spatial in costs:
                average = _average_from_shares(row, spatial, costs[spatial])
                how = "shares of frames times O_pre and O_full"
                yield from _mismatch(row["avg_gflops"], average, "average_vs_shares", how)
                total = average * _teraflops_per_gigaflop(spatial)
                how = f"{how}, times clips times frames"
                yield from _mismatch(row["total_tflops"], total, "total_vs_shares", how)


def _full_vs_spatial(tables: Tables, costs: Costs) -> Iterator[Finding]:
    """O_full is S_k plus hallucinator and temporal sampler: what Table II implies for it bounds Table I."""
    implied: dict[str, list[Fraction]] = {}
    for row, spatial, _ in _adaptive_rows(tables[2]):
        if spatial in costs:
            average = row["total_tflops"].interval / _teraflops_per_gigaflop(spatial)
            prescan = row["prescan_pct"].interval * exactly(costs[spatial].prescan) / exactly(100)
            full = (average - prescan) * exactly(100) / row["full_pct"].interval
            implied.setdefault(spatial, []).append(full.high)
    for spatial, bounds in implied.items():
        should = Interval(Fraction(0), max(bounds))
        how = "at most O_full, which contains S_k, as totals and shares of Table II imply it"
        yield from _mismatch(tables[1][spatial]["avg_gflops"], should, "full_vs_spatial", how)


def _text_differences(tables: Tables) -> Iterator[Finding]:
    for says, text, column, (table, larger), (other_table, smaller) in DIFFERENCES:
        first, second = tables[table][larger][column], tables[other_table][smaller][column]
        printed = Printed("text", smaller, column, text)
        how = f"section IV-C, what {says}: {first.text} less {second.text}"
        yield from _mismatch(printed, first.interval - second.interval, "text_number", how)


def _text_speed_ups(tables: Tables) -> Iterator[Finding]:
    for temporal, text in LARGEST_SPEED_UPS.items():
        speed_ups = {
            row["speed_up"].system: tables[1][spatial]["avg_gflops"].interval / row["avg_gflops"].interval
            for row, spatial, maximum in _adaptive_rows(tables[2])
            if maximum == temporal
        }
        largest = max(speed_ups, key=lambda system: speed_ups[system].high)
        how = f"section IV-C, the largest speed-up of T_{temporal}, recomputed against the same S_k"
        printed = Printed("text", largest, "speed_up", text)
        yield from _mismatch(printed, speed_ups[largest], "text_number", how)


def _text_orders(tables: Tables) -> Iterator[Finding]:
    for says, number, column, pairs in ORDERS:
        for larger, smaller in pairs:
            more, less = tables[number][larger][column], tables[number][smaller][column]
            if more.interval.high < less.interval.low:
                explanation = f"{says}; but {larger} has {more.text} and {smaller} {less.text}"
                above, interval = f"above {less.text}", (float(less.value), None)
                yield Finding("text", larger, "text_order", column, more.text, above, interval, explanation)


_CHECKS = (
    _trade_off,
    _speed_up,
    _speed_up_from_totals,
    _total_vs_average,
    _copies,
    _shares_sum,
    _shares_possible,
    _accuracy_grid,
    _top5_vs_top1,
    _action_vs_verb_noun,
    _text_differences,
    _text_speed_ups,
    _text_orders,
)
_STAGE_CHECKS = (_average_vs_shares, _full_vs_spatial)
