"""Steps in weight space: their lengths, what they are made of, and closed forms of what the loss does along them."""

import numpy as np
import pytest
import torch
from torch import nn

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.measures.perturbation import (
    AVERAGING,
    COMPLEMENT,
    DIRECTIONS,
    RANDOM,
    SPREAD,
    SUBSPACE,
    Centre,
    Subspace,
    perturbation_table,
    snapshot_ranks,
)

SIGMA = (0, 0.5, 1)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3))


def states(n: int, dtype=torch.float32) -> list[dict]:
    found = []
    for seed in range(n):
        torch.manual_seed(seed)
        found.append({key: value.detach().to(dtype) for key, value in network().state_dict().items()})
    return found


@pytest.fixture
def cube() -> lmc.LayerCube:
    g = torch.Generator().manual_seed(0)
    data = torch.randn(40, 6, generator=g), torch.randint(0, 3, (40,), generator=g)
    return lmc.LayerCube(network(), *states(2), data)


def moved(centre: Centre, cube: lmc.LayerCube) -> torch.Tensor:
    """The step that a cube along a direction makes at its far corner."""
    return centre.vector(cube.ends.t2) - centre.vector(cube.ends.t1)


@pytest.mark.parametrize("into", ["1", "2"])
def test_steps_are_as_long_as_the_difference_in_every_layer_and_in_the_network(cube, into):
    centre = Centre(cube, into)
    drawn = torch.randn(len(centre.difference), dtype=torch.float64)
    for direction in (centre.rescaled_by_layer(drawn), centre.rescaled_by_tensor(drawn)):
        step = moved(centre, centre.along(direction))
        for layer, place in centre.places.items():
            assert float(step[place].norm()) == pytest.approx(centre.norms[layer], rel=1e-6)
    whole = moved(centre, centre.along(centre.rescaled(drawn)))
    assert float(whole.norm()) == pytest.approx(centre.norms["network"], rel=1e-6)


def test_norms_are_distances(cube):
    norms = Centre(cube).norms
    assert norms.pop("network") == pytest.approx(lmc.distance(*states(2)))
    assert norms == pytest.approx(lmc.layer_distances(cube).set_index("layer").distance.to_dict())


def test_tables_say_how_long_steps_are(cube):
    table = perturbation_table(cube, SIGMA, 2, DIRECTIONS, snapshots=states(4))
    norms = Centre(cube).norms
    assert np.allclose(table.length, table.sigma * table.layer.map(norms), rtol=1e-6)
    counts = table.groupby("direction").size()
    assert counts[AVERAGING] == 4 * 3
    assert counts[RANDOM] == counts[SUBSPACE] == counts[COMPLEMENT] == 2 * 4 * 3
    assert counts[SPREAD] == 2 * 3 * 3  # in the network it is the random direction


@pytest.mark.parametrize("protocol", ["line", "fresh"])
def test_every_step_of_every_draw_has_all_of_its_numbers(cube, protocol):
    table = perturbation_table(cube, SIGMA, 3, DIRECTIONS, protocol, into=("1", "2"), snapshots=states(4))
    assert not table.isna().any().any()
    start = {"1": cube(0.0), "2": cube(1.0)}
    for into, rows in table.groupby("into"):
        assert np.allclose(rows.loss - rows.loss_rise, start[into].loss.item())
        assert np.allclose(rows.error - rows.error_rise, start[into].error.item())


def test_the_averaging_direction_is_the_interpolation_of_the_cube(cube):
    table = perturbation_table(cube, SIGMA, directions=[AVERAGING], into=("1", "2"))
    for layer in cube.layers:
        barriers = lmc.layer_barriers(cube, (0.5,)).set_index(["layer", "into"]).loss
        own = table[(table.sigma == 0.5) & (table.layer == layer)].set_index("into").loss
        assert own["1"] == pytest.approx(barriers[layer, "1"], rel=1e-5)
        assert own["2"] == pytest.approx(barriers[layer, "2"], rel=1e-5)
    whole = table[(table.layer == "network") & (table["into"] == "1")].set_index("sigma")
    assert whole.loss[1.0] == pytest.approx(cube(1.0).loss.item(), rel=1e-5)
    assert whole.loss_rise[1.0] == pytest.approx((cube(1.0).loss - cube(0.0).loss).item(), abs=1e-5)


