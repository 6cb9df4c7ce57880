"""The report in a real browser, with the network cut: everything that can be done with it, by mouse and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from parsed import Parsed
from report_material import PATIENCE

from bench.records.layers import read_layers

Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, page_file: Path) -> Iterator[Open]:
    """Opens the report; whatever it logs, throws or asks the network for fails the test."""
    contexts, troubles = [], []

    def opened(width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        asked: list[str] = []
        page.goto(page_file.as_uri())
        assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture
def page(open_page: Open) -> Any:
    return open_page()


@pytest.fixture(scope="module")
def data(page_file: Path) -> Any:
    return Parsed(page_file.read_text()).data


def texts(page: Any, table: str, heading: str) -> list[str]:
    """Texts of the visible rows in the column of a heading's button."""
    return page.evaluate(
        """([table, heading]) => {
            const headings = [...document.querySelectorAll(`#${table} thead tr:last-child th`)];
            const place = headings.findIndex((each) => each.querySelector(".words").textContent === heading);
            const rows = [...document.querySelectorAll(`#${table} tbody tr`)].filter((row) => !row.hidden);
            return rows.map((row) => row.cells[place].textContent);
        }""",
        [table, heading],
    )


def heading(page: Any, table: str, words: str) -> Any:
    return page.locator(
        f"#{table} thead tr:last-child th", has=page.get_by_role("button", name=words, exact=True)
    ).first


def values(cells: list[str]) -> list[float]:
    return [float(text.replace("\N{MINUS SIGN}", "-").partition(" ")[0]) for text in cells if text]


def points(page: Any, plot: str) -> list[str]:
    return [node.get_attribute("data-system") for node in page.locator(f"#{plot} .point").all()]


# --- tables ---


def test_tables_are_sorted_by_a_click_either_way_and_back(page: Any) -> None:
    before, head = texts(page, "table-1", "M params"), heading(page, "table-1", "M params (counted)")
    assert head.get_attribute("aria-sort") is None
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    falling = texts(page, "table-1", "M params")
    assert values(falling) == sorted(values(before), reverse=True) != values(before)
    assert all(falling[: len(values(falling))])  # what is empty comes last
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    rising = texts(page, "table-1", "M params")
    assert values(rising) == sorted(values(before))
    assert all(rising[: len(values(rising))])
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") is None
    assert texts(page, "table-1", "M params") == before


def test_tables_are_sorted_by_the_keyboard_and_only_by_one_column(page: Any) -> None:
    first, second = (heading(page, "table-2", words) for words in ("System", "Model"))
    first.get_by_role("button").click()
    second.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert [each.get_attribute("aria-sort") for each in (first, second)] == [None, "ascending"]
    names = texts(page, "table-2", "Model")
    assert names == sorted(names)


def test_differences_are_sorted_by_sign(page: Any) -> None:
    page.locator("#table-1 thead button", has_text="difference").first.click()
    found = values(texts(page, "table-1", "difference"))
    assert found == sorted(found, reverse=True)
    assert found[0] > 0 > found[-1]


@pytest.mark.parametrize(
    ("typed", "systems"),
    [
        ("s3-t4", {"epic/s3-t4"}),
        ("S₃,T₄", {"epic/s3-t4"}),
        ("s_3,t_4", {"epic/s3-t4"}),
        ("epic/s2 no", {"epic/s2-t1", "epic/s2-t2", "epic/s2-t3"}),
        ("nothing like it", set()),
    ],
)
def test_rows_are_filtered_by_text(page: Any, typed: str, systems: set[str]) -> None:
    status, rows = page.locator("#table-2 output"), len(texts(page, "table-2", "System"))
    assert status.inner_text() == f"{rows} rows"
    page.locator("#table-2 input[type=search]").fill(typed)
    found = set(texts(page, "table-2", "System"))
    assert systems <= found if typed.startswith("epic") else found == systems
    assert status.inner_text() == f"{len(found)} of {rows} rows"
    page.locator("#table-2 input[type=search]").fill("")
    assert status.inner_text() == f"{rows} rows"


