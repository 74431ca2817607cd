"""The cube's derivatives against curvlinops, central differences and closed forms; what has no derivative says so."""

import pytest
import torch
from reference import random_states
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torchvision.models import VisionTransformer
from zoo import resnet18

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.measures.expansion import METHODS
from lmclib.networks.build import build_model


def batch(n: int, side: int, seed: int = 0, channels: int = 3):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, side, side, generator=g, dtype=torch.float64)
    return x, torch.randint(10, (n,), generator=g)


def same_statistics(t1: dict, t2: dict) -> dict:
    """Model 2 with model 1's running statistics, as curvlinops differentiates in parameters only."""
    return {key: t1[key] if "running" in key else value for key, value in t2.items()}


# curvlinops calls what PyTorch will drop, which is neither ours nor in its hands
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
@pytest.mark.parametrize(("name", "side"), [("resnet10", 32), ("mlp", 8)])
def test_gradient_and_hessian_are_those_of_curvlinops(name, side):
    from curvlinops import HessianLinearOperator

    model = resnet18(10, blocks=1) if name == "resnet10" else build_model("mlp-7-6-gelu", (3, 8, 8), 10)
    x, y = batch(6, side)
    t1, t2 = random_states(model)
    t2 = same_statistics(t1, t2)
    cube = lmc.LayerCube(model, t1, t2, (x, y), batch_size=4)
    model = model.double().eval()
    model.load_state_dict(cube.state(0.3))
    params = dict(model.named_parameters())
    operator = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(params.values()), [(x[:4], y[:4]), (x[4:], y[4:])], check_deterministic=False
    )
    owner = {key: key.rpartition(".")[0] for key in params}
    hessian, gradient = cube.hessian(0.3), cube.gradient(0.3)
    slopes, _ = operator.gradient_and_loss()
    products = {key: (t2[key] - t1[key]) for key in params}
    for trial in range(3):
        v = torch.randn(len(cube.layers), generator=torch.Generator().manual_seed(trial), dtype=torch.float64)
        weight = dict(zip(cube.layers, v.tolist(), strict=True))
        moved = operator @ [weight[owner[key]] * products[key] for key in params]
        expected = torch.zeros_like(v)
        for key, value in zip(params, moved, strict=True):
            expected[cube.layers.index(owner[key])] += (value * products[key]).sum().detach()
        torch.testing.assert_close(hessian @ v, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    expected = torch.zeros_like(gradient)
    for key, value in zip(params, slopes, strict=True):
        expected[cube.layers.index(owner[key])] += (value * products[key]).sum().detach()
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)
    assert (hessian - hessian.T).abs().max() <= 1e-8 * hessian.abs().max()


