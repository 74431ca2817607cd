"""Every module of torch.nn that has parameters: all derivatives of its cube against differences of its values."""

import inspect
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import utils
from torch.nn.utils import parametrizations

import lmclib as lmc

ABSTRACT = {"RNNBase", "RNNCellBase"}  # their subclasses are here
DIGITS = torch.tensor([[0, 1, 2], [2, 1, 1], [3, 0, 3], [1, 1, 4]])  # 1 is what is padded with, where something is


class Case(NamedTuple):
    """A module, the shape of one input (or the inputs) and how it is called on them, if not plainly."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] | Tensor
    call: Callable[[nn.Module, Tensor], Tensor] = lambda module, x: module(x)


def rnn(name: str, **options) -> Case:
    make = getattr(nn, name)
    return Case(lambda: make(3, 2, batch_first=True, **options), (3, 3), lambda m, x: m(x)[0])


def spread(module: nn.Module) -> nn.Module:
    """Rows whose entries and norms are far apart, so that none overtakes another, or a bound of 2."""
    with torch.no_grad():
        module.weight.copy_((7 * torch.arange(15.0) % 5).view(5, 3) / 2)
    return module


def one_sided(module: nn.Module) -> nn.Module:
    """A first unit that is always on and a second that is always off, so that no kink is met."""
    for name, parameter in module.named_parameters():
        if name.startswith("bias"):
            parameter.data.copy_(torch.tensor([2.0, -2.0]))
    return module


def between_signs(module: nn.Module) -> nn.Module:
    """The diagonal is cut to integers in a forward pass: away from where it jumps."""
    module.parametrizations.weight.original.data.diagonal().mul_(1.5)
    return module


class Activated(nn.BatchNorm2d):
    """A norm that does something else, too."""

    def forward(self, x):
        return torch.tanh(super().forward(x))


class Twice(nn.Module):
    """A norm with two names."""

    def __init__(self):
        super().__init__()
        self.one = self.two = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)))


def packed(m: nn.Module, x: Tensor) -> Tensor:
    """Sequences of different lengths, in no order."""
    rows = utils.rnn.pack_padded_sequence(
        x, torch.tensor([2, 3, 1, 3])[: len(x)], batch_first=True, enforce_sorted=False
    )
    return utils.rnn.pad_packed_sequence(m(rows)[0], batch_first=True)[0]


def sequence_first(m: nn.Module, x: Tensor) -> Tensor:
    x = x.transpose(0, 1)
    return m(x, x, x, need_weights=False)[0].transpose(0, 1)


def padded(m: nn.Module, x: Tensor) -> Tensor:
    return m(x, src_key_padding_mask=torch.tensor([[False, False, True], [False, True, True]] * 2)[: len(x)])


def encoder_layer(**options) -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, activation="gelu", **options)


def decoder_layer() -> nn.Module:
    return nn.TransformerDecoderLayer(8, 2, 8, batch_first=True, activation="gelu")


def old(norm: Callable[..., nn.Module], module: nn.Module, **options) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, and still in many networks
        return norm(module, **options)


CASES = {
    "Linear": Case(lambda: nn.Linear(3, 4), (3,)),
    "Bilinear": Case(lambda: nn.Bilinear(3, 3, 4), (3,), lambda m, x: m(x, x**2)),
    "SyncBatchNorm": Case(lambda: nn.SyncBatchNorm(2), (2, 2)),
    "BatchNorm2d with an activation": Case(lambda: Activated(2), (2, 2, 2)),
    "BatchNorm1d under two names": Case(Twice, (3,)),
    "GroupNorm": Case(lambda: nn.GroupNorm(2, 4), (4, 2)),
    "LayerNorm": Case(lambda: nn.LayerNorm((2, 4)), (3, 2, 4)),
    "LayerNorm without bias": Case(lambda: nn.LayerNorm(4, bias=False), (4,)),
    "RMSNorm": Case(lambda: nn.RMSNorm(4), (2, 4)),
    "PReLU": Case(lambda: nn.PReLU(), (3,)),
    "GLU": Case(lambda: nn.Sequential(nn.Linear(3, 4), nn.GLU()), (3,)),
    "Hardsigmoid": Case(lambda: nn.Sequential(nn.Linear(3, 4), nn.Hardsigmoid()), (3,)),
    "Embedding": Case(lambda: nn.Embedding(5, 3), DIGITS),
    "Embedding with padding": Case(lambda: nn.Embedding(5, 3, padding_idx=1), DIGITS),
    "Embedding by frequency": Case(lambda: nn.Embedding(5, 3, scale_grad_by_freq=True), DIGITS),
    "Embedding with sparse gradients": Case(lambda: nn.Embedding(5, 3, sparse=True), DIGITS),
    "Embedding of bounded norm": Case(lambda: spread(nn.Embedding(5, 3, max_norm=2)), DIGITS),
    "EmbeddingBag": Case(lambda: nn.EmbeddingBag(5, 3), DIGITS),
    "EmbeddingBag summed": Case(lambda: spread(nn.EmbeddingBag(5, 3, mode="sum", max_norm=2)), DIGITS),
    "EmbeddingBag of maxima": Case(lambda: spread(nn.EmbeddingBag(5, 3, mode="max")), DIGITS),
    "EmbeddingBag with padding": Case(lambda: nn.EmbeddingBag(5, 3, padding_idx=1), DIGITS),
    "EmbeddingBag with offsets": Case(
        lambda: nn.EmbeddingBag(5, 3, mode="sum"),
        DIGITS,
        lambda m, x: m(x.flatten(), torch.tensor([0, 2, 2, 5])[: len(x)], torch.linspace(0.5, 1, x.numel()).double()),
    ),
    "RNN": rnn("RNN", num_layers=2, bidirectional=True),
    "RNN with ReLU": Case(
        lambda: one_sided(nn.RNN(3, 2, nonlinearity="relu", batch_first=True)), (3, 3), lambda m, x: m(x)[0]
    ),
    "RNN of packed sequences": rnn("RNN", bidirectional=True)._replace(call=packed),
    "LSTM": rnn("LSTM", num_layers=2, bidirectional=True),
    "LSTM with a projection": rnn("LSTM", proj_size=1, bias=False),
    "LSTM of packed sequences": rnn("LSTM", num_layers=2, bidirectional=True)._replace(call=packed),
    "GRU": rnn("GRU", num_layers=2, bidirectional=True),
    "GRU, sequence first": Case(lambda: nn.GRU(3, 2), (3, 3), lambda m, x: m(x.transpose(0, 1))[0].transpose(0, 1)),
    "RNNCell": Case(lambda: nn.RNNCell(3, 2), (3,)),
    "RNNCell with ReLU": Case(lambda: one_sided(nn.RNNCell(3, 2, nonlinearity="relu")), (3,)),
    "LSTMCell": Case(lambda: nn.LSTMCell(3, 2), (3,), lambda m, x: torch.cat(m(x), 1)),
    "GRUCell": Case(lambda: nn.GRUCell(3, 2), (3,)),
    "MultiheadAttention": Case(
        lambda: nn.MultiheadAttention(4, 2, batch_first=True), (3, 4), lambda m, x: torch.cat(m(x, x, x), 2)
    ),
    "MultiheadAttention, sequence first": Case(lambda: nn.MultiheadAttention(4, 2), (3, 4), sequence_first),
    "MultiheadAttention with all options": Case(
        lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True, add_zero_attn=True, kdim=4, vdim=4),
        (3, 4),
        sequence_first,
    ),
    "TransformerEncoderLayer": Case(encoder_layer, (3, 8)),
    "TransformerEncoderLayer, norm first": Case(lambda: encoder_layer(norm_first=True), (3, 8)),
    "TransformerEncoder": Case(lambda: nn.TransformerEncoder(encoder_layer(), 2), (3, 8)),
    "TransformerEncoder with padding": Case(
        lambda: nn.TransformerEncoder(encoder_layer(), 1, norm=nn.LayerNorm(8)), (3, 8), padded
    ),
    "TransformerDecoderLayer": Case(decoder_layer, (3, 8), lambda m, x: m(x, x)),
    "TransformerDecoder": Case(lambda: nn.TransformerDecoder(decoder_layer(), 1), (3, 8), lambda m, x: m(x, x)),
    "Transformer": Case(
        lambda: nn.Transformer(8, 2, 1, 1, 8, batch_first=True, activation="gelu"), (3, 8), lambda m, x: m(x, x)
    ),
    "LinearCrossEntropyLoss": Case(
        lambda: nn.LinearCrossEntropyLoss(3, 4, reduction="none", options=nn.LinearCrossEntropyOptions()),
        (3,),
        lambda m, x: x * m(x, torch.arange(4))[:, None],
    ),
    "AdaptiveLogSoftmaxWithLoss": Case(
        lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 6, [2, 4], div_value=2), (8,), lambda m, x: m.log_prob(x)
    ),
}
for d in (1, 2, 3):
    image = (2, *[2] * d)
    conv, transposed, batch, instance = (
        getattr(nn, f"{kind}{d}d") for kind in ("Conv", "ConvTranspose", "BatchNorm", "InstanceNorm")
    )
    CASES |= {
        f"Conv{d}d": Case(lambda conv=conv: conv(2, 2, 2, padding=1, padding_mode="circular"), image),
        f"ConvTranspose{d}d": Case(lambda conv=transposed: conv(2, 2, 2), image),
        f"BatchNorm{d}d": Case(lambda norm=batch: norm(2), image),
        f"BatchNorm{d}d of each batch": Case(lambda norm=batch: norm(2, track_running_stats=False), image),
        f"InstanceNorm{d}d": Case(lambda norm=instance: norm(2, affine=True, track_running_stats=True), image),
        f"InstanceNorm{d}d of each example": Case(lambda norm=instance: norm(2, affine=True), image),
    }
for kind, make, shape in (("", lambda: nn.Linear(4, 4), (4,)), (" of Conv2d", lambda: nn.Conv2d(2, 2, 2), (2, 2, 2))):
    CASES |= {
        f"parametrizations.weight_norm{kind}": Case(lambda make=make: parametrizations.weight_norm(make()), shape),
        f"parametrizations.weight_norm{kind} as a whole": Case(
            lambda make=make: parametrizations.weight_norm(make(), dim=None), shape
        ),
        f"parametrizations.spectral_norm{kind}": Case(lambda make=make: parametrizations.spectral_norm(make()), shape),
        f"utils.weight_norm{kind}": Case(lambda make=make: old(utils.weight_norm, make()), shape),
        f"utils.weight_norm{kind} by inputs": Case(lambda make=make: old(utils.weight_norm, make(), dim=1), shape),
        f"utils.spectral_norm{kind}": Case(lambda make=make: old(utils.spectral_norm, make()), shape),
    }
for way in ("matrix_exp", "cayley"):
    CASES[f"parametrizations.orthogonal by {way}"] = Case(
        lambda way=way: parametrizations.orthogonal(nn.Linear(4, 3), orthogonal_map=way), (4,)
    )
for trivial in (True, False):
    CASES[f"parametrizations.orthogonal by householder{' from a base' if trivial else ''}"] = Case(
        lambda trivial=trivial: between_signs(
            parametrizations.orthogonal(nn.Linear(4, 3), orthogonal_map="householder", use_trivialization=trivial)
        ),
        (4,),
    )


class Net(nn.Module):
    """A module between two simple ones, so that it is differentiated in its inputs as well as in its weights."""

    def __init__(self, case: Case):
        super().__init__()
        self.gain, self.module, self.call = nn.Parameter(torch.ones(1)), case.make(), case.call

    def forward(self, x):
        out = self.call(self.module, torch.tanh(self.gain * x) if x.is_floating_point() else x)
        return out.flatten(1) if x.is_floating_point() else torch.sin(self.gain * out.flatten(1))


def states(model: nn.Module) -> list[dict[str, Tensor]]:
    """Two state dicts about a tenth apart, far from where anything is not smooth."""
    both = []
    for seed in range(2):
        g, state = torch.Generator().manual_seed(seed), {}
        for key, value in model.state_dict().items():
            noise = torch.randn(value.shape, generator=g, dtype=torch.float64)
            step = noise.abs() if key.endswith("running_var") else noise
            state[key] = value.double() + 0.1 * step if value.is_floating_point() else value.clone()
        model.load_state_dict(state)  # where a tensor has two names, there is one
        both.append({key: value.clone() for key, value in model.state_dict().items()})
    return both


NODES = torch.arange(-4, 5, dtype=torch.float64)
STEPS = 0.04, 0.12, 0.015  # one of these is small enough for its function, and large enough for its rounding errors


def derivative(values: Tensor, order: int, step: float) -> Tensor:
    """A central difference over nine values, exact for polynomials of degree eight."""
    powers = NODES ** torch.arange(9, dtype=torch.float64)[:, None]
    only = math.factorial(order) * F.one_hot(torch.tensor(order), 9).double()
    return torch.tensordot(torch.linalg.solve(powers, only), values, 1) / step**order


def error(exact: Tensor, differences: Tensor) -> float:
    """How far off a derivative is, as a part of its largest entry."""
    return float((exact - differences).abs().max() / differences.abs().max())


# what PyTorch says of its own plans for nested tensors, and of layers that it cannot take through its fast path
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_differences_of_values(name, monkeypatch):
    monkeypatch.setattr(
        "lmclib.cube.derivatives.check_derivatives", lambda *_: None
    )  # this is such a check, and a stricter one
    case = CASES[name]
    torch.manual_seed(0)
    model, g = Net(case).double().eval(), torch.Generator().manual_seed(2)
    x = case.shape if torch.is_tensor(case.shape) else torch.randn(4, *case.shape, generator=g, dtype=torch.float64)
    ends = states(model)
    with torch.no_grad():
        y = torch.arange(4) % model(x).shape[1]
    cube = lmc.LayerCube(model, *ends, (x, y))
    n = len(cube.layers)
    a, v = torch.full((n,), 0.4, dtype=torch.float64), torch.randn(n, generator=g, dtype=torch.float64)
    v /= v.norm()
    gradient, hessian = cube.gradient(a), cube.hessian(a)
    ((jet, _),) = cube.derivatives.jets(a, v, 3)
    best = [math.inf] * 6
    for step in STEPS:
        points = a + step * NODES[:, None] * v
        losses = cube(points).loss
        outputs = torch.stack([output(model, cube.state(point), x) for point in points])
        found = [error(gradient @ v, derivative(losses, 1, step)), error(v @ hessian @ v, derivative(losses, 2, step))]
        found += [error(part, derivative(outputs, order, step)) for order, part in enumerate(jet)]
        best = list(map(min, best, found))
        if max(best) < 1e-6:
            return
    pytest.fail(f"gradient, Hessian and outputs' derivatives of orders 0 to 3 are off by {best}")


@torch.no_grad()
def output(model: nn.Module, state: dict[str, Tensor], x: Tensor) -> Tensor:
    model.load_state_dict(state)
    return model(x)


def owns_tensors(kind: type[nn.Module]) -> bool:
    """Whether a module of some kind, made from small numbers, has parameters or buffers; what cannot be made so counts."""
    for args in ((), (2,), (2, 2), (2, 2, 2), (2, 2, 2, 2), ([2],), (0, (1, 1))):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a deprecated container, a Transformer without its fast path
                made = kind(*args)
        except (TypeError, ValueError, AssertionError, IndexError):
            continue
        return any(True for _ in [*made.parameters(), *made.buffers()])
    return True


def test_no_module_that_owns_tensors_is_left_out():
    kinds = {name: kind for name, kind in vars(nn).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}
    owning = {name.removeprefix("Lazy") for name, kind in kinds.items() if owns_tensors(kind)} - ABSTRACT
    owning |= {f"parametrizations.{name}" for name in parametrizations.__all__}
    owning |= {f"utils.{name}" for name in ("weight_norm", "spectral_norm")}
    covered = {name.split()[0].rstrip(",") for name in CASES}
    assert owning - covered == set()
