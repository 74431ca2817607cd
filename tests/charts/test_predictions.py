"""Figures of predictions keep their scales, say what they show, and print nothing that is undefined."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
from charted import assert_scales_stay, assert_title_follows, compared_table, dataset, layer_triples

from lmclib.charts import predictions
from lmclib.cube.energies import Energies
from lmclib.measures.agreement import agreements

LAYERS = ("a", "b", "c")


@pytest.fixture(scope="module")
def energies() -> Energies:
    hessians = np.array([[[4.0, 1, -3], [1, 2, 0], [-3, 0, 1]]] * 2)
    return Energies(LAYERS, np.array([[-1.0, 0, 2], [1, 0.5, 0]]), hessians)


@pytest.fixture(scope="module")
def sets() -> pd.DataFrame:
    keys = ["".join(digits) for digits in product("01", repeat=3)][1:]
    return pd.DataFrame({"set": keys, "loss_barrier": np.linspace(-0.1, 2, 7)})


def test_the_triptych_never_rescales_and_ranks_within_the_fork_that_it_shows():
    table = layer_triples()
    spec = predictions.triptych(table).to_dict()
    assert_scales_stay(spec)
    answers = assert_title_follows(spec, "fork")
    rows = table[(table.fork_epoch == 0.5) & (table.epoch == table.epoch.max())]
    rho = rows.energy.corr(rows.barrier, method="spearman")
    assert f"{len(rows)} layers at epoch {rows.epoch.max()}: energy {rho:.2f}" in answers["0.5",]
    assert "distance alone undefined" in answers["4",]
    assert len(dataset(spec, "energy", "distance")) == len(table)
    scales = [panel["encoding"]["color"]["scale"]["domain"] for panel in spec["hconcat"][:2]]
    assert scales[0] == scales[1]  # both in nats


def test_the_title_of_predictions_counts_the_pairs_that_it_ranks():
    table = compared_table().assign(case=lambda rows: rows.what)
    title = " ".join(predictions.against_fork(table).to_dict()["title"]["text"])
    assert "over 9 pairs" in title  # three seeds of three forks


def test_no_set_of_ticked_layers_leaves_the_scales_of_the_energy_matrix(energies, sets):
    spec = predictions.energy_matrix(energies, sets).to_dict()
    assert_scales_stay(spec)
    bars = spec["hconcat"][1]["layer"][0]["encoding"]["x"]["scale"]["domain"]
    low, high = json.loads(bars["expr"])
    matrix = energies.hessians.sum(0) / 16
    slopes = (energies.gradients[0] - energies.gradients[1]) / 4
    for chosen in product((0, 1), repeat=3):
        block = np.array(chosen) @ matrix @ np.array(chosen)
        assert low <= block <= high
        assert low <= block + np.array(chosen) @ slopes <= high
    assert low <= sets.loss_barrier.min()
    assert high >= sets.loss_barrier.max()


def test_the_energy_matrixs_title_is_summed_over_the_ticked_layers(energies, sets):
    spec = predictions.energy_matrix(energies, sets).to_dict()
    params = {param["name"]: param for param in spec["params"]}
    expression = params["predicted"]["expr"]
    matrix = energies.hessians.sum(0) / 16
    for chosen in product((0, 1), repeat=3):
        ticked = {f"l{i}": value for i, value in enumerate(chosen)}
        assert eval(expression, ticked) == pytest.approx(np.array(chosen) @ matrix @ np.array(chosen))
    assert params["measured"]["value"] == pytest.approx(dict(zip(sets.set, sets.loss_barrier, strict=True)), abs=1e-5)
    assert {"count", "predicted", "measured[ticked]"} <= {
        word for word in params if word in spec["title"]["text"]["expr"]
    } | {"measured[ticked]"}


def test_bounds_of_many_layers_hold_every_set():
    matrix = np.random.default_rng(0).normal(size=(6, 6))
    matrix = matrix + matrix.T
    exact, bound = (predictions._block_range(matrix, exact) for exact in (12, 2))
    assert bound[0] <= exact[0] < exact[1] <= bound[1]


def test_panels_have_a_heading_of_one_kind_of_barrier_each():
    table = compared_table()
    spec = predictions.panels(table).to_dict()
    assert_scales_stay(spec)
    answers = assert_title_follows(spec, "kind")
    measured = agreements(table, ["what", "method"])
    assert f"off by {measured.relative_error['single layers', 'published']:.0%}" in answers["single layers",]
    headings = next(param["value"] for param in spec["params"] if param["name"] == "headings")
    assert set(headings) == {"published|network", "gradient|network", "published|single layers"}
    assert len(dataset(spec, "actual", "predicted")) == len(table)
    assert "nan" not in json.dumps(headings)


def test_panels_hold_every_prediction():
    table = compared_table()
    top = predictions.panels(table).to_dict()["concat"][0]["layer"][-1]["encoding"]["y"]["scale"]["domain"]
    assert top[1] > table.predicted.max()


def test_labels_of_the_price_touch_nothing():
    names = ["one", "two", "three", "four"]
    places = predictions._label_places(names, [100, 102, 104, 5], [100, 101, 102, 250])
    assert len({(align, dy) for align, _, dy in list(places.values())[:3]}) == 3
    assert places["four"][0] == "left"  # not over the axis


def test_the_price_draws_the_evaluation_at_zero_and_leaves_out_what_was_not_measured():
    table = pd.DataFrame(
        {"method": ["actual", "published", "taylor4"], "cost": [3.0, 12.0, 90.0], "relative_error": [0.0, 0.4, np.nan]}
    )
    spec = predictions.price(table).to_dict()
    assert_scales_stay(spec)
    assert spec["layer"][1]["encoding"]["y"]["scale"]["domain"][0] == 0
    assert "nan" not in json.dumps(spec).lower()
