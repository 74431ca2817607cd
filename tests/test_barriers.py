"""Barriers, kinds, geometry, toy landscapes and the ledger against closed forms."""

import json

import numpy as np
import pandas as pd
import pytest
import sympy
import torch

import lmclib as lmc
from lmclib import ledger, toy
from lmclib.errors import LmcError
from lmclib.settings import Settings

GRID = np.linspace(0, 1, 25)


def curve(barrier):
    return pd.DataFrame({"alpha": GRID, "error_barrier": barrier})


@pytest.mark.parametrize(
    ("barrier", "kind"),
    [
        (0.01 * 4 * GRID * (1 - GRID), "none"),
        (0.09 * 4 * GRID * (1 - GRID), "bump"),
        (0.5 * 4 * GRID * (1 - GRID), "ridge"),
        (0.5 * np.exp(-(((GRID - 0.5) / 0.15) ** 2)), "ridge"),
        (0.8 * np.clip(6 * np.minimum(GRID, 1 - GRID), 0, 1), "wide ridge"),
        (-0.3 * GRID * (1 - GRID), "none"),
    ],
)
def test_kinds_by_rule(barrier, kind):
    assert lmc.barrier_kind(curve(barrier)) == kind


def test_evolution_is_the_barrier_curve_of_each_cube(tmp_path):
    spec = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 0.5), recipe=lmc.Recipe(epochs=1, batch_size=128))
    family = lmc.fork(spec, tmp_path, progress=False)
    table = lmc.barrier_evolution([family], alphas=5, split="test", progress=False)
    assert len(table) == 2 * 5
    expected = lmc.barrier_curve(family.cube(0.5, split="test"), 5)
    got = table[table.fork_epoch == family.fork_epochs[1]].reset_index()[expected.columns]
    pd.testing.assert_frame_equal(got, expected)
    np.testing.assert_allclose(lmc.sibling_geometry([family]).plane_cosine, 1)  # one look: the last


def test_statistics_do_not_count_as_geometry():
    one = {"w": torch.zeros(2), "n.running_mean": torch.zeros(2)}
    other = {"w": torch.tensor([3.0, 4.0]), "n.running_mean": torch.full((2,), 100.0)}
    assert lmc.distance(one, other) == 5


def test_bad_alphas_are_named():
    with pytest.raises(LmcError, match="alphas="):
        lmc.barriers._grid([0.5, 1.5])


def test_prediction_with_gradients_is_exact_on_any_quadratic():
    a, b, c = sympy.symbols("a b c")
    loss = a * toy.T**2 + b * toy.T + c
    t1, t2 = -2, 3
    assert sympy.simplify(toy.predicted_barrier(loss, t1, t2, "gradient") - toy.barrier(loss, t1, t2)) == 0
    assert sympy.simplify(toy.predicted_barrier(loss, t1, t2) + toy.barrier(loss, t1, t2)) == 0  # the wrong sign


@pytest.mark.parametrize(("method", "order"), [("published", 2), ("gradient", 3)])
def test_order_of_the_error(method, order):
    """Away from stationarity the error falls as the second power of the distance as published, as the third with gradients."""
    h = sympy.Symbol("h", positive=True)
    loss, alpha = sympy.exp(toy.T), sympy.Rational(1, 3)
    curve, predicted = (
        f.subs(toy.ALPHA, alpha) for f in (toy.barrier(loss, 0, h), toy.predicted_barrier(loss, 0, h, method))
    )
    series = sympy.series(curve - predicted, h, 0, 5).removeO()
    assert min(term.as_coeff_exponent(h)[1] for term in sympy.Add.make_args(sympy.expand(series))) == order


def test_the_answers_to_the_toy_exercises():
    """The figures that the chapter's answers give."""
    bend = sympy.diff(toy.product_of_quadratics([-1, 1, 1.05]), toy.T, 2)
    assert float(bend.subs(toy.T, -1)) == pytest.approx(34, abs=0.5)
    assert float(bend.subs(toy.T, sympy.Rational(105, 100))) == pytest.approx(0.02, abs=0.005)
    for d in (0.5, 2):
        pair = toy.hierarchy([-d, d]).iloc[0]
        assert (pair.barrier, pair.predicted) == pytest.approx((d**4, 4 * d**4))
    paths = toy.diagonal_network_paths((0.5, 2), (-2, -0.5), np.array([0, 0.5, 1])).set_index(["path", "alpha"]).loss
    assert paths["joint"].round(2).tolist() == [0, 1.22, 0]
    assert paths["second layer into model 1"].round(3).tolist() == [0, 0.195, 0.781]
    assert paths["first layer into model 2"].round(3).tolist() == [0.781, 0.195, 0]
    one_branch = toy.diagonal_network_paths((0.5, 2), (2, 0.5), np.array([0.5]))
    assert one_branch[one_branch.path == "joint"].loss.item() == pytest.approx(0.158, abs=5e-4)