class SmoothNet(nn.Module):
    """Convolution, batch norm and a linear layer, with activations that have no kinks."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 36, 10)

    def forward(self, x):
        return self.fc(F.gelu(self.norm(self.conv(x))).flatten(1))


@pytest.mark.parametrize("make", [SmoothNet, lambda: build_model("mlp-9-7-tanh", (3, 8, 8), 10)])
def test_derivatives_are_those_of_central_differences(make):
    """Running statistics count as parameters here: both are part of the state dict that moves."""
    torch.manual_seed(0)
    model = make()
    t1, t2 = random_states(model)
    cube = lmc.LayerCube(model, t1, t2, batch(20, 8), batch_size=7)
    a, n, h = torch.full((len(cube.layers),), 0.4, dtype=torch.float64), len(cube.layers), 1e-4
    steps = h * torch.eye(n, dtype=torch.float64)
    slopes = torch.stack([(cube(a + step).loss - cube(a - step).loss) / (2 * h) for step in steps])
    torch.testing.assert_close(cube.gradient(a), slopes, rtol=1e-5, atol=1e-9)
    rows = torch.stack([(cube.gradient(a + step) - cube.gradient(a - step)) / (2 * h) for step in steps])
    hessian = cube.hessian(a)
    torch.testing.assert_close(hessian, rows, rtol=1e-5, atol=1e-5 * float(rows.abs().max()))
    assert torch.equal(hessian, hessian.T)


def test_jets_are_the_derivatives_of_the_outputs():
    model = build_model("mlp-9-7-tanh", (3, 8, 8), 10)
    cube = lmc.LayerCube(model, *random_states(model), batch(5, 8))
    ones = torch.ones(len(cube.layers), dtype=torch.float64)
    ((jet, _),) = cube.derivatives.jets(0.2 * ones, ones, 3)
    h = 1e-4
    ends = [next(cube.derivatives.jets((0.2 + step) * ones, ones, 2))[0] for step in (-h, h)]
    for k in range(3):
        torch.testing.assert_close(jet[k + 1], (ends[1][k] - ends[0][k]) / (2 * h), rtol=1e-5, atol=1e-7)


def test_all_energies_sum_to_the_quadratic_form_of_the_difference():
    model = build_model("resnet8-w4", (1, 8, 8), 10)
    x, y = batch(20, 8, channels=1)
    cube = lmc.LayerCube(model, *random_states(model), (x, y))
    ones = torch.ones(len(cube.layers), dtype=torch.float64)
    for end in (0.0, 1.0):
        along = []
        for jet, target in cube.derivatives.jets(end * ones, ones, 2):
            f, first, second = (part.requires_grad_() for part in jet)
            loss = F.cross_entropy(f, target)
            slope = torch.autograd.grad(loss, f, create_graph=True)[0]
            twice = torch.autograd.grad((slope * first).sum(), f)[0]
            along.append(((slope * second).sum() + (twice * first).sum()).detach())
        torch.testing.assert_close(cube.hessian(end).sum(), torch.stack(along).mean(), rtol=1e-8, atol=0)


def test_float32_gives_the_derivatives_to_its_precision():
    model = build_model("resnet8-w4", (1, 8, 8), 10)
    x, y = batch(30, 8, channels=1)
    exact = lmc.LayerCube(model, *random_states(model), (x, y)).hessian(0.5)
    states = [
        {k: v.float() if v.is_floating_point() else v for k, v in state.items()} for state in random_states(model)
    ]
    single = lmc.LayerCube(build_model("resnet8-w4", (1, 8, 8), 10), *states, (x.float(), y)).hessian(0.5)
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


def test_what_has_no_derivative_says_so():
    model = build_model("mlp-5", (1, 8, 8), 10)
    states = [build_model("mlp-5", (1, 8, 8), 10, seed).state_dict() for seed in (0, 1)]
    data = torch.randn(6, 1, 8, 8), torch.arange(6)

    def zero_one(outputs, y):
        return (outputs.argmax(1) != y).float().mean()

    with pytest.raises(LmcError, match=r"lacks a derivative .element 0 of tensors does not require grad"):
        lmc.LayerCube(model, *states, data, loss=zero_one).derivatives.parameter_gradient(0)
    with pytest.raises(LmcError, match="loss='zero_one': has no derivative"):
        lmc.LayerCube(model, *states, data, loss=zero_one).gradient(0)
    with pytest.raises(LmcError, match="derivatives exist for 'interpolate' only"):
        lmc.LayerCube(model, *states, data, norm_stats="recompute").hessian(0)
    with pytest.raises(LmcError, match="a: has 3 points; a derivative is taken at one"):
        lmc.LayerCube(model, *states, data).gradient(torch.zeros(3, 2))


NETWORKS = {
    "vision transformer": lambda: VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=10),
    "weight norm": lambda: nn.Sequential(
        nn.Flatten(), weight_norm(nn.Linear(192, 6)), nn.Tanh(), weight_norm(nn.Linear(6, 10))
    ),
    "recurrent": lambda: Rows(),
}


class Rows(nn.Module):
    """Reads an image row by row."""

    def __init__(self):
        super().__init__()
        self.body, self.norm, self.fc = nn.LSTM(24, 6, batch_first=True), nn.LayerNorm(6), nn.Linear(6, 10)

    def forward(self, x):
        return self.fc(self.norm(self.body(x.transpose(1, 2).flatten(2))[0]).mean(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_method_predicts_networks_of_fused_operations(name):
    """Between models so close that all methods but the published one foretell the barrier, each as its order lets it."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    t1, t2 = random_states(model)
    t2 = {key: t1[key] + 0.03 * (value - t1[key]) for key, value in t2.items()}
    cube = lmc.LayerCube(model, t1, t2, batch(6, 8))
    for of in ("network", "layers"):
        table = lmc.prediction_table(cube, of=of)
        assert set(table.method) == set(METHODS)
        largest = table.actual.abs().max()
        for method, part in table.groupby("method"):
            off = float((part.predicted - part.actual).abs().max() / largest)
            assert off < {"published": 5, "gradient": 5e-3, "taylor3": 3e-3, "logit-cubic": 3e-3}.get(method, 1e-4), (
                method
            )


