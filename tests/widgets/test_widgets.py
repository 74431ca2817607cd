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
    (before,) = box.figure.children
    box.minima.value = "4 -3, -1, 0.5 2"
    assert box.said.value.count("<tr") == 1 + 10  # every two of five
    (now,) = box.figure.children
    assert now is not before
    assert now.embed_options["downloadFileName"] == "landscape_-3_-1_0.5_2_4"
    box.minima.value = "1, 1"
    assert "at least two distinct finite numbers" in box.said.value
    box.minima.value = "1, x"
    assert "type numbers" in box.said.value
    assert box.figure.children == (now,)


def test_a_minimum_that_is_dragged_is_written_down_with_its_barriers():
    box = LandscapeExplorer((1, -1))
    (chart,) = box.figure.children
    # as the page tells it: the second minimum stands at 1.5
    chart._vl_selections = {"m2_at": {"value": {"vlPoint": {"or": [{"place": 1.5}]}}, "store": []}}
    assert box.minima.value == "-1, 1.5"
    assert f"<td>{((2.5 / 2) ** 2) ** 2:.3f}</td>" in box.said.value  # the loss halfway
    assert box.figure.children == (chart,)  # the one that is dragged
    box.minima.value = "-1, 1"
    assert box.figure.children != (chart,)


@pytest.fixture
def cube():
    net = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(3)))
    other = {key: value + 0.3 for key, value in net.state_dict().items()}
    return lmc.LayerCube(net, net.state_dict(), other, (torch.eye(3), torch.arange(3)))


def test_any_set_of_layers_can_be_evaluated(cube):
    box = SetExplorer(cube)
    box.layers.value = ("0", "2")
    expected = lmc.group_barriers(cube, [["0", "2"]]).query("into == 'both'").loss_barrier.item()
    box.evaluate.click()
    assert box.actual == pytest.approx(expected)
    assert f"{box.predicted['published']:.3f}" in box.said.value
    box.layers.value = ()
    assert box.evaluate.disabled


def test_sets_that_were_tried_stay_in_a_log_with_the_best_of_each_size(cube):
    box = SetExplorer(cube)
    sets = [("0",), ("1",), ("0", "2"), ("1",), ("0", "1", "2")]
    for chosen in sets:
        box.layers.value = chosen
        box.evaluate.click()
    assert list(box.tried.layers) == ["0", "0 2", "1", "0 1 2"]  # each once
    singles = box.tried[box.tried.n_layers == 1]
    best = box.best.set_index("n_layers")
    assert best.actual[1] == singles.actual.min()
    assert list(best.index) == [1, 2, 3]
    assert box.journal.value.count("★</td>") == 3
    assert box.journal.value.startswith("Best set found of 3 layers: <b>0 1 2</b>")


def test_the_explorer_of_sets_agrees_with_the_chapters_tables_and_says_what_it_shows(tmp_path):
    spec = lmc.ForkSpec(model="mlp-8-8", fork_epochs=(0.5,), seed=3, recipe=lmc.Recipe(epochs=1))
    families = lmc.fork_all([spec], tmp_path, progress=False)
    (pair,) = lmc.sibling_pairs(families)
    sets = lmc.over_pairs([pair], lmc.set_table, examples=100, progress=False).set_index("set").loss_barrier
    energies = lmc.Energies.from_table(lmc.over_pairs([pair], lmc.energy_table, examples=100, progress=False))
    box = SetExplorer.of_pair(pair, energies, examples=100)
    for said in (
        "mlp-8-8 on digits",
        "seed 3",
        "forked at epoch 0.5",
        "siblings 1–2 at epoch 1",
        "train split, 100 images",
    ):
        assert said in box.what.value
    for key, barrier in sets.items():
        box.layers.value = tuple(name for name, digit in zip(box.cube.layers, key, strict=True) if digit == "1")
        box.evaluate.click()
        assert box.actual == pytest.approx(barrier, abs=1e-6)
