"""Numbers that a reader drags: a lane a number, under a chart that has the same places."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from lmclib.charts import style

HEIGHT = 24  # pixels of a lane, as high as a finger needs


@dataclass(frozen=True)
class Lane:
    """One number that can be dragged, or moved by a slider.

    Attributes:
        name: of the number in expressions.
        label: what stands beside its lane and its slider.
        value: where it starts.
        low, high: between which it can be moved.
        step: from one place to the next.
    """

    name: str
    label: str
    value: float
    low: float
    high: float
    step: float = 0.05

    @property
    def control(self) -> str:
        """The name of its slider in the page."""
        return f"{self.name}_at_place"

    @property
    def selection(self) -> alt.Parameter:
        """What a drag along the lane changes, and the slider."""
        at = f"event.item && event.item.datum && event.item.datum.handle == '{self.name}'"
        return alt.selection_point(
            name=f"{self.name}_at",
            fields=["place"],
            bind=alt.binding_range(min=self.low, max=self.high, step=self.step, name=f"{self.label} "),
            value=self.value,
            on=f"pointerdown[{at}], [pointerdown[{at}], window:pointerup] > pointermove[{at}]",
            toggle=False,
            clear=False,
        )

    @property
    def places(self) -> pd.DataFrame:
        """Where it can be, and the ends of the piece of lane that stands for each place."""
        place = self.low + self.step * np.arange(round((self.high - self.low) / self.step) + 1)
        ends = {"low": place - self.step / 2, "high": place + self.step / 2}
        return pd.DataFrame({"handle": self.name, "lane": self.label, "place": place, **ends}).round(6)


def lanes(wanted: Sequence[Lane], scale: alt.Scale, title: str) -> tuple[alt.LayerChart, list[alt.Parameter]]:
    """The lanes as a chart, and the numbers as parameters for the chart around it.

    Args:
        wanted: one a number, from top to bottom.
        scale: of the places across, as in the chart above.
        title: of the axis.
    """
    labels = [lane.label for lane in wanted]
    band = alt.Scale(type="band", domain=labels, padding=0)  # as high as the lane, for points and lines too
    y = alt.Y("lane:N", title=None, scale=band, axis=alt.Axis(domain=False, ticks=False))
    x = alt.X("low:Q", title=title, scale=scale, axis=alt.Axis(grid=False))
    places = pd.concat([lane.places for lane in wanted], ignore_index=True)
    # only the marks of the view that has the selections hear of the pointer; the page has the sliders in the reverse order
    touch = alt.Chart(places).add_params(*(lane.selection for lane in reversed(wanted)))
    touch = touch.mark_rect(opacity=0, cursor="ew-resize").encode(x=x, x2="high:Q", y=y)
    ends = places.groupby("lane", sort=False).place.agg(low="min", high="max").reset_index()
    lines = alt.Chart(ends).mark_rule(opacity=0.4, strokeWidth=2).encode(x=x, x2="high:Q", y=y)
    now = f"[{', '.join(lane.name for lane in wanted)}][datum.i]"
    table = pd.DataFrame({"i": range(len(wanted)), "lane": labels})
    handles = (
        alt.Chart(table)
        .transform_calculate(at=now)
        .mark_point(size=130, opacity=1, cursor="ew-resize", color=style.OKABE_ITO[1])
        .encode(
            x=alt.X("at:Q", title=title, scale=scale),
            y=y,
            tooltip=[alt.Tooltip("lane:N", title="drag"), alt.Tooltip("at:Q", title="at", format=".2f")],
        )
    )
    chart = alt.layer(lines, handles, touch).properties(height=HEIGHT * len(wanted))
    return chart, [alt.param(lane.name, expr=lane.control) for lane in wanted]
