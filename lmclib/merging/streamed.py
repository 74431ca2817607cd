"""The layer cube of checkpoints that are too large to hold both: one network in memory, the two ends on disk."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from lmclib.cube.batching import Batches, Batching
from lmclib.cube.interpolation import Interpolation
from lmclib.cube.losses import LOSSES, n_wrong
from lmclib.cube.points import Values
from lmclib.device import full_precision
from lmclib.errors import LmcError
from lmclib.networks.arithmetic import PlainArithmetic
from lmclib.networks.differentiable import differentiating
from lmclib.networks.layers import Layer

PIECE = 2**16  # numbers of a tensor that are mixed at a time


class StreamedCube:
    r"""As `LayerCube`, $\varphi(a) = \mathcal{L}(\theta_1 + \sum_\ell a_\ell P_\ell \Delta)$, with one network in memory besides what a pass needs.

    $\theta_1$ and $\theta_2$ are read where they are needed and let go of, and $\theta(a)$ is written over the one network. A gradient is taken off each
    parameter as soon as a backward pass reaches it, so no second network of gradients is ever there. Points are evaluated one by one;
    statistics are interpolated; there are no second derivatives.

    Args:
        model: the network; its weights are written over.
        t1: model 1, read by key, in any floating type; the cube computes in `dtype`.
        t2: model 2.
        layers: the axes.
        data: a pair of tensors (x, y).
        loss: as `LayerCube` takes it.
        dtype: float32, or float64.

    Attributes:
        passes: what was asked for so far, in forward passes over the data; a gradient counts three.

    Example:
        >>> net, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)
        >>> t1, t2 = {"weight": torch.tensor([[-1.0]])}, {"weight": torch.tensor([[3.0]])}
        >>> cube = StreamedCube(net, t1, t2, [Layer("line", ("weight",), ())], (x, torch.zeros(1, 1)), "squared")
        >>> cube(0.25).loss.item(), cube.gradient(0).item()
        (0.0, -8.0)
    """

    norm_stats = "interpolate"

    def __init__(
        self,
        model: nn.Module,
        t1: Mapping[str, Tensor],
        t2: Mapping[str, Tensor],
        layers: Sequence[Layer],
        data: Batches,
        loss: str | Callable[[Tensor, Tensor], Tensor],
        dtype: torch.dtype = torch.float32,
    ):
        self.model, self.dtype, self.data = model.eval().to(dtype), dtype, data
        self.ends = Interpolation({}, {}, layers)  # of which only the axes are used: the ends stay where they are
        self.t1, self.t2 = t1, t2
        self.loss = loss if callable(loss) else LOSSES[loss]
        self.batching = Batching(torch.device("cpu"), dtype, None)
        self.passes = 0

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the axes."""
        return tuple(layer.name for layer in self.ends.layers)

    def on(self, data: Batches) -> "StreamedCube":
        """The same cube on other data; both write over the same network."""
        return StreamedCube(self.model, self.t1, self.t2, self.ends.layers, data, self.loss, self.dtype)

    def mix_into(self, target: Tensor, key: str, alpha: float) -> Tensor:
        """Write one tensor at a coefficient into a target of any floating type; both ends are exact, whole numbers are model 1's."""
        one = self.t1[key]
        if not one.is_floating_point() or alpha in (0, 1):
            return target.copy_(self.t2[key] if alpha == 1 and one.is_floating_point() else one)
        flat = [tensor.view(-1).split(PIECE) for tensor in (one, self.t2[key], target)]
        for first, second, part in zip(*flat, strict=True):
            part.copy_(torch.lerp(first.to(self.dtype), second.to(self.dtype), alpha))
        return target

    def coefficients(self, a: float | Tensor) -> dict[str, float]:
        """The coefficient of every key that moves at one point."""
        (point,) = self.ends.points(a)
        return {key: alpha for layer, alpha in zip(self.ends.layers, point.tolist(), strict=True) for key in layer.keys}

    def state(self, a: float | Tensor) -> dict[str, Tensor]:
        """The state dict at one point of the cube, all of it."""
        alphas = self.coefficients(a)
        return {key: self.mix_into(self._empty(key), key, alphas.get(key, 0.0)) for key in self.t1}

    def _empty(self, key: str) -> Tensor:
        one = self.t1[key]
        return torch.empty(one.shape, dtype=self.dtype if one.is_floating_point() else one.dtype)

    @torch.no_grad()
    def __call__(self, a: float | Tensor) -> Values:
        r"""$\varphi$ and the error at points of the cube, as `LayerCube` gives them."""
        points = self.ends.points(a)
        rows = [self._evaluate(point) for point in points]
        self.passes += len(points)
        loss, error = torch.stack(rows).unbind(1)
        return Values(loss, error) if torch.as_tensor(a).dim() == 2 else Values(loss[0], error[0])

    def gradient(self, a: float | Tensor) -> Tensor:
        r"""$\partial\varphi / \partial a$ at one point, exact: (L,) float64.

        Raises:
            LmcError: several points; PyTorch lacks a derivative.
        """
        return self.value_and_gradient(a)[1]

    def value_and_gradient(self, a: float | Tensor) -> tuple[float, Tensor]:
        r"""$\varphi$ and $\partial\varphi / \partial a$ at one point, by one forward and one backward pass; raises as `gradient` does."""
        points = self.ends.points(a)
        if len(points) != 1:
            raise LmcError(f"a: has {len(points)} points; a derivative is taken at one")
        self._fill(points[0])
        self.passes += 3
        total, slopes, count = 0.0, torch.zeros(len(self.layers), dtype=torch.float64), 0
        with full_precision(), differentiating(), torch.enable_grad(), _Slopes(self, slopes) as statistics:
            for x, y in self._batches():
                with sdpa_kernel(SDPBackend.MATH), PlainArithmetic():
                    loss = self.loss(functional_call(self.model, statistics, (x,)), y)
                (loss * len(y)).backward()
                total, count = total + float(loss.detach()) * len(y), count + len(y)
        return total / count, slopes / count

    def _evaluate(self, point: Tensor) -> Tensor:
        self._fill(point)
        total, count = torch.zeros(2, dtype=torch.float64), 0
        with full_precision():
            for x, y in self._batches():
                out = self.model(x)
                wrong = float(n_wrong(out, y))
                total += torch.tensor([float(self.loss(out, y)) * len(y), wrong], dtype=torch.float64)
                count += len(y)
        return total / count

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batching.of(self.data, 8 if not self.data[0].is_floating_point() else 32)

    @torch.no_grad()
    def _fill(self, point: Tensor) -> None:
        """Write the network of a point over the one that is there."""
        alphas = self.coefficients(point)
        for key, target in self.model.state_dict().items():
            self.mix_into(target, key, alphas.get(key, 0.0))


