"""Alignment: what was permuted is found again, outputs stay, and what is no chain is refused."""

import pytest
import torch
import zoo
from siblings import held_out, network, siblings
from torch import nn

import lmclib as lmc


def convolutional() -> nn.Sequential:
    """A chain with norms, pooling and a flattened image."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(45, 7),
        nn.Linear(7, 10),
    ).eval()


def shuffled(state, places):
    """A state dict with units in another order: the makers' rows and the readers' columns.

    Args:
        state: the state dict.
        places: makers and norms, reader, and how many units.
    """
    state = dict(state)
    for i, (makers, reader, n) in enumerate(places):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(i))
        for key in [key for key in state if key.rpartition(".")[0] in makers and state[key].dim()]:
            state[key] = state[key][order]
        weight = state[f"{reader}.weight"]
        blocks = weight.reshape(len(weight), n, weight.shape[1] // n, *weight.shape[2:])
        state[f"{reader}.weight"] = blocks[:, order].reshape(weight.shape)
    return state


CHAINS = {
    "perceptron": (network, [(("1",), "3", 24), (("3",), "5", 24)]),
    "convolutional": (convolutional, [(("0", "1"), "3", 6), (("3",), "6", 5), (("6",), "7", 7)]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_permuted_copy_is_put_back_in_order(name):
    factory, places = CHAINS[name]
    torch.manual_seed(0)
    net = factory()
    for key, value in net.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_()
    t1 = {key: value.clone() for key, value in net.state_dict().items()}
    t2 = shuffled(t1, places)
    x = held_out()[0][:4]
    outputs = [torch.func.functional_call(net, state, (x,)) for state in (t1, t2)]
    assert torch.allclose(*outputs, atol=1e-5), "the test's own permutation changes no output"
    assert not torch.equal(t1["3.weight"], t2["3.weight"])
    found = lmc.align(net, t1, t2)
    assert all(torch.equal(found[key], value) for key, value in t1.items())


def test_the_barrier_of_a_permuted_sibling_goes_back_to_that_of_the_sibling():
    one, two = siblings()
    barriers = []
    for state in (two, shuffled(two, CHAINS["perceptron"][1])):
        for end in (state, lmc.align(network(), one, state)):
            barriers.append(
                lmc.barrier_curve(lmc.LayerCube(network(), one, end, held_out()), (0.5,)).loss_barrier.item()
            )
    plain, aligned, permuted, undone = barriers
    assert undone == pytest.approx(aligned, abs=1e-5)
    assert undone <= plain + 0.02
    assert permuted > plain + 0.1


def test_what_is_no_plain_chain_is_refused():
    for model in (zoo.resnet18(), zoo.weight_normed(), nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 2, 1))):
        with pytest.raises(lmc.LmcError, match="cannot be aligned"):
            lmc.align(model, {}, {})
