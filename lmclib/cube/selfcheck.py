"""A check of derivatives by differences: what PyTorch differentiates wrongly, it differentiates without a word."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lmclib.networks.differentiable import Functional, jet
from lmclib.networks.layers import Layer

EXAMPLES, TRIALS = 2, 3
# the last two are so small that a large network of ReLUs seldom meets a kink, and float64 resolves them
STEPS = 1e-5, 1e-7, 1e-8
TOLERANCE, ROUNDING = 1e-4, 1e3 * torch.finfo(torch.float64).eps
Mode = Literal["backward", "forward"]
Loss = Callable[[Tensor, Tensor], Tensor]
_checked: set[tuple] = set()


def check_derivatives(
    mode: Mode,
    model: nn.Module,
    layers: Sequence[Layer],
    t1: Mapping[str, Tensor],
    t2: Mapping[str, Tensor],
    loss: Loss,
    batches: Iterator[tuple[Tensor, Tensor]],
) -> None:
    r"""Warn where first derivatives are not the differences of values, or second ones not those of first ones.

    $\nabla\varphi \cdot v$ is compared with $(\varphi(a + hv) - \varphi(a - hv)) / 2h$, and $\nabla^2\varphi \, v$ with gradients
    likewise, at a random point $a$ inside the cube (at its corners units may be at a kink) in a random direction $v$, for two
    examples and in float64. A kink between the two points falsifies a difference, not a derivative; so does what a network computes
    in float32. So it takes a difference that hardly changes from one step to a tenth of it, but is not the derivative.

    An architecture is checked once in a process for each mode and loss; one that cannot be computed in float64 is not checked.

    Args:
        mode: `backward`, a gradient and its own gradient; or `forward`, nested forward mode along $v$.
        model: the architecture.
        layers: its layers.
        t1: the state dict of model 1.
        t2: the state dict of model 2.
        loss: a callable (outputs, y) that returns the mean over the batch.
        batches: the data; a part of the first batch is used.

    Example:
        >>> from lmclib.networks.layers import find_layers
        >>> class Stopped(nn.Linear):  # w², whose gradient is taken for w
        ...     def forward(self, x):
        ...         return nn.functional.linear(x, self.weight * self.weight.detach())
        >>> net, x = Stopped(1, 1, bias=False), torch.ones(1, 1)
        >>> ends = ({"weight": torch.tensor([[w]])} for w in (0.0, 1.0))
        >>> loss, data = (lambda outputs, y: outputs.mean()), iter([(x, x)])
        >>> with warnings.catch_warnings(record=True, action="always") as said:
        ...     check_derivatives("backward", net, find_layers(net, x), *ends, loss, data)
        >>> str(said[0].message).partition(";")[0]
        'Stopped: first derivatives in backward mode are off by 0.5 of 1'
    """
    named = getattr(loss, "__qualname__", type(loss).__qualname__)
    kind = (mode, type(model), repr(model), named, next(iter(t1.values())).device.type)
    if kind in _checked:
        return
    _checked.add(kind)
    try:
        cut = _Cut(model, layers, t1, t2, loss, *(part[:EXAMPLES] for part in next(batches)))
        verdicts = (cut.verdict(mode, seed) for seed in range(TRIALS))
        fault = next((verdict for verdict in verdicts if verdict is not None), "")
    except Exception:  # whatever this network or loss cannot do in float64, or with two examples: nobody asked for that
        return
    if fault:
        name = type(model).__name__
        warnings.warn(f"{name}: {fault}; do not trust what is predicted from its curvature", stacklevel=5)


class _Cut:
    """The loss of a few examples as a function of the point in the cube, in float64."""

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        t1: Mapping[str, Tensor],
        t2: Mapping[str, Tensor],
        loss: Loss,
        x: Tensor,
        y: Tensor,
    ):
        self.plain = copy.deepcopy(model).double().eval()
        self.function, self.loss, self.n_layers = Functional(self.plain), loss, len(layers)
        self.x, self.y = (part.double() if part.is_floating_point() else part for part in (x, y))
        self.line = {
            key: (i, t1[key].double(), t2[key].double()) for i, layer in enumerate(layers) for key in layer.tensors
        }

    def verdict(self, mode: Mode, seed: int) -> str | None:
        """What is at fault; nothing (''), where differences are the derivatives; None where they cannot tell."""
        g = torch.Generator().manual_seed(seed)
        a, v = (
            0.25 + torch.rand(self.n_layers, generator=g).double() / 2,
            torch.randn(self.n_layers, generator=g).double(),
        )
        a, v = (part.to(self.x.device) for part in (a, v / v.norm()))
        derivatives = self._backward if mode == "backward" else self._forward
        first, second = derivatives(a, v, 2)
        slope = first @ v if mode == "backward" else first
        orders = {"first": _Comparison(slope, self._value(a)), "second": _Comparison(second, first)}
        for h in STEPS:
            ahead, behind = a + h * v, a - h * v
            orders["first"].add(self._value(ahead) - self._value(behind), h)
            orders["second"].add(derivatives(ahead, v, 1)[0] - derivatives(behind, v, 1)[0], h)
            if all(order.agrees for order in orders.values()):
                return ""
        for name, order in orders.items():
            if order.differs:
                return f"{name} derivatives in {mode} mode are off by {order.off:.2g} of {order.scale:.2g}"
        return None

    def _state(self, alphas: Sequence[Tensor]) -> dict[str, Tensor]:
        return {key: one + alphas[i] * (two - one) for key, (i, one, two) in self.line.items()}

    @torch.no_grad()
    def _value(self, alphas: Tensor) -> Tensor:
        """As the network is evaluated, with all that is fused in it."""
        return self.loss(functional_call(self.plain, self._state(alphas), (self.x,)), self.y)

    def _along(self, alphas: Sequence[Tensor]) -> Tensor:
        return self.loss(self.function(self._state(alphas), self.x), self.y)

    def _backward(self, a: Tensor, v: Tensor, order: int) -> tuple[Tensor, ...]:
        """The gradient (L,), and the Hessian times v."""
        leaves = [alpha.clone().requires_grad_() for alpha in a]
        first = torch.autograd.grad(self._along(leaves), leaves, create_graph=order == 2, materialize_grads=True)
        if order == 1:
            return (torch.stack(first),)
        along = torch.stack(first) @ v
        second = torch.autograd.grad(along, leaves, materialize_grads=True) if along.requires_grad else 0 * a
        return torch.stack(first).detach(), torch.stack(tuple(second))

    def _forward(self, a: Tensor, v: Tensor, order: int) -> tuple[Tensor, ...]:
        """The derivatives along v."""
        return jet(lambda t: self._along(a + t * v), a.new_zeros(()), order)[1:]


class _Comparison:
    """A derivative with differences of what it is the derivative of, at ever smaller steps."""

    def __init__(self, exact: Tensor, below: Tensor):
        self.exact, self.below, self.differences, self.agrees = exact, float(below.abs().max()), [], False

    def add(self, difference: Tensor, h: float) -> None:
        self.differences.append(difference / (2 * h))
        self.off = _largest(self.exact - self.differences[-1])
        self.scale = max(_largest(self.exact), _largest(self.differences[-1]))
        self.agrees |= self.off <= TOLERANCE * self.scale + ROUNDING * self.below / h

    @property
    def differs(self) -> bool:
        """Whether the last two differences agree with each other, but not with the derivative."""
        return not self.agrees and self.off > 10 * _largest(self.differences[-1] - self.differences[-2])


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max())
