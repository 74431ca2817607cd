"""Charts as pictures, for notebooks that are looked at without trust and without a kernel."""

import json

import altair as alt
from altair.utils.mimebundle import spec_to_mimebundle

INK, PAPER = "#222", "white"  # a picture cannot take the page's own colours
PPI = 108  # pixels an inch: half as many again as a page has


def live_bundle(spec: dict, **_: object) -> tuple[dict[str, object], dict[str, object]]:
    """A chart for a notebook: alive where a kernel answers, a picture where none does or the notebook is not trusted, words where no picture is.

    Args:
        spec: the chart, as Vega-Lite.

    Returns:
        What a notebook stores, by kind, and the picture's size.
    """
    said = spec.get("description", "chart")
    alt.JupyterChart.enable_offline(True)
    bundle, _ = alt.JupyterChart(alt.Chart.from_dict(spec))._repr_mimebundle_()
    pixels, size = picture(spec)
    return {**bundle, **pixels, "text/plain": said}, size


def picture(spec: dict) -> tuple[dict[str, object], dict[str, object]]:
    """A chart as it stands at first, as PNG on white, by kind, and its size."""
    plain = json.loads(json.dumps(spec).replace('"currentColor"', f'"{INK}"'))
    plain.setdefault("config", {})["background"] = PAPER
    return spec_to_mimebundle(plain, format="png", mode="vega-lite", vegalite_version=alt.VEGALITE_VERSION, ppi=PPI)
