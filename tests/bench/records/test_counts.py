from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from bench.errors import RunError
from bench.records.counts import Count, Stages, count_one, read_counts, write_counts
from bench.systems.builtin import registry
from bench.systems.registry import system

PLAIN = Count("ucf101/net", "Net", "ResNet", "R", frames=4, params=55, macs=50, paper_flops=60, exact_flops=105)
ADAPTIVE = Count(
    "epic/s1-t2",
    "S_1,T_2",
    "SAN19",
    "R+A",
    frames=1,
    params=9,
    macs=40,
    paper_flops=110,
    exact_flops=220,
    paper_stages=Stages(prescan=10, rest=100),
    exact_stages=Stages(prescan=20, rest=200),
    published_stages=Stages(prescan=8, rest=80),
    shares={"skip": 10.0, "prescan": 50.0, "full": 40.0},
    shares_source="Table II",
    unknown=("aten::roll",),
)
SPATIAL = Count(
    "epic/s1",
    "S_1",
    "SAN19",
    "R+A",
    frames=1,
    params=9,
    macs=40,
    paper_flops=110,
    exact_flops=220,
    paper_stages=Stages(prescan=10, rest=100),
    exact_stages=Stages(prescan=20, rest=200),
    published_spatial=105,
    shares={"skip": 0.0, "prescan": 0.0, "full": 100.0},
)


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    write_counts([PLAIN, ADAPTIVE, SPATIAL], tmp_path / "counts.json")
    return tmp_path / "counts.json"


@system("ucf101/tiny", inputs={"x": (10,)}, frames=4, title="Tiny", backbone="MLP")
def tiny() -> nn.Module:
    return nn.Linear(10, 5)


def test_a_call_is_spread_over_its_frames() -> None:
    assert (PLAIN.paper_per_frame, PLAIN.published_per_frame, PLAIN.exact_per_frame) == (15.0, 15.0, 26.25)


def test_stages_are_weighed_by_shares_and_a_full_frame_is_prescanned_too() -> None:
    # 0.5 x 10 + 0.4 x (10 + 100), and so on
    assert ADAPTIVE.paper_per_frame == pytest.approx(49.0)
    assert ADAPTIVE.exact_per_frame == pytest.approx(98.0)
    assert ADAPTIVE.published_per_frame == pytest.approx(39.2)


def test_a_spatial_sampler_has_an_accounting_of_its_own() -> None:
    assert SPATIAL.published_per_frame == 105.0
    assert SPATIAL.paper_per_frame == 110.0


def test_a_system_is_counted_in_both_conventions() -> None:
    # 10 x 5 weights and 5 biases; exact: 2 per multiply-accumulate and 1 per bias; paper: no bias in a linear layer
    assert count_one(tiny) == Count(
        "ucf101/tiny", "Tiny", "MLP", "x", frames=4, params=55, macs=50, paper_flops=50, exact_flops=105
    )


def test_what_is_published_is_kept_but_for_the_papers_own_rows(tmp_path: Path) -> None:
    published = {"top1": 50.0, "source": "her thesis"}
    mine = count_one(replace(tiny, published=published))
    write_counts([mine, count_one(registry().find("ucf101/tsn-resnet50"))], tmp_path / "counts.json")
    assert [each.published for each in read_counts(tmp_path / "counts.json")] == [published, {}]


def test_an_adaptive_system_is_counted_in_stages_and_accounts() -> None:
    count = count_one(registry().find("ucf101/s0-t1"))
    # counted with the published code: first half, hallucinator and sampler; the network at 112 and a GRU of one layer
    sampling, gru = 4_536_224 + 19_100_673, 3 * 1024 * (2048 + 1024) + 13 * 1024
    assert count.published_stages is not None
    assert count.published_stages.prescan == 523_533_836 + sampling
    assert count.published_stages.full == 892_427_180 + sampling + gru
    assert count.paper_stages is not None
    assert count.paper_stages.full == count.paper_flops
    assert count.shares is not None
    assert count.published_per_frame * 3783 * 16 == pytest.approx(44.56e12)  # Table V, where the shares come from
    assert "Table V" in count.shares_source
    assert (count.published_spatial, count.frames, count.unknown) == (None, 1, ())


def test_a_published_figure_of_a_whole_call_has_ours_beside_it() -> None:
    count = count_one(registry().find("ucf101/res3d-18"))
    assert count.frames == 8
    assert count.published_per_frame == count.paper_flops == 8 * count.paper_per_frame


def test_counts_are_read_as_they_were_written(counted: Path) -> None:
    assert read_counts(counted) == [PLAIN, ADAPTIVE, SPATIAL]


def test_the_same_counts_make_the_same_bytes(counted: Path, tmp_path: Path) -> None:
    write_counts(read_counts(counted), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == counted.read_bytes()


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^.*counts\.json: no such file; `foveabench reproduce` makes it$"):
        read_counts(tmp_path / "counts.json")


def test_a_folder_is_no_file_of_counts(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        read_counts(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b"{}", b'{"schema": 1}', b"\xff\xfe", b'{"schema":1,"counts":[3]}']
)
def test_a_damaged_file_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "counts.json").write_bytes(content)
    with pytest.raises(RunError, match=r"^.*counts\.json: damaged [^\n]*$"):
        read_counts(tmp_path / "counts.json")


def test_a_file_that_was_cut_off_is_damaged(counted: Path) -> None:
    whole = counted.read_bytes()
    counted.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="damaged"):
        read_counts(counted)


@pytest.mark.parametrize(
    ("field", "value"),
    [("macs", None), ("colour", "red"), ("macs", "12"), ("macs", 1.5), ("paper_stages", {"prescan": 1})],
)
def test_a_count_without_or_with_other_fields_is_damaged(counted: Path, field: str, value: Any) -> None:
    data = json.loads(counted.read_text())
    entry = data["counts"][0]
    if value is None:
        del entry[field]
    else:
        entry[field] = value
    counted.write_text(json.dumps(data))
    with pytest.raises(RunError, match="damaged"):
        read_counts(counted)


def test_another_schema_is_refused(counted: Path) -> None:
    data = json.loads(counted.read_text())
    counted.write_text(json.dumps({**data, "schema": 2}))
    with pytest.raises(RunError, match="schema 2, this version reads 1"):
        read_counts(counted)
