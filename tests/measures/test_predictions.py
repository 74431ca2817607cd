"""Predictions: exact where they should be, of the stated order elsewhere, and the measures of agreement."""

import numpy as np
import pandas as pd
import pytest
import torch
from reference import random_states
from torch import nn

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.measures.expansion import METHODS
from lmclib.measures.predictions import energy_predictions
from lmclib.networks.build import build_model


class Quadratic(nn.Module):
    """Outputs that are affine in all parameters, so that the squared loss is a quadratic."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.a(x[:, :5]) + self.b(x[:, 5:])


def quadratic_cube() -> lmc.LayerCube:
    model = Quadratic()
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(20, d, generator=g, dtype=torch.float64) for d in (9, 3))
    return lmc.LayerCube(model, *random_states(model), (x, y), loss="squared")


@pytest.mark.parametrize("method", [method for method in METHODS if method != "published"])
def test_exact_on_quadratics(method):
    cube, alphas = quadratic_cube(), (0.2, 0.5, 0.9)
    actual = lmc.barrier_curve(cube, alphas).loss_barrier
    np.testing.assert_allclose(lmc.predict_curve(cube, alphas, method).loss_barrier, actual, rtol=1e-8)
    layers = lmc.layer_barriers(cube, alphas).query("into == 'both'").loss_barrier
    np.testing.assert_allclose(lmc.predict_layer_barriers(cube, alphas, method).loss_barrier, layers, rtol=1e-8)


def test_the_published_one_has_the_wrong_sign_there():
    cube = quadratic_cube()
    predicted, actual = (f(cube, (0.5,)).loss_barrier.item() for f in (lmc.predict_curve, lmc.barrier_curve))
    assert predicted == pytest.approx(-actual, rel=1e-8)


def smooth_cube(distance: float) -> lmc.LayerCube:
    """Two networks with tanh at a distance from each other, far from any minimum."""
    model = build_model("mlp-6-5-tanh", (1, 8, 8), 10)
    t1, t2 = random_states(model)
    g = torch.Generator().manual_seed(2)
    x, y = torch.randn(25, 1, 8, 8, generator=g, dtype=torch.float64), torch.randint(10, (25,), generator=g)
    t2 = {key: t1[key] + distance * (value - t1[key]) for key, value in t2.items()}
    return lmc.LayerCube(model, t1, t2, (x, y))


@pytest.mark.parametrize(
    ("method", "alpha", "order"),
    [
        ("published", 0.5, 2),
        ("gradient", 0.3, 3),
        ("gradient", 0.5, 4),
        ("hermite", 0.3, 6),
        ("hermite", 0.5, 6),
    ],
)
def test_the_error_falls_with_the_distance_as_stated(method, alpha, order):
    distances, errors = (0.8, 0.4, 0.2) if method == "hermite" else (0.2, 0.1, 0.05), []
    for distance in distances:
        cube = smooth_cube(distance)
        found = [
            f.loss_barrier.item()
            for f in (lmc.predict_curve(cube, (alpha,), method), lmc.barrier_curve(cube, (alpha,)))
        ]
        errors.append(abs(found[0] - found[1]))
    slopes = np.diff(np.log(errors)) / np.diff(np.log(distances))
    assert slopes[-1] == pytest.approx(order, abs=0.35), slopes


@pytest.mark.parametrize("method", METHODS)
def test_several_methods_at_once_are_each_alone(method):
    cube = smooth_cube(1.0)
    together = lmc.prediction_table(cube, of="layers").query(f"method == '{method}'").set_index("group").predicted
    alone = lmc.predict_layer_barriers(cube, method=method).set_index("layer").loss_barrier
    np.testing.assert_allclose(together, alone, rtol=1e-9)
    network = lmc.prediction_table(cube, methods=[method])
    np.testing.assert_allclose(network.predicted, lmc.predict_curve(cube, (0.5,), method).loss_barrier, rtol=1e-9)
    np.testing.assert_allclose(network.actual, lmc.barrier_curve(cube, (0.5,)).loss_barrier, rtol=1e-9)


def test_energies_predict_what_each_layers_own_derivatives_do():
    cube = smooth_cube(1.0)
    table = energy_predictions(cube).set_index(["method", "layer"])
    for method in ("published", "gradient"):
        own = pd.concat([lmc.prediction_table(cube, of, [method]) for of in ("layers", "network")]).set_index("group")
        np.testing.assert_allclose(table.loc[method].predicted, own.predicted, rtol=1e-9)
        np.testing.assert_allclose(table.loc[method].actual, own.actual, rtol=1e-9)
        assert list(table.loc[method].index) == [*cube.layers, "network"]


def test_a_group_is_the_sum_over_its_block_of_the_matrix():
    cube, alpha = smooth_cube(1.0), 0.3
    names = cube.layers[:2]
    e1, e2 = (cube.hessian(end)[:2, :2].sum().item() for end in (0.0, 1.0))
    equation21 = alpha * (1 - alpha) / 2 * (alpha * e1 + (1 - alpha) * e2)
    predicted = lmc.predict_group_barriers(cube, [names], (alpha,)).loss_barrier.item()
    assert predicted == pytest.approx(equation21, rel=1e-10)
    energies = lmc.Energies.of(cube)
    kept = lmc.Energies.from_table(energies.table())
    for one in (energies, kept):
        assert lmc.predict_group_barriers(one, [names], (alpha,)).loss_barrier.item() == pytest.approx(equation21)
    whole = lmc.predict_group_barriers(energies, [cube.layers]).loss_barrier.item()
    assert whole == pytest.approx(lmc.predict_curve(cube, (0.5,)).loss_barrier.item(), rel=1e-9)


def test_costs_are_counted_in_forward_passes():
    cube = smooth_cube(1.0)
    assert lmc.predict_curve(cube, (0.5,)).attrs["cost"] == 2 * (3 + 4)  # at both ends a gradient, and its derivative
    costs = lmc.cost_table(cube, methods=("logit-cubic", "logit-quintic", "taylor4")).set_index("method").cost
    assert costs.to_dict() == {"logit-cubic": 2 * 2, "logit-quintic": 2 * 4, "taylor4": 2 * 16, "actual": 3}
    # seconds are for benchmarks; what they are paid for is counted: one derivative at both ends, four at both
    passes = {}
    for method in ("logit-cubic", "taylor4"):
        before = cube.passes
        lmc.predict_curve(cube, (0.5,), method)
        passes[method] = cube.passes - before
    assert passes == {"logit-cubic": 2 * 2, "taylor4": 2 * 2**4}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: lmc.predict_curve(c, method="second"), "method='second': must be one of 'published'"),
        (lambda c: lmc.predict_group_barriers(c, [[]]), "must be one or more layer names"),
        (lambda c: lmc.predict_group_barriers(lmc.Energies.of(c), [c.layers], method="hermite"), "give the cube"),
        (lambda c: lmc.prediction_table(c, of="layer"), "of='layer': must be 'network' or 'layers'"),
        (lambda c: lmc.predict_curve(c, (2.0,)), "alphas="),
        (lambda c: energy_predictions(c, ["hermite"]), "method='hermite': must be one of 'published', 'gradient'"),
    ],
)
def test_bad_requests_are_named(call, said):
    with pytest.raises(LmcError, match=said):
        call(smooth_cube(1.0))


def test_within_a_fork_the_order_of_forks_does_not_count():
    fork = pd.Series([0, 0, 0, 1, 1, 1])
    actual = pd.Series([1.0, 2, 3, 11, 12, 13])
    predicted = pd.Series([3.0, 2, 1, 13, 12, 11])  # right between forks, wrong within each
    found = lmc.agreement(predicted, actual, fork)
    assert found.spearman > 0.5
    assert found.within_spearman == pytest.approx(-1)
    table = pd.DataFrame({"predicted": predicted, "actual": actual, "fork_epoch": fork, "method": "m"})
    pd.testing.assert_series_equal(
        lmc.agreements(table, ["method"]).loc["m"], found, check_names=False, check_dtype=False
    )


def test_agreement_by_hand():
    found = lmc.agreement(pd.Series([2.0, -1.0]), pd.Series([1.0, 1.0]))
    assert found.relative_error == 1.5
    assert found.sign == 0.5
    assert np.isnan(found.spearman)
