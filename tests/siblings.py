"""Small networks that have learned the digits, in seconds, and what a merge is tested on."""

from functools import cache
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

import lmclib as lmc

WIDTHS = (64, 24, 24, 10)


def network() -> nn.Sequential:
    """A perceptron for digits."""
    layers = [nn.Flatten()]
    for one, two in pairwise(WIDTHS):
        layers += [nn.Linear(one, two), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@cache
def siblings(steps: int = 60) -> tuple[dict, dict]:
    """Two networks of one start and one first half of training, which saw other batches since."""
    x, y = lmc.load_data("digits").pair("train")
    torch.manual_seed(0)
    start = network()
    _train(start, x, y, steps, seed=0)
    found = []
    for seed in (1, 2):
        net = network()
        net.load_state_dict(start.state_dict())
        _train(net, x, y, steps, seed)
        found.append({key: value.detach().clone() for key, value in net.state_dict().items()})
    return tuple(found)


def held_out() -> tuple[torch.Tensor, torch.Tensor]:
    """The test images of the digits and their labels."""
    return lmc.load_data("digits").pair("test")


def _train(net: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    parameters = list(net.parameters())
    for _ in range(steps):
        batch = torch.randint(len(y), (64,), generator=generator)
        slopes = torch.autograd.grad(F.cross_entropy(net(x[batch]), y[batch]), parameters)
        with torch.no_grad():
            for value, slope in zip(parameters, slopes, strict=True):
                value -= 0.3 * slope
