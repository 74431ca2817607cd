"""Perceptrons trained side by side are each trained as alone, as PyTorch's own SGD does."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lmclib.errors import LmcError
from lmclib.theory.perceptrons import perceptron_outputs, train_perceptrons

SHAPES = ((5, 4), (3, 5))


def stack(n: int, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    start = [(torch.randn(n, *s, generator=g).to(dtype), torch.randn(n, s[0], generator=g).to(dtype)) for s in SHAPES]
    return start, torch.randn(n, 7, 4, generator=g).to(dtype), torch.randint(0, 3, (n, 7), generator=g)


def orders(n: int):
    return [torch.Generator().manual_seed(k) for k in range(n)]


def alone(start, x, y, epochs, k):
    """One network of the stack by `torch.optim.SGD`, batches of 3, the last of 1."""
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        for layer, (weight, bias) in zip((net[0], net[2]), start, strict=True):
            layer.weight.copy_(weight[k])
            layer.bias.copy_(bias[k])
    optimiser, generator = torch.optim.SGD(net.parameters(), lr=0.1), torch.Generator().manual_seed(k)
    for _ in range(epochs):
        for batch in torch.randperm(7, generator=generator).split(3):
            optimiser.zero_grad()
            F.cross_entropy(net(x[k, batch]), y[k, batch]).backward()
            optimiser.step()
    return [part for layer in (net[0], net[2]) for part in (layer.weight, layer.bias)]


@pytest.mark.parametrize("k", [0, 1, 2])
def test_each_is_trained_as_alone(k):
    start, x, y = stack(3)
    snapshots = train_perceptrons(start, x, y, 4, 0.1, 3, orders(3))
    for found, expected in zip(
        (part[k] for pair in snapshots[-1] for part in pair), alone(start, x, y, 4, k), strict=True
    ):
        torch.testing.assert_close(found, expected.detach())


def test_snapshots_are_copies():
    start, x, y = stack(2)
    snapshots = train_perceptrons(start, x, y, 3, 0.1, 3, orders(2))
    assert len(snapshots) == 4
    assert torch.equal(snapshots[0][0][0], start[0][0])
    weights = torch.stack([moment[0][0] for moment in snapshots])
    assert (weights.diff(dim=0).flatten(1).norm(dim=1) > 0).all(), "a snapshot that is a view would be the last one"


def test_a_loss_that_diverges_is_said():
    start, x, y = stack(1)
    with pytest.raises(LmcError, match="lr=1e\\+300: the loss diverged in epoch 1; must be lower"):
        train_perceptrons(start, x, y, 2, 1e300, 3, orders(1))


def test_outputs_are_those_of_the_network():
    start, x, _ = stack(2)
    (w1, b1), (w2, b2) = start
    expected = (x[1] @ w1[1].T + b1[1]).relu() @ w2[1].T + b2[1]
    torch.testing.assert_close(perceptron_outputs(start, x)[1], expected)