def test_columns_are_filtered_by_kind(page: Any) -> None:
    table = page.locator("#table-1")
    assert table.locator("th[data-kind=published]:visible").count() > 3
    table.get_by_role("checkbox", name="published").uncheck()
    assert table.locator("th[data-kind=published]:visible, td.published:visible").count() == 0
    assert table.locator("th[data-kind=counted]:visible").count() > 3
    # a group over two of three columns, and none where it has none left
    assert table.locator("th[scope=colgroup]:visible", has_text="GFLOPs per %").get_attribute("colspan") == "2"
    assert table.locator("th[scope=colgroup]:visible", has_text="Accuracy").count() == 0
    table.get_by_role("checkbox", name="published").check()
    assert table.locator("th[data-kind=published]:visible").count() > 3


# --- the plot of accuracy against cost ---


def pareto(points: list[dict[str, Any]], cost: str, kind: str) -> set[str]:
    """By brute force: points that no other is as good as in both, and better in one."""
    found = set()
    known = [point for point in points if cost in point["cost"] and kind in point["accuracy"]]
    for own in known:
        x, y = own["cost"][cost][0], own["accuracy"][kind][0]
        others = [(each["cost"][cost][0], each["accuracy"][kind][0]) for each in known]
        if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in others):
            found.add(own["system"])
    return found


def test_axes_and_data_sets_are_chosen(page: Any, data: Any) -> None:
    combinations = 0
    for each in data["accuracy"]["data"]:
        page.select_option("#accuracy-data", each["name"])
        kinds = page.locator("#accuracy-kind option").evaluate_all("all => all.map((each) => each.value)")
        costs = page.locator("#accuracy-cost option").evaluate_all("all => all.map((each) => each.value)")
        assert set(costs) == {cost for point in each["points"] for cost in point["cost"]}
        for kind in kinds:
            page.select_option("#accuracy-kind", kind)
            for cost in costs:
                page.select_option("#accuracy-cost", cost)
                both = [point for point in each["points"] if cost in point["cost"] and kind in point["accuracy"]]
                assert sorted(points(page, "accuracy-plot")) == sorted(point["system"] for point in both)
                axis = data["accuracy"]["axes"][cost]
                assert f"{axis['label']}, {axis['kind']}" in page.locator("#accuracy-plot svg").first.get_attribute(
                    "aria-label"
                )
                marked = page.locator("#accuracy-plot .point[aria-label$='on the Pareto front']")
                front = {node.get_attribute("data-system") for node in marked.all()}
                assert front == pareto(each["points"], cost, kind)
                combinations += 1
    assert combinations >= 12


def test_points_lie_where_their_values_are(page: Any, data: Any) -> None:
    epic = next(each for each in data["accuracy"]["data"] if each["name"] == "epic")
    known = {each["system"]: each for each in epic["points"]}
    page.select_option("#accuracy-cost", "published")
    boxes = {
        node.get_attribute("data-system"): node.locator(".shape").bounding_box()
        for node in page.locator("#accuracy-plot .point").all()
    }
    x = {system: box["x"] + box["width"] / 2 for system, box in boxes.items()}
    first, second, third = "epic/s0", "epic/tbn-raf", "epic/slowfast-r101-8x8"
    cost = {system: known[system]["cost"]["published"][0] for system in (first, second, third)}
    expected = (cost[second] - cost[first]) / (cost[third] - cost[first])
    assert (x[second] - x[first]) / (x[third] - x[first]) == pytest.approx(expected, abs=0.01)
    assert boxes["epic/tbn-raf"]["y"] < boxes["epic/s0"]["y"]  # more accurate is higher