def test_rises_are_above_the_centre_and_nothing_without_a_step(cube):
    table = perturbation_table(cube, SIGMA, 2, DIRECTIONS, snapshots=states(4))
    still = table[table.sigma == 0]
    assert still.loss_rise.abs().max() < 1e-6
    assert still.error_rise.abs().max() == 0
    assert (table.loss - table.loss_rise).std() < 1e-6


def test_a_line_is_linear_in_sigma_and_afresh_is_another_direction(cube):
    """On a loss that is linear in the weights, the rise along a line is proportional to the length; afresh it is not."""
    net, x = nn.Linear(4, 1, bias=False), torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    ends = ({"weight": torch.full((1, 4), w, dtype=torch.float64)} for w in (0.0, 1.0))
    linear = lmc.LayerCube(net, *ends, (x, torch.zeros(30, 1)), loss=lambda out, y: out.mean())
    rises = {
        protocol: perturbation_table(linear, (0.5, 1), 3, [RANDOM], protocol, layers=["(root)"]).pivot_table(
            index="draw", columns="sigma", values="loss_rise"
        )
        for protocol in ("line", "fresh")
    }
    assert np.allclose(2 * rises["line"][0.5], rises["line"][1.0])
    assert not np.isclose(2 * rises["fresh"][0.5], rises["fresh"][1.0], rtol=1e-3).any()


def test_directions_of_the_training_subspace_have_no_part_in_its_complement():
    g = torch.Generator().manual_seed(0)
    snapshots = torch.randn(7, 50, generator=g)
    span = Subspace.of(snapshots)
    drawn = torch.randn(20, 50, generator=g, dtype=torch.float64)
    inside, outside = span.inside(drawn), span.outside(drawn)
    assert span.rank == 7
    assert float(span.outside(inside).norm() / inside.norm()) < 1e-5
    assert float((outside @ snapshots.double().T).norm() / (outside.norm() * snapshots.norm())) < 1e-5
    assert float((inside + outside - drawn).norm() / drawn.norm()) < 1e-12


def test_what_is_measured_lies_where_it_should(cube, monkeypatch):
    """The steps that are taken, in the network and in each layer, are in the span of the snapshots or orthogonal to it."""
    taken, along = [], Centre.along
    monkeypatch.setattr(Centre, "along", lambda self, d: taken.append(d) or along(self, d))
    snapshots = states(4)
    vectors = torch.stack([Centre(cube).vector(state) for state in snapshots])
    for direction in (SUBSPACE, COMPLEMENT):
        taken.clear()
        perturbation_table(cube, (1,), 1, [direction], snapshots=snapshots)
        by_layer, network = taken
        for place in Centre(cube).places.values():
            span = Subspace.of(vectors[:, place])
            other = span.outside(by_layer[place]) if direction == SUBSPACE else span.inside(by_layer[place])
            assert float(other.norm() / by_layer[place].norm()) < 1e-5
        whole = Subspace.of(vectors)
        other = whole.outside(network) if direction == SUBSPACE else whole.inside(network)
        assert float(other.norm() / network.norm()) < 1e-5


def test_copies_of_a_snapshot_add_nothing_to_the_rank(cube):
    two = states(2)
    assert set(snapshot_ranks(Centre(cube), [*two, *two, two[0]]).values()) == {2}


def test_a_layer_without_a_complement_has_no_row_of_it(cube):
    table = perturbation_table(cube, (1,), 1, [SUBSPACE, COMPLEMENT], snapshots=states(20))
    ranks = snapshot_ranks(Centre(cube), states(20))
    assert ranks["4"] == 18  # all of the last layer, 3 · 5 + 3
    assert set(table[table.direction == COMPLEMENT].layer) == {"0", "2", "network"}
    assert set(table[table.direction == SUBSPACE].layer) == {"0", "2", "4", "network"}


