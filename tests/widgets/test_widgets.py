"""The live explorer: what it runs, what it refuses, what it says where there is no kernel."""

import pytest
import torch

import lmclib as lmc
from lmclib.widgets.layers import SetExplorer
from lmclib.widgets.toy import LandscapeExplorer


def test_without_a_kernel_it_says_where_it_works(explorers):
    assert "make lab" in explorers.make()._repr_mimebundle_()["text/html"]


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
