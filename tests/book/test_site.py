"""The built site, opened as a reader opens it: offline, in a browser, on a phone and at a desk."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import joblib
import pytest
from bs4 import BeautifulSoup
from pages import drawn, opened, settled

from lmclib.book.chapters import chapter_names, page_names
from lmclib.book.execute import OWN, TRIES
from lmclib.book.kernels import ReadyKernels
from lmclib.root import ROOT

CHAPTERS = chapter_names()


NO_FIGURE_FIRST = ("ledger", "solutions", "your_models")  # the last has its command first
WIDTHS = {"phone": 390, "desk": 1440}


@pytest.fixture(scope="session")
def windows(browser):
    """A window of each width, whose pages share what was loaded."""
    return {name: browser.new_context(viewport={"width": width, "height": 900}) for name, width in WIDTHS.items()}


@pytest.fixture(params=WIDTHS)
def page(request, windows):
    """A page that can reach nothing but this machine; `page.trouble` collects what went wrong."""
    page = windows[request.param].new_page()
    page.trouble = []

    def note(request):
        if not request.url.startswith(("http://127.0.0.1", "file://", "data:")):
            page.trouble.append(f"request off the site: {request.url}")

    page.on("request", note)
    page.on("response", lambda response: response.status >= 400 and page.trouble.append(f"missing: {response.url}"))
    page.on("console", lambda message: message.type == "error" and page.trouble.append(message.text))
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    yield page
    page.evaluate(
        "() => { if (location.protocol !== 'about:') localStorage.clear() }"
    )  # the next reader is another one
    page.close()


TABS = "[...document.querySelectorAll('.lmc-tabs')].map(e => e.querySelectorAll(':scope > input').length)"
LOOK = """[...document.querySelectorAll('.lmc-chart')].filter(e => e.offsetParent).map(e => {
    const svg = e.querySelector('svg.marks');
    return {
        id: e.id,
        marks: svg.querySelectorAll('.mark-group > *, .role-mark > *').length,
        said: e.getAttribute('aria-label'),
        shown: svg.clientWidth,
        natural: svg.width.baseVal.value,
        numbered: !!e.closest('figure').querySelector('.caption-number'),
    };
})"""


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_page_opens_and_every_chart_is_drawn(chapter, page, site):
    opened(page, f"{site}/book/{chapter}.html")
    if page.viewport_size["width"] == WIDTHS["desk"] and chapter not in NO_FIGURE_FIRST:
        assert page.locator(".lmc-chart").first.bounding_box()["y"] < 800, "the first figure is below the first screen"
    seen, tabs = set(), page.evaluate(TABS)
    for tab in range(max([1, *tabs])):
        page.evaluate(
            "tab => document.querySelectorAll(`.lmc-tabs > input:nth-of-type(${tab + 1})`).forEach(e => e.click())", tab
        )
        drawn(page)
        for chart in page.evaluate(LOOK):
            seen.add(chart["id"])
            assert chart["marks"], f"{chart['id']} is empty"
            assert len(chart["said"]) > 30, "alt text says too little"
            assert chart["shown"] >= 0.99 * chart["natural"], "shrunk, and its text with it"
            assert chart["numbered"], "no figure number"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the screen"
    assert len(seen) == page.locator(".lmc-chart").count()
    assert not page.trouble


FIGURES = {
    "preface": 1,
    "toy_barriers": 5,
    "resnet_forking": 4,
    "deep_linear": 4,
    "layerwise_barriers": 5,
    "hessian_predictions": 5,
    "beyond_second_order": 3,
    "architectures": 2,
    "learning_rate": 2,
    "federated": 4,
    "robustness": 4,
    "your_models": 2,
    "scaling_out": 1,
}


@pytest.mark.parametrize("chapter", FIGURES)
def test_charts_exist_where_they_should(chapter, book):
    page = (book / f"html/book/{chapter}.html").read_text()
    again = page.count('class="lmc-pane"') - page.count('class="lmc-tabs"')  # a figure at every further scale
    assert page.count('class="lmc-chart"') - again == FIGURES[chapter]


def spec(chart) -> dict:
    """A chart's specification, from the call that draws it."""
    script = chart.evaluate("e => e.nextElementSibling.textContent")
    return json.JSONDecoder().raw_decode(script[script.index("{") :])[0]


