"""The look of all charts, and how they reach a page that has no network."""

import hashlib
import html
import json
import os
import textwrap
from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from lmclib.charts import scales
from lmclib.charts.narrow import narrow
from lmclib.charts.notebook import notebook_bundle

# Okabe and Ito's colours, which stay apart for every kind of colour vision; always beside a dash or a shape
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
ORDERED = scales.ORDERED
MANY = 300  # letters of all options together, from which on they are a list rather than buttons
INK = "currentColor"  # of text and lines: the page's own, on light and on dark
# names of many layers without what they have in common, so that a phone shows them whole
SHORT = {
    "labelExpr": "replace(replace(datum.label, regexp('^(stages|features|blocks|encoder[.]layers[.]encoder_layer)[._]'), ''), 'self_attention', 'attn')"
}
# of a legend of lines that have points, too: without them, and so long that dashes can be told apart
AS_LINES = {"symbolType": "stroke", "symbolSize": 600, "symbolOpacity": 1}
TITLE = 66  # characters in a line of a title
WIDTH = 560  # pixels
STATIC = "LMC_STATIC"  # set while the book is built: charts are then HTML that the site's own scripts draw


def enable() -> None:
    """Turn on the theme, and the renderer for where we are: the site's own scripts, or a live notebook's widget with a picture beside it."""
    pd.set_option("display.max_colwidth", None)  # tables of the ledger are sentences
    alt.theme.register("lmclib", enable=True)(_theme)
    alt.renderers.register("lmclib", _to_html)
    alt.renderers.register("lmclib-live", notebook_bundle)
    alt.data_transformers.disable_max_rows()  # some seeds of a fork figure are more than the 5,000 that Altair takes for a mistake
    alt.renderers.enable("lmclib" if os.environ.get(STATIC) else "lmclib-live")


def page_html(chart: alt.TopLevelMixin) -> str:
    """A chart as a piece of a built page."""
    return _to_html(chart.to_dict())["text/html"]


def described(chart: alt.TopLevelMixin, title: str, description: str, subtitle: str | None = None) -> alt.TopLevelMixin:
    """The chart with its answer as title and its alt text as description."""
    lines = textwrap.wrap(title, TITLE)  # one long line would make the whole chart small
    heading = alt.TitleParams(lines, subtitle=subtitle) if subtitle else alt.TitleParams(lines)
    return chart.properties(title=heading, description=description)


def answered(
    chart: alt.TopLevelMixin, controls: Sequence[str], answers: Mapping[tuple, str], start: tuple, description: str
) -> alt.TopLevelMixin:
    """The chart with a title that follows its controls: the answer for every choice, computed beforehand.

    Args:
        chart: with its controls.
        controls: their names.
        answers: the title for every choice of their values.
        start: the values that they start with, which the alt text is for.
        description: the alt text, which begins with the answer at the start.
    """
    lines = {key_of(key): textwrap.wrap(text, TITLE) for key, text in answers.items()}
    most = max(map(len, lines.values()))
    # as many lines for each, so that nothing moves when the title changes
    lines = {key: [*said, *[""] * (most - len(said))] for key, said in lines.items()}
    key = " + '|' + ".join(controls)
    other = json.dumps(["Not measured at this choice", *[""] * (most - 1)])
    heading = alt.TitleParams(text=alt.expr(f"answers[{key} + ''] || {other}"))
    said = f"{answers[start]}. {description} This text is for the controls as they stand at first."
    chart = with_values(chart, alt.param("answers", value=lines))
    # without `resize` a title longer than the first one would be cut off
    chart.title, chart.description = heading, said
    chart.autosize = alt.AutoSizeParams(type="pad", resize=True)
    return chart


def legend_of_drawn(controls: Sequence[str], drawn: Mapping[tuple, Sequence], **look: object) -> alt.Legend:
    """A legend that lists only what is drawn, while colours stay those of all that the controls can show.

    Args:
        controls: their names.
        drawn: the names of what is drawn for every choice of their values.
        look: of the legend.
    """
    names = json.dumps({key_of(key): list(found) for key, found in drawn.items()})
    key = " + '|' + ".join(controls)
    return alt.Legend(values=alt.ExprRef(f"({names})[{key} + ''] || []"), **look)


def with_values(chart: alt.TopLevelMixin, *values: alt.Parameter) -> alt.TopLevelMixin:
    """The very chart, with values that are all of its views' added.

    `add_params` hands them down to every view and lifts them up again, and with a copy of all at each step.
    """
    chart.params = [*([] if chart.params is alt.Undefined else chart.params), *(value.param for value in values)]
    return chart