def shown_range(page: Any, plot: str = "accuracy-plot") -> float:
    """Pixels from the first point to the last."""
    return page.evaluate(
        """(plot) => {
            const nodes = [...document.querySelectorAll(`#${plot} .point .shape`)];
            const places = nodes.map((node) => node.getBoundingClientRect().x);
            return Math.max(...places) - Math.min(...places);
        }""",
        plot,
    )


def test_the_plot_is_zoomed_by_buttons(page: Any) -> None:
    whole = shown_range(page)
    status = page.locator("#accuracy-plot .zoom output")
    page.get_by_role("button", name="Zoom in: Accuracy against cost").click()
    assert shown_range(page) == pytest.approx(whole / 0.6, rel=0.01)
    assert status.inner_text().startswith("Zoomed: x from ")
    page.get_by_role("button", name="Zoom out: Accuracy against cost").click()
    assert shown_range(page) == pytest.approx(whole, rel=0.01)
    page.get_by_role("button", name="Zoom in: Accuracy against cost").click()
    page.get_by_role("button", name="Reset the zoom: Accuracy against cost").click()
    assert shown_range(page) == pytest.approx(whole, rel=0.01)
    assert status.inner_text() == "Everything is shown"


def test_the_plot_is_zoomed_by_a_rectangle_the_wheel_and_keys(page: Any) -> None:
    canvas = page.locator("#accuracy-plot .canvas")
    canvas.evaluate("node => node.scrollIntoView({ block: 'center', behavior: 'instant' })")
    whole, box = shown_range(page), canvas.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 300, steps=4)
    assert page.locator("#accuracy-plot .selection").count() == 1
    page.mouse.up()
    assert shown_range(page) > 2 * whole
    page.mouse.dblclick(box["x"] + 300, box["y"] + 30)
    assert shown_range(page) == pytest.approx(whole, rel=0.01)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    page.wait_for_function("document.querySelector('#accuracy-plot .zoom output').textContent.startsWith('Zoomed')")
    assert shown_range(page) == pytest.approx(whole / 0.8, rel=0.01)
    page.locator("#accuracy-plot .point[tabindex='0']").focus()
    page.keyboard.press("0")
    assert shown_range(page) == pytest.approx(whole, rel=0.01)
    focused = page.evaluate("document.activeElement.dataset.system")
    page.keyboard.press("+")
    assert shown_range(page) == pytest.approx(whole / 0.6, rel=0.01)
    assert page.evaluate("document.activeElement.dataset.system") == focused  # the keyboard stays where it was
    page.keyboard.press("-")
    assert shown_range(page) == pytest.approx(whole, rel=0.01)


def test_a_point_says_what_it_is_by_keyboard_and_by_mouse(page: Any) -> None:
    tooltip = page.locator("#accuracy-plot .tooltip")
    assert not tooltip.is_visible()
    page.get_by_role("button", name="Reset the zoom: Accuracy against cost").focus()
    page.keyboard.press("Tab")  # the points are one stop
    assert tooltip.is_visible()
    cheapest = page.evaluate("document.activeElement.dataset.system")
    assert cheapest in tooltip.inner_text()
    assert re.search(r"[\d.]+ % top-1, published", tooltip.inner_text())
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label == "; ".join(tooltip.inner_text().split("\n\n")) or label.split("; ") == [
        line for line in tooltip.inner_text().splitlines() if line
    ]
    page.keyboard.press("ArrowRight")
    following = page.evaluate("document.activeElement.dataset.system")
    assert following != cheapest
    assert following in tooltip.inner_text()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.system") == points(page, "accuracy-plot")[-1]
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.dataset.system") == cheapest
    page.keyboard.press("Escape")
    assert not tooltip.is_visible()
    assert page.evaluate("document.activeElement.dataset.system") == cheapest
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.locator("#accuracy-plot .point[data-system='epic/tbn-raf']").hover()
    assert "TBN (R+A+F)" in tooltip.inner_text()
    box, host = tooltip.bounding_box(), page.locator("#accuracy-plot").bounding_box()
    assert host["x"] <= box["x"]
    assert box["x"] + box["width"] <= host["x"] + host["width"] + 1
    page.mouse.move(5, 5)
    assert not tooltip.is_visible()


