"""Whether everybody can read the report: axe-core's judgement, landmarks, headings, and the order of the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_material import PATIENCE


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Any]:
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme=request.param, offline=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(page_file.as_uri())
    yield page
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(page: Any, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    page.set_viewport_size({"width": width, "height": 900})
    for details in page.locator("details").all():
        details.evaluate("node => node.open = true")
    # further rows are made as the first ones are, and axe would look at each cell for seconds
    page.evaluate("document.querySelectorAll('tbody tr:nth-child(n + 4)').forEach((row) => row.remove())")
    page.locator("#table-1 thead button").first.click()
    page.locator("#accuracy-plot .point[tabindex='0']").focus()
    found = axe.run(page).response
    told = [
        f"{each['impact']}: {each['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]
    assert told == []
    assert len(found["passes"]) > 20  # it did look


def test_landmarks_and_headings_are_in_order(page: Any) -> None:
    for role in ("banner", "main", "navigation", "contentinfo"):
        assert page.get_by_role(role).count() == 1
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map((each) => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    named = page.locator("section").evaluate_all("all => all.map((each) => each.getAttribute('aria-labelledby'))")
    assert all(page.locator(f"#{name}").count() == 1 for name in named)
    assert page.locator("table").count() == page.locator("table > caption").count()


def test_the_keyboard_goes_through_the_page_in_its_order(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    stops = []
    for _ in range(40):
        page.keyboard.press("Tab")
        stops.append(
            page.evaluate(
                "(() => { const node = document.activeElement; const all = [...document.querySelectorAll('*')];"
                " const mark = node.closest('.point, .layer') !== null;"
                " const ring = mark || getComputedStyle(node).outlineStyle !== 'none';"
                " return [all.indexOf(node), ring]; })()"
            )
        )
    places = [place for place, _ in stops]
    assert places == sorted(places)  # the order of the keyboard is that of the page
    assert len(set(places)) == 40
    assert all(ring for _, ring in stops)  # where the keyboard is can be seen