def key_of(values: tuple) -> str:
    """How the values of several controls are one key, here and in the page."""
    return "|".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def switch(name: str, options: Sequence, label: str, last: bool = False) -> alt.Parameter:
    """A row of radio buttons with the values themselves, or a list where they would fill many rows; the first is chosen, or the last."""
    options = list(options)
    if len(options) == 1:  # nothing to choose
        return alt.param(name, value=options[0])
    bind = (alt.binding_radio if sum(map(len, map(str, options))) < MANY else alt.binding_select)(
        options=options, name=label
    )
    return alt.param(name, value=options[-1 if last else 0], bind=bind)


def handle(name: str, field: str, options: Sequence, label: str, last: bool = False) -> tuple[alt.Parameter, ...]:
    """A switch that marks of the chart move, too: by a click, and by dragging from one to the next.

    Args:
        name: of the value in expressions.
        field: of the marks whose column `handle` is this name.
        options: the values.
        label: what stands before the buttons.
        last: whether the last is chosen at first.

    Returns:
        The selection, for the view of the marks; and the value, for the chart.
    """
    options = list(options)
    at = f"event.item && event.item.datum && event.item.datum.handle == '{name}'"
    selection = alt.selection_point(
        name=f"{name}_at",
        fields=[field],
        bind=alt.binding_radio(options=options, name=label),
        value=options[-1 if last else 0],
        on=f"pointerdown[{at}], [pointerdown[{at}], window:pointerup] > pointermove[{at}]",
        toggle=False,
        clear=False,
    )
    return selection, alt.param(name, expr=f"{name}_at_{field}")


def dashed(base: alt.Chart, field: str, order: Sequence[str]) -> alt.Chart:
    """Lines whose dashes tell the values of a field apart, without a legend: in that of points dashes would be drawn around these.

    Args:
        base: the data.
        field: with a line for each value.
        order: all values.
    """
    # by number: scales of the same names would have one legend, or none
    dash = alt.StrokeDash("dashed:O", legend=None, scale=alt.Scale(domain=list(range(len(order)))))
    numbered = base.transform_calculate(dashed=f"indexof({json.dumps(list(order))}, datum.{field})")
    return numbered.mark_line().encode(strokeDash=dash)


def fork_colour(order: list[str], title: str = "fork epoch") -> alt.Color:
    """The colour of forks: ordered from dark (early) to light (late)."""
    return alt.Color("fork:O", sort=order, title=title, scale=alt.Scale(scheme="viridis", domain=order))


@alt.theme.register("lmclib", enable=False)
def _theme() -> alt.theme.ThemeConfig:
    font = "system-ui, sans-serif"
    ink = {"labelColor": INK, "titleColor": INK}
    text = {"labelFontSize": 12, "titleFontSize": 13, "labelFont": font, "titleFont": font, **ink}
    line = {"domainColor": INK, "domainOpacity": 0.5, "tickColor": INK, "tickOpacity": 0.5}
    title = {
        "color": INK,
        "subtitleColor": INK,
        "fontSize": 15,
        "subtitleFontSize": 12,
        "anchor": "start",
        "offset": 10,
    }
    return {
        "config": {
            "background": "transparent",  # the page shows through
            "font": font,
            "view": {"continuousWidth": WIDTH, "continuousHeight": 260, "stroke": None},
            "axis": {**text, **line, "titleFontWeight": "normal", "gridColor": INK, "gridOpacity": 0.1},
            "legend": {
                **text,
                "orient": "bottom",
                "columns": 4,
                "titleFontWeight": "normal",
                "titleLimit": 0,
                "labelLimit": 0,
                "symbolBaseFillColor": INK,  # of shapes, which are black by default
                "symbolBaseStrokeColor": INK,
            },
            "header": text,
            "title": title,
            "range": {"category": [*OKABE_ITO]},
            "line": {"strokeWidth": 2},
            "point": {"size": 50, "filled": True},
            "text": {"color": INK, "fontSize": 12},
            "rule": {"color": INK},
        }
    }


def _to_html(spec: dict, **_: object) -> dict[str, str]:
    """A container whose id is a hash of the chart, and the call that draws it."""
    name = f"chart-{hashlib.sha256(_json(spec).encode()).hexdigest()[:12]}"
    label = html.escape(spec.get("description", ""), quote=True)
    return {
        # a group, as every chart has a menu, and an image must have no controls in it
        "text/html": f'<div class="lmc-chart" id="{name}" role="group" aria-label="{label}"></div>'
        f'<script>lmcChart("#{name}",{_json(spec)},{_json(narrow(spec))})</script>',
        "text/plain": label or "chart",
    }


def _json(spec: Mapping[str, object]) -> str:
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return text.replace("<", "\\u003c")  # no tag inside data may end the script, or keep it from ending