def test_a_point_that_the_keyboard_goes_to_comes_into_view(page: Any) -> None:
    page.locator("#accuracy-plot .point[tabindex='0']").focus()
    for _ in range(4):
        page.keyboard.press("+")
    page.keyboard.press("End")
    last = points(page, "accuracy-plot")[-1]
    assert page.evaluate("document.activeElement.dataset.system") == last
    box = page.locator(f"#accuracy-plot .point[data-system='{last}'] .shape").bounding_box()
    host = page.locator("#accuracy-plot .canvas").bounding_box()
    assert host["x"] < box["x"] < host["x"] + host["width"]


@pytest.mark.parametrize("plot", ["accuracy-plot", "speed-ups-plot"])
def test_plots_are_tables_too(page: Any, plot: str) -> None:
    page.locator(f"#{plot} details summary").click()
    page.locator(f"#{plot} details tbody th").first.wait_for()  # filled once it is open
    rows = page.locator(f"#{plot} details tbody th").all_inner_texts()
    assert sorted(rows) == sorted(points(page, plot))
    assert page.locator(f"#{plot} details caption").count() == 1
    if plot == "accuracy-plot":  # the open table follows the choice
        page.select_option("#accuracy-data", "mini")
        assert set(page.locator(f"#{plot} details tbody th").all_inner_texts()) == {
            "mini/s3",
            "mini/s3-t2",
            "mini/tbn-ra",
        }
        assert "mini" in page.locator(f"#{plot} details caption").text_content()


def test_speed_ups_are_beside_the_diagonal(page: Any, data: Any) -> None:
    (speed_up,) = data["speedUps"]
    assert points(page, "speed-ups-plot") == ["epic/s3-t4"]
    assert page.locator("#speed-ups-plot .diagonal").count() == 1
    label = page.locator("#speed-ups-plot .point").get_attribute("aria-label")
    assert f"{speed_up['counted'][0]:.3f} by operations, counted" in label


# --- layers ---