class _Slopes:
    """While this is entered, every gradient that reaches a tensor adds its product with Δ to the slope of its axis, and is let go of."""

    def __init__(self, cube: StreamedCube, slopes: Tensor):
        self.cube, self.slopes = cube, slopes

    def __enter__(self) -> dict[str, Tensor]:
        model = self.cube.model
        leaves, buffers, statistics = (
            dict(model.named_parameters(remove_duplicate=False)),
            dict(model.named_buffers()),
            {},
        )
        self.hooks, self.before = [], {leaf: leaf.requires_grad for leaf in leaves.values()}
        model.requires_grad_(False)  # what does not move would collect gradients
        for i, layer in enumerate(self.cube.ends.layers):
            statistics |= {key: buffers[key].clone() for key in layer.buffers}
            for key in layer.tensors:
                leaf = statistics.get(key, leaves.get(key)).requires_grad_()
                self.hooks.append(leaf.register_post_accumulate_grad_hook(self._taken(i, key)))
        return statistics

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()
        for leaf, before in self.before.items():
            leaf.requires_grad_(before)

    def _taken(self, axis: int, key: str) -> Callable[[Tensor], None]:
        def take(leaf: Tensor) -> None:
            one, two = (end[key].reshape(-1).split(PIECE) for end in (self.cube.t1, self.cube.t2))
            for slope, first, second in zip(leaf.grad.reshape(-1).split(PIECE), one, two, strict=True):
                self.slopes[axis] += (slope * (second.to(slope.dtype) - first.to(slope.dtype))).double().sum()
            leaf.grad = None

        return take