def bars(chart) -> dict[str, float]:
    """What a chart's bars say to a screen reader: value by name."""
    said = chart.locator("path[aria-roledescription=bar]").evaluate_all("all => all.map(e => e.ariaLabel)")
    numbers = (re.search(r"nats: (\S+); what: ([^;]+)", text).groups() for text in said)
    return {name: float(value.replace("\u2212", "-")) for value, name in numbers}


def test_ticked_layers_are_summed_in_the_page(page, site):
    """The prediction is the sum over the ticked block of the matrix; the bar beside it is that very set's."""
    opened(page, f"{site}/book/hessian_predictions.html")
    at_own_scale(page)
    chart = seen_chart(page, 2)
    boxes, drawn = chart.locator("input[type=checkbox]"), spec(chart)
    matrix = next(rows for rows in drawn["datasets"].values() if "published" in rows[0])
    sets = next(param["value"] for param in drawn["params"] if param["name"] == "measured")
    ticked = set(range(boxes.count()))
    for unticked in ([], [0], list(range(2, boxes.count()))):
        for i in unticked:
            boxes.nth(i).uncheck()
        ticked -= set(unticked)
        settled(page)
        block = [row for row in matrix if {row["i"], row["j"]} <= ticked]
        shown = bars(chart)
        assert shown["actual"] == pytest.approx(
            sets["".join(str(int(i in ticked)) for i in range(boxes.count()))], rel=1e-3
        )
        assert shown["as published"] == pytest.approx(sum(row["published"] for row in block), rel=1e-3, abs=1e-5)
        assert shown["with gradients"] == pytest.approx(sum(row["gradient"] for row in block), rel=1e-3, abs=1e-5)
    boxes.nth(1).uncheck()
    settled(page)
    assert "actual" not in bars(chart)  # no layer is left
    assert not page.trouble


def at_own_scale(page) -> None:
    """Turn every figure that has tabs to the last one, which is the scale at which the book was built."""
    for tab in page.locator(".lmc-tabs > input:last-of-type").all():
        # not by the mouse, as figures above may still grow while they are drawn, and the place moves
        tab.evaluate("e => e.click()")
        assert tab.is_checked()
    drawn(page)


def seen_chart(page, index: int):
    """One of the charts that are seen, by its own name, as more may come to be seen."""
    name = page.locator(".lmc-chart:visible").nth(index).get_attribute("id")
    return page.locator(f"#{name}")


def moved(chart, control: str) -> tuple[str, str]:
    """A chart's title before and after a control is moved to its other end."""
    title = chart.locator("svg .role-title-text").last
    before, picture = title.text_content(), chart.locator("svg.marks").inner_html()
    inputs = chart.locator(f"input[name={control}]")
    if inputs.count() > 1:
        (inputs.first if inputs.last.is_checked() else inputs.last).check()
    else:
        inputs.evaluate("e => { e.value = e.min; e.dispatchEvent(new Event('input')); }")
    chart.page.wait_for_function(
        "([e, before]) => e.innerHTML !== before", arg=[chart.locator("svg.marks").element_handle(), picture]
    )
    return before, title.text_content()


CONTROLS = {  # by chapter: the number of a figure that is seen, and its control
    "resnet_forking": [(0, "fork_at_fork"), (0, "epoch_at_epoch"), (2, "bump_below")],
    "layerwise_barriers": [(0, "fork"), (0, "epoch"), (2, "epoch")],
    "hessian_predictions": [(1, "fork")],
    "deep_linear": [(0, "depth")],
    "toy_barriers": [(3, "alpha")],
    "robustness": [(0, "layer"), (1, "sigma"), (2, "version")],
}


@pytest.mark.parametrize("chapter", CONTROLS)
def test_controls_change_the_picture_and_its_title(chapter, page, site):
    opened(page, f"{site}/book/{chapter}.html")
    at_own_scale(page)
    for index, name in CONTROLS[chapter]:
        before, after = moved(seen_chart(page, index), name)
        assert before != after or name == "bump_below", name  # a threshold may part no two barriers
    assert not page.trouble


@pytest.mark.parametrize("chapter", ["preface", "resnet_forking"])
def test_dragging_along_the_parents_curve_moves_the_fork(chapter, page, site):
    opened(page, f"{site}/book/{chapter}.html")
    chart = page.locator(".lmc-chart").first
    handles = chart.locator("svg.marks path[aria-roledescription=point][aria-label*='fork at epoch']")
    handles.first.scroll_into_view_if_needed()
    start, end = handles.first.bounding_box(), handles.last.bounding_box()
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=6)
    page.mouse.up()
    settled(page)
    assert chart.locator("input[name=fork_at_fork]").last.is_checked()
    assert not page.trouble


