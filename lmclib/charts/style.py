"""The look of all charts, and how they reach a page that has no network."""

import hashlib
import html
import json
import os
import textwrap
from collections.abc import Mapping

import altair as alt
import pandas as pd

# Okabe and Ito's colours, which stay apart for every kind of colour vision; always beside a dash or a shape
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SIGNED = "purpleorange"  # diverging scheme for signed barriers, centred at zero by the chart
ORDERED = "viridis"
TITLE = 66  # characters in a line of a title
WIDTH = 560  # pixels; the page scales a chart down to the width of a phone
STATIC = "LMC_STATIC"  # set while the book is built: charts are then HTML that the site's own scripts draw


def enable() -> None:
    """Turn on the theme, and the renderer for where we are: the site's own scripts, or a live notebook's widget."""
    pd.set_option("display.max_colwidth", None)  # tables of the ledger are sentences
    alt.theme.register("lmclib", enable=True)(_theme)
    alt.renderers.register("lmclib", _to_html)
    if os.environ.get(STATIC):
        alt.renderers.enable("lmclib")
    else:
        alt.renderers.enable("jupyter", offline=True)


def page_html(chart: alt.TopLevelMixin) -> str:
    """A chart as a piece of a built page."""
    return _to_html(chart.to_dict())["text/html"]


def described(chart: alt.TopLevelMixin, title: str, description: str, subtitle: str | None = None) -> alt.TopLevelMixin:
    """The chart with its answer as title and its alt text as description."""
    lines = textwrap.wrap(title, TITLE)  # one long line would make the whole chart small
    heading = alt.TitleParams(lines, subtitle=subtitle) if subtitle else alt.TitleParams(lines)
    return chart.properties(title=heading, description=description)


def slider(name: str, places: int, label: str, last: bool = False) -> alt.Parameter:
    """A slider over the places of an ordered list, which starts at the first or at the last."""
    bind = alt.binding_range(min=0, max=places - 1, step=1, name=label)
    return alt.param(name, value=places - 1 if last else 0, bind=bind)


def switch(name: str, options: list[str], label: str) -> alt.Parameter:
    """A row of radio buttons; the first option is chosen."""
    return alt.param(name, value=options[0], bind=alt.binding_radio(options=options, name=label))


def signed(largest: float | Mapping[str, float]) -> alt.Scale:
    """The diverging scale of signed values, symmetric about zero.

    Args:
        largest: the largest absolute value; or several, by the condition in the page under which each is meant.
    """
    cases = {"true": largest} if not isinstance(largest, Mapping) else largest
    top = "".join(f"{when} ? {max(value, 1e-9):.6g} : " for when, value in cases.items()) + "1"
    return alt.Scale(scheme=SIGNED, domainMin=alt.expr(f"-({top})"), domainMax=alt.expr(top), domainMid=0)


def fork_colour(order: list[str], title: str = "fork epoch") -> alt.Color:
    """The colour of forks: ordered from dark (early) to light (late)."""
    return alt.Color("fork:O", sort=order, title=title, scale=alt.Scale(scheme="viridis", domain=order))


@alt.theme.register("lmclib", enable=False)
def _theme() -> alt.theme.ThemeConfig:
    font = "system-ui, sans-serif"
    text = {"labelFontSize": 12, "titleFontSize": 13, "labelFont": font, "titleFont": font}
    return {
        "config": {
            "background": "white",  # a light card on the dark theme, too
            "font": font,
            "view": {"continuousWidth": WIDTH, "continuousHeight": 260, "stroke": None},
            "axis": {**text, "titleFontWeight": "normal", "gridColor": "#eee", "domainColor": "#888"},
            "legend": {**text, "orient": "bottom", "columns": 4, "titleFontWeight": "normal"},
            "header": text,
            "title": {"fontSize": 15, "anchor": "start", "subtitleColor": "#555", "offset": 10, "subtitleFontSize": 12},
            "range": {"category": list(OKABE_ITO)},
            "line": {"strokeWidth": 2},
            "point": {"size": 50, "filled": True},
        }
    }


def _to_html(spec: dict, **_: object) -> dict[str, str]:
    """A container whose id is a hash of the chart, and the call that draws it."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    name = f"chart-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    label = html.escape(spec.get("description", ""), quote=True)
    safe = text.replace("<", "\\u003c")  # no tag inside data may end the script, or keep it from ending
    options = '{"actions":false,"renderer":"svg"}'
    return {
        "text/html": f'<div class="lmc-chart" id="{name}" role="img" aria-label="{label}"></div>'
        f'<script>vegaEmbed("#{name}",{safe},{options}).catch(function(e){{console.error(e)}})</script>',
        "text/plain": label or "chart",
    }
