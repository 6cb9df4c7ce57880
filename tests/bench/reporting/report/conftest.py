from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_records import MakeRecord
from report_material import EVALUATIONS, PATIENCE, SYSTEMS, records

from bench.records.evaluation import evaluation_path, write_evaluation
from bench.records.measurement import write_record
from bench.reporting.figures import complexity_by_size
from bench.reproduce import EVALUATIONS as EVALUATED
from bench.reproduce import RECORDS, make_counts, make_report, write_audit
from bench.systems.builtin import registry


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, make_record: MakeRecord) -> Path:
    """Results of systems of each kind, counted for real, with made-up measurements and evaluations."""
    out = tmp_path_factory.mktemp("results")
    make_counts(out, map(registry().find, SYSTEMS))
    complexity_by_size((32, 112, 224)).to_csv(out / "fig3.csv", index=False)
    write_audit(out)
    for machine, group in records(make_record).items():
        for record in group:
            write_record(record, out / RECORDS / machine / f"{record.case.name}.json")
    for each in EVALUATIONS:
        write_evaluation(
            each, evaluation_path(out, "mini", "val", None, each.system, each.policy, each.seed, each.dtype)
        )
    foresight = "clip,hallucinated,copied,hallucinated_free\n0,0.9,0.8,0.5\n1,0.8,0.75,0.5\n"
    (out / EVALUATED / "mini" / "foresight.seed0.csv").write_text(foresight)
    return out


@pytest.fixture(scope="session")
def page_file(folder: Path) -> Path:
    return make_report(folder, folder / "report.html")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; tests that need one are skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    own = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        try:
            found = playwright.chromium.launch(executable_path=own, args=options, timeout=PATIENCE)
        except sync_api.Error as error:
            pytest.skip(f"no Chromium can be started: {str(error).splitlines()[0]}")
        yield found
        found.close()
