"""The value and slope that a descent uses, beside the cube's own; tied weights and statistics included."""

import pytest
import torch
import zoo

import lmclib as lmc
from lmclib.merging.descent import Slope

TOKENS = torch.randint(zoo.VOCABULARY, (5, 6), generator=torch.Generator().manual_seed(3))
NETS = {
    "statistics": (zoo.resnet18, zoo.images(count=5)),
    "weight norm": (zoo.weight_normed, zoo.images(count=5)),
    "recurrent": (zoo.Recurrent, (TOKENS, TOKENS[:, 0] % zoo.CLASSES)),
    "tied": (zoo.Tied, (TOKENS, TOKENS.roll(-1, 1))),
}


def per_token(outputs, y):
    return torch.nn.functional.cross_entropy(outputs.flatten(0, -2), y.flatten())


@pytest.mark.parametrize("name", NETS)
def test_value_and_slope_are_those_of_the_cube(name):
    factory, data = NETS[name]
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        net = factory().double()
        states.append({key: value.clone() for key, value in net.state_dict().items()})
    cube = lmc.LayerCube(net, *states, data, loss=per_token)
    a = torch.linspace(0.1, 0.9, len(cube.layers), dtype=torch.float64)
    slope = Slope(cube)
    slope.batches.size = 2  # an uneven last batch
    for point in (a, torch.zeros_like(a), torch.ones_like(a)):
        value, along = slope(point)
        assert value == pytest.approx(cube(point).loss.item(), rel=1e-10)
        assert torch.allclose(along, cube.gradient(point), rtol=1e-8, atol=1e-12)
    assert all(not value.requires_grad for state in states for value in state.values())


def test_a_loss_without_a_derivative_is_said():
    net = zoo.perceptron()
    states = [{key: value + k for key, value in net.state_dict().items()} for k in (0, 1)]
    data = torch.ones(3, 4), torch.tensor([0, 1, 2])
    cube = lmc.LayerCube(net, *states, data, loss=lambda outputs, y: (outputs.argmax(1) != y).float().mean())
    with pytest.raises(lmc.LmcError, match="has no derivative in the outputs"):
        Slope(cube)(torch.zeros(2, dtype=torch.float64))
