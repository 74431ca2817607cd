"""The live explorer: what it runs, what it refuses, what it says where there is no kernel."""

import pytest

import lmclib as lmc
from lmclib.widgets import ForkingExplorer


@pytest.fixture
def explorer(tmp_path):
    namespace = {"profile": "smoke", "store": str(tmp_path / "store"), "model": "mlp-8", "fork_epochs": "[0, 0.5]"}
    return ForkingExplorer(lmc.parameters(namespace, lmc.FORKING))


def test_it_measures_what_is_chosen(explorer):
    explorer.seed.value, explorer.epochs.value = 3, 1
    table = explorer.measure()
    assert set(table.seed) == {3}
    assert set(table.epoch) == {1}
    assert explorer.bar.value == explorer.bar.max > 1


def test_bad_choices_are_said_and_nothing_runs(explorer):
    explorer.fork_epochs.value = "[0, 9]"
    explorer.run.click()
    assert "must be below the parent's length" in explorer.said.value
    assert not explorer.run.disabled


def test_without_a_kernel_it_says_where_it_works(explorer):
    assert "make lab" in explorer._repr_mimebundle_()["text/html"]
