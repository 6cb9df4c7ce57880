"""What the report says, against the files that it is made of."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_up_records import MakeRecord
from parsed import Parsed, ParsedTable
from report_material import EVALUATIONS, HOSTILE, PATIENCE, SYSTEMS

from bench.cli import main
from bench.published.tables import read_table
from bench.records.counts import read_counts, write_counts
from bench.records.evaluation import evaluation_path, write_evaluation
from bench.records.layers import read_layers
from bench.records.measurement import write_record
from bench.reporting.report.cells import KINDS
from bench.reporting.report.results import read_audit
from bench.reproduce import make_report, make_tables, records_of, reproduce_all
from bench.systems.builtin import registry

PAPER_TABLES = (1, 2, 3, 4, 5)
BY_COLUMN = {
    "gflops_published": ("GFLOPs per frame", "published"),
    "gflops_counted": ("GFLOPs per frame", "counted"),
    "gflops_difference": ("GFLOPs per frame", "difference"),
    "gflops_described_counted": ("GFLOPs per frame", "as described"),
    "gflops_exact_counted": ("GFLOPs per frame", "exact"),
    "gmacs_counted": ("Counted", "GMACs"),
    "mparams_counted": ("Counted", "M params"),
    "prescan_gflops_counted": ("Counted GFLOPs", "pre-scan"),
    "total_tflops_published": ("TFLOPs in total", "published"),
    "total_tflops_counted": ("TFLOPs in total", "counted"),
    "top1_published": ("Accuracy (%), published", "top-1"),
    "noun_top5_published": ("Accuracy (%), published", "noun-5"),
    "trade_off_recomputed": ("GFLOPs per % of top-1", "recomputed"),
    "speed_up_published": ("Speed-up", "published"),
    "speed_up_recomputed": ("Speed-up", "recomputed"),
    "cpu_ms_per_frame_measured": ("Measured on cpu", "ms per frame"),
    "cpu_peak_mb_measured": ("Measured on cpu", "peak MB"),
    "cpu_joules_per_frame_estimated": ("Measured on cpu", "J per frame, estimated"),
    "cpu_speed_up_measured": ("Measured on cpu", "speed-up measured"),
}


@pytest.fixture(scope="module")
def page(page_file: Path) -> Parsed:
    return Parsed(page_file.read_text())


@pytest.fixture(scope="module")
def frames(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, pd.DataFrame]:
    """The tables as CSV has them, of the same results."""
    copy = shutil.copytree(folder, tmp_path_factory.mktemp("tables") / "results")
    make_tables(copy, PAPER_TABLES, records_of(copy))
    return {number: pd.read_csv(copy / f"table{number}.csv", dtype=str) for number in PAPER_TABLES}


def number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-").partition(" ")[0])


# --- tables ---


@pytest.mark.parametrize("which", PAPER_TABLES)
def test_numbers_are_those_of_the_tables(page: Parsed, frames: dict[int, pd.DataFrame], which: int) -> None:
    shown, frame = page.tables[f"table-{which}"], frames[which]
    assert shown.column("", "System") == frame["system"].tolist()
    compared = 0
    for column, (group, words) in BY_COLUMN.items():
        if column not in frame:
            continue
        for text, expected in zip(shown.column(group, words), frame[column], strict=True):
            assert bool(text) == (not pd.isna(expected)), (column, text, expected)
            if text and column.endswith("published"):
                assert text == expected
            elif text:
                decimals = len(re.sub(r" .*", "", text).partition(".")[2])
                assert number(text) == pytest.approx(float(expected), abs=0.5000001 * 10**-decimals)
            compared += bool(text)
    assert compared > 2 * len(frame)


def test_published_digits_are_those_of_the_paper(page: Parsed) -> None:
    for which in (1, 2, 4, 5):
        shown, printed = page.tables[f"table-{which}"], read_table(which)
        rows = dict(zip(shown.column("", "System"), shown.column("Accuracy (%), published", "top-1"), strict=True))
        assert {system: row["top1"].text for system, row in printed.items()} == {
            system: text for system, text in rows.items() if text
        }


def test_every_number_says_of_which_kind_it_is(page: Parsed) -> None:
    kinds = set()
    for name, table in page.tables.items():
        for row in table.body:
            for heading, cell in zip(table.headings, row, strict=True):
                marks = set(cell.attributes.get("class", "").split()) & set(KINDS)
                if "number" in cell.attributes.get("class", "") and cell.text:
                    assert marks == {heading.attributes["data-kind"]}, (name, heading.text, cell.text)
                    assert next(iter(marks)) in heading.text  # also for who does not see the mark
                    kinds |= marks
                else:
                    assert not marks
                    is_bare = re.fullmatch(r"[+-]?\d+\.\d+", cell.text)
                    assert not is_bare, (name, heading.text, cell.text)
    assert kinds == set(KINDS)


def test_all_rows_have_as_many_cells_as_there_are_headings(page: Parsed) -> None:
    for table in page.tables.values():
        assert {len(row) for row in table.body} == {len(table.headings)} == {len(table.groups)}
        assert all(row[0].attributes["scope"] == "row" for row in table.body)


def test_measurements_have_a_table_for_each_machine_with_failed_cases(page: Parsed) -> None:
    cpu, gpu = page.tables["measured-a-cpu"], page.tables["measured-b-gpu"]
    rows = dict(zip(cpu.column("", "System"), cpu.body, strict=True))
    assert rows["epic/s2-t4"][-1].text == "killed: by signal 9"
    times = dict(zip(cpu.column("", "System"), cpu.column("ms per frame", "all"), strict=True))
    # 20 % of frames take 200 ms, 43.7 % take 50 ms, 36.3 % take 0.1 ms
    assert number(times["epic/s3-t4"]) == pytest.approx(0.2 * 200 + 0.437 * 50 + 0.363 * 0.1, abs=0.05)
    assert times["epic/s2-t4"] == ""
    energies = dict(zip(cpu.column("", "System"), cpu.column("J per frame", "estimated"), strict=True))
    assert (energies["epic/s3"], energies["epic/tbn-ra"]) == ("2.00", "")
    assert gpu.column("J per frame", "measured") == ["2.00"]


def test_environments_are_told_of_every_case(page: Parsed, folder: Path) -> None:
    told = [page.tables[f"environment-{machine}-1"] for machine in ("a-cpu", "b-gpu")]
    systems = [system for table in told for system in table.column("", "System")]
    assert sorted(systems) == sorted(
        record.case.system for name in ("a-cpu", "b-gpu") for record in records_of(folder, name)
    )
    values = [text.strip() for text in page.texts["dd"]]
    assert {"Imaginary 9000", "H200", "2.13.0", "0123abc"} <= set(values)
    (told_of,) = (row[-1].text for row in told[0].body if row[0].text == "epic/tbn-ra")
    assert told_of.endswith("silence stands for the sound")


def test_evaluations_have_tables_with_their_spread(page: Parsed) -> None:
    table = page.tables["evaluated-mini-2"]
    rows = dict(zip(table.column("", "System"), table.column("Accuracy (%)", "top-1"), strict=True))
    # 15 and 17 of 20 clips, with n - 1 in the standard deviation
    assert rows == {"mini/s3": "90.0", "mini/s3-t2": "80.0 ± 7.1"}
    rivals = page.tables["rivals-mini"]
    assert rivals.column("", "Rival") == ["random", "mini/s3"]
    assert rivals.column("Top-1 (%)", "learned") == ["75.0", "75.0"]


def test_it_is_told_how_well_attention_is_foreseen(page: Parsed) -> None:
    table = page.tables["foresight-mini"]
    assert table.column("", "SSIM") == ["0.8500", "0.7750", "0.5000", "+0.0750 [+0.0500, +0.1000]: better"]


def test_what_smaller_numbers_do_is_a_table_of_its_own(page: Parsed) -> None:
    table = page.tables["precision-mini"]
    assert table.column("", "System") == ["mini/s3"]
    assert table.column("", "Type") == ["int8"]
    assert table.column("Top-1 (%)", "float32") == ["90.0"]
    assert table.column("Top-1 (%)", "in this type") == ["85.0"]


def test_the_audit_is_there_in_full(page: Parsed, folder: Path) -> None:
    findings = json.loads((folder / "audit.json").read_text())["findings"]
    table = page.tables["audit-table"]
    explanations = (each["explanation"] for each in findings)
    expected = [re.sub(r"([ST])_(\d)", lambda found: found[1] + "₀₁₂₃₄"[int(found[2])], text) for text in explanations]
    assert [row[-1].text for row in table.body] == expected
    assert table.column("", "Published") == [each["published"] for each in findings]


# --- data of the plots ---


def test_layers_add_up_to_the_counts_of_every_system(page: Parsed, folder: Path) -> None:
    layers, counts = page.data["layers"], read_counts(folder / "counts.json")
    assert set(layers["systems"]) == set(SYSTEMS)
    for count in counts:
        rows = [row for _, place in layers["systems"][count.system] for row in layers["layers"][place]]
        macs, paper, exact = (sum(row[column] for row in rows) for column in (2, 3, 4))
        assert (macs, paper, exact) == (count.macs, count.paper_flops, count.exact_flops)


def test_points_have_the_published_and_the_measured_values(page: Parsed) -> None:
    accuracy = page.data["accuracy"]
    points = {point["system"]: point for each in accuracy["data"] for point in each["points"]}
    printed = read_table(1)["epic/s3"]
    assert points["epic/s3"]["accuracy"] == {"published": [float(printed["top1"].text)]}
    assert points["epic/s3"]["cost"]["published"] == [float(printed["avg_gflops"].text)]
    assert points["mini/s3-t2"]["accuracy"]["measured"][0] == 80
    labels = {name: (axis["label"].partition(" (")[0], axis["kind"]) for name, axis in accuracy["axes"].items()}
    assert set(labels.values()) >= {
        ("ms per frame", "measured"),
        ("J per frame", "estimated"),
        ("J per frame", "measured"),
        ("peak MB", "measured"),
        ("GFLOPs per frame", "published"),
    }
    on_gpu = next(name for name, axis in accuracy["axes"].items() if "ms per frame (H200" in axis["label"])
    assert points["epic/s3"]["cost"][on_gpu] == [9, 9, 9]
    (speed_up,) = page.data["speedUps"]
    assert speed_up["system"] == "epic/s3-t4"
    assert speed_up["measured"][0] / speed_up["counted"][0] == pytest.approx(speed_up["realised"][0], rel=1e-4)


def test_strips_are_decisions_that_the_system_could_have_made(page: Parsed, folder: Path) -> None:
    strips = {strip["system"]: strip for strip in page.data["strips"]}
    temporal = {count.system for count in read_counts(folder / "counts.json") if re.search(r"-t\d+$", count.system)}
    assert set(strips) == temporal
    for system, strip in strips.items():
        longest = int(system.rpartition("-t")[2]) - 1
        for clip in strip["clips"]:
            assert clip["decisions"][0] == "F"
            for skipped in re.finditer("S+", clip["decisions"]):
                assert len(skipped[0]) <= longest
                assert clip["decisions"][skipped.start() - 1] == "P"
    seeded, evaluated = strips["epic/s3-t4"], strips["mini/s3-t2"]
    assert (seeded["source"], evaluated["source"]) == ("published", "evaluated")
    assert "Not of real clips" in seeded["note"]
    assert [clip["name"] for clip in evaluated["clips"]] == [f"clip-{number}" for number in range(12)]
    assert {clip["decisions"] for clip in evaluated["clips"]} == {"FPSFFPSFPF"}
    assert all(clip["right"] for clip in evaluated["clips"])
    # FPSFFPSFPF: scan and hallucinate eight times, the sampler asked seven times, five frames full
    assert evaluated["clips"][0]["gflops"] == pytest.approx((8 * 13 + 7 * 1 + 5 * 106) / 1e3 / 10, abs=1e-4)


# --- the file ---


def test_the_file_is_small_and_loads_nothing(page_file: Path, page: Parsed) -> None:
    text = page_file.read_text()
    assert page_file.stat().st_size < 5e6
    kept = Path(__file__).parents[4] / "results" / "report.html"
    assert not kept.exists() or kept.stat().st_size < 5e6
    assert page.loads == ["data:,"]
    assert not re.search(r"@import|url\((?!#)", "".join(page.texts["style"]))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {link for link in links if not link.startswith("#")} == {"https://doi.org/10.1109/TIP.2023.3310661"}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert "default-src 'none'" in text


def test_the_same_results_give_the_same_bytes(page_file: Path, folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.html"
    command = [sys.executable, "-m", "bench", "report", "--results", str(folder), "--out", str(again), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert json.loads(run.stdout) == {"files": [str(again)]}
    assert again.read_bytes() == page_file.read_bytes()


@pytest.fixture
def hostile(folder: Path, tmp_path: Path, make_record: MakeRecord) -> Path:
    """Results whose every word is markup."""
    copy = shutil.copytree(folder, tmp_path / "hostile")
    counts = read_counts(copy / "counts.json")
    first = replace(counts[0], system=f"epic/{HOSTILE}", title=HOSTILE, backbone=HOSTILE, unknown=(HOSTILE,))
    write_counts([first, *counts], copy / "counts.json")
    record = make_record(f"epic/{HOSTILE}", [9.0] * 15, environment={"cpu": HOSTILE}, notes=[HOSTILE])
    write_record(record, copy / "records" / "a-cpu" / "hostile.json")
    for each in EVALUATIONS:
        clips = [replace(clip, id=clip.id + HOSTILE) for clip in each.clips]
        path = evaluation_path(copy, "mini", "val", None, each.system, each.policy, each.seed)
        write_evaluation(replace(each, clips=clips), path)
    return make_report(copy, copy / "report.html")


def test_hostile_names_stay_text(hostile: Path) -> None:
    text = hostile.read_text()
    page = Parsed(text)
    assert text.count("<script") == 2  # the data and our own
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert page.tables["table-1"].column("", "Model")[-1] == HOSTILE
    assert page.data["layers"]["titles"][f"epic/{HOSTILE}"] == HOSTILE
    (strip,) = (strip for strip in page.data["strips"] if strip["source"] == "evaluated")
    assert strip["clips"][0]["name"] == f"clip-0{HOSTILE}"


def test_hostile_names_run_nothing_in_a_browser(hostile: Path, browser: Any) -> None:
    page = browser.new_page(bypass_csp=True)  # so that escaping alone must do
    page.set_default_timeout(PATIENCE)
    page.goto(hostile.as_uri())
    page.select_option("#decisions-system", "mini/s3-t2")
    page.select_option("#accuracy-data", "mini")
    for summary in page.locator("summary").all():
        summary.evaluate("node => node.parentElement.open = true")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # all is drawn
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    page.close()


# --- the command line ---


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0), *capsys.readouterr()


def damage(name: str, text: str | None) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / name).unlink()
        if text is not None:
            (folder / name).write_text(text)

    return do


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage("counts.json", None), "counts.json: no such file; `foveabench reproduce` makes it"),
        (damage("layers.json", None), "layers.json: no such file; `foveabench reproduce` makes it"),
        (damage("layers.json", '{"schema": 2}'), "layers.json: schema 2, this version reads 1"),
        (
            damage("layers.json", '{"schema": 1, "systems": {"a": [["call", 3]]}, "layers": []}'),
            "layers.json: damaged (the file: a: no layers in the places [3])",
        ),
        (damage("audit.json", "[]"), "audit.json: damaged (the file: Input should be an object)"),
        (damage("audit.json", "{}"), "audit.json: damaged (findings: missing)"),
        (damage("fig3.csv", "size\nx\n"), "fig3.csv: damaged"),
        (damage("fig3.csv", None), "fig3.csv: no such file; `foveabench reproduce` makes it"),
    ],
)
def test_missing_and_damaged_results_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], None], message: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "results")
    (copy / "report.html").unlink(missing_ok=True)
    harm(copy)
    status, out, err = call(capsys, "report", "--results", copy)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--out", "report.pdf"], 2, "--out report.pdf: the name must end in .html"),
        (["--out", "file/report.html"], 1, "cannot write to file"),
        (["--results", "nowhere"], 1, "counts.json: no such file"),
        (["--machine", "other"], 2, "no measurements of the machine 'other'"),
    ],
)
def test_wrong_calls_are_one_line(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    got, out, err = call(capsys, "report", *arguments)
    assert (got, out, err.count("\n")) == (status, "", 1)
    assert message in err


def test_a_damaged_record_costs_itself_alone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(folder, tmp_path / "results")
    (copy / "records" / "b-gpu" / "zz.json").write_text("{}")
    status, out, err = call(capsys, "report", "--results", copy, "--out", tmp_path / "page.html")
    assert (status, out) == (0, f"{tmp_path / 'page.html'}\n")
    assert "zz.json: damaged" in err


def test_the_wanted_machine_stands_in_the_tables(folder: Path, tmp_path: Path) -> None:
    page = Parsed(make_report(folder, tmp_path / "report.html", "b-gpu").read_text())
    table: ParsedTable = page.tables["table-1"]
    assert "Measured on cuda" in table.groups
    assert "Measured on cpu" not in table.groups


def test_reproduce_writes_it_and_lists_it(tmp_path: Path) -> None:
    systems = [registry().find(name) for name in ("epic/s0", "epic/s0-t1", "san10")]
    files = reproduce_all(tmp_path, systems)
    assert tmp_path / "report.html" in files
    assert "[report.html](report.html): everything here as one page" in (tmp_path / "README.md").read_text()
    assert set(read_layers(tmp_path / "layers.json").systems) == {"epic/s0", "epic/s0-t1", "san10"}
    page = Parsed((tmp_path / "report.html").read_text())
    assert "Nothing was measured" in " ".join(page.texts["p"])
    assert len(page.tables["audit-table"].body) == len(read_audit(tmp_path / "audit.json"))
