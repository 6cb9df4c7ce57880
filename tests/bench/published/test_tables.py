from __future__ import annotations

import re
import subprocess
import sys
from decimal import ROUND_HALF_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.published import tables
from bench.published.tables import (
    FRAMES,
    VALIDATION_CLIPS,
    Interval,
    Printed,
    exactly,
    load_table,
    published_row,
    published_shares,
    read_table,
)

points = st.fractions(min_value=Fraction(1, 1000), max_value=1000, max_denominator=10**6)


def printed(text: str) -> Printed:
    return Printed("I", "epic/s0", "top1", text)


def ordered(a: Fraction, b: Fraction) -> Interval:
    return Interval(min(a, b), max(a, b))


@pytest.mark.parametrize(("number", "rows"), [(1, 9), (2, 17), (3, 16), (4, 9), (5, 4)])
def test_tables_have_the_rows_of_the_paper(number: int, rows: int) -> None:
    assert len(load_table(number)) == len(read_table(number)) == rows


def test_frames_keep_the_printed_digits() -> None:
    table = load_table(2).set_index("system")
    assert table.loc["epic/s0-t2", "trade_off"] == "0.100"
    assert table.loc["epic/s3-t1", "prescan_pct"] == "50.00"
    assert table.loc["epic/s0", "speed_up"] == ""


@pytest.mark.parametrize("number", [0, 6])
def test_other_table_numbers_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"tables 1 to 5, not {number}"):
        load_table(number)


@pytest.mark.parametrize("number", [1, 2, 4, 5])
def test_rows_are_printed_like_this_in_the_paper(shared: Path, number: int) -> None:
    lines = (shared / "paper.txt").read_text(encoding="utf-8").splitlines()
    decimals = {tuple(re.findall(r"\d+\.\d+", line)) for line in lines}
    for row in read_table(number).values():
        assert tuple(cell.text for cell in row.values() if "." in cell.text) in decimals


def test_table_3_is_printed_like_this_in_the_paper(shared: Path) -> None:
    lines = (shared / "paper.txt").read_text(encoding="utf-8").splitlines()
    decimals = {tuple(re.findall(r"\d+\.\d+", line)) for line in lines}
    table = read_table(3)
    for m in range(1, 5):
        cells = [table[f"epic/s{k}-t{m}"][column].text for k in range(4) for column in ("top1", "speed_up")]
        assert tuple(cells) in decimals


@pytest.mark.parametrize(
    ("workload", "file", "headers"),
    [("epic", "EPIC_val_action_labels.csv", 1), ("ucf101", "testlist01.txt", 0)],
)
def test_validation_clips_are_those_of_the_annotations(shared: Path, workload: str, file: str, headers: int) -> None:
    lines = (shared / "annotations" / workload / file).read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) - headers == VALIDATION_CLIPS[workload]


def test_s0_row_of_table_2_fixes_the_number_of_epic_frames() -> None:
    # 139.14 TFLOPs / (2398 x 10 frames) = 5.8023 GFLOPs, printed as 5.80 on the same row
    assert round(139.14e3 / (VALIDATION_CLIPS["epic"] * FRAMES["epic"]), 2) == 5.80


def test_a_printed_number_stands_for_half_a_unit_to_either_side() -> None:
    assert printed("0.100").interval == Interval(Fraction(995, 10_000), Fraction(1005, 10_000))
    assert printed("0.1").interval == Interval(Fraction(5, 100), Fraction(15, 100))
    assert printed("224").interval == Interval(Fraction(447, 2), Fraction(449, 2))


def test_digits_that_are_no_number_are_refused() -> None:
    with pytest.raises(ValueError, match="1\\.60x"):
        _ = printed("1.60x").value


@given(
    st.decimals(min_value=0, max_value=1000, places=6),
    st.integers(min_value=0, max_value=4),
    st.sampled_from([ROUND_HALF_UP, ROUND_HALF_DOWN, ROUND_HALF_EVEN]),
)
def test_the_interval_holds_whatever_rounds_to_the_digits(value: Decimal, decimals: int, rounding: str) -> None:
    cell = printed(str(value.quantize(Decimal(1).scaleb(-decimals), rounding)))
    assert cell.decimals == decimals
    assert cell.interval.meets(exactly(Fraction(value)))
    assert cell.interval.high - cell.interval.low == Fraction(1, 10**decimals)


@given(points, points, points, points, st.fractions(0, 1), st.fractions(0, 1))
def test_operations_hold_the_result_of_every_member(
    a: Fraction, b: Fraction, c: Fraction, d: Fraction, s: Fraction, t: Fraction
) -> None:
    first, second = ordered(a, b), ordered(c, d)
    x, y = a + s * (b - a), c + t * (d - c)
    assert (first + second).meets(exactly(x + y))
    assert (first - second).meets(exactly(x - y))
    assert (first * second).meets(exactly(x * y))
    assert (first / second).meets(exactly(x / y))


def test_operations_are_no_wider_than_needed() -> None:
    first, second = Interval(Fraction(1), Fraction(2)), Interval(Fraction(4), Fraction(8))
    assert first + second == Interval(Fraction(5), Fraction(10))
    assert first - second == Interval(Fraction(-7), Fraction(-2))
    assert first * second == Interval(Fraction(4), Fraction(16))
    assert first / second == Interval(Fraction(1, 8), Fraction(1, 2))


def test_intervals_that_touch_meet() -> None:
    first = Interval(Fraction(1), Fraction(2))
    assert first.meets(exactly(2))
    assert exactly(1).meets(first)
    assert not first.meets(exactly(Fraction(2) + Fraction(1, 10**9)))


def test_a_row_in_one_table() -> None:
    assert published_row("ucf101/s3-t1") == {
        "total_tflops": 74.50,
        "avg_gflops": 1.23,
        "top1": 71.21,
        "top5": 90.75,
        "trade_off": 0.017,
        "speed_up": 1.52,
        "source": "Table V",
    }


def test_a_row_is_collected_over_tables() -> None:
    row = published_row("epic/s0")
    assert row["source"] == "Table I and Table II"
    assert (row["rgb_size"], row["top1"], row["total_tflops"]) == (112, 24.56, 139.14)


def test_a_quoted_row_says_so_and_leaves_out_what_is_not_printed() -> None:
    row = published_row("ucf101/dsn")
    assert row["source"] == "Table IV (quoted there)"
    assert row["top1"] == 86.5
    assert "top5" not in row


def test_nothing_is_published_for_other_systems() -> None:
    assert published_row("ucf101/s0-t2") == {}
    assert published_shares("ucf101/s0-t1") is None


def test_shares() -> None:
    assert published_shares("epic/s2-t4") == {"skip": 35.53, "prescan": 40.03, "full": 24.44}


def test_importing_the_module_is_light() -> None:
    folder = Path(tables.__file__).parent
    code = "import sys, tables; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False).returncode == 0