class Squashed(torch.autograd.Function):
    """A function of the user's with one derivative."""

    @staticmethod
    def forward(ctx, x):
        out = torch.tanh(x)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * (1 - ctx.saved_tensors[0] ** 2)


class Custom(nn.Linear):
    def forward(self, x):
        return Squashed.apply(super().forward(x))


class Distances(nn.Linear):
    def forward(self, x):
        return torch.cdist(x, self.weight)


@pytest.mark.parametrize(
    ("network", "lacks"),
    [
        (
            lambda: nn.Sequential(Custom(4, 4), nn.Linear(4, 4)),
            {"hessian": "once_differentiable", "jets": "autograd.Function"},
        ),
        (
            lambda: nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (4, 1, 1)), nn.CrossMapLRN2d(2), nn.Flatten()),
            {"hessian": "out=", "jets": "setup_context"},
        ),
        (lambda: Distances(4, 4), {"jets": "_cdist_forward"}),
    ],
)
def test_what_pytorch_cannot_differentiate_is_said_in_one_line(network, lacks):
    torch.manual_seed(0)
    model = network()
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.randint(4, (6,))
    cube = lmc.LayerCube(model, *random_states(model), (x, y))
    ones = torch.ones(len(cube.layers), dtype=torch.float64)
    take = {"hessian": lambda: cube.hessian(0.5), "jets": lambda: list(cube.derivatives.jets(0.5 * ones, ones, 1))}
    assert cube(0.5).loss.isfinite()
    assert cube.gradient(0.5).isfinite().all()
    for name, derivative in take.items():
        if name in lacks:
            with pytest.raises(LmcError, match=rf"model, loss: PyTorch lacks a derivative \(.*{lacks[name]}"):
                derivative()
        else:
            derivative()


def test_a_loss_that_pytorch_cannot_differentiate_is_said_too():
    model = build_model("mlp-5", (3, 8, 8), 10)
    x, y = batch(6, 8)
    cube = lmc.LayerCube(model, *random_states(model), (x, y), loss=F.multi_margin_loss)
    for derive in (lambda: cube.hessian(0), lambda: lmc.predict_curve(cube, 3, "taylor3")):
        with pytest.raises(LmcError, match=r"PyTorch lacks a derivative.*multi_margin_loss"):
            derive()


def test_the_huber_loss_has_all_derivatives():
    """Near its minimum it is half the squared error."""
    model = build_model("mlp-5-tanh", (3, 8, 8), 10)
    x, y = batch(6, 8)[0], torch.zeros(6, 10, dtype=torch.float64)
    cubes = [
        lmc.LayerCube(model, *random_states(model), (x, y), loss=loss)
        for loss in (lambda out, y: F.huber_loss(out, y, delta=100.0), lambda out, y: F.mse_loss(out, y) / 2)
    ]
    for method in METHODS:
        one, two = (lmc.predict_curve(cube, 3, method).loss_barrier.to_numpy() for cube in cubes)
        assert one == pytest.approx(two, rel=1e-9, abs=1e-12)
    with_kinks = lmc.LayerCube(
        model, *random_states(model), (x, y), loss=lambda out, y: F.huber_loss(out, y, delta=0.1)
    )
    assert lmc.predict_curve(with_kinks, 3, "taylor3").loss_barrier.abs().max() > 0


