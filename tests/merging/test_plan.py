"""Coefficients of an average: against closed forms, and on pairs of which one layer is spoiled."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import lsq_linear
from siblings import held_out, network, siblings
from torch import nn

import lmclib as lmc
from lmclib.cube.interpolation import Interpolation
from lmclib.merging import plan as planning
from lmclib.merging.soup import GREEDY_SOUP, UNIFORM_SOUP, soup_plan
from lmclib.networks.layers import find_layers
from lmclib.networks.partition import partitioned

HIDDEN = "3"  # the layer in the middle


class Sum(nn.Module):
    """A linear model whose every coefficient is a layer of its own."""

    def __init__(self, n):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(n))

    def forward(self, x):
        return sum(part(x[:, i : i + 1]) for i, part in enumerate(self.parts))


def least_squares(seed, n=5, examples=40):
    """A cube whose loss is a quadratic in its coefficients, and where that is least within the box, on every second example."""
    rng = np.random.default_rng(seed)
    w1, w2, x = rng.normal(size=n), rng.normal(size=n), rng.normal(size=(examples, n))
    y = x @ (w1 + rng.uniform(-0.4, 1.4, n) * (w2 - w1)) + rng.normal(size=examples) * 0.1
    states = [{f"parts.{i}.weight": torch.tensor([[w[i]]]) for i in range(n)} for w in (w1, w2)]
    cube = lmc.LayerCube(Sum(n), *states, (torch.tensor(x), torch.tensor(y)[:, None]), loss="squared")
    best = lsq_linear((x * (w2 - w1))[::2], (y - x @ w1)[::2], bounds=(0, 1), tol=1e-12).x
    return cube, best


@pytest.mark.parametrize("seed", range(4))
def test_convex_toys_have_the_coefficients_of_the_closed_form(seed):
    cube, best = least_squares(seed)
    plan = lmc.merge_plan(cube, evaluations=100)
    assert ((best > 0) & (best < 1)).any(), "some coefficient is within the box"
    assert plan.coefficients[planning.PER_LAYER] == pytest.approx(best, abs=1e-4)


def spoiled(how):
    """Two siblings, of which the second has one layer spoiled; and what spoiling costs an average."""
    one, two = siblings()
    two, g = dict(two), torch.Generator().manual_seed(3)
    if how == "permuted":  # the units of one layer, as it comes in and as it goes out: the same function elsewhere
        order = torch.randperm(24, generator=g)
        two |= {"1.weight": two["1.weight"][order], "1.bias": two["1.bias"][order]}
        two[f"{HIDDEN}.weight"] = two[f"{HIDDEN}.weight"][:, order]
    else:
        two[f"{HIDDEN}.weight"] = torch.randn(24, 24, generator=g) * 0.4
    return lmc.LayerCube(network(), one, two, held_out())


@pytest.mark.parametrize("how", ["permuted", "re-initialised"])
def test_a_spoiled_layer_is_found_and_nine_tenths_of_its_barrier_are_avoided(how):
    cube = spoiled(how)
    plan = lmc.merge_plan(cube)
    loss = plan.candidates.set_index("candidate").loss
    ends = loss[list(planning.ENDS)]
    base = ends.mean() if how == "permuted" else ends.min()  # a spoiled model is no end to measure a barrier from
    barrier = loss[planning.UNIFORM] - base
    assert barrier > 0.1
    assert loss[planning.UNIFORM] - plan.best.loss >= 0.9 * barrier
    assert plan.best.loss <= ends.min()
    if how == "re-initialised":
        assert plan.left_out[0] == HIDDEN
        at = plan.layers.index(HIDDEN)
        assert plan.coefficients[planning.PER_LAYER][at] == min(plan.coefficients[planning.PER_LAYER]) < 0.3


def test_candidates_are_judged_on_the_other_half_by_a_plain_loop():
    cube = spoiled("permuted")
    plan = lmc.merge_plan(cube, evaluations=3)
    x, y = held_out()
    for row in plan.candidates.itertuples():
        net = network()
        net.load_state_dict(plan.state(row.candidate))
        for part, loss in ((0, row.fit_loss), (1, row.loss)):
            with torch.no_grad():
                expected = nn.functional.cross_entropy(net(x[part::2]), y[part::2]).item()
            assert loss == pytest.approx(expected, abs=1e-6)
    assert list(plan.candidates.loss) == sorted(plan.candidates.loss)


def test_networks_that_cannot_be_averaged_are_left_alone():
    """The sign of every unit's input and output is turned in the second network, so that every mixture loses units."""
    one, _ = siblings()
    two = {key: value.clone() for key, value in one.items()}
    x, y = held_out()
    turned = nn.Sequential(*(nn.Tanh() if isinstance(module, nn.ReLU) else module for module in network()))
    for key in ("1.weight", "1.bias", "5.weight"):
        two[key] = -two[key]
    two["3.bias"] = -two["3.bias"]  # tanh is odd
    plan = lmc.merge_plan(lmc.LayerCube(turned, one, two, (x, y)), evaluations=8)
    ends = plan.candidates[plan.candidates.candidate.isin(planning.ENDS)].loss
    assert ends.max() == pytest.approx(ends.min(), abs=1e-6)
    if not plan.averages:
        assert str(plan).startswith("Do not average: the ")
    assert plan.best.loss <= ends.min()


def test_the_same_network_twice_is_no_average():
    one, _ = siblings()
    plan = lmc.merge_plan(lmc.LayerCube(network(), one, one, held_out()), evaluations=1)
    assert not plan.averages
    assert plan.chosen == planning.FIRST
    assert str(plan).startswith("Do not average: the first model has the lowest held-out loss")


