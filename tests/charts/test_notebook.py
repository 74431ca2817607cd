"""Charts in a notebook: what is stored of them, and what they tell the kernel."""

import struct

import altair as alt
import pandas as pd

from lmclib.charts import notebook, style, toy
from lmclib.charts.notebook import live_chart, notebook_bundle


def switched() -> alt.TopLevelMixin:
    measure = style.switch("measure", ["loss", "error"], "show ")
    chart = alt.Chart(pd.DataFrame({"x": [1, 2]}), description="two points").mark_point().encode(x="x:Q")
    return chart.add_params(measure, alt.param("double", expr="measure + measure"))


def test_a_chart_is_stored_alive_as_a_picture_and_in_words(monkeypatch):
    monkeypatch.setattr(notebook, "bring_scripts", lambda: None)  # packs scripts for seconds
    bundle, size = notebook_bundle(switched().to_dict())
    assert bundle["text/plain"] == "two points"
    assert "application/vnd.jupyter.widget-view+json" in bundle
    picture = bundle["image/png"]
    assert picture.startswith(b"\x89PNG")
    pixels = struct.unpack(">II", picture[16:24])
    assert pixels[0] == 1.5 * size["image/png"]["width"] > 300


def test_the_kernel_is_told_what_was_moved_and_not_what_follows_from_it():
    shown = live_chart(switched(), "points")
    assert shown._params == {"measure": "loss"}
    assert shown.embed_options["downloadFileName"] == "points"
    shown.params.measure = "error"
    assert shown._params["measure"] == "error"
    assert live_chart(toy.landscape([-1, 1]), "landscape", shown) is shown
    assert shown._params == {}  # its sliders are selections
    assert set(shown._vl_selections) == {"m1_at", "m2_at"}


def test_scripts_are_packed_once_for_all_kernels(monkeypatch, tmp_path):
    """And a damaged or missing place for them costs time, not the chart."""
    packed, place = [], tmp_path / "cache"

    def pack(_):
        packed.append(1)
        alt.JupyterChart._esm = "x" * (notebook.PACKED + 1)

    monkeypatch.setattr(alt.JupyterChart, "enable_offline", pack)
    monkeypatch.setattr(notebook, "user_cache_path", lambda _: place)
    for kernel, times in (("first", 1), ("second", 1)):
        monkeypatch.setattr(alt.JupyterChart, "_esm", "import vega from a network")
        notebook.bring_scripts()
        assert len(alt.JupyterChart._esm) > notebook.PACKED, kernel
        assert len(packed) == times, kernel
    place = tmp_path / "a file"
    place.touch()
    monkeypatch.setattr(alt.JupyterChart, "_esm", "import vega from a network")
    notebook.bring_scripts()
    assert len(alt.JupyterChart._esm) > notebook.PACKED
    assert len(packed) == 2
