"""Toy landscapes against closed forms."""

import numpy as np
import pytest
import sympy

from lmclib.errors import LmcError
from lmclib.theory import landscapes


def test_prediction_with_gradients_is_exact_on_any_quadratic():
    a, b, c = sympy.symbols("a b c")
    loss = a * landscapes.T**2 + b * landscapes.T + c
    t1, t2 = -2, 3
    assert (
        sympy.simplify(landscapes.predicted_barrier(loss, t1, t2, "gradient") - landscapes.barrier(loss, t1, t2)) == 0
    )
    assert (
        sympy.simplify(landscapes.predicted_barrier(loss, t1, t2) + landscapes.barrier(loss, t1, t2)) == 0
    )  # the wrong sign


@pytest.mark.parametrize(("method", "order"), [("published", 2), ("gradient", 3)])
def test_order_of_the_error(method, order):
    """Away from stationarity the error falls as the second power of the distance as published, as the third with gradients."""
    h = sympy.Symbol("h", positive=True)
    loss, alpha = sympy.exp(landscapes.T), sympy.Rational(1, 3)
    curve, predicted = (
        f.subs(landscapes.ALPHA, alpha)
        for f in (landscapes.barrier(loss, 0, h), landscapes.predicted_barrier(loss, 0, h, method))
    )
    series = sympy.series(curve - predicted, h, 0, 5).removeO()
    assert min(term.as_coeff_exponent(h)[1] for term in sympy.Add.make_args(sympy.expand(series))) == order


def test_the_answers_to_the_toy_exercises():
    """The figures that the chapter's answers give."""
    bend = sympy.diff(landscapes.product_of_quadratics([-1, 1, 1.05]), landscapes.T, 2)
    assert float(bend.subs(landscapes.T, -1)) == pytest.approx(34, abs=0.5)
    assert float(bend.subs(landscapes.T, sympy.Rational(105, 100))) == pytest.approx(0.02, abs=0.005)
    for d in (0.5, 2):
        pair = landscapes.hierarchy([-d, d]).iloc[0]
        assert (pair.barrier, pair.predicted) == pytest.approx((d**4, 4 * d**4))
    paths = (
        landscapes.diagonal_network_paths((0.5, 2), (-2, -0.5), np.array([0, 0.5, 1])).set_index(["path", "alpha"]).loss
    )
    assert paths["joint"].round(2).tolist() == [0, 1.22, 0]
    assert paths["second layer into model 1"].round(3).tolist() == [0, 0.195, 0.781]
    assert paths["first layer into model 2"].round(3).tolist() == [0.781, 0.195, 0]
    one_branch = landscapes.diagonal_network_paths((0.5, 2), (2, 0.5), np.array([0.5]))
    assert one_branch[one_branch.path == "joint"].loss.item() == pytest.approx(0.158, abs=5e-4)


def test_the_hierarchys_numbers_are_those_of_the_closed_forms():
    minima = [-1.5, -0.6, 1, 1.4]
    loss = landscapes.product_of_quadratics(minima)
    table = landscapes.hierarchy(minima)
    assert len(table) == 6
    for row in table.itertuples(index=False):
        ends, half = row[:2], {landscapes.ALPHA: sympy.Rational(1, 2)}
        assert row.predicted == pytest.approx(float(landscapes.predicted_barrier(loss, *ends).subs(half)))
        curve = landscapes.evaluate(landscapes.barrier(loss, *ends), np.linspace(0, 1, 20001))
        assert row.barrier == pytest.approx(curve.max(), abs=1e-6)


def test_toy_landscapes_refuse_what_is_none():
    for minima in ([1, 1], [1], [0, float("inf")], ["a", 2], "12"):
        with pytest.raises(LmcError, match="at least two distinct"):
            landscapes.product_of_quadratics(minima)


def test_a_reversal_is_found_where_there_is_one():
    minima = landscapes.find_reversal(8)
    table = landscapes.hierarchy(minima)
    ratios = [
        far.barrier / near.barrier
        for far in table.itertuples()
        for near in table.itertuples()
        if far.distance > near.distance
    ]
    assert landscapes.worst_order(minima) == pytest.approx(min(ratios))
    assert min(ratios) < 1
    assert landscapes.worst_order([-1.5, -1, 1, 1.5]) == pytest.approx(1)
