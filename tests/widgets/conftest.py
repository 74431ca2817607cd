"""Explorers of the smallest networks, each with a store of its own."""

import pytest

import lmclib as lmc
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
def explorers(tmp_path):
    return Explorers(tmp_path)
