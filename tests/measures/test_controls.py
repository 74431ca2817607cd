"""Controls against sets that can be counted out."""

from itertools import pairwise

import pytest
import torch

import lmclib as lmc
from lmclib.measures.controls import parameter_set_barriers, random_set_barriers


def cube(widths=(3, 4, 2)):
    layers = [torch.nn.Linear(a, b, bias=False) for a, b in pairwise(widths)]
    net = torch.nn.Sequential(*layers).double()
    g = torch.Generator().manual_seed(0)
    ends = [
        {k: torch.randn(v.shape, generator=g, dtype=torch.float64) for k, v in net.state_dict().items()}
        for _ in range(2)
    ]
    x, y = torch.randn(7, 3, generator=g, dtype=torch.float64), torch.randn(7, 2, generator=g, dtype=torch.float64)
    return lmc.LayerCube(net, *ends, (x, y), loss="squared")


@pytest.mark.parametrize("size", [0, 3])
def test_a_size_that_no_set_of_layers_has_is_named(size):
    with pytest.raises(lmc.LmcError, match=f"size={size}: must be from 1 to the number of layers, 2"):
        random_set_barriers(cube(), size)


def test_random_sets_of_all_layers_are_the_whole_network():
    own = cube()
    table = random_set_barriers(own, size=2, sets=3, draws=2)
    whole = lmc.barrier_curve(own, (0.5,)).loss_barrier.item()
    assert table.draw.tolist() == [0, 0, 0, 1, 1, 1]
    torch.testing.assert_close(torch.tensor(table.loss_barrier), torch.full((6,), whole, dtype=torch.float64))


def test_as_many_parameters_as_the_only_layer_has_are_that_layer():
    own = cube((3, 2))
    table = parameter_set_barriers(own)
    layer = lmc.layer_barriers(own).query("into != 'both'")
    assert table["into"].tolist() == ["1", "2"]
    torch.testing.assert_close(torch.tensor(table.loss_barrier.values), torch.tensor(layer.loss_barrier.values))


def test_another_seed_draws_other_parameters():
    own = cube()
    one, again, two = (parameter_set_barriers(own, seed=seed).loss_barrier for seed in (0, 0, 1))
    assert one.equals(again)
    assert not one.equals(two)
    assert one.nunique() == 4
