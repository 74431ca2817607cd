"""Figures of steps say who is the mildest, and draw what was measured."""

import json

import numpy as np
import pytest
from charted import LAYERS, assert_scales_stay, assert_title_follows, controls, dataset, legend, step_table

from lmclib.charts import robustness


@pytest.fixture(scope="module")
def steps() -> dict:
    return robustness.steps(step_table()).to_dict()


def test_the_network_comes_first_and_every_layer_can_be_chosen(steps):
    assert controls(steps)["layer"] == ["network", *LAYERS]
    assert controls(steps)["setting"] == ["test", "training"]
    assert_scales_stay(steps, switches=("measure",))


def test_the_title_ranks_the_directions_halfway(steps):
    answers = assert_title_follows(steps, "setting", "layer", "measure")
    said = answers["test", "head", "loss"]
    assert said.startswith("Loss after σ = 0.5 (head, test), from the mildest: null space")
    assert said.index("null space") < said.index("training subspace") < said.index("averaging") < said.index("random")


def test_bands_run_from_the_lowest_to_the_highest_seed(steps):
    shown = dataset(steps, "loss_low", "loss_high")
    assert (shown.loss_low <= shown.loss).all()
    assert (shown.loss <= shown.loss_high).all()
    one = shown.query(
        "setting == 'test' and layer == 'head' and direction == 'averaging direction' and sigma == 1"
    ).iloc[0]
    assert one.loss_high - 0.2 == pytest.approx(2 * (one.loss_low - 0.2), abs=1e-3)


def test_a_direction_that_a_layer_does_not_have_has_no_line():
    table = step_table()
    table = table[~((table.direction == "null space") & (table.layer == "head"))]
    spec = robustness.steps(table).to_dict()
    shown = dataset(spec, "loss_low", "loss_high")
    assert "null space" not in set(shown[shown.layer == "head"].direction)
    assert "null space" not in assert_title_follows(spec, "setting", "layer", "measure")["test", "head", "loss"]
    drawn = legend(spec["layer"][1]["encoding"]["color"])
    assert "null space" not in drawn["test|head"]
    assert "null space" in drawn["test|network"]


def test_a_tenth_of_a_nat_is_seen_beside_a_thousand():
    table = step_table()
    table.loc[table.index[-1], "loss"] = 3000
    spec = robustness.steps(table).to_dict()
    (height,) = {json.dumps(unit["encoding"]["y"]["scale"]) for unit in spec["layer"]}
    assert '\\"loss\\": 0.1' in height
    assert "1000.0" in spec["layer"][1]["encoding"]["y"]["axis"]["values"]["expr"]


def test_equal_norm_counts_the_layers_where_averaging_is_milder():
    table = step_table()
    averaging = (table.direction == "averaging direction") & (table.layer == LAYERS[0]) & (table.sigma == 0.5)
    table.loc[averaging, "loss"] += 50
    spec = robustness.equal_norm(table).to_dict()
    answers = assert_title_follows(spec, "sigma", "setting")
    assert f"in {len(LAYERS) - 1} of {len(LAYERS)} layers" in answers[0.5, "test"]
    assert f"in {len(LAYERS)} of {len(LAYERS)} layers" in answers[1, "test"]
    assert controls(spec)["sigma"][0] == 0.5, "halfway is shown first"
    shown = dataset(spec, "difference")
    assert np.sign(shown[(shown.layer == LAYERS[0]) & (shown.sigma == 0.5)].difference).eq(1).all()


def test_a_direction_that_one_network_lacks_has_no_line_either():
    table = step_table()
    whole = dataset(robustness.steps(table).to_dict(), "loss_low", "loss_high")
    missing = (table.direction == "null space") & (table.layer == "head") & (table.seed == table.seed.max())
    shown = dataset(robustness.steps(table[~missing]).to_dict(), "loss_low", "loss_high")
    gone = (whole.direction == "null space") & (whole.layer == "head")
    assert gone.any()
    assert len(shown) == (~gone).sum()  # a mean over the others would be of other networks


def test_a_direction_looks_the_same_in_every_figure():
    table = step_table()
    few = table[table.direction.isin(["averaging direction", "null space"])]
    ranges = {}
    for spec in (robustness.steps(table).to_dict(), robustness.steps(few).to_dict()):
        scale = spec["layer"][1]["encoding"]["color"]["scale"]
        ranges |= {(one, colour): None for one, colour in zip(scale["domain"], scale["range"], strict=True)}
    assert len(ranges) == table.direction.nunique()
