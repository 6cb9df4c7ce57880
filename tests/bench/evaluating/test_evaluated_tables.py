from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from bench.records.counts import Count
from bench.records.evaluation import Evaluation
from bench.records.measurement import Record
from bench.reporting.evaluated_tables import evaluated_table, write_evaluated_tables
from bench.reporting.tables import table, write_table

MakeUp = Callable[..., Evaluation]

LABELS = [(0, 0), (1, 1), (2, 2), (0, 1)]
RIGHT = [([9.0, 0, 0], [9.0, 0, 0]), ([0, 9.0, 0], [0, 9.0, 0]), ([0, 0, 9.0], [0, 0, 9.0]), ([9.0, 0, 0], [0, 9.0, 0])]


def count(system: str, title: str, params: int = 10**6) -> Count:
    return Count(system, title, "SAN-mini", "R+A", 1, params, 1, 1, 1, None, None, None, None, None, "", ())


COUNTS = [count("mini/s3", "S_3"), count("mini/tbn-ra", "TBN"), count("mini/s3-t2", "S_3,T_2", 2 * 10**6)]


@pytest.fixture
def evaluations(made_up: MakeUp) -> list[Evaluation]:
    wrong = [*RIGHT[:3], ([0, 9.0, 0], [0, 9.0, 0])]  # a verb
    spatial = {"system": "mini/s3", "policy": "always-full", "decisions": "FFFF"}
    return [
        made_up(LABELS, RIGHT, seed=0),
        made_up(LABELS, wrong, seed=1),
        made_up(LABELS, RIGHT, seed=0, **spatial),
        made_up(LABELS, RIGHT, seed=1, **spatial),
        made_up(LABELS, RIGHT, system="mini/tbn-ra", policy="fixed", decisions="FFFF", seed=0),
        made_up(LABELS, wrong, policy="random", seed=0),
        made_up(LABELS, wrong, policy="always-full", decisions="FFFF", seed=0),
        made_up(LABELS, wrong, system="mini/tbn-ra", policy="fixed", decisions="FFFF", seed=1, trained=False),
    ]


def test_baselines_and_spatial_samplers_have_a_table_and_temporal_ones_another(evaluations: list[Evaluation]) -> None:
    assert evaluated_table(1, "mini", COUNTS, evaluations)["system"].tolist() == ["mini/s3", "mini/tbn-ra"]
    assert evaluated_table(2, "mini", COUNTS, evaluations)["system"].tolist() == ["mini/s3", "mini/s3-t2"]
    assert evaluated_table(1, "epic", COUNTS, evaluations).empty
    with pytest.raises(ValueError, match="table 6: the paper's are 1 to 5"):
        evaluated_table(6, "mini", COUNTS, evaluations)


def test_figures_are_means_over_seeds_of_own_decisions_with_trained_weights(evaluations: list[Evaluation]) -> None:
    row = evaluated_table(2, "mini", COUNTS, evaluations).set_index("system").loc["mini/s3-t2"]
    assert (row["seeds"], row["clips"], row["mparams_counted"]) == (2, 4, 2)
    # by hand: all four right, and three of four; standard deviation of 100 and 75 with n - 1
    assert row["top1_measured"] == pytest.approx(87.5)
    assert row["top1_spread_measured"] == pytest.approx(25 / 2**0.5)
    assert row["noun_top1_measured"] == 100
    assert row[["skip_pct_executed", "prescan_pct_executed", "full_pct_executed"]].tolist() == [25, 25, 50]
    # FPSF: scan and hallucinate three times, the sampler asked twice, two frames full: 30 + 9 + 2 + 200 + 12 of 4
    assert row["gflops_exact_executed"] == pytest.approx(253 / 4)
    # each frame of S_3 costs all that, with the stages that were given: 120 less the sampler at the first
    assert row["speed_up_executed"] == pytest.approx((4 * 120 - 1) / 253)
    assert row["total_tflops_executed"] == pytest.approx(253 * 4 / 1e12)
    other = evaluated_table(1, "mini", COUNTS, evaluations).set_index("system").loc["mini/tbn-ra"]
    assert other["top1_measured"] == 100  # random weights do not count
    assert pd.isna(other["top1_spread_measured"])


