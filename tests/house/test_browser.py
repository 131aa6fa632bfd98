"""The live view where it is seen: JupyterLab in a real browser."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from system import needs_system

pytest.importorskip("playwright.sync_api")

from browser import CHROMIUMS, DARK, LIGHT, PATIENCE_MS, Lab, Notebook, browsing, contrasts, serving, write_notebook
from playwright.sync_api import expect

from greenlab.text.theme import VIEW_CLASS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.browser

FOREVER = "import time\ntime.sleep(0.05)"
ENOUGH = "enough"
LATER = "later"
UNTIL_ENOUGH, UNTIL_LATER = (
    f"import os, time\nos.path.exists({name!r}) or time.sleep(0.05)" for name in (ENOUGH, LATER)
)
"""Tasks that hurry as soon as a file is there: the test has seen enough."""
CELLS = [
    # One run beforehand, so that the process that draws is not one that a test leaves.
    "%load_ext greenlab\nwarm = get_ipython().run_cell_magic('greenrun', '-n 1', 'None')\nprint('warm')",
    "%%greenrun -c 20 -n 600\nimport time\ntime.sleep(0.2)",
    f"%%greenrun -c 5 -n 1000000\n{FOREVER}",
    "%%greenrun -n 3\ni",
    "_run.plot()",
    "%%greenrun -c 5 -n 1000000\nimport time\ntime.sleep(0.05)\nif i % 50 == 7: raise ValueError(i)",
    "import sys\nsys.modules['greenlab.live.widget_display'] = None",
    f"%%greenrun -c 20 -n 2400\n{FOREVER}",
    "del sys.modules['greenlab.live.widget_display']",
    f"%%greenrace -p green,threads -c 10 -n 10_000\n{UNTIL_ENOUGH}",
    "from greenlab.lab import predict\nasked = predict('How many?', unit='feeds/s')",
    "asked.compare(500)",
    f"%%greenrun -c 20 -n 100_000 --detach\n{UNTIL_LATER}",
    "sum(range(10))",
]
WARM, SEEN, TURNED, SHORT, PLOT, FAILING, BARE, STILL, AGAIN, RACE, ASKED, COMPARED, DETACHED, BESIDE = range(
    len(CELLS)
)
IN_FLIGHT = re.compile(r"([\d,]+) in flight")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab with settings of its own, serving an empty folder."""
    needs_system(*CHROMIUMS)
    with serving(tmp_path_factory.mktemp("lab")) as served:
        yield served


@pytest.fixture(scope="module")
def page(lab: Lab) -> Iterator[Any]:
    """A page of a browser."""
    with browsing(needs_system(*CHROMIUMS)) as opened:
        yield opened


@pytest.fixture(scope="module")
def notebook(lab: Lab, page: Any) -> Notebook:
    """A notebook that has loaded greenlab."""
    made = Notebook(page, lab, "view.ipynb")
    write_notebook(made.path, CELLS)
    made.open()
    made.start(WARM)
    made.wait(WARM)
    expect(made.cell(WARM)).to_contain_text("warm")
    return made


@pytest.fixture(autouse=True)
def stopped(notebook: Notebook) -> Iterator[None]:
    """Stop the cell that a failed test has left, or it would fail all others."""
    yield
    notebook.interrupt()


def header(notebook: Notebook, place: int) -> Any:
    return notebook.cell(place).locator(".widget-html").first


def in_flight(notebook: Notebook, place: int) -> int:
    found = IN_FLIGHT.search(header(notebook, place).inner_text())
    assert found is not None
    return int(found[1].replace(",", ""))


def await_changes(image: Any, count: int) -> None:
    """Wait until an image that is there has changed so many times, by the address of its pixels."""
    changed = """(image, count) => new Promise(resolve => new MutationObserver((_, watcher) => {
        if (--count === 0) { watcher.disconnect(); resolve(); }
    }).observe(image, {attributes: true, attributeFilter: ["src"]}))"""
    image.evaluate(changed, count)


def test_a_run_is_seen_while_it_goes_on_and_leaves_its_picture(notebook: Notebook) -> None:
    cell = notebook.cell(SEEN)
    notebook.start(SEEN)
    expect(header(notebook, SEEN)).to_contain_text("/ 600 tasks", timeout=PATIENCE_MS)
    live = cell.locator("img.widget-image")
    expect(live).to_be_visible(timeout=PATIENCE_MS)
    await_changes(live, 3)
    notebook.expect_running(SEEN)
    assert live.evaluate("image => image.naturalWidth") > 760
    notebook.wait(SEEN)
    expect(notebook.picture(SEEN)).to_be_visible(timeout=PATIENCE_MS)
    assert [760, 1520] == notebook.picture(SEEN).evaluate("image => [image.width, image.naturalWidth]")
    expect(cell.locator(".jupyter-widgets")).to_have_count(0)


