"""Layer-wise barriers against the cube itself; sets, orders and what is refused."""

import pandas as pd
import pytest
import torch
from reference import random_states

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.networks.build import build_model


@pytest.fixture(scope="module")
def cube():
    model = build_model("mlp-8-7-6-5", (1, 8, 8), 10)
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(30, 1, 8, 8, generator=g, dtype=torch.float64), torch.randint(10, (30,), generator=g)
    return lmc.LayerCube(model, *random_states(model), (x, y))


def corner(cube, *layers: str) -> torch.Tensor:
    return torch.tensor([float(name in layers) for name in cube.layers], dtype=torch.float64)


def row(table: pd.DataFrame, **columns) -> pd.Series:
    for name, value in columns.items():
        table = table[table[name] == value]
    (one,) = table.to_dict("records")
    return pd.Series(one)


@pytest.mark.parametrize("alpha", [0.3, 0.5])
def test_both_baselines_by_definition(cube, alpha):
    name, ends = cube.layers[2], [cube(0.0).loss.item(), cube(1.0).loss.item()]
    e = corner(cube, name)
    into1, into2 = cube(alpha * e).loss.item(), cube(1 - (1 - alpha) * e).loss.item()
    chord = (1 - alpha) * ends[0] + alpha * ends[1]
    models = lmc.layer_barriers(cube, alphas=(alpha,))
    assert row(models, layer=name, into="1").loss_barrier == pytest.approx(into1 - chord, rel=1e-10)
    assert row(models, layer=name, into="2").loss_barrier == pytest.approx(into2 - chord, rel=1e-10)
    weighted = (1 - alpha) * into1 + alpha * into2
    assert row(models, layer=name, into="both").loss_barrier == pytest.approx(weighted - chord, rel=1e-10)
    cut = lmc.layer_barriers(cube, alphas=(alpha,), baseline="cut")
    own = (1 - alpha) * ends[0] + alpha * cube(e).loss.item()
    assert row(cut, layer=name, into="1").loss_barrier == pytest.approx(into1 - own, rel=1e-10)
    own = (1 - alpha) * cube(1 - e).loss.item() + alpha * ends[1]
    assert row(cut, layer=name, into="2").loss_barrier == pytest.approx(into2 - own, rel=1e-10)


def test_all_layers_together_are_the_barrier_curve(cube):
    curve = lmc.barrier_curve(cube, (0.5,)).loss_barrier.item()
    everything = lmc.layer_table(cube)
    for baseline in ("models", "cut"):
        for into in ("1", "2", "both"):
            found = row(everything, layer="network", baseline=baseline, into=into)
            assert found.loss_barrier == pytest.approx(curve, rel=1e-10)
    last = lmc.cumulative_barriers(cube).query("n_layers == 5")
    assert last.loss_barrier.tolist() == pytest.approx([curve] * 3, rel=1e-10)


def test_single_layers_are_those_of_both_baselines_without_the_hybrids(cube):
    both, before = lmc.layer_table(cube), cube.passes
    models = lmc.single_layer_table(cube)
    assert cube.passes - before == 2 * (len(cube.layers) + 1) + 1  # the ends; both directions of each layer; the middle
    expected = both.query("baseline == 'models'").reset_index(drop=True)
    pd.testing.assert_frame_equal(models, expected, rtol=1e-10)


def test_orders(cube):
    names = list(cube.layers)

    def order(**options) -> list[str]:
        return lmc.cumulative_barriers(cube, **options).query("into == '1'").layer.tolist()

    assert order() == names
    assert order(order="top-down") == names[::-1]
    assert order(order=[names[3], names[0]]) == [names[3], names[0]]
    assert order(order="random", seed=1) == order(order="random", seed=1) != order(order="random", seed=2)
    assert sorted(order(order="random")) == sorted(names)


def test_minimal_order_takes_both_ends_before_the_middle():
    net = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(13)))
    cube = lmc.LayerCube(net, net.state_dict(), net.state_dict(), (torch.zeros(2, 2), torch.zeros(2).long()))
    order = lmc.cumulative_barriers(cube, "minimal").query("into == '1'").layer.astype(int).tolist()
    assert order == [0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 5, 6, 7]


def test_sets_windows_and_pairs_are_groups(cube):
    names = cube.layers
    window = row(lmc.window_barriers(cube, 2), layer=names[1], into="both")
    pair = row(lmc.pair_barriers(cube), layer=names[1], other=names[2], into="both")
    group = row(lmc.group_barriers(cube, [names[1:3]]), into="both")
    of_all = lmc.set_table(cube)
    assert len(of_all) == 2**5 - 1
    one = row(of_all, set=lmc.layer_key(names, names[1:3]))
    for other in (pair, group, one):
        assert other.loss_barrier == pytest.approx(window.loss_barrier, rel=1e-10)
        assert other.error_barrier == pytest.approx(window.error_barrier, abs=1e-12)


def test_many_layers_have_a_chosen_few_sets():
    net = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(12)))
    cube = lmc.LayerCube(net, net.state_dict(), net.state_dict(), (torch.zeros(2, 2), torch.zeros(2).long()))
    sets = lmc.set_table(cube)
    assert 12 + 66 < len(sets) < 250
    assert (sets.n_layers.value_counts()[[3, 6, 9]] >= 20).all(), "sets of one size can be ranked"
    assert sets.set.is_unique
    assert {"1" * 12, "1" + "0" * 11} <= set(sets.set)


def test_names_that_clash_are_refused():
    class Clash(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.network(x)

    data = torch.zeros(2, 2), torch.zeros(2).long()
    net = Clash()
    cube = lmc.LayerCube(net, net.state_dict(), net.state_dict(), data)
    with pytest.raises(LmcError, match="a layer called 'network', which is what the table calls all layers"):
        lmc.layer_table(cube)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    net.add_module("(root)", torch.nn.Linear(2, 2))
    net.register_parameter("own", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(LmcError, match=r"two layers are called '\(root\)'"):
        lmc.LayerCube(net, net.state_dict(), net.state_dict(), data)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: lmc.group_barriers(c, {"none": []}), "'none' is \\[\\]; must be one or more layer names"),
        (lambda c: lmc.group_barriers(c, []), "groups: must hold at least one group"),
        (lambda c: lmc.group_barriers(c, [["body.0", "body.0"]]), "none of them twice"),
        (lambda c: lmc.group_barriers(c, 5), "groups=5: must hold groups of layers, such as"),
        (lambda c: lmc.group_barriers(c, "body.0"), "groups='body.0': must hold groups of layers"),
        (lambda c: lmc.group_barriers(c, [["head"]]), "'head' is no layer; the nearest name is '"),
        (lambda c: lmc.layer_barriers(c, baseline="chord"), "baseline='chord': must be one of 'models', 'cut'"),
        (lambda c: lmc.layer_barriers(c, alphas=(1.5,)), "alphas=\\[1.5\\]: must be"),
        (lambda c: lmc.cumulative_barriers(c, "sideways"), "order='sideways': must be one of 'bottom-up'"),
        (lambda c: lmc.window_barriers(c, 9), "width=9: must be from 1 to the number of layers, 5"),
    ],
)
def test_bad_requests_are_named(cube, call, said):
    with pytest.raises(LmcError, match=said):
        call(cube)