def test_on_a_quadratic_loss_the_mean_rise_is_half_the_squared_length_times_the_mean_curvature():
    r"""$r^2 \mathrm{tr} H / (2d)$, from a stationary point, with the exact Hessian."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=g, dtype=torch.float64) * torch.tensor([3, 1, 1, 0.5, 0.1, 2.0])
    ends = ({"weight": w[None].double()} for w in (torch.zeros(6), torch.tensor([1.0, -1, 0, 2, 0, 0])))
    cube = lmc.LayerCube(nn.Linear(6, 1, bias=False), *ends, (x, torch.zeros(50, 1).double()), loss="squared")
    table = perturbation_table(cube, (1,), 2000, [RANDOM], layers=["network"])
    trace, r = 2 * float((x**2).sum() / len(x)), np.sqrt(6)
    expected = r**2 * trace / (2 * 6)
    error = table.loss_rise.std() / np.sqrt(len(table))
    assert table.loss_rise.mean() == pytest.approx(expected, abs=4 * error)
    assert error < 0.05 * expected


def test_shared_tensors_move_together():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.two(self.one(x).relu())

    torch.manual_seed(0)
    ends = [{key: value.detach().clone() for key, value in Tied().state_dict().items()} for _ in range(2)]
    cube = lmc.LayerCube(Tied(), *ends, (torch.randn(8, 4), torch.randint(0, 4, (8,))))
    moved = Centre(cube).along(torch.ones(16).double()).ends.t2
    assert torch.equal(moved["one.weight"], moved["two.weight"])
    assert not torch.equal(moved["one.weight"], ends[0]["one.weight"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sigma": (0.5, -1)}, r"sigma=\[0\.5, -1\]: must be one or more finite numbers, none of them below 0"),
        ({"sigma": (float("nan"),)}, r"sigma=\[nan\]: must be one or more finite numbers"),
        ({"sigma": ()}, r"sigma=\[\]: must be one or more"),
        ({"draws": 0}, "draws=0: must be at least 1"),
        ({"protocol": "new"}, "protocol='new': must be one of 'line', 'fresh'"),
        ({"into": ("3",)}, "into='3': must be '1' or '2'"),
        ({"directions": ["north"]}, "directions: 'north' must be one of 'averaging direction', "),
        ({"directions": [SUBSPACE]}, "snapshots: none; must be at least 2 for the direction 'training subspace'"),
        ({"layers": ["netwrk"]}, "layers: 'netwrk' is no layer; the nearest name is 'network'"),
        ({"snapshots": states(1), "directions": [SUBSPACE]}, "snapshots: 1; must be at least 2"),
    ],
)
def test_wrong_use_is_one_line(cube, given, said):
    with pytest.raises(LmcError, match=said) as caught:
        perturbation_table(cube, **given)
    assert "\n" not in str(caught.value)


def test_the_complement_of_the_whole_space_is_refused():
    with pytest.raises(
        LmcError, match="snapshots: span all 3 dimensions, so that their complement is empty; must be fewer"
    ):
        Subspace.of(torch.eye(3)).outside(torch.ones(3).double())


def test_networks_that_are_the_same_are_refused():
    (state,) = states(1)
    data = torch.randn(4, 6), torch.zeros(4, dtype=torch.long)
    with pytest.raises(LmcError, match="cube: both networks are the same"):
        perturbation_table(lmc.LayerCube(network(), state, state, data))


def test_a_layer_that_does_not_differ_has_no_row():
    one, two = states(2)
    two |= {key: one[key] for key in ("2.weight", "2.bias")}
    data = torch.randn(4, 6), torch.zeros(4, dtype=torch.long)
    table = perturbation_table(lmc.LayerCube(network(), one, two, data), (1,), 1)
    assert set(table.layer) == {"0", "4", "network"}


def test_a_seed_draws_the_same_again_and_another_one_something_else(cube):
    one, again, other = (perturbation_table(cube, (1,), 2, [RANDOM], seed=seed) for seed in (0, 0, 1))
    assert one.equals(again)
    assert not np.isclose(one.loss, other.loss).any()
