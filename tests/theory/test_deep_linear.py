"""Theorem 4.1 on any network that hypothesis can think of, and where it ends."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.theory import convexity, linear_networks, proof, training


@st.composite
def problems(draw):
    """Two deep linear networks of any depth and widths, with data; full rank, rank deficient or with zero layers."""
    widths = draw(st.lists(st.integers(1, 7), min_size=2, max_size=7))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    models = [
        [w[0] for w in convexity.random_weights(widths, 1, g, draw(st.sampled_from(convexity.KINDS)))] for _ in range(2)
    ]
    scale = 10.0 ** draw(st.integers(-3, 3))
    n = draw(st.integers(1, 9))
    x, y = (torch.randn(n, d, generator=g, dtype=torch.float64) for d in (widths[0], widths[-1]))
    return *models, scale * x, y * draw(st.sampled_from([0.0, 1.0, 100.0])), draw(st.integers(0, len(widths) - 2))


@settings(max_examples=300, deadline=None)
@given(problems())
def test_any_single_layer_cut_is_an_upward_parabola(problem):
    one, two, x, y, layer = problem
    cut = linear_networks.layer_cut(one, two, x, y, layer)
    assert float(cut.c2) >= 0
    alphas = torch.linspace(-1, 2, 7, dtype=torch.float64)
    passes = linear_networks.cut_losses(one, two, x, y, (layer,), alphas)
    torch.testing.assert_close(passes, cut(alphas), rtol=1e-9, atol=1e-11 * float(1 + passes.max()))
    assert float(convexity.smallest_curvature(passes)) >= -1e-10


@settings(max_examples=60, deadline=None)
@given(problems())
def test_cross_entropy_is_convex_in_a_single_layer_too(problem):
    one, two, x, y, layer = problem
    targets = torch.nn.functional.one_hot(y.argmax(-1), y.shape[-1]).double()
    alphas = torch.linspace(0, 1, 9, dtype=torch.float64)
    losses = linear_networks.cut_losses(one, two, x, targets, (layer,), alphas, loss=linear_networks.cross_entropy)
    assert float(convexity.smallest_curvature(losses)) >= -1e-9


def test_the_cube_sees_the_same_parabola():
    g = torch.Generator().manual_seed(0)
    widths = (4, 3, 5, 2)
    one, two = ([w[0] for w in convexity.random_weights(widths, 1, g)] for _ in range(2))
    x, y = (torch.randn(6, d, generator=g, dtype=torch.float64) for d in (4, 2))
    net = torch.nn.Sequential(*(torch.nn.Linear(a, b, bias=False) for a, b in pairwise(widths)))
    states = [{f"{k}.weight": w for k, w in enumerate(weights)} for weights in (one, two)]
    cube = lmc.LayerCube(net, *states, (x, y), loss=lambda out, target: linear_networks.squared(out, target))
    e = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    cut = linear_networks.layer_cut(one, two, x, y, layer=1)
    assert cube(0.3 * e).loss.item() == pytest.approx(cut(0.3).item(), rel=1e-10)
    assert cube.hessian(0.3 * e)[1, 1].item() == pytest.approx(2 * cut.c2.item(), rel=1e-10)


@pytest.mark.parametrize("widths", [(1, 1, 1), (2, 1, 2), (1, 2, 1, 1)])
def test_the_symbolic_check_leaves_no_remainder(widths):
    table = proof.check_theorem(widths)
    assert len(table) == len(widths) - 1
    assert (table.remainder == 0).all()
    assert (table.degree == 2).all()


def test_two_layers_and_relu_are_not_convex():
    g = torch.Generator().manual_seed(1)
    one, two = (convexity.random_weights((4, 5, 5, 3), 50, g) for _ in range(2))
    x, y = (torch.randn(20, d, generator=g, dtype=torch.float64) for d in (4, 3))
    linear = convexity.curvatures(one, two, x, y)
    assert linear[linear["size"] == 1].curvature.min() > -1e-10
    assert linear[linear["size"] == 2].curvature.min() < -1e-3
    relu = convexity.curvatures(one, two, x, y, sizes=(1,), activation=torch.relu).groupby("group").curvature.min()
    assert relu["2"] > -1e-10  # nothing nonlinear follows the last layer
    assert relu["0"] < -1e-3


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda w, x: linear_networks.layer_cut(w, w[:1], x, x, 0), "two: has weights of shapes"),
        (
            lambda w, x: linear_networks.layer_cut(w, w, x, x, 2),
            r"layers=\(2,\): must be one or more numbers from 0 to 1",
        ),
        (lambda w, x: linear_networks.cut_losses(w, w, x, x, (), torch.zeros(1)), r"layers=\(\): must be one or more"),
        (lambda w, x: linear_networks.layer_cut(w, w, x[:, :1], x, 0), "do not lead from x"),
        (lambda w, x: linear_networks.mirrored_pair(0), "s=0"),
        (lambda w, x: convexity.random_weights((2, 2), 1, torch.Generator(), "sparse"), "kind='sparse'"),
        (
            lambda w, x: training.train([v[None] for v in w], x, -x, 50, 1e6, 0),
            r"lr=1000000.0: the loss diverged at step",
        ),
    ],
)
def test_bad_requests_are_named(call, said):
    with pytest.raises(LmcError, match=said):
        call([torch.eye(2).double(), torch.eye(2).double()], 2 * torch.ones(3, 2).double())
