"""One figure at several scales, in tabs, each drawn from its own results."""

import hashlib
import html
import os
from collections.abc import Callable, Mapping

import altair as alt
from altair.utils.schemapi import debug_mode
from IPython.display import HTML, Markdown, display

from lmclib.book.results import Results
from lmclib.charts.style import STATIC, page_html

Draw = Callable[[Mapping[str, object]], alt.TopLevelMixin]


class Tabs:
    """A figure drawn from several results, a tab each, with a caption of its own.

    In the built book the tabs need no Python. In a live notebook the figures stand one below the other.

    Args:
        draw: makes the chart from the variables of results.
        results: by the names of the tabs.
    """

    def __init__(self, draw: Draw, results: Mapping[str, Results]):
        self.draw, self.results = draw, results

    def _ipython_display_(self) -> None:
        if os.environ.get(STATIC):
            display(HTML(self.html()))
            return
        for name, result in self.results.items():
            display(Markdown(f"**{name}.** {html.escape(result.said, quote=False)}"))
            display(self._drawn(result))

    def html(self) -> str:
        """Tabs of radio buttons, whose panes the style sheet shows and hides."""
        panes = [self._pane(result) for result in self.results.values()]
        group = f"tabs-{hashlib.sha256(''.join(panes).encode()).hexdigest()[:12]}"
        heads = "".join(
            f'<input type="radio" name="{group}" id="{group}-{i}"{" checked" if i == 0 else ""}>'
            f'<label for="{group}-{i}">{html.escape(name)}</label>'
            for i, name in enumerate(self.results)
        )
        return f'<div class="lmc-tabs" role="group" aria-label="the same figure at several scales">{heads}{"".join(panes)}</div>'

    def _drawn(self, result: Results) -> alt.TopLevelMixin:
        with debug_mode(False):  # Altair checks each part as it is made, and the whole once more where it is shown
            return self.draw(result.tables)

    def _pane(self, result: Results) -> str:
        said = html.escape(result.said)
        while said.count("`") > 1:
            said = said.replace("`", "<code>", 1).replace("`", "</code>", 1)
        return f'<div class="lmc-pane">{page_html(self._drawn(result))}<p class="lmc-said">{said}.</p></div>'
