"""The live explorer where a run is interrupted, and pages that show what somebody typed."""

from types import SimpleNamespace

import altair as alt
import pandas as pd
import pytest

import lmclib as lmc
from lmclib.book.results import Results, results_by_scale
from lmclib.charts.style import page_html
from lmclib.charts.tabs import Tabs
from lmclib.widgets.toy import LandscapeExplorer

HOSTILE = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</script><!--<script>"]


def said_of(explorer):
    return explorer.said.value.removeprefix("<b>").removesuffix("</b>")


@pytest.mark.parametrize("typed", HOSTILE)
def test_what_is_typed_is_shown_and_not_run(typed, explorers):
    explorer = explorers.make()
    explorer.controls.model.value = typed
    explorers.run(explorer)
    assert "<" not in said_of(explorer)
    assert "must be one of" in explorer.said.value
    explorer = explorers.make()
    explorer.controls.fork_epochs.value = [typed]
    explorers.run(explorer)
    assert "<" not in said_of(explorer)
    assert "is no number" in explorer.said.value
    box = LandscapeExplorer((-1, 1))
    box.minima.value = typed
    assert "<" not in box.said.value.removeprefix("<b>").replace("</b>", "")


@pytest.mark.parametrize("typed", HOSTILE)
def test_a_store_with_a_strange_name_is_shown_and_not_opened(typed, explorers, tmp_path):
    """Where it cannot be written to, the explorer says its name."""
    (tmp_path / "file").write_text("")
    store = f"file/{typed.replace('/', '')}"
    explorer = explorers.run(explorers.make(store))
    assert "cannot be written to" in explorer.said.value
    assert "<" not in said_of(explorer)
    settings = lmc.parameters({"profile": "smoke", "store": str(tmp_path / store)}, lmc.FORKING)
    assert not [part for part in ("<script", "<img", "<!--") if part in settings._repr_html_()]


def drawn(tables):
    return alt.Chart(tables).mark_point()


@pytest.mark.parametrize("typed", HOSTILE)
def test_captions_and_charts_hold_no_tags_of_a_reader(typed, monkeypatch):
    chart = alt.Chart(pd.DataFrame({"x": [typed]}), title=typed, description=typed).mark_point().encode(x="x:N")
    page = page_html(chart)
    assert page.count("<script") == page.count("</script>") == 1
    assert "<img" not in page
    assert "<!--" not in page
    results = {typed: Results(pd.DataFrame({"x": [1]}), typed)}
    tabs = Tabs(drawn, results).html()
    assert tabs.count("<script") == 1  # the chart's own
    assert not [part for part in ("<img", "<!--") if part in tabs]
    shown = []
    monkeypatch.delenv("LMC_STATIC", raising=False)
    monkeypatch.setattr("lmclib.charts.tabs.display", shown.append)
    Tabs(drawn, {"Embedded": results[typed]})._ipython_display_()
    assert "<" not in shown[0].data


def test_captions_hold_what_a_reader_chose_and_nothing_that_runs(tmp_path):
    """The caption of a figure names the model that was typed."""
    family = SimpleNamespace(spec=SimpleNamespace(seed=0, precision="float32"), card=SimpleNamespace(label="digits"))
    settings = SimpleNamespace(
        profile="smoke",
        model="<script>",
        epochs=2,
        store=tmp_path,
        overridden=set(),
        other_forks="",
        has_profile=lambda name: False,
    )
    said = results_by_scale("resnet_forking", {"settings": settings, "families": [family]}, "final")[
        "Embedded data"
    ].said
    assert "<script> on digits" in said
    assert "&lt;script&gt; on digits" in Tabs(drawn, {"Here": Results(pd.DataFrame(), said)}).html()
