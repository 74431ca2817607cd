"""What all live controls share: a line of text and a picture where no kernel can answer, and charts that need no network."""

import os

import ipywidgets as widgets
from IPython import get_ipython

from lmclib.charts.notebook import bring_scripts
from lmclib.charts.style import STATIC

SLOT = "lmc-slot"  # the class of a box of charts, which may be narrower than they are
FITTED = f"""<style>
.{SLOT}, .{SLOT} > * {{ max-width: 100%; }}
.{SLOT} svg.marks {{ max-width: 100%; height: auto; }}
</style>"""


class LiveBox(widgets.VBox):
    """A box of controls that is a line of text, and a picture of what it does, where no kernel can answer.

    Attributes:
        NOTE: the line, as HTML.
        PICTURE: the name of its file among those that the site loads, and what it shows in words.
    """

    PICTURE: tuple[str, str]
    NOTE = "This control needs Python: open the chapter with <code>make lab</code>. The sliders on this page work without it."

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        file, shown = self.PICTURE
        picture = f"<img class='lmc-live' src='../_static/{file}' alt='{shown}'>"
        return {**super()._repr_mimebundle_(**kwargs), "text/html": f"<p><em>{self.NOTE}</em></p>{picture}"}


def wide(table: str) -> str:
    """A table as HTML that scrolls where the notebook is narrower than it is."""
    return f"<div style='overflow-x: auto'>{table}</div>"


def charts_offline() -> bool:
    """Have live charts bring their scripts along, where a kernel may show some; packing them takes a second or two, once on a machine.

    Returns:
        Whether a kernel may.
    """
    live = hasattr(get_ipython(), "kernel") and not os.environ.get(STATIC)
    if live:
        bring_scripts()
    return live