def test_any_system_is_explored_layer_by_layer(page: Any, folder: Path) -> None:
    file = read_layers(folder / "layers.json")
    offered = page.locator("#layers-system option").evaluate_all("all => all.map((each) => each.value)")
    assert set(offered) == set(file.systems)
    for system, convention in (("ucf101/s3-t4", "exact"), ("resnet50", "paper"), ("epic/slowfast-r101-8x8", "exact")):
        layers = [layer for stage in file.systems[system] for layer in file.layers[stage.place]]
        page.select_option("#layers-system", system)
        page.select_option("#layers-convention", convention)
        total = sum(getattr(layer, convention) for layer in layers)
        for depth in page.locator("#layers-depth option").evaluate_all("all => all.map((each) => each.value)"):
            page.select_option("#layers-depth", depth)
            last = page.locator("#layers-plot .layer").last.get_attribute("aria-label")
            assert float(re.search(r"([\d.]+) GFLOPs so far", last)[1]) == pytest.approx(total / 1e9, rel=1e-3)
        assert page.locator("#layers-plot .bar").count() == len(layers)  # every layer
        heights = page.locator("#layers-plot .bar").evaluate_all("all => all.map((each) => each.height.baseVal.value)")
        most = max(range(len(layers)), key=lambda place: getattr(layers[place], convention))
        assert max(heights) == pytest.approx(heights[most])
        own, largest = getattr(layers[len(layers) // 2], convention), getattr(layers[most], convention)
        assert heights[len(layers) // 2] / max(heights) == pytest.approx(own / largest, abs=0.01)


def test_stages_of_an_adaptive_system_are_named(page: Any) -> None:
    page.select_option("#layers-system", "epic/s3-t4")
    named = page.locator("#layers-plot svg text").all_text_contents()
    assert {"scan", "decide", "hallucinate", "look", "classify"} <= set(named)


def test_layers_are_gone_through_by_keyboard(page: Any) -> None:
    page.select_option("#layers-system", "san19")
    page.locator("#layers-plot .layer[tabindex='0']").focus()
    tooltip = page.locator("#layers-plot .tooltip")
    first = tooltip.inner_text()
    page.keyboard.press("ArrowRight")
    assert tooltip.inner_text() != first
    page.keyboard.press("End")
    assert "so far" in tooltip.inner_text()
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused == page.locator("#layers-plot .layer").last.get_attribute("aria-label")
    page.locator("#layers-plot details summary").click()
    assert page.locator("#layers-plot details tbody tr").count() == page.locator("#layers-plot .bar").count()


def test_sizes_follow_the_convention(page: Any) -> None:
    labels = []
    for convention in ("paper", "exact"):
        page.select_option("#layers-convention", convention)
        labels.append(page.locator("#sizes-plot .point[data-system='N = 112']").get_attribute("aria-label"))
    assert labels[0].startswith("3 × 112 × 112; 0.8924 GFLOPs, paper convention")
    assert labels[0] != labels[1]


# --- decisions, themes, the whole ---


def test_decisions_of_a_system_are_shown_with_where_they_come_from(page: Any, data: Any) -> None:
    for strip in data["strips"]:
        page.select_option("#decisions-system", strip["system"])
        rows = page.locator("#decisions-strips tbody tr")
        assert rows.count() == len(strip["clips"])
        letters = "".join(rows.first.locator(".decision").all_inner_texts())
        assert letters == strip["clips"][0]["decisions"]
        note = page.locator("#decisions-strips .aside").inner_text()
        assert ("Not of real clips" in note) == (strip["source"] == "published")
    assert page.locator("#decisions-strips .decision.prescan").first.get_attribute("title") == "only pre-scanned"


def test_the_theme_follows_the_system_until_it_is_chosen(open_page: Open) -> None:
    light, dark = open_page(color_scheme="light"), open_page(color_scheme="dark")

    def ground(page: Any) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert ground(light) > 700
    assert ground(dark) < 100
    button = dark.get_by_role("button", name="Theme: auto")
    button.click()
    assert dark.locator("#theme").inner_text() == "Theme: light"
    assert ground(dark) == ground(light)
    dark.keyboard.press("Enter")
    assert (dark.locator("#theme").inner_text(), ground(dark) < 100) == ("Theme: dark", True)
    dark.keyboard.press("Enter")
    assert dark.locator("#theme").inner_text() == "Theme: auto"


def test_environments_unfold(page: Any) -> None:
    first = page.locator(".environment").first
    assert not first.locator("table").is_visible()
    first.locator("summary").first.press("Enter")
    assert first.locator("table").is_visible()
    assert "Imaginary 9000" in first.locator(".values").inner_text()


@pytest.mark.parametrize("width", [360, 390, 768, 1280, 1920])
def test_the_page_never_scrolls_sideways(open_page: Open, width: int) -> None:
    page = open_page(width=width)
    for summary in page.locator("details").all():
        summary.evaluate("node => node.open = true")
    page.select_option("#layers-depth", "every")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # all is drawn
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_numbers_line_up(page: Any) -> None:
    edges = page.locator("#table-1 tbody td:nth-child(7)").evaluate_all(
        """all => all.filter((cell) => cell.textContent).map((cell) => {
            const range = document.createRange();
            range.selectNodeContents(cell);
            return Math.round(range.getBoundingClientRect().right);
        })"""
    )
    assert len(set(edges)) == 1
    assert "tabular-nums" in page.evaluate("getComputedStyle(document.querySelector('table')).fontVariantNumeric")


def test_without_scripts_everything_but_the_plots_is_there(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    for table in range(1, 6):
        assert page.locator(f"#table-{table}").is_visible()
    assert page.locator("noscript p").is_visible()
    assert not page.locator("#accuracy .controls").is_visible()