def test_tasks_in_flight_follow_the_slider_and_stop_gives_the_cell_back(notebook: Notebook) -> None:
    cell = notebook.cell(TURNED)
    notebook.start(TURNED)
    handle = cell.locator(".noUi-handle")
    expect(handle).to_be_visible(timeout=PATIENCE_MS)
    expect(header(notebook, TURNED)).to_contain_text("5 in flight", timeout=PATIENCE_MS)
    box, track = handle.bounding_box(), cell.locator(".noUi-target").bounding_box()
    mouse, y = notebook.page.mouse, box["y"] + box["height"] / 2
    mouse.move(box["x"] + box["width"] / 2, y)
    mouse.down()
    mouse.move(track["x"] + 0.95 * track["width"], y, steps=8)
    mouse.up()
    asked = int(cell.locator(".widget-readout").inner_text().replace(",", ""))
    assert asked > 50
    expect(header(notebook, TURNED)).to_contain_text(f"{asked} in flight", timeout=PATIENCE_MS)
    expect(header(notebook, TURNED)).to_contain_text(f"-c {asked}")
    mouse.move(track["x"] + 0.95 * track["width"], y)
    mouse.down()
    mouse.move(track["x"] + 0.1 * track["width"], y, steps=8)
    mouse.up()
    fewer = int(cell.locator(".widget-readout").inner_text())
    assert fewer < 5
    expect(header(notebook, TURNED)).to_contain_text(f"{fewer} in flight", timeout=PATIENCE_MS)
    handle.press("ArrowRight")  # the same by the keyboard
    expect(header(notebook, TURNED)).to_contain_text(f"{fewer + 1} in flight", timeout=PATIENCE_MS)
    notebook.expect_running(TURNED)

    # It would take hours to its end: that the cell comes back at all is the click's doing. How soon is printed.
    began_ms = notebook.page.evaluate("performance.now()")
    cell.get_by_role("button", name="Stop").click()
    notebook.wait(TURNED)
    print(f"from the click to the cell's end: {notebook.page.evaluate('performance.now()') - began_ms:.0f} ms")
    expect(cell).to_contain_text("latency p90", timeout=PATIENCE_MS)
    expect(cell).to_contain_text("cancelled")
    expect(notebook.picture(TURNED)).to_be_visible()