def normed():
    """A network with batch norm."""
    body = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU())
    return nn.Sequential(nn.Flatten(), body, nn.Linear(8, 10, bias=False)).eval()


def normed_cube(norm_stats="interpolate"):
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        net = normed()
        net[1][1].running_mean.normal_()
        states.append({key: value.clone() for key, value in net.state_dict().items()})
    return lmc.LayerCube(net, *states, held_out(), norm_stats=norm_stats)


@pytest.mark.parametrize("norm_stats", ["interpolate", "recompute"])
def test_both_treatments_of_statistics_are_reported(norm_stats):
    plan = lmc.merge_plan(normed_cube(norm_stats), evaluations=2)
    table = plan.candidates
    assert set(table[table.norm_stats == planning.RECOMPUTED].candidate) == set(plan.coefficients) - set(planning.ENDS)
    x, y = held_out()
    row = plan.value(planning.UNIFORM, planning.RECOMPUTED)
    state = plan.state(planning.UNIFORM, planning.RECOMPUTED)
    hidden = nn.functional.linear(x[::2].flatten(1), state["1.0.weight"], state["1.0.bias"])
    assert torch.allclose(state["1.1.running_mean"], hidden.mean(0), atol=1e-5)
    assert torch.allclose(state["1.1.running_var"], hidden.var(0, correction=0), atol=1e-5)
    net = normed()
    net.load_state_dict(state)
    with torch.no_grad():
        assert row.loss == pytest.approx(nn.functional.cross_entropy(net(x[1::2]), y[1::2]).item(), abs=1e-6)


def test_data_may_be_batches_or_held_out_beside():
    one, two = siblings()
    x, y = held_out()
    batches = list(zip(x.split(90), y.split(90), strict=True))
    by_batch = lmc.merge_plan(lmc.LayerCube(network(), one, two, batches), evaluations=2)
    beside = lmc.LayerCube(network(), one, two, tuple(torch.cat(part) for part in zip(*batches[::2], strict=True)))
    held = tuple(torch.cat(part) for part in zip(*batches[1::2], strict=True))
    given = lmc.merge_plan(beside, held, evaluations=2)
    for plan in (by_batch, given):
        assert plan.candidates.shape == (6, 5)
    pd.testing.assert_frame_equal(by_batch.candidates, given.candidates, atol=1e-5)
    for data in ((x[:1], y[:1]), batches[:1]):
        with pytest.raises(lmc.LmcError, match="cannot be split in two"):
            lmc.merge_plan(lmc.LayerCube(network(), one, two, data))
    with pytest.raises(lmc.LmcError, match="evaluations=0"):
        lmc.merge_plan(beside, evaluations=0)
    with pytest.raises(lmc.LmcError, match="candidate='best': must be one of 'first model'"):
        given.state("best")


def test_a_soup_of_three_is_the_mean_and_the_greedy_one_is_what_its_weights_say():
    one, two = siblings()
    three = {
        key: value + 0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(5))
        for key, value in one.items()
    }
    states = [one, two, three]
    cube = lmc.LayerCube(network(), one, two, held_out())
    axes = find_layers(network(), held_out()[0][:2])
    plan = soup_plan(cube, states, axes, evaluations=3)
    assert set(plan.candidates.candidate) == {"model 1", "model 2", "model 3", UNIFORM_SOUP, GREEDY_SOUP}
    mixed = plan.state(GREEDY_SOUP)
    for i, axis in enumerate(axes):
        assert plan.weights[GREEDY_SOUP][:, i].sum().item() == pytest.approx(1)
        for key in axis.keys:
            weighted = sum(
                w * state[key].double() for w, state in zip(plan.weights[GREEDY_SOUP][:, i], states, strict=True)
            )
            assert torch.allclose(mixed[key].double(), weighted, atol=1e-6)
            mean = (one[key].double() + two[key] + three[key]) / 3
            assert torch.allclose(plan.state(UNIFORM_SOUP)[key].double(), mean, atol=1e-6)
    assert plan.best.loss <= plan.better_end.loss
    with pytest.raises(lmc.LmcError, match="at least 4 examples"):
        soup_plan(lmc.LayerCube(network(), one, two, tuple(part[:3] for part in held_out())), states, axes)


def test_partitions_move_what_they_say():
    cube = normed_cube()
    layers = find_layers(cube.model, held_out()[0][:2])
    fine = partitioned(cube.model, layers, "fine")
    assert [axis.name for axis in fine] == ["1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias", "2.weight"]
    assert fine[2].buffers == ("1.1.running_mean", "1.1.running_var")
    assert [axis.name for axis in partitioned(cube.model, layers, "layers")] == ["1.0", "1.1", "2"]
    assert partitioned(cube.model, layers, r"^(\d)\.") == partitioned(cube.model, layers, "blocks")
    (body, last) = partitioned(cube.model, layers, "blocks")
    assert (body.name, last.name) == ("1", "2")
    cube.ends = Interpolation(cube.ends.t1, cube.ends.t2, (body, last))
    for key, value in cube.state(torch.tensor([1.0, 0.0])).items():
        if value.is_floating_point():
            assert torch.equal(value, (cube.ends.t1 if key.startswith("2") else cube.ends.t2)[key])
    states = cube.ends.t1, cube.ends.t2
    for wrong, said in (("(", "regular expression"), ("conv", "is found in no layer's name, such as 1.0, 1.1, 2")):
        with pytest.raises(lmc.LmcError, match=f"^layers={re.escape(repr(wrong))}: .*{said}"):
            lmc.LayerCube(cube.model, *states, held_out(), layers=wrong)