# deprecated, and still in many networks
@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated:FutureWarning")
def test_a_network_may_come_from_its_last_step_of_training():
    """A weight norm by a hook keeps the weight of the last pass, with its gradient's graph."""
    nets = [nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)) for _ in range(2)]
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.randint(3, (6,))
    F.cross_entropy(nets[0](x.float()), y).backward()
    with torch.no_grad():
        nets[1](x.float())
    assert torch.equal(*(lmc.LayerCube(net, *random_states(nets[0]), (x, y)).hessian(0.5) for net in nets))


class Tied(nn.Module):
    """Two linear maps that share a weight, and one that is frozen."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.frozen = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.two.weight = self.one.weight
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.frozen(torch.tanh(self.two(torch.tanh(self.one(x)))))


def test_a_tied_weight_counts_once_and_a_frozen_one_moves():
    model, other = Tied().double(), Tied().double()
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,))
    cube = lmc.LayerCube(model, model.state_dict(), other.state_dict(), (x, y))
    assert cube.layers == ("one", "two", "frozen")
    assert cube._shares(torch.eye(3, dtype=torch.float64) / 2)
    state = cube.state(torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(state["one.weight"], other.one.weight)
    assert torch.equal(state["two.weight"], other.one.weight)  # it is the same tensor
    assert torch.equal(state["two.bias"], model.two.bias)
    h = 1e-5
    for i in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[i] = h
        slope = (cube(0.5 + step).loss - cube(0.5 - step).loss) / (2 * h)
        torch.testing.assert_close(cube.gradient(0.5)[i], slope, rtol=1e-6, atol=1e-9)


class TwoNames(nn.Module):
    """A norm that is used twice, before and after the layers that own anything else."""

    def __init__(self, affine: bool):
        super().__init__()
        self.norm, self.fc = nn.BatchNorm1d(4, affine=affine), nn.Linear(4, 4)
        self.last = self.norm

    def forward(self, x):
        return self.last(torch.tanh(self.fc(self.norm(x))))


@pytest.mark.parametrize("affine", [True, False])
def test_statistics_under_two_names_move_once_under_both(affine):
    model = TwoNames(affine).double()
    states = []
    for state in random_states(model):
        model.load_state_dict(state)
        states.append({key: value.clone() for key, value in model.state_dict().items()})
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randint(4, (8,))
    cube = lmc.LayerCube(model, *states, (x, y))
    assert cube.layers == (("norm", "fc") if affine else ("fc",))
    state = cube.state(0.3)
    assert torch.equal(state["last.running_mean"], state["norm.running_mean"])
    assert torch.equal(state["norm.running_mean"], torch.lerp(*(s["norm.running_mean"] for s in states), 0.3))
    h = 1e-5
    slope = (cube(0.5 + h).loss - cube(0.5 - h).loss) / (2 * h)
    torch.testing.assert_close(cube.gradient(0.5).sum(), slope, rtol=1e-7, atol=1e-9)


def test_integer_buffers_are_model_1s():
    model = build_model("resnet8-w4", (1, 8, 8), 10)
    t1, t2 = random_states(model)
    key = next(key for key in t1 if key.endswith("num_batches_tracked"))
    t1[key], t2[key] = torch.tensor(3), torch.tensor(8)
    cube = lmc.LayerCube(model, t1, t2, batch(4, 8, channels=1))
    assert [int(cube.state(a)[key]) for a in (0.0, 0.5, 1.0)] == [3, 3, 3]


def test_models_with_nothing_in_common_are_refused():
    one, two = nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(LmcError, match=r"t2: is of another architecture at '0\.bias'"):
        lmc.LayerCube(one, one.state_dict(), two.state_dict(), (torch.zeros(2, 4), torch.zeros(2).long()))
