"""Alignment: what was permuted is found again, outputs stay, and what depends on their order is refused."""

import warnings

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
        places: makers and norms, readers, and how many units.
    """
    state = dict(state)
    for i, (makers, readers, n) in enumerate(places):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(i))
        for key in [key for key in state if key.rpartition(".")[0] in makers and state[key].dim()]:
            state[key] = state[key][order]
        for reader in readers:
            weight = state[f"{reader}.weight"]
            blocks = weight.reshape(len(weight), n, weight.shape[1] // n, *weight.shape[2:])
            state[f"{reader}.weight"] = blocks[:, order].reshape(weight.shape)
    return state


def residual(stage, outputs, *readers):
    """Where the units of a stage of ResNet-18 are: those within its two blocks, and those of its stream, which have one order."""
    first, second = f"layer{stage}.0", f"layer{stage}.1"
    makers = f"{first}.conv2", f"{first}.bn2", f"{first}.downsample.0", f"{first}.downsample.1"
    stream = (*makers, f"{second}.conv2", f"{second}.bn2"), (f"{second}.conv1", *readers), outputs
    inner = [((f"{block}.conv1", f"{block}.bn1"), (f"{block}.conv2",), outputs) for block in (first, second)]
    return [*inner, stream]


NETS = {
    "perceptron": (network, [(("1",), ("3",), 24), (("3",), ("5",), 24)]),
    "convolutional": (convolutional, [(("0", "1"), ("3",), 6), (("3",), ("6",), 5), (("6",), ("7",), 7)]),
    "residual": (
        zoo.resnet18,
        [
            (("conv1", "bn1"), ("layer1.0.conv1", "layer1.0.downsample.0"), 64),
            *residual(1, 8, "layer2.0.conv1", "layer2.0.downsample.0"),
            *residual(2, 16, "layer3.0.conv1", "layer3.0.downsample.0"),
            *residual(4, 64, "fc"),
        ],
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_a_permuted_copy_is_put_back_in_order(name):
    factory, places = NETS[name]
    torch.manual_seed(0)
    net = factory().eval()
    for key, value in net.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_()
    t1 = {key: value.clone() for key, value in net.state_dict().items()}
    t2 = shuffled(t1, places)
    x = zoo.images()[0] if name == "residual" else held_out()[0][:4]
    outputs = [torch.func.functional_call(net, state, (x,)) for state in (t1, t2)]
    assert torch.allclose(*outputs, atol=1e-5), "the test's own permutation changes no output"
    moved = [key for key in t1 if not torch.equal(t1[key], t2[key])]
    assert set(moved) >= {f"{reader}.weight" for _, readers, _ in places for reader in readers}
    found = lmc.align(net, t1, t2)
    assert all(torch.equal(found[key], value) for key, value in t1.items())


def test_statistics_of_norms_move_with_the_units_and_do_not_decide_on_their_order():
    """They are far larger than weights, and one order of sizes would be matched with the other."""
    factory, places = NETS["convolutional"]
    g = torch.Generator().manual_seed(0)
    t1 = {key: value.clone() for key, value in factory().state_dict().items()}
    near = {
        key: value + 0.1 * value.std() * torch.randn(value.shape, generator=g)
        for key, value in t1.items()
        if value.dim()
    }
    for state in (t1, near):
        state["1.running_var"] = 30 * torch.rand(6, generator=g)
        state["1.running_mean"] = 30 * torch.randn(6, generator=g)
    near = t1 | near
    for start in (near, shuffled(near, places)):
        found = lmc.align(factory(), t1, start)
        assert all(torch.equal(found[key], value) for key, value in near.items())


def test_the_barrier_of_a_permuted_sibling_goes_back_to_that_of_the_sibling():
    one, two = siblings()
    barriers = []
    for state in (two, shuffled(two, NETS["perceptron"][1])):
        for end in (state, lmc.align(network(), one, state)):
            barriers.append(
                lmc.barrier_curve(lmc.LayerCube(network(), one, end, held_out()), (0.5,)).loss_barrier.item()
            )
    plain, aligned, permuted, undone = barriers
    assert undone == pytest.approx(aligned, abs=1e-5)
    assert undone <= plain + 0.02
    assert permuted > plain + 0.1


def test_a_permuted_copy_of_a_residual_network_has_no_barrier_once_it_is_aligned():
    factory, places = NETS["residual"]
    torch.manual_seed(0)
    net = factory()
    one = {key: value.clone() for key, value in net.state_dict().items()}
    two = shuffled(one, places)
    x, _ = zoo.images()
    data = x, net.eval()(x).argmax(1)
    before, after = (
        lmc.barrier_curve(lmc.LayerCube(net, one, end, data), (0.5,)).loss_barrier.item()
        for end in (two, lmc.align(net, one, two))
    )
    assert before > 0.1
    assert after == pytest.approx(0, abs=1e-6)


class Stream(nn.Module):
    """A layer that reads the units which it makes."""

    def __init__(self):
        super().__init__()
        self.first, self.body, self.last = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.last(x + self.body(x))


class Mixing(nn.Module):
    """A sum over units in the middle."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.last(x - x.mean(1, keepdim=True))


def test_what_may_depend_on_the_order_of_units_is_refused():
    grouped = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 2, 1))
    with warnings.catch_warnings(action="ignore"):  # of its age
        old = nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 3)), nn.Linear(3, 1))
    twice = nn.Sequential(*[nn.Linear(2, 2)] * 2)
    for model in (zoo.mobilenet(), zoo.weight_normed(), zoo.Tied(), grouped, old, twice, Stream(), Mixing()):
        with pytest.raises(lmc.LmcError, match="cannot be aligned"):
            lmc.align(model, {}, {})


def test_state_dicts_are_the_networks_own():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    t1 = net.state_dict()
    with pytest.raises(
        lmc.LmcError, match=r"t2: is of another architecture at '2.bias': absent where the model has \(1,\)"
    ):
        lmc.align(net, t1, {key: value for key, value in t1.items() if key != "2.bias"})
