"""The cube's check of its own derivatives: silent where they are right, kinks or not, and a warning where they are wrong."""

import pytest
import torch
from reference import random_states
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from zoo import resnet18

import lmclib as lmc
from lmclib.cube import selfcheck
from lmclib.networks.arithmetic import PLAIN
from lmclib.networks.build import build_model


@pytest.fixture(autouse=True)
def verdicts(monkeypatch):
    """What is found, trial by trial, as if nothing had been checked before."""
    found, verdict = [], selfcheck._Cut.verdict
    monkeypatch.setattr(selfcheck, "_checked", set())
    monkeypatch.setattr(selfcheck._Cut, "verdict", lambda *given: (found.append(verdict(*given)), found[-1])[1])
    torch.manual_seed(0)
    return found


def pooled() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.LeakyReLU()),
        *(nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(24, 8), nn.Hardswish(), nn.PReLU(), nn.Linear(8, 10)),
    )


KINKED = {
    "resnet8-w8-none": lambda: build_model("resnet8-w8-none", (3, 16, 16), 10),
    "resnet20-w8": lambda: build_model("resnet20-w8", (3, 16, 16), 10),
    "resnet8-w4-gn": lambda: build_model("resnet8-w4-gn", (3, 16, 16), 10),
    "mlp-100-100": lambda: build_model("mlp-100-100", (3, 16, 16), 10),
    "torchvision resnet18": lambda: resnet18(10),
    "pooled": pooled,
}


def cube_of(model: nn.Module, x: torch.Tensor, start: bool = False) -> lmc.LayerCube:
    """Between random states; or from a new network, whose biases may be zero."""
    t1, t2 = random_states(model)
    if start:
        t1 = {key: value.to(t2[key]) for key, value in model.state_dict().items()}
    return lmc.LayerCube(model, t1, t2, (x, torch.arange(len(x)) % 10))


@pytest.mark.parametrize("mode", ["backward", "forward"])
@pytest.mark.parametrize("name", KINKED)
def test_networks_with_kinks_are_found_in_order(name, mode, verdicts):
    x = torch.randn(3, 3, 16, 16)
    x[:, :, :8] = 0  # a background, on which many units are exactly at their kinks as long as biases are zero
    cube_of(KINKED[name](), x, start=True).derivatives._check(mode)  # a warning is an error here
    assert verdicts[-1] == ""
    assert verdicts[:-1] == [None] * (len(verdicts) - 1)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.fc = nn.Embedding(7, 4, padding_idx=0), nn.Linear(4, 10)

    def forward(self, x):
        return self.fc(torch.tanh(self.embedding(x.long())).mean(1))


NORMED = nn.Sequential(weight_norm(nn.Linear(4, 8)), nn.ReLU(), weight_norm(nn.Linear(8, 10)))
FAULTS = {
    "weight norm": (lambda: NORMED, torch._weight_norm, lambda c: c.hessian(0), "second derivatives in backward mode"),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 10)),
        F.layer_norm,
        lambda c: lmc.predict_curve(c, 3, "taylor3"),
        "second derivatives in forward mode",
    ),
    "padding": (Words, F.embedding, lambda c: lmc.Energies.of(c), "first derivatives in backward mode"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_pytorch_are_found_unless_they_are_mended(name, monkeypatch, verdicts):
    make, operation, use, said = FAULTS[name]
    x = torch.tensor([[0, 1, 2, 5], [6, 0, 3, 4]]).double() if name == "padding" else torch.randn(5, 4).double()
    cube = cube_of(make(), x)
    use(cube)
    assert verdicts == [""]
    monkeypatch.delitem(PLAIN, operation)
    selfcheck._checked.clear()
    with pytest.warns(UserWarning, match=rf"{said} are off by .* of .*; do not trust"):
        use(cube)
    use(cube_of(make(), x))  # said once


class StraightThrough(nn.Module):
    """Rounds in a forward pass, and says that it did not."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 50), nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(self.one(x))
        return self.two(x + (torch.round(x) - x).detach())


def test_a_gradient_that_is_not_the_derivative_is_found_among_kinks():
    with pytest.warns(UserWarning, match="StraightThrough: first derivatives in backward mode are off by"):
        cube_of(StraightThrough(), torch.randn(5, 4)).hessian(0.5)


class SinglePrecision(nn.Module):
    """Computes a part of itself in float32, whatever it is given."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 5), nn.Linear(5, 10)

    def forward(self, x):
        x = torch.tanh(self.one(x))
        return self.two((x.float() / x.float().norm(dim=1, keepdim=True)).to(x.dtype))


def test_rounding_is_no_fault(verdicts):
    cube_of(SinglePrecision(), torch.randn(5, 4)).hessian(0.5)
    assert set(verdicts) <= {"", None}


class FloatOnly(nn.Linear):
    def forward(self, x):
        return super().forward(x) @ torch.eye(10)


def test_what_cannot_be_computed_in_float64_is_not_checked(verdicts):
    model = FloatOnly(4, 10)
    states = ({key: value.float() for key, value in state.items()} for state in random_states(model))
    cube = lmc.LayerCube(model, *states, (torch.randn(5, 4), torch.arange(5)))
    assert cube.hessian(0.5).isfinite().all()
    assert verdicts == []


def test_a_loss_without_curvature_is_in_order(verdicts):
    """Where second derivatives are zero, differences are nothing but rounding errors."""
    data = torch.randn(5, 4).double(), torch.zeros(5).long()
    model = nn.Linear(4, 10)
    cube = lmc.LayerCube(model, *random_states(model), data, loss=lambda out, y: out.mean() + 100)
    assert torch.equal(cube.hessian(0.5), torch.zeros(1, 1).double())
    assert verdicts == [""]