def test_play_steps_through_the_forks_and_ends(page, site):
    page.clock.install()
    opened(page, f"{site}/book/resnet_forking.html")
    chart = page.locator(".lmc-chart").first
    button, forks = chart.get_by_role("button", name="Play"), chart.locator("input[name=fork_at_fork]")
    button.click()
    for _ in range(forks.count()):
        page.clock.fast_forward(1000)
    assert forks.last.is_checked()
    assert chart.get_by_role("button", name="Play").count() == 1  # it stopped by itself
    chart.get_by_role("button", name="Play").click()  # once more, from the first
    assert forks.first.is_checked()
    chart.get_by_role("button", name="Stop").click()
    page.clock.fast_forward(2000)
    assert forks.first.is_checked()
    assert not page.trouble


def test_a_phone_that_is_turned_keeps_what_was_chosen(page, site):
    opened(page, f"{site}/book/resnet_forking.html")
    chart = page.locator(".lmc-chart").first
    chart.locator("input[name=fork_at_fork]").last.click()
    chart.locator("input[name=measure]").last.click()
    now = page.viewport_size["width"]
    before = chart.locator("svg.marks").element_handle()
    page.set_viewport_size({"width": 1400 if now < 600 else 390, "height": 900})
    page.wait_for_function("old => !old.isConnected", arg=before)
    drawn(page)
    assert chart.locator("input[name=fork_at_fork]").last.is_checked()
    assert chart.locator("input[name=measure]").last.is_checked()
    fork = chart.locator("input[name=fork_at_fork]").last.input_value()
    assert chart.locator("svg .role-title-text", has_text=f"Forked at epoch {fork}").count() == 1
    assert not page.trouble


def test_charts_take_the_colour_of_the_pages_text(page, site):
    opened(page, f"{site}/book/toy_barriers.html")
    for theme in ("dark", "light"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        settled(page)
        fill = page.locator(".lmc-chart svg .role-title-text text").first.evaluate("e => getComputedStyle(e).fill")
        assert fill == page.evaluate("getComputedStyle(document.body).color"), theme
        card = page.locator(".text_html:has(.lmc-chart)").first.evaluate("e => getComputedStyle(e).backgroundColor")
        assert card == "rgba(0, 0, 0, 0)", f"a card of its own on the {theme} page"


def test_a_charts_menu_saves_its_data(page, site):
    opened(page, f"{site}/book/toy_barriers.html")
    chart = page.locator(".lmc-chart").nth(1)
    chart.locator("summary").click()
    with page.expect_download() as saved:
        chart.get_by_text("(CSV)").first.click()
    lines = saved.value.path().read_text().splitlines()
    assert "barrier" in lines[0].split(",")
    rows = max(spec(chart)["datasets"].values(), key=len)
    assert len(lines) == len(rows) + 1


@pytest.mark.parametrize(("index", "name", "lane"), [(0, "m1", "minimum 1"), (2, "t2", "end 2")])
def test_minima_and_ends_are_dragged_along_their_lanes(index, name, lane, page, site):
    opened(page, f"{site}/book/toy_barriers.html")
    chart = page.locator(".lmc-chart").nth(index)
    handle = chart.locator(f"svg.marks path[aria-roledescription=point][aria-label*='{lane}']")
    handle.scroll_into_view_if_needed()
    title, slider = chart.locator("svg .role-title-text").last, chart.locator(f"input[name={name}_at_place]")
    said, box = title.text_content(), handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = float(slider.input_value())
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 20, y, steps=8)
    page.mouse.up()
    settled(page)
    assert float(slider.input_value()) < before
    assert title.text_content() != said
    assert "NaN" not in title.text_content()
    assert not page.trouble


def test_the_ledger_filters_without_python(page, site):
    page.goto(f"{site}/book/ledger.html")
    rows = page.locator(".lmc-claim:visible")
    everything = rows.count()
    page.locator(".lmc-ledger select[name=chapter]").select_option("toy_barriers")
    assert 0 < rows.count() < everything


def test_it_opens_from_disk(page, book):
    page.goto(f"file://{book}/html/index.html")
    page.locator(".lmc-chart svg").first.wait_for()
    assert not [line for line in page.trouble if "off the site" in line]


