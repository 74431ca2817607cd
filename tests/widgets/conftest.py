"""Explorers of the smallest networks, each with a store of its own."""

import altair as alt
import pytest

import lmclib as lmc
from lmclib.charts.fork_figure import ADDED
from lmclib.widgets.forking import ForkingExplorer

PATIENCE = 120  # seconds that a run may take on a machine that is busy with other things


class Explorers:
    """Makes explorers, and presses their buttons."""

    def __init__(self, folder):
        self.folder = folder

    def make(self, store: str = "store", **given: object) -> ForkingExplorer:
        chosen = {"profile": "smoke", "model": "mlp-8", "fork_epochs": "[0, 0.5]", **given}
        return ForkingExplorer(lmc.parameters({**chosen, "store": str(self.folder / store)}, lmc.FORKING))

    def run(self, explorer: ForkingExplorer) -> ForkingExplorer:
        explorer.run.click()
        assert explorer.wait(PATIENCE)
        return explorer


@pytest.fixture
def explorers(tmp_path, monkeypatch):
    """Explorers with a mere point in place of the fork figure, which takes longer to draw than all else that they do here."""
    mere = alt.Chart().mark_point().add_params(alt.selection_point(name=ADDED, fields=["at"]))
    monkeypatch.setattr("lmclib.widgets.shown.fork_figure", lambda *_, **__: mere)
    return Explorers(tmp_path)


@pytest.fixture
def drawn(tmp_path):
    """Explorers that draw the fork figure, too."""
    return Explorers(tmp_path)
