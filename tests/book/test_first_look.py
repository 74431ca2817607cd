"""Predictions between committed networks."""

import pytest
import torch

import lmclib as lmc
from lmclib.book import first_look, results
from lmclib.book.measuring import measure


@pytest.fixture
def committed(tmp_path, monkeypatch):
    monkeypatch.setattr("lmclib.store.results.RESULTS", str(tmp_path / "committed"))
    monkeypatch.setitem(lmc.FORKING, "paper", {**lmc.FORKING["smoke"], "model": "mlp-4"})
    return tmp_path / "committed"


def test_committed_pairs_are_predicted_beside_what_is_measured(committed, tmp_path):
    with pytest.raises(lmc.LmcError, match="has no two siblings"):
        first_look.measure_first_look("digits", progress=False)
    assert first_look.first_look()[0].empty
    given = {"fork_epochs": "[0, 1]"}
    families = measure("resnet_forking", {"profile": "paper", "store": str(tmp_path / "runs"), **given})["families"]
    results.pack("resnet_forking", given, tmp_path / "runs")
    table = first_look.measure_first_look("digits", progress=False)
    assert table.groupby("pair").fork_epoch.first().to_dict() == {
        "mlp-4, fork 0, rate 0.1": 0,
        "mlp-4, fork 1, rate 0.1": 1,
        "mlp-4, fork 1, rate 0.1, full length after the fork": 1,
    }
    cube = families[0].cube(0, split="train")
    first = table[table.pair == "mlp-4, fork 0, rate 0.1"]
    one = cube(torch.tensor([[0.0, 0], [0.5, 0.5], [1, 1]]).double()).loss
    (whole,) = first[(first.what == "whole network") & (first.method == "gradient")].actual
    assert whole == pytest.approx(float(one[1] - (one[0] + one[2]) / 2), abs=0.02), "on some of the images"
    alone = lmc.predict_layer_barriers(cube, method="published").set_index("layer").loss_barrier
    predicted = first[(first.what == "single layers") & (first.method == "published")].set_index("layer").predicted
    assert predicted.to_dict() == pytest.approx(alone.to_dict(), rel=0.3)
    shown, said = first_look.first_look()
    assert shown.equals(table.round(6))
    assert said.startswith("1,000 training images of digits, seed 0; CPU")
    with pytest.raises(lmc.LmcError, match=r"is not what .* was trained on"):
        first_look.measure_first_look("topics", progress=False)


def test_what_is_committed_of_it_is_of_networks_that_are_committed():
    table, said = first_look.first_look()
    assert table.pair.nunique() == len(first_look.committed_pairs()) > 0
    assert "CIFAR-10 (JPEG copy)" in said
