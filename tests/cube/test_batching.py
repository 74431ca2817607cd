"""Batches that fit into memory, and cubes on a device that is not the CPU."""

import pytest
import torch
from reference import random_states
from torch import nn

import lmclib as lmc
from lmclib.networks.build import build_model


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")  # a GPU copies them
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16)])
def test_a_cube_leaves_nothing_on_another_device(other_device, shape):
    net = build_model("resnet8-w4", shape, 10)
    x, y = torch.zeros(6, *shape), torch.zeros(6, dtype=torch.long)
    for norm_stats in ("interpolate", "recompute"):
        cube = lmc.LayerCube(net, *random_states(net), (x, y), norm_stats=norm_stats, device=other_device)
        n = len(cube.layers)
        assert lmc.layer_barriers(cube).loss.shape == (3 * n,)
        assert cube(torch.rand(5, n)).loss.device.type == "cpu"


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")
def test_derivatives_leave_nothing_on_another_device(other_device):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    x, y = torch.zeros(6, 1, 8, 8), torch.zeros(6, dtype=torch.long)
    cube = lmc.LayerCube(net, *random_states(net), (x, y), device=other_device)
    n = len(cube.layers)
    assert cube.gradient(0.5).shape == (n,)
    assert cube.hessian(0.5).shape == (n, n)
    assert cube.derivatives.parameter_gradient(0.5).device.type == "cpu"
    lmc.prediction_table(cube)


class Hungry(nn.Module):
    """A network that runs out of memory with more than `most` examples at a time."""

    def __init__(self, most: int):
        super().__init__()
        self.most, self.body, self.seen = most, nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), []

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("no room")
        return self.body(x)


def test_full_memory_halves_the_batch_and_goes_on():
    g = torch.Generator().manual_seed(0)
    data = torch.randn(50, 4, generator=g).double(), torch.randint(3, (50,), generator=g)
    states = random_states(Hungry(50))
    roomy = lmc.LayerCube(Hungry(50), *states, data)
    points = torch.eye(2) / 2
    for measure in (lambda cube: cube(points).loss, lambda cube: cube.hessian(0.5)):
        cube = lmc.LayerCube(Hungry(7), *states, data)
        with pytest.warns(UserWarning, match="out of memory; going on with") as said:
            measured = measure(cube)
        torch.testing.assert_close(measured, measure(roomy))
        assert [str(warning.message).split()[-5] for warning in said] == ["25", "12", "6"]
        measure(cube)  # the size stays: no other warning


def test_memory_for_no_example_at_all_is_an_error():
    net = Hungry(2)
    cube = lmc.LayerCube(net, *random_states(net), (torch.zeros(5, 4), torch.zeros(5, dtype=torch.long)))
    cube.model.most = 0
    cube._stack(1).net.most = 0
    with pytest.warns(UserWarning, match="out of memory"), pytest.raises(torch.OutOfMemoryError):
        cube(torch.rand(2, 2))