def test_a_live_view_is_told_in_words_used_by_the_keyboard_and_does_not_move_where_that_is_not_wanted(
    notebook: Notebook,
) -> None:
    page, cell = notebook.page, notebook.cell(TURNED)
    page.emulate_media(reduced_motion="reduce")
    notebook.start(TURNED)
    live = cell.locator("img.widget-image")
    expect(live).to_be_visible(timeout=PATIENCE_MS)
    expect(live).to_have_attribute("title", re.compile(r"^green run: .* [\d,]+ in flight$"))
    names = [node["name"]["value"] for node in accessible(page) if node["role"]["value"] == "image"]
    assert [name for name in names if re.match(r"green run: 1,000,000 calls: [\d,]+ of 1,000,000 tasks", name)], names
    moves = """root => [...root.querySelectorAll("*")].map(element => getComputedStyle(element))
        .filter(css => css.transitionDuration.match(/[1-9]/) || css.animationName != "none").length"""
    assert 0 == cell.locator(f".{VIEW_CLASS}").evaluate(moves)
    page.emulate_media(reduced_motion="no-preference")
    # From what stands before the view, each press of Tab goes one further.
    expect(cell.locator(".noUi-handle")).to_be_visible(timeout=PATIENCE_MS)
    cell.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Tab")
    expect(cell.locator(".noUi-handle")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(header(notebook, TURNED)).to_contain_text("6 in flight", timeout=PATIENCE_MS)
    page.keyboard.press("Shift+Tab")
    expect(cell.get_by_role("button", name="Stop")).to_be_focused()
    page.keyboard.press("Enter")
    notebook.wait(TURNED)
    expect(cell).to_contain_text("cancelled")
    expect(notebook.picture(TURNED)).to_be_visible(timeout=PATIENCE_MS)
    report = cell.locator(".greenlab-run[role=group]")
    expect(report).to_have_attribute("aria-label", re.compile(r"^green run of 1,000,000 calls: "))


def accessible(page: Any) -> list[Any]:
    """Return what assistive technology is told of a page, by the browser itself."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [node for node in nodes if not node["ignored"] and "name" in node and "role" in node]


def test_failures_are_counted_by_type_and_the_first_unfolds_and_stays_so(notebook: Notebook) -> None:
    cell = notebook.cell(FAILING)
    notebook.start(FAILING)
    expect(header(notebook, FAILING)).to_contain_text("ValueError", timeout=PATIENCE_MS)
    folded = cell.locator(".widget-html details")
    folded.locator("summary").press("Enter")
    expect(folded).to_contain_text("ValueError: 7")
    live = cell.locator("img.widget-image")
    expect(live).to_be_visible(timeout=PATIENCE_MS)
    await_changes(live, 2)
    assert folded.evaluate("details => details.open")
    cell.get_by_role("button", name="Stop").press("Enter")
    notebook.wait(FAILING)
    kept = cell.locator(".jp-RenderedHTMLCommon", has=notebook.page.locator("img"))
    expect(kept.locator("img")).to_be_visible(timeout=PATIENCE_MS)
    assert "ValueError" in kept.locator("img").get_attribute("alt")
    kept.locator("summary").click()
    expect(kept.locator("pre")).to_contain_text("ValueError: 7")


def test_without_widgets_one_picture_is_replaced_in_place(notebook: Notebook) -> None:
    notebook.start(BARE)
    notebook.wait(BARE)
    notebook.start(STILL)
    expect(notebook.picture(STILL)).to_be_visible(timeout=PATIENCE_MS)
    for _ in range(2):
        before = notebook.picture(STILL).get_attribute("src")
        expect(notebook.picture(STILL)).not_to_have_attribute("src", before, timeout=PATIENCE_MS)
        expect(notebook.picture(STILL)).to_have_count(1)
    notebook.expect_running(STILL)
    notebook.wait(STILL)
    notebook.start(AGAIN)
    notebook.wait(AGAIN)


def test_a_race_shows_one_picture_that_never_goes_away(notebook: Notebook) -> None:
    notebook.start(RACE)
    expect(notebook.picture(RACE)).to_be_visible(timeout=PATIENCE_MS)
    watch = """cell => {
        const output = cell.querySelector(".jp-Cell-outputWrapper");
        const seen = cell.seen = {lowest: 1e9, pictures: new Set()};
        const look = () => {
            seen.lowest = Math.min(seen.lowest, output.getBoundingClientRect().height);
            const images = [...output.querySelectorAll("img")];
            if (images.length != 1) { seen.pictures.add(images.length + " at once"); }
            else if (!images[0].complete || !images[0].naturalWidth) { seen.blank = (seen.blank || 0) + 1; }
            else { seen.pictures.add(images[0].src.length + images[0].src.slice(-99)); }
            if (!seen.ended) { requestAnimationFrame(look); }
        };
        look();
        return output.getBoundingClientRect().height;
    }"""
    cell = notebook.cell(RACE)
    height = cell.evaluate(watch)
    seen_two = "() => [...document.querySelectorAll('.jp-Cell')].some(c => c.seen && c.seen.pictures.size > 1)"
    notebook.page.wait_for_function(seen_two, timeout=PATIENCE_MS)
    (notebook.path.parent / ENOUGH).touch()
    notebook.wait(RACE)
    seen = cell.evaluate("cell => { cell.seen.ended = true; return [cell.seen.lowest, [...cell.seen.pictures]]; }")
    lowest, pictures = seen
    assert len(pictures) > 2
    assert [] == [each for each in pictures if each.endswith("at once")]
    assert lowest > 0.9 * height
    expect(cell).to_contain_text("race: ")


def test_the_view_of_a_detached_run_goes_on_after_its_cell_and_ends_with_the_runs_report(notebook: Notebook) -> None:
    cell = notebook.cell(DETACHED)
    notebook.start(DETACHED)
    notebook.wait(DETACHED)
    live = cell.locator("img.widget-image")
    expect(live).to_be_visible(timeout=PATIENCE_MS)
    notebook.start(BESIDE)
    notebook.wait(BESIDE)
    expect(notebook.cell(BESIDE)).to_contain_text("45")
    await_changes(live, 2)
    expect(cell).to_contain_text("still running")
    expect(cell).not_to_contain_text("so far")  # the view says it
    (notebook.path.parent / LATER).touch()
    expect(cell).to_contain_text("latency p90", timeout=PATIENCE_MS)
    expect(notebook.picture(DETACHED)).to_be_visible(timeout=PATIENCE_MS)
    expect(notebook.picture(DETACHED)).to_have_count(1)
    expect(cell.locator(".jupyter-widgets")).to_have_count(0)
    expect(cell).not_to_contain_text("running")


def test_notebook_7_shows_a_run_and_its_buttons_work_too(lab: Lab, page: Any) -> None:
    other = page.context.browser.new_page()
    idle = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
    notebook = Notebook(other, lab, "seven.ipynb", idle=idle, where="notebooks")
    write_notebook(notebook.path, [CELLS[WARM], CELLS[TURNED]])
    try:
        notebook.open()
        notebook.start(0)
        notebook.wait(0)
        cell = notebook.cell(1)
        notebook.start(1)
        expect(header(notebook, 1)).to_contain_text("5 in flight", timeout=PATIENCE_MS)
        live = cell.locator("img.widget-image")
        expect(live).to_be_visible(timeout=PATIENCE_MS)
        await_changes(live, 2)
        cell.get_by_role("button", name="Stop").click()
        notebook.wait(1)
        expect(cell).to_contain_text("latency p90", timeout=PATIENCE_MS)
        expect(notebook.picture(1)).to_be_visible(timeout=PATIENCE_MS)
    finally:
        other.close()


def test_a_plot_shows_itself(notebook: Notebook) -> None:
    notebook.start(SHORT)
    notebook.wait(SHORT)
    notebook.start(PLOT)
    notebook.wait(PLOT)
    expect(notebook.picture(PLOT)).to_be_visible(timeout=PATIENCE_MS)


def test_a_saved_notebook_has_the_picture_and_no_trace_of_widgets(notebook: Notebook) -> None:
    notebook.start(SHORT)
    notebook.wait(SHORT)
    expect(notebook.picture(SHORT)).to_be_visible(timeout=PATIENCE_MS)
    saved = notebook.saved()
    assert "widgets" not in saved["metadata"]
    shown = saved["cells"][SHORT]["outputs"][0]
    assert {"image/png", "text/plain"} == set(shown["data"])
    assert "green run: 3 calls\n" == shown["data"]["text/plain"][0]


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_a_page_that_is_loaded_again_still_shows_the_last_picture_and_reads_well(
    lab: Lab, page: Any, notebook: Notebook, theme: str
) -> None:
    notebook.start(SHORT)
    notebook.wait(SHORT)
    notebook.saved()
    lab.set("apputils-extension/themes", {"theme": theme})
    notebook.open()
    expect(notebook.picture(SHORT)).to_be_visible(timeout=PATIENCE_MS)
    assert notebook.picture(SHORT).evaluate("image => image.naturalWidth") == 1520
    expect_turned_round(notebook.picture(SHORT), turned=theme == DARK)
    notebook.start(TURNED)
    expect(header(notebook, TURNED)).to_contain_text("in flight", timeout=PATIENCE_MS)
    found = contrasts(header(notebook, TURNED))
    live = notebook.cell(TURNED).locator("img.widget-image")
    expect(live).to_be_visible(timeout=PATIENCE_MS)
    for is_light in (theme != LIGHT, theme == LIGHT):  # as JupyterLab does it when the theme changes
        page.evaluate("light => { document.body.dataset.jpThemeLight = light; }", str(is_light).lower())
        for picture in (live, notebook.picture(SHORT)):
            expect_turned_round(picture, turned=not is_light)
    # Not by Stop, which has tests of its own: a click in the moment after a page was loaded may come before JupyterLab
    # has the subshell that it sends clicks to, and then waits for the cell.
    notebook.interrupt()
    notebook.wait(TURNED)
    assert "-c 5" in found
    assert {} == {words: ratio for words, ratio in found.items() if ratio < 4.5}  # WCAG 2, level AA


def expect_turned_round(picture: Any, *, turned: bool) -> None:
    """Fail unless what is light in a picture is dark on the page, or is as it was drawn."""
    expect(picture).to_have_css("filter", "invert(0.93) hue-rotate(180deg)" if turned else "none")


def test_nbconvert_makes_a_page_that_shows_picture_and_numbers(notebook: Notebook, page: Any) -> None:
    notebook.saved()
    made = notebook.path.with_suffix(".html")
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", str(notebook.path)], check=True, capture_output=True
    )
    other = page.context.browser.new_page()
    try:
        other.goto(made.as_uri())
        cells = other.locator(".jp-Cell")
        for place in (SEEN, FAILING, STILL):
            picture = cells.nth(place).locator("img")
            expect(picture).to_be_visible()
            assert picture.evaluate("image => image.naturalWidth") == 1520
            expect(cells.nth(place)).to_contain_text("latency p90")
        cells.nth(FAILING).locator("summary").first.click()
        expect(cells.nth(FAILING).locator("pre", has_text="ValueError: 7").first).to_be_visible()
        expect(other.get_by_text("Loading widget")).to_have_count(0)
    finally:
        other.close()


def test_a_guess_that_is_typed_takes_the_fields_place_and_stands_beside_the_outcome(notebook: Notebook) -> None:
    notebook.start(ASKED)
    notebook.wait(ASKED)
    field = notebook.cell(ASKED).locator("input[type=text]")
    field.fill("250")
    field.press("Enter")
    expect(notebook.cell(ASKED)).to_contain_text("your guess: 250 feeds/s")
    expect(field).to_have_count(0)
    notebook.start(COMPARED)
    notebook.wait(COMPARED)
    expect(notebook.cell(COMPARED)).to_contain_text("your guess was 2.0 times too low")