def test_toy_landscapes_refuse_what_is_none():
    for minima in ([1, 1], [1], [0, float("inf")], ["a", 2], "12"):
        with pytest.raises(LmcError, match="at least two distinct"):
            toy.product_of_quadratics(minima)


def judged(store, claim, holds, given=()):
    settings = Settings({"profile": "smoke", "store": str(store)}, {"store", *given})
    return lmc.judge(claim, holds, "m", [1, 2, 3], "units", "toy", "fig-x", settings, "toy_barriers")


def test_what_is_exact_has_no_spread(tmp_path):
    settings = Settings({"profile": "smoke", "store": str(tmp_path)}, {"store"})
    row = lmc.judge("B11", {0: True}, "m", [], "units", "exact", "fig-x", settings, "toy_barriers")
    assert row.spread.item() == "exact, no spread"


def test_rows_replace_their_own_and_keep_others(tmp_path):
    judged(tmp_path, "B11", {0: True})
    judged(tmp_path, "A3", {0: [True, False]})
    judged(tmp_path, "B11", {0: False})
    table = ledger.table(tmp_path, "smoke").set_index("claim")
    assert (table.verdict["B11"], table.verdict["A3"], table.verdict["A1"]) == ("fails", "holds in part", "not run yet")
    assert table.spread["B11"] == "2 ± 1 units (n = 3)"
    assert list(table.index.unique()) == list(ledger.CLAIMS)
    assert json.loads((tmp_path / "ledger/smoke/toy_barriers.json").read_text()).keys() == {"B11", "A3"}


def test_a_rerun_with_other_parameters_leaves_the_ledger_alone(tmp_path):
    judged(tmp_path, "B11", {0: True})
    row = judged(tmp_path, "B11", {0: False}, given=["seed"])
    assert row.verdict.item() == "fails"
    assert ledger.table(tmp_path, "smoke").set_index("claim").verdict["B11"] == "holds"


def test_unknown_claims_and_empty_verdicts_are_refused(tmp_path):
    with pytest.raises(LmcError, match="claim='Z9'"):
        judged(tmp_path, "Z9", {0: True})
    with pytest.raises(LmcError, match="holds="):
        judged(tmp_path, "B11", {})


def test_the_ledger_escapes_what_it_read(tmp_path):
    judged(tmp_path, "B11", {0: True})
    path = tmp_path / "ledger/smoke/toy_barriers.json"
    path.write_text(path.read_text().replace('"m"', '"<script>"'))
    assert "<script>" not in ledger.as_html(ledger.table(tmp_path, "smoke")).split("<script>document")[0]


def test_forking_claims_can_go_either_way():
    shapes = {0.0: 0.5, 1.0: 0.06, 2.0: 0.0}
    rows = [
        {"seed": 0, "fork_epoch": fork, "epoch": epoch, "alpha": a, "error_barrier": b, "loss_barrier": b}
        for fork, height in shapes.items()
        for epoch in (3, 4, 5)
        for a, b in zip(GRID, height * 4 * GRID * (1 - GRID), strict=True)
    ]
    geometry = pd.DataFrame(
        {"seed": 0, "fork_epoch": fork, "epoch": epoch, "child_epoch": epoch - fork, "distance": 9 - fork,
         "origin_angle": 50 - 10 * fork, "fork_angle": 60 + fork, "plane_cosine": 0.8 - 0.1 * fork}
        for fork in shapes
        for epoch in (3, 4, 5)
    )  # fmt: skip
    verdicts = {
        name: ledger.verdict(claim["holds"]) for name, claim in lmc.forking_claims(pd.DataFrame(rows), geometry).items()
    }
    assert verdicts == {
        "F1": "holds",
        "B1": "holds",
        "B2": "holds",
        "B3": "holds",
        "B4": "holds in part",
        "B5": "holds",
        "B7": "holds",
    }
    flat = pd.DataFrame(rows).assign(error_barrier=0.0, loss_barrier=0.0)
    verdicts = {name: ledger.verdict(claim["holds"]) for name, claim in lmc.forking_claims(flat, geometry).items()}
    assert {verdicts[name] for name in ("F1", "B1", "B2", "B3")} == {"fails"}
