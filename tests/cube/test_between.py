"""Cubes between other models of one network: what they share must show in no value."""

import pytest
import torch
from reference import random_states
from torch import nn

import lmclib as lmc
from lmclib.networks.build import build_model
from lmclib.runs.pairs import LastCube, cube_between

X, Y = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3


class Numbered(nn.Module):
    """A network that adds a whole number which it keeps."""

    def __init__(self, number: int):
        super().__init__()
        self.last = nn.Linear(2, 2)
        self.register_buffer("number", torch.tensor(number))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x + self.number)


def values(cube):
    """Points side by side, and a sweep that shares passes."""
    sweep = torch.eye(len(cube.layers), dtype=torch.float64) / 2
    return torch.cat([torch.stack(cube(0.3)).view(2, 1), torch.stack(cube(sweep))], 1)


@pytest.mark.parametrize("norm_stats", ["interpolate", "recompute"])
@pytest.mark.parametrize("layers", ["layers", "blocks", "fine"])
@pytest.mark.parametrize("name", ["resnet8-w4", "resnet8-w4-none", "mlp-8", "vit-p4-d8-l1"])
def test_values_are_bit_for_bit_those_of_a_cube_of_its_own(name, layers, norm_stats):
    model = build_model(name, (1, 8, 8), 3)
    one, two, three = random_states(model, 3)
    how = {"norm_stats": norm_stats, "layers": layers}
    first = lmc.LayerCube(model, one, two, (X, Y), **how)
    before = values(first)
    other = first.between(two, three)
    assert torch.equal(values(other), values(lmc.LayerCube(model, two, three, (X, Y), **how)))
    assert torch.equal(values(first), before)
    assert other.passes == 1 + len(other.layers)  # of its own


def test_derivatives_are_its_own():
    model = build_model("mlp-8", (1, 8, 8), 3)
    one, two, three = random_states(model, 3)
    first = lmc.LayerCube(model, one, two, (X, Y))
    first.gradient(0.5)
    fresh = lmc.LayerCube(model, two, three, (X, Y))
    assert torch.equal(first.between(two, three).hessian(0.5), fresh.hessian(0.5))


def test_a_whole_number_of_its_own_is_kept():
    x, y = torch.randn(6, 2), torch.arange(6) % 2
    states = [Numbered(n).state_dict() for n in (1, 1, 5)]
    first = lmc.LayerCube(Numbered(1), states[0], states[1], (x, y))
    first(torch.eye(1))
    fresh = lmc.LayerCube(Numbered(1), states[2], states[1], (x, y))
    assert torch.equal(values(first.between(states[2], states[1])), values(fresh))
    assert torch.equal(first.between(states[2], states[1]).gradient(0.5), fresh.gradient(0.5))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda state: {key: value.float() for key, value in state.items()},
            "t1: is torch.float32, where the networks",
        ),
        (lambda state: {key: value for key, value in state.items() if key != "weight"}, "of another architecture"),
        (lambda state: {key: value * float("nan") for key, value in state.items()}, "NaN or infinite weights"),
    ],
)
def test_models_that_do_not_fit_are_named(change, said):
    net = nn.Linear(4, 3)
    one, two = random_states(net, 2)
    cube = lmc.LayerCube(net, one, two, (torch.randn(5, 4), torch.arange(5) % 3))
    with pytest.raises(lmc.LmcError, match=said):
        cube.between(change(one), change(two))


def test_steps_go_along_the_cubes_own_axes():
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))
    one, two = random_states(net, 2)
    cube = lmc.LayerCube(net, one, two, (torch.randn(9, 4), torch.arange(9) % 3), layers="fine")
    table = lmc.perturbation_table(cube, sigma=(0.5,), directions=["averaging direction"]).set_index("layer").loss
    for i, name in enumerate(cube.layers):
        assert table[name] == pytest.approx(cube(0.5 * torch.eye(4, dtype=torch.float64)[i]).loss.item(), rel=1e-6)


def test_the_last_cube_is_used_where_only_the_networks_are_others():
    data, last = lmc.load_data("digits"), LastCube()
    model = build_model("mlp-8", data.shape, 10)
    states = random_states(model, 3)

    def measured(split, *which):
        return cube_between(model, *(states[k] for k in which), data, split, "interpolate", 100, last=last)

    train, again, test = measured("train", 0, 1), measured("train", 1, 2), measured("test", 1, 2)
    assert train._prepared is again._prepared is not test._prepared
    train.loss = None  # whoever measures may change it
    assert torch.equal(values(measured("test", 1, 2)), values(test))
    fresh = cube_between(model, states[1], states[2], data, "train", "interpolate", 100)
    assert torch.equal(values(again), values(fresh))
