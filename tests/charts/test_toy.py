"""Figures of toy landscapes: everything that the sliders can make fits, and the titles are computed in the page."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from charted import assert_scales_stay, dataset

from lmclib.charts import toy
from lmclib.theory import landscapes

MINIMA = [-1.5, -1, 1, 1.5]


@pytest.fixture(scope="module")
def diagonal() -> dict:
    return toy.diagonal_network((0.5, 2.0), (-2.0, -0.5)).to_dict()


def test_no_slider_takes_a_barrier_or_a_prediction_out_of_the_toy_landscape():
    spec = toy.landscape(MINIMA).to_dict()
    assert_scales_stay(spec)
    roof = spec["vconcat"][0]["layer"][0]["encoding"]["y"]["scale"]["domain"][1]
    sliders = [param for param in spec["params"] if "bind" in param]
    assert len(sliders) == len(MINIMA)
    stops = [(slider["bind"]["min"], slider["value"], slider["bind"]["max"]) for slider in sliders]
    for ends in product(*stops):
        if len(set(np.round(ends, 6))) < len(ends):
            continue  # two in one place
        top = landscapes.hierarchy([float(f"{end:.6g}") for end in ends]).iloc[-1]
        assert max(top.barrier, top.predicted) <= roof


def test_the_toy_landscapes_title_is_computed_from_the_sliders():
    spec = toy.landscape(MINIMA).to_dict()
    title = spec["title"]["text"]["expr"]
    assert all(param["name"] in title for param in spec["params"] if param["name"] in ("m1", "m4", "left", "right"))


def test_the_diagonal_networks_legend_names_every_path_and_the_branches(diagonal):
    inset = diagonal["vconcat"][1]["layer"][0]["encoding"]
    assert len(inset["color"]["scale"]["domain"]) == len(inset["strokeDash"]["scale"]["range"]) == 6
    assert inset["color"]["scale"]["domain"][-1] == toy.BRANCH
    drawn = dataset(diagonal, "path", "part")
    perfect = drawn[drawn.path == toy.BRANCH]
    assert (perfect["first"] * perfect["second"]).to_numpy() == pytest.approx(1, abs=1e-3)


def test_the_diagonal_networks_title_is_that_of_alpha(diagonal):
    answers = next(param["value"] for param in diagonal["params"] if param["name"] == "answers")
    bind = next(param for param in diagonal["params"] if param["name"] == "alpha")["bind"]
    stops = np.arange(bind["min"], bind["max"] + 1e-9, bind["step"])
    assert set(answers) == {f"{stop:g}" for stop in stops}
    paths = landscapes.diagonal_network_paths((0.5, 2), (-2, -0.5), np.array([0.075])).set_index("path").loss
    assert f"joint path {paths['joint']:.3g}" in " ".join(answers["0.075"])


def test_other_models_fit_the_map():
    spec = toy.diagonal_network((4.0, 0.25), (-0.25, -4.0)).to_dict()
    low, high = spec["vconcat"][0]["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert low < -4 < 4 < high


def test_the_segments_curves_are_computed_in_the_page_as_the_closed_forms_say():
    loss = landscapes.product_of_quadratics([-1, 1])
    curves = toy.segment(loss, -0.8, 0.9).to_dict()["vconcat"][2]
    low, high = curves["encoding"]["y"]["scale"]["domain"]
    for t1, t2, a in product((-1.5, -0.8, 0.3), (-0.2, 0.9, 1.5), (0.25, 0.5)):
        closed = (
            landscapes.barrier(loss, t1, t2),
            *(landscapes.predicted_barrier(loss, t1, t2, method) for method in ("published", "gradient")),
        )
        for step, curve in zip(curves["transform"][:3], closed, strict=True):
            here = {"pow": pow, "t1": t1, "t2": t2, "datum": SimpleNamespace(a=a)}
            value = eval(step["calculate"], here)
            assert value == pytest.approx(float(curve.subs(landscapes.ALPHA, a))), step["as"]
            assert low <= value <= high


def test_a_lane_has_a_piece_for_every_place_of_its_slider():
    lane = dataset(toy.landscape([-1, 1]).to_dict(), "handle", "place").query("handle == 'm1'")
    assert lane.place.tolist() == pytest.approx(np.arange(-1.5, -0.49, 0.05))
    assert lane.high.iloc[:-1].tolist() == pytest.approx(lane.low.iloc[1:].tolist())