def test_nothing_is_loaded_from_elsewhere(book):
    loaded = re.compile(
        r"""<(?:script|img|iframe|source)[^>]+src=["']?https?:|<link[^>]+rel=["']?(?:stylesheet|preload|icon)[^>]+https?:"""
    )
    for path in (book / "html").rglob("*.html"):
        text = path.read_text()
        assert not loaded.search(text), path.name
        assert "unpkg" not in text, path.name
        assert len(text) < 2e6, f"{path.name} is larger than 2 MB"


def words(path) -> str:
    """The text of a page, without its code, formulas and charts."""
    article = BeautifulSoup(path.read_text(), "html.parser").find("article")
    for part in article.select("script, style, .highlight, .math"):
        part.decompose()
    return article.get_text()


@pytest.mark.parametrize("name", [name for name in page_names() if name != "library"])
def test_every_number_and_reference_in_the_text_is_filled_in(name, book):
    said = words(book / f"html/book/{name}.html")
    assert not re.findall(r".{20}\b(?:nan|NaN|None)\b.{10}", said, re.DOTALL)
    assert not re.findall(r".{20}\{[a-z][\w:]*(?::[^{}]*)?\}.{10}", said, re.DOTALL)
    assert "???" not in said


def test_no_page_shows_bars_of_progress_or_warnings(book):
    """They are in the notebooks that ran; the solutions train in cells whose results are shown."""
    executed = (book / "executed").glob("*.ipynb")
    assert any('"name": "stderr"' in path.read_text() for path in executed), "or there is nothing to leave out"
    pages = {path.name: path.read_text() for path in (book / "html/book").glob("*.html")}
    assert [name for name, text in pages.items() if "stderr" in text or "step/s" in text] == []


def test_there_are_as_many_pages_numbers_and_exercises_as_written(book):
    """So that an empty build can never pass."""
    pages = sorted(path.stem for path in (book / "html/book").glob("*.html"))
    assert pages == sorted(page_names())
    titles = [words(book / f"html/book/{name}.html").strip().split("\n")[0] for name in CHAPTERS]
    numbers = [int(title.split(".")[0]) for title in titles if title[0].isdigit()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == len(set(CHAPTERS) - {"preface", "ledger"})
    texts = {name: (book / f"html/book/{name}.html").read_text() for name in CHAPTERS}
    exercises = {name: len(re.findall(r'class="exercise admonition', text)) for name, text in texts.items()}
    solved = len(re.findall(r'class="solution admonition', texts["solutions"]))
    assert solved == sum(exercises.values()) >= 18


def test_the_search_quotes_what_it_finds_from_disk(page, book):
    page.goto(f"file://{book}/html/search.html?q=hybrid")
    quotes = page.locator("ul.search li .context")
    quotes.nth(2).wait_for()  # they come one by one
    assert "hybrid" in quotes.first.text_content().lower()


def test_the_site_is_small(book):
    assert sum(path.stat().st_size for path in (book / "html").rglob("*") if path.is_file()) < 40e6


def second_run(notebooks: list[str], kernels: dict[str, str]) -> subprocess.CompletedProcess:
    options = ["--nbval-lax", "-q", "-c", os.devnull, "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    command = [sys.executable, "-m", "pytest", *options, *notebooks]
    environment = {**os.environ, **OWN, **kernels}
    for _ in range(TRIES):  # as when the book is built: two kernels sometimes draw the same port
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if "Kernel died before replying" not in done.stdout:
            break
    return done


def test_a_second_run_gives_the_checked_outputs(book):
    executed = {path.name.split(".")[0]: path for path in (book / "executed").glob("*.ipynb")}
    assert executed.keys() == set(CHAPTERS)
    checked = [name for name, path in executed.items() if '"nbval-check-output"' in path.read_text()]
    assert len(checked) >= 7
    notebooks = sorted((executed[name] for name in checked), key=lambda path: path.stat().st_size)
    n = joblib.cpu_count()
    with ReadyKernels(notebooks, OWN) as kernels, ThreadPoolExecutor(n) as pool:
        parts = [[str(path) for path in notebooks[i::n]] for i in range(n)]
        for done in pool.map(lambda part: second_run(part, kernels.environment), parts):
            assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("chapter", ["toy_barriers", "resnet_forking", "hessian_predictions"])
def test_a_live_control_shows_what_it_does_and_how_to_have_it(chapter, book):
    page = BeautifulSoup((book / f"html/book/{chapter}.html").read_text(), "html.parser")
    (picture,) = page.select("img.lmc-live")
    assert (book / "html/book" / picture["src"]).resolve().exists()
    assert len(picture["alt"]) > 30
    assert "make lab" in picture.find_previous("p").text
