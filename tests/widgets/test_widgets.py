"""The live explorer: what it runs, what it refuses, what it says where there is no kernel."""

import pytest
import torch

import lmclib as lmc
from lmclib.widgets.forking import ForkingExplorer
from lmclib.widgets.layers import SetExplorer
from lmclib.widgets.toy import LandscapeExplorer


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


def test_any_minima_can_be_typed():
    box = LandscapeExplorer((-1, 1))
    assert len(box.figure.outputs) == 1
    box.minima.value = "-3, -1, 0.5 2, 4"
    assert box.said.value.count("<tr") == 1 + 10  # every two of five
    box.minima.value = "1, 1"
    assert "at least two distinct finite numbers" in box.said.value
    box.minima.value = "1, x"
    assert "type numbers" in box.said.value


def test_any_set_of_layers_can_be_evaluated():
    net = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(3)))
    other = {key: value + 0.3 for key, value in net.state_dict().items()}
    cube = lmc.LayerCube(net, net.state_dict(), other, (torch.eye(3), torch.arange(3)))
    box = SetExplorer(cube)
    box.layers.value = ("0", "2")
    expected = lmc.group_barriers(cube, [["0", "2"]]).query("into == 'both'").loss_barrier.item()
    box.evaluate.click()
    assert box.actual == pytest.approx(expected)
    assert f"{box.predicted['as published']:.3f}" in box.said.value
    box.layers.value = ()
    assert box.evaluate.disabled
