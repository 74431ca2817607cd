"""Charts in notebooks: alive where a kernel answers, pictures where none does or the notebook is not trusted."""

import json
from contextlib import suppress

import altair as alt
import vl_convert
from altair.utils.mimebundle import spec_to_mimebundle
from platformdirs import user_cache_path

from lmclib.errors import LmcError
from lmclib.files import write_text

INK, PAPER = "#222", "white"  # a picture cannot take the page's own colours
PPI = 108  # pixels an inch: half as many again as a page has
PACKED = 100_000  # letters: Altair's own script, which asks a network for the others, has fewer


def notebook_bundle(spec: dict, **_: object) -> tuple[dict[str, object], dict[str, object]]:
    """A chart as a notebook stores it: alive, as a picture, and in words.

    Args:
        spec: the chart, as Vega-Lite.

    Returns:
        What is stored, by kind, and the picture's size.
    """
    bring_scripts()
    shown = alt.JupyterChart(None)
    shown.spec = spec  # as it is: to make a chart of it first takes longer than to draw it
    alive, _ = shown._repr_mimebundle_()
    pixels, size = picture(spec)
    return {**alive, **pixels, "text/plain": spec.get("description", "chart")}, size


def bring_scripts() -> None:
    """Have live charts bring their scripts along, so that they need no network.

    Packing them takes seconds, so they are kept among the user's own files for all other kernels.
    """
    if len(alt.JupyterChart._esm) > PACKED:
        return
    made_by = f"altair-{alt.__version__}-vl-convert-{vl_convert.__version__}"
    kept = user_cache_path("lmclib") / f"charts-{made_by}.js"
    with suppress(OSError):
        alt.JupyterChart._esm = kept.read_text(encoding="utf-8")
    if len(alt.JupyterChart._esm) > PACKED:
        return
    alt.JupyterChart.enable_offline(True)
    with suppress(LmcError):  # a place that cannot be written to: then each kernel packs its own
        write_text(kept, alt.JupyterChart._esm)


def live_chart(chart: alt.TopLevelMixin, file_name: str, shown: alt.JupyterChart | None = None) -> alt.JupyterChart:
    """A chart of an explorer, in place of another one where there is one; a reader can save it under a name that says what it is."""
    shown = shown or empty_chart(file_name)
    with shown.hold_sync():
        shown.chart, shown.embed_options = chart, _embedded(file_name)
        return _alive(shown)


def empty_chart(file_name: str) -> alt.JupyterChart:
    """A place for a chart, of which nothing is seen: it brings the scripts to the page, so that the first chart need not wait for them."""
    return alt.JupyterChart(None, embed_options=_embedded(file_name))


def _embedded(file_name: str) -> dict[str, object]:
    # as SVG it can be scaled down to a narrow notebook, and what is under the pointer is still found
    return {"renderer": "svg", "actions": True, "downloadFileName": file_name}


def picture(spec: dict) -> tuple[dict[str, object], dict[str, object]]:
    """A chart as it stands at first, as PNG on white, by kind, and its size."""
    plain = json.loads(json.dumps(spec).replace('"currentColor"', f'"{INK}"'))
    plain.setdefault("config", {})["background"] = PAPER
    how = {"mode": "vega-lite", "vegalite_version": alt.VEGALITE_VERSION, "ppi": PPI}
    return spec_to_mimebundle(plain, format="png", **how)


def _alive(shown: alt.JupyterChart) -> alt.JupyterChart:
    """Have a chart tell the kernel where a reader moved its sliders and switches, and nothing that the page computes from that.

    The page sets all that it tells, at every change; a value that follows from others would be set back to where it was (Altair 6).
    """
    params = shown.chart.params
    moved = {} if params is alt.Undefined else {str(getattr(p.name, "name", p.name)): p for p in params}
    shown._params = {
        name: value
        for name, value in shown._params.items()
        if name in moved and getattr(moved[name], "bind", alt.Undefined) is not alt.Undefined
    }
    return shown
