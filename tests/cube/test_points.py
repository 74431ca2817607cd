"""The cube and barriers against plain loops and closed forms."""

import copy

import pytest
import torch
from reference import plain_loop, random_states
from torch import nn
from torch.nn import functional as F
from zoo import resnet18

import lmclib as lmc
from lmclib.cube.losses import cross_entropy, loss_sums
from lmclib.errors import LmcError
from lmclib.networks.build import build_model
from lmclib.networks.stacked import Stack

NETWORKS = {
    "torchvision resnet18": lambda: resnet18(10),
    "resnet8": lambda: build_model("resnet8-w4", (3, 8, 8), 10),
    "resnet8 with group norm": lambda: build_model("resnet8-w8-gn", (3, 8, 8), 10),
    "mlp": lambda: build_model("mlp-7-6-gelu", (3, 8, 8), 10),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_cube_equals_the_plain_loop_in_float64(name):
    model = NETWORKS[name]()
    side = 32 if "18" in name else 8
    g = torch.Generator().manual_seed(3)
    x, y = torch.randn(12, 3, side, side, generator=g, dtype=torch.float64), torch.randint(10, (12,), generator=g)
    t1, t2 = random_states(model)
    cube = lmc.LayerCube(model, t1, t2, (x, y), batch_size=5)
    points = torch.rand(11, len(cube.layers), generator=g, dtype=torch.float64)
    points[0], points[1] = 0, 1
    values = cube(points)
    losses, errors = plain_loop(NETWORKS[name](), t1, t2, cube.layers, points, x, y)
    assert values.loss.dtype == values.error.dtype == torch.float64
    torch.testing.assert_close(values.loss, torch.tensor(losses, dtype=torch.float64), rtol=1e-10, atol=0)
    torch.testing.assert_close(values.error, torch.tensor(errors, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_points_that_share_passes_equal_the_plain_loop_too(name):
    """A layer sweep and a staircase, which are walked together up to where they part."""
    model = NETWORKS[name]()
    side = 32 if "18" in name else 8
    g = torch.Generator().manual_seed(4)
    x, y = torch.randn(6, 3, side, side, generator=g, dtype=torch.float64), torch.randint(10, (6,), generator=g)
    t1, t2 = random_states(model)
    cube = lmc.LayerCube(model, t1, t2, (x, y), batch_size=4)
    n = len(cube.layers)
    half, steps = torch.eye(n, dtype=torch.float64) / 2, torch.full((n, n), 0.5, dtype=torch.float64).tril()
    points = torch.cat([half, 1 - half, steps])
    assert cube._shares(points)
    some = torch.arange(0, len(points), max(1, n // 6))
    losses, errors = plain_loop(NETWORKS[name](), t1, t2, cube.layers, points[some], x, y)
    values = cube(points)
    torch.testing.assert_close(values.loss[some], torch.tensor(losses, dtype=torch.float64), rtol=1e-10, atol=0)
    torch.testing.assert_close(values.error[some], torch.tensor(errors, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("wanted", "most"), [(None, 20), (7, 7)])
def test_points_that_share_passes_have_as_many_examples_at_a_time_as_fit(wanted, most, monkeypatch):
    model, g = build_model("resnet8-w4", (3, 8, 8), 10), torch.Generator().manual_seed(5)
    x, y = torch.randn(50, 3, 8, 8, generator=g), torch.randint(10, (50,), generator=g)
    t1, t2 = ({key: value.to(torch.float32) for key, value in t.items()} for t in random_states(model))
    points = torch.eye(len(lmc.LayerCube(model, t1, t2, (x, y)).layers)) / 2
    expected = lmc.LayerCube(model, t1, t2, (x, y))(points)
    cube = lmc.LayerCube(model, t1, t2, (x, y), batch_size=wanted)
    assert cube._shares(points.double())
    assert cube._shared.largest == 4 * 8 * 8  # four channels of 8 × 8 after the first convolution
    monkeypatch.setattr("lmclib.cube.points.NUMBERS", (20 * len(points) * 256,) * 2)
    sizes, outputs = [], cube._shared.outputs
    monkeypatch.setattr(cube._shared, "outputs", lambda x, *rest: (sizes.append(len(x)), outputs(x, *rest))[1])
    torch.testing.assert_close(cube(points).loss, expected.loss, rtol=1e-6, atol=0)
    assert sum(sizes) == 50
    assert max(sizes) == most


def fresh_statistics(model):
    """A network whose batch norms average over the batches of training passes to come."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    return model.train()


@pytest.fixture
def normed():
    model = build_model("resnet8-w4", (1, 8, 8), 10)
    g = torch.Generator().manual_seed(5)
    x, y = torch.randn(40, 1, 8, 8, generator=g, dtype=torch.float64), torch.randint(10, (40,), generator=g)
    return model, *random_states(model), x, y


@torch.no_grad()
def test_recomputed_statistics_are_those_of_one_training_pass(normed):
    model, t1, t2, x, y = normed
    cube = lmc.LayerCube(model, t1, t2, (x, y), norm_stats="recompute")
    reference = copy.deepcopy(model).double()
    reference.load_state_dict(cube.state(0.3))
    expected = F.cross_entropy(reference.train()(x), y)
    torch.testing.assert_close(cube(0.3).loss, expected, rtol=1e-10, atol=0)
    assert abs(cube(0.3).loss - lmc.LayerCube(model, t1, t2, (x, y))(0.3).loss) > 1e-3


@torch.no_grad()
def test_recomputed_statistics_of_batches_are_the_means_of_their_moments(normed):
    model, t1, t2, x, y = normed
    cube = lmc.LayerCube(model, t1, t2, (x, y), norm_stats="recompute", batch_size=20)
    reference = copy.deepcopy(model).double()
    reference.load_state_dict(cube.state(0.3))
    places = {}
    for module in fresh_statistics(reference).modules():
        module.register_forward_hook(lambda m, i, out: places.update({m: out.numel() // out.shape[1]}))
    for part in x.split(20):
        reference(part)
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):  # PyTorch keeps the unbiased variance, of which ours is the moment
            module.running_var *= (places[module] - 1) / places[module]
    torch.testing.assert_close(cube(0.3).loss, F.cross_entropy(reference.eval()(x), y), rtol=1e-10, atol=0)


@torch.no_grad()
def test_statistics_of_other_data_are_moments_of_all_of_them(normed):
    model, t1, t2, x, y = normed
    at_once = lmc.LayerCube(model, t1, t2, (x, y), norm_stats="recompute")
    apart = lmc.LayerCube(model, t1, t2, (x, y), norm_stats="recompute", norm_data=[(x, y)])
    torch.testing.assert_close(apart(0.3).loss, at_once(0.3).loss, rtol=1e-10, atol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("rows", "passes"),
    [([3, 0, 7], 1), ([0, 0], 1), ([*range(40)], 1), (None, 2)],
    ids=["some", "twice", "all", "others"],
)
def test_data_among_those_that_give_the_statistics_take_one_pass(normed, rows, passes):
    """With labels of their own; what is not among them takes a pass for itself."""
    model, t1, t2, x, y = normed
    own = (x[:5] + 1, y[:5]) if rows is None else (x[rows], (y[rows] + 1) % 10)
    here = lmc.LayerCube(model, t1, t2, own, norm_stats="recompute", norm_data=(x, y))
    seen = []
    here._stack(1).net.register_forward_hook(lambda net, given, out: seen.append(len(out)))
    found = here(0.3)
    assert len(seen) == passes
    apart = lmc.LayerCube(model, t1, t2, own, norm_stats="recompute", norm_data=[(x, y)])(0.3)
    torch.testing.assert_close(found.loss, apart.loss, rtol=1e-10, atol=0)
    assert found.error == apart.error


class Normed(nn.Module):
    """A network with norms before and after the place where it runs out of memory, above `most` examples at a time."""

    def __init__(self, most: int = 99, norm=nn.BatchNorm1d):
        super().__init__()
        self.most, self.first, self.last = most, norm(4), norm(4)
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        x = self.first(self.one(x)[:, :, None].repeat(1, 1, 2)).mean(2)
        if len(x) > self.most:
            raise torch.OutOfMemoryError("no room")
        return self.two(self.last(torch.tanh(x)[:, :, None].repeat(1, 1, 2)).mean(2))


def statistics(cube: lmc.LayerCube) -> dict:
    cube(0.3)
    return {key: value for key, value in cube._stack(1).read(0).items() if "running" in key or "tracked" in key}


def normed_data(n: int):
    g = torch.Generator().manual_seed(6)
    return torch.randn(n, 4, generator=g, dtype=torch.float64), torch.randint(3, (n,), generator=g)


def test_a_batch_that_did_not_fit_is_counted_once():
    states, data = random_states(Normed()), normed_data(40)
    cube = lmc.LayerCube(Normed(most=15), *states, data, norm_stats="recompute")
    with pytest.warns(UserWarning, match="out of memory") as said:
        found = statistics(cube)
    assert len(said) == 2  # 40, 20, 10
    expected = statistics(lmc.LayerCube(Normed(), *states, data, norm_stats="recompute", batch_size=10))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d, lambda n: nn.InstanceNorm1d(n, affine=True, track_running_stats=True)]
)
def test_a_smaller_last_batch_counts_for_its_examples(norm):
    """Means do not depend on how examples are dealt into batches, where nothing before them is normalised."""
    model = Normed(norm=norm)
    states, (x, y) = random_states(model), normed_data(25)
    cube = lmc.LayerCube(model, *states, (x, y), norm_stats="recompute", batch_size=10)
    alone = statistics(cube)["first.running_mean"]
    state = cube.state(0.3)
    torch.testing.assert_close(alone, (x @ state["one.weight"].T + state["one.bias"]).mean(0), rtol=1e-12, atol=1e-12)


def test_shapes_and_ends():
    model = build_model("mlp-5", (1, 8, 8), 10).double()
    t1, t2 = random_states(model)
    x, y = torch.randn(6, 1, 8, 8, dtype=torch.float64), torch.arange(6)
    cube = lmc.LayerCube(model, t1, t2, [(x[:3], y[:3]), (x[3:], y[3:])])
    assert cube.layers == ("body.0", "fc")
    assert cube(0.0).loss.shape == cube(torch.zeros(2)).loss.shape == ()
    assert cube(torch.zeros(3, 2)).error.shape == (3,)
    for end, state in ((0, t1), (1, t2)):
        assert all(torch.equal(cube.state(end)[key], state[key]) for key in state)


def test_stacked_network_is_the_networks_side_by_side():
    model = build_model("resnet8-w4", (1, 8, 8), 10)
    stack = Stack(model, 3, torch.randn(4, 1, 8, 8))
    assert stack.width == 3
    other = build_model("mlp-5", (1, 8, 8), 10)
    assert Stack(nn.Sequential(other, nn.Dropout(0.5)), 3, torch.randn(4, 1, 8, 8)).width == 1


def test_a_seat_does_not_depend_on_the_others():
    model, x = build_model("resnet8-w4", (1, 8, 8), 10), torch.randn(16, 8, 1, 8, 8)
    stack = Stack(model, 8, x[:, 0]).train()
    states = [build_model("resnet8-w4", (1, 8, 8), 10, seed).state_dict() for seed in range(8)]
    outs = []
    for order in (range(8), [3, 1, 2, 0, 4, 5, 6, 7]):
        for seat, k in enumerate(order):
            stack.load(seat, states[k])
        outs.append(stack(x[:, list(order)])[:, list(order).index(3)])
    assert torch.equal(*outs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s | {"fc.weight": torch.zeros(9, 5)}, r"'fc.weight': \(9, 5\) where the model has \(10, 5\)"),
        (lambda s: {k: v for k, v in s.items() if k != "fc.bias"}, "'fc.bias': absent"),
        (lambda s: s | {"fc.bias": torch.full((10,), torch.nan)}, "'fc.bias' holds NaN"),
    ],
)
def test_bad_state_dicts_are_named(change, said):
    model = build_model("mlp-5", (1, 8, 8), 10)
    state = model.state_dict()
    with pytest.raises(LmcError, match=said):
        lmc.LayerCube(model, state, change(state), (torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)))


def test_a_vector_of_the_wrong_length_is_named():
    model = build_model("mlp-5", (1, 8, 8), 10)
    state = model.state_dict()
    cube = lmc.LayerCube(model, state, state, (torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)))
    with pytest.raises(LmcError, match=r"a: has shape \(3,\)"):
        cube(torch.zeros(3))


class Shapely(nn.Module):
    """Sizes as values, parameters that are no module's, a transpose, a branch, and a convolution whose norm is folded."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.shift = nn.Parameter(torch.zeros(2, 4, 1))  # as long as a batch of two, and none
        self.mix, self.fc = nn.Linear(16, 16), nn.Linear(64, 3)

    def forward(self, x):
        out = torch.relu(self.norm(self.conv(x)))
        out = out.flatten(2) + self.shift[0] * self.shift[1]
        out = out + self.mix(out).transpose(1, 2).reshape(x.size(0), 4, -1)
        return self.fc(out.view(out.shape[0], -1))


class AcrossTheBatch(nn.Module):
    """An output that depends on its neighbours in the batch: points must not go through it together."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.two(torch.softmax(self.one(x.flatten(1)), 0))


@pytest.mark.parametrize(("network", "pixels"), [(Shapely, 4), (AcrossTheBatch, 2)])
def test_networks_that_mind_their_batch_equal_the_plain_loop(network, pixels):
    torch.manual_seed(0)
    net = network()
    t1, t2 = random_states(net)
    x, y = torch.randn(5, 1, pixels, pixels).double(), torch.randint(3, (5,))
    cube = lmc.LayerCube(net, t1, t2, (x, y))
    n = len(cube.layers)
    points = torch.cat([torch.eye(n) / 2, 1 - torch.eye(n) / 2, torch.tril(torch.ones(n, n)) / 2]).double()
    alone = network().double().eval()
    for point, loss in zip(points, cube(points).loss, strict=True):
        alone.load_state_dict(cube.state(point))
        torch.testing.assert_close(F.cross_entropy(alone(x), y).detach(), loss)


def test_targets_that_are_left_out_count_in_no_mean():
    """PyTorch's cross-entropy leaves out -100: one network at a time, and many in one pass."""
    outputs = [torch.randn(6, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    y = torch.tensor([0, -100, 2, 1, -100, 0])
    together = loss_sums(cross_entropy, outputs, y)[0]
    for out, total in zip(outputs, together, strict=True):
        assert total.item() == pytest.approx(6 * F.cross_entropy(out, y).item(), rel=1e-6)
