"""The live twin of the toy landscape."""

import html
from collections.abc import Sequence

import ipywidgets as widgets

from lmclib.charts import toy as figures
from lmclib.theory import landscapes
from lmclib.widgets.live import LiveBox


class LandscapeExplorer(LiveBox):
    """Type minima; see their landscape, with every barrier between them.

    Args:
        minima: where to start.
    """

    PICTURE = (
        "live-minima.png",
        "A field of minima, and a table of the barrier and its prediction between every two of them",
    )

    def __init__(self, minima: Sequence[float]):
        self.minima = widgets.Text(", ".join(f"{m:g}" for m in minima), description="minima", continuous_update=False)
        self.said, self.figure = widgets.HTML(), widgets.Output()
        self.minima.observe(lambda _: self._draw(), "value")
        super().__init__((self.minima, self.said, self.figure))
        self._draw()

    def _draw(self) -> None:
        try:
            minima = [float(part) for part in self.minima.value.replace(",", " ").split()]
            chart = figures.landscape(minima)
        except ValueError as error:  # an LmcError is one
            self.said.value = f"<b>{html.escape(str(error))}</b>; type numbers with commas between them"
            return
        self.said.value = landscapes.hierarchy(minima).to_html(index=False)
        self.figure.outputs = ()
        self.figure.append_display_data(chart)