def test_tables_are_written_in_three_forms(evaluations: list[Evaluation], tmp_path: Path) -> None:
    files = write_evaluated_tables("mini", COUNTS, evaluations, tmp_path)
    assert [path.name for path in files] == [
        f"table{n}.{suffix}" for n in range(1, 6) for suffix in ("csv", "md", "tex")
    ]
    text = (tmp_path / "table2.md").read_text()
    assert "Accuracy (%), measured: top-1" in text
    assert "87.5 ± 17.7" in text
    assert "4 held-out clips of mini with trained weights, 2 seeds" in text
    assert "verb-1" not in (tmp_path / "table5.md").read_text()
    grid = (tmp_path / "table3.md").read_text()
    assert "T_2" in grid
    assert "S_3: top-1, measured" in grid
    assert len(pd.read_csv(tmp_path / "table1.csv")) == 2
    assert write_evaluated_tables("epic", COUNTS, evaluations, tmp_path / "epic") == []


def test_latex_compiles(evaluations: list[Evaluation], tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex")
    write_evaluated_tables("mini", COUNTS, evaluations, tmp_path)
    inputs = "\n".join(rf"\input{{table{n}.tex}}" for n in range(1, 6))
    packages = r"\documentclass{article}\usepackage{booktabs,graphicx,rotating}\begin{document}"
    (tmp_path / "all.tex").write_text(packages + inputs + r"\end{document}")
    subprocess.run(["pdflatex", "-halt-on-error", "all.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_times_under_own_decisions_come_beside(
    evaluations: list[Evaluation], make_record: Callable[..., Record], tmp_path: Path
) -> None:
    learned = {"policy": "learned", "shares": (30.0, 50.0, 20.0)}
    records = [
        make_record("mini/s3-t2", [200.0] * 12, [50.0] * 20, [0.1] * 12, **learned),
        make_record("mini/s3-t2", [9.0] * 12, [9.0] * 20, [9.0] * 12, **{**learned, "policy": "published"}),
        make_record("epic/s3", [7.0] * 12, shares=(0.0, 0.0, 100.0)),
    ]
    write_evaluated_tables("mini", COUNTS, evaluations, tmp_path, records)
    rows = pd.read_csv(tmp_path / "table2.csv").set_index("system")
    # by hand: 0.2 x 200 + 0.5 x 50 + 0.3 x 0.1 ms
    assert rows["cpu_ms_per_frame_measured"].dropna().to_dict() == pytest.approx({"mini/s3-t2": 65.03})
    assert "65.03" in (tmp_path / "table2.md").read_text().partition("## Measured")[2]
    assert "## Measured" not in (tmp_path / "table1.md").read_text()


def test_the_papers_tables_have_accuracies_of_who_has_data_and_weights(made_up: MakeUp, tmp_path: Path) -> None:
    wrong = [*RIGHT[:3], ([0, 9.0, 0], [0, 9.0, 0])]
    spatial = {"data": "epic", "system": "epic/s3", "policy": "always-full", "decisions": "FFFF"}
    made = [
        made_up(LABELS, RIGHT, seed=0, **spatial),
        made_up(LABELS, wrong, seed=1, **spatial),
        made_up(LABELS, RIGHT, **{**spatial, "system": "epic/s0", "trained": False}),
    ]
    frame = table(1, [], (), made).set_index("system")
    assert frame["top1_measured"].dropna().to_dict() == {"epic/s3": 87.5}
    pd.testing.assert_series_equal(frame["top1_published"], table(1, []).set_index("system")["top1_published"])
    assert "top1_measured" not in table(4, [], (), made)
    text = write_table(1, [], tmp_path, (), made)[1].read_text().partition("## Measured")[2]
    assert "87.5 ± 17.7" in text
    assert "on 4 held-out clips of epic with trained weights, 2 seeds" in text
    assert "ms per frame" not in text
