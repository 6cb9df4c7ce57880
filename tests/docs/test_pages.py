"""What README and docs/ say to write and to call is written and called, and prints what is shown.

Each page is gone through from its first block to its last, in a folder of its own. What cannot be done here is marked
in the page by a comment, `<!-- not run: <reason> -->`, in the line before the block; its commands are parsed.
"""

from __future__ import annotations

import doctest
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import check, matches, run, tomllib
from pages import DOCS, PAGES, ROOT, Block, blocks, calls, fences

KINDS = {"bash", "console", "python", "pycon", "toml", "yaml"}
MARKS = ("not run", "output varies")


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def work(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what `foveabench reproduce` made, and what was measured on another machine if the page names it."""
    others = "results/records/intel-xeon-2-cores/" in "".join(block.text for block in blocks(page))
    left_out = shutil.ignore_patterns("report.html", "evaluations", *([] if others else ["records"]))
    shutil.copytree(ROOT / "results", tmp_path / "results", ignore=left_out)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def capture(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was printed, and the line in which foveabench says why it ended, if it did."""

    def read() -> str:
        out, err = capsys.readouterr()
        last = err.strip().splitlines()[-1:]
        return out + "\n".join(line for line in last if line.startswith("foveabench: "))

    return read


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_page_does_what_it_says(page: Path, work: Path, capture: Callable[[], str]) -> None:
    found = blocks(page)
    files = {block.file for block in found if block.file}
    names: dict[str, object] = {"__name__": "__main__"}
    done: set[str] = set()
    generator = torch.get_rng_state()
    try:
        for block in found:
            if block.file:
                (work / block.file).parent.mkdir(parents=True, exist_ok=True)
                (work / block.file).write_text(block.text)
            _do(block, names, files, done, capture)
    finally:
        torch.set_rng_state(generator)


def _do(block: Block, names: dict[str, object], files: set[str], done: set[str], capture: Callable[[], str]) -> None:
    if block.kind == "toml":
        tomllib.loads(block.text)
    elif block.not_run:
        for command, _ in calls(block):
            check(command, block, files, done)
    elif block.kind == "python" and not block.file:
        exec(compile(block.text, block.place, "exec"), names)
    elif block.kind == "pycon":
        test = doctest.DocTestParser().get_doctest(block.text, names, block.place, block.place, 0)
        output: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        assert not runner.run(test, out=output.append, clear_globs=False).failed, "".join(output)
        names.update(test.globs)
    elif block.kind in ("bash", "console"):
        for command, shown in calls(block):
            status, printed = run(command, capture)
            done.add(command)
            where = f"{block.place}: {command}\n{printed}"
            if block.kind == "console" and not block.reason("output varies"):
                assert matches(shown, printed), where
            fails = "foveabench: " in shown or "failed" in shown
            assert bool(status) == fails, where


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_block_is_done_or_says_why_not(page: Path) -> None:
    found = blocks(page)
    assert fences(page) == 2 * len(found), "a block that is indented, or not closed, would not be seen"
    for block in found:
        assert block.kind in KINDS, block.place
        if block.mark:
            assert any(block.reason(mark) for mark in MARKS), f"{block.place}: {block.mark!r}"
        if block.kind == "yaml":
            assert block.not_run, block.place


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere_in_the_repository_too(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for path, _, heading in (link.partition("#") for link in links if not re.match(r"https?:", link)):
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), path
        assert not heading or heading in _headings(target), f"{path}#{heading}"


def _headings(page: Path) -> set[str]:
    """Names by which GitHub links to the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_tutorial_has_ten_lines_at_most() -> None:
    first = next(block for block in blocks(DOCS / "adding-a-system.md") if block.file == "my_net.py")
    assert len([line for line in first.text.splitlines() if line]) + 1 <= 10  # and the call for the row
