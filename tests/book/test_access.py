"""The pages for those who read by ear, by keyboard, or in the dark."""

import hashlib

import pytest
from pages import opened, settled

from lmclib.book.chapters import page_names
from lmclib.root import ROOT

VENDOR = ROOT / "tests" / "vendor"
DARK = """() => {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.mode = 'dark';
    for (const fading of document.getAnimations()) fading.finish();  // colours fade from one theme to the other
}"""


@pytest.fixture(scope="session")
def window(browser):
    """A window whose pages share what was loaded."""
    return browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")


@pytest.fixture
def page(window):
    page = window.new_page()
    yield page
    page.close()


def violations(page, left_out: list[str], **options) -> list[str]:
    """What axe-core finds on a page but for some parts; `incomplete` results, which it leaves to a person, are not among it."""
    asked = [{"exclude": [[part] for part in left_out]}, {"resultTypes": ["violations"], "preload": False, **options}]
    found = page.evaluate("([where, options]) => axe.run(where, options)", asked)
    return [
        f"{broken['id']}: {node['html'][:200]} ({node['failureSummary'][:300]})"
        for broken in found["violations"]
        for node in broken["nodes"]
    ]


@pytest.mark.parametrize("name", [*(f"book/{name}" for name in page_names()), "search"])
def test_axe_finds_no_violation_light_or_dark(name, page, site):
    opened(page, f"{site}/{name}.html")
    page.evaluate((VENDOR / "axe.min.js").read_text())
    # code and formulas are many and alike: those of one chapter are looked at
    alike = [] if name == "book/toy_barriers" else [".highlight", "mjx-container"]
    assert not violations(page, alike)
    page.evaluate(DARK)
    assert not violations(page, alike, runOnly=["color-contrast"])  # all that a theme changes


def test_the_script_that_looks_is_the_one_that_was_published():
    for line in (VENDOR / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
        assert f"| {name} |" in (VENDOR / "README.md").read_text()


def test_every_control_is_reached_and_moved_by_keyboard(page, site):
    opened(page, f"{site}/book/toy_barriers.html")
    chart = page.locator(".lmc-chart").first
    wanted = page.locator(".lmc-chart:visible input, .lmc-chart:visible summary").count()
    page.evaluate("() => { window.reached = new Set(); document.body.focus() }")
    for _ in range(200):
        page.keyboard.press("Tab")
        reached = page.evaluate(
            "() => { const e = document.activeElement; if (e.closest('.lmc-chart')) reached.add(e); return reached.size }"
        )
        if reached == wanted:
            break
    assert reached == wanted
    title = chart.locator("svg .role-title-text").last
    before = title.text_content()
    chart.locator("input[type=range]").first.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    settled(page)
    assert title.text_content() != before
