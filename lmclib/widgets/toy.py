"""The live twin of the toy landscape."""

import html
from collections.abc import Sequence
from functools import partial

import ipywidgets as widgets

from lmclib.charts import toy as figures
from lmclib.charts.notebook import live_chart
from lmclib.theory import landscapes
from lmclib.widgets.live import FITTED, SLOT, LiveBox, charts_offline, wide


class LandscapeExplorer(LiveBox):
    """Type minima, or drag them; see their landscape, with every barrier between them.

    Args:
        minima: where to start.

    Attributes:
        places: where the minima are now, in the order of their handles.
    """

    PICTURE = (
        "live-minima.png",
        "A field of minima, their landscape with handles to drag, and a table of the barrier and its prediction between every two of them",
    )

    def __init__(self, minima: Sequence[float]):
        self.places: list[float] = []
        self.minima = widgets.Text(_listed(minima), description="minima", continuous_update=False)
        self.minima.observe(lambda _: self._draw(), "value")
        self.said, self.figure = widgets.HTML(), widgets.VBox()
        self.figure.add_class(SLOT)
        super().__init__((widgets.HTML(FITTED), self.minima, self.figure, self.said))
        self._draw()

    def _draw(self) -> None:
        """Say what barriers there are between the minima that were typed or dragged, and draw those that were typed."""
        try:
            typed = [float(part) for part in self.minima.value.replace(",", " ").split()]
            said = wide(landscapes.hierarchy(typed).round(3).to_html(index=False))
            if typed != self.places:
                self._show(sorted(typed))
        except ValueError as error:  # an LmcError is one
            said = f"<b>{html.escape(str(error))}</b>; type numbers with commas between them"
        self.said.value = said

    def _show(self, places: list[float]) -> None:
        charts_offline()
        chart = live_chart(figures.landscape(places), f"landscape_{'_'.join(f'{m:g}' for m in places)}")
        for i in range(len(places)):
            chart.selections.observe(partial(self._drag, i), figures.dragged(i))
        self.places, self.figure.children = places, (chart,)

    def _drag(self, i: int, change: dict) -> None:
        """Write down where a minimum was dragged to."""
        for point in change["new"].value:
            self.places[i] = round(point["place"], 6)
        self.minima.value = _listed(self.places)


def _listed(minima: Sequence[float]) -> str:
    return ", ".join(f"{m:g}" for m in minima)
