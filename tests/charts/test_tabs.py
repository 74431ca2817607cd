"""One figure at several scales."""

import re

import lmclib as lmc
from lmclib.book import results
from lmclib.book.architectures import NETWORKS
from lmclib.charts.tabs import Tabs
from lmclib.root import ROOT
from lmclib.training.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=128, milestones=(1,))
SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 1), siblings=2, recipe=RECIPE)


def test_tabs_stand_one_below_the_other_in_a_live_notebook(monkeypatch, capsys):
    monkeypatch.delenv("LMC_STATIC", raising=False)
    shown = []
    monkeypatch.setattr("lmclib.charts.tabs.display", shown.append)
    shown_results = {"One": results.Results({"n": 3}, "here"), "Two": results.Results({"n": 4}, "`there`")}
    Tabs(lambda tables: f"chart {tables['n']}", shown_results)._ipython_display_()
    assert [getattr(item, "data", item) for item in shown] == [
        "**One.** here",
        "chart 3",
        "**Two.** `there`",
        "chart 4",
    ]


def test_a_page_has_a_pane_for_every_scale(monkeypatch):
    monkeypatch.setattr("lmclib.charts.tabs.page_html", lambda chart: f"<i>{chart}</i>")
    page = Tabs(
        lambda tables: tables["n"],
        {"Large": results.Results({"n": 3}, "a < b"), "Small": results.Results({"n": 4}, "`x`")},
    ).html()
    assert page.count('class="lmc-pane"') == page.count('type="radio"') == 2
    assert page.index("<i>3</i>") < page.index("<i>4</i>")
    assert "a &lt; b." in page
    assert "<code>x</code>." in page


def test_a_scale_that_was_not_run_has_no_tab_and_is_said(book):
    page = (book / "html/book/robustness.html").read_text()
    assert page.count('class="lmc-pane"') == page.count('class="lmc-tabs"') > 0
    assert "<code>lmclib plan robustness</code>" in page


def test_every_tab_that_a_figure_may_have_shows_its_pane():
    """The most are in the chapter on architectures: a tab for each network, and one for each that is committed beside."""
    shown = re.findall(
        r"input:nth-of-type\((\d+)\):checked ~ \.lmc-pane:nth-of-type\(\1\)",
        (ROOT / "book/vendor/book.css").read_text(),
    )
    committed = [*(ROOT / "data/results/chapters").glob("*/architectures*.json")]
    most = max(map(len, NETWORKS.values())) + len(committed)
    assert [int(n) for n in shown] == list(range(1, len(shown) + 1))
    assert most <= len(shown)
