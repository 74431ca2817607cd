"""The layer cube between two models: everything in this book is a restriction or a derivative of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmclib.errors import LmcError
from lmclib.layers import find_layers
from lmclib.stack import Stack
from lmclib.training import SEATS, SMALL

Batches = tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]]
LOSSES = {"cross_entropy": F.cross_entropy, "squared": F.mse_loss}


class Values(NamedTuple):
    """Mean loss (nats for cross-entropy) and error (a fraction in [0, 1]), float64; error is NaN without classes."""

    loss: Tensor
    error: Tensor


class LayerCube:
    r"""The layer cube $\varphi(a) = \mathcal{L}(\theta_1 + \sum_\ell a_\ell P_\ell \Delta)$, $a \in [0, 1]^L$.

    $\Delta = \theta_2 - \theta_1$ and $P_\ell$ projects on layer $\ell$. The diagonal $\varphi(\alpha \cdot 1)$ is the
    linear path of both papers, the edges at the corners are single layers, staircases are cumulative averages.

    Running statistics of normalisation layers are interpolated like weights (`norm_stats="interpolate"`) or computed anew
    at every point from `norm_data` (`"recompute"`). Integer buffers are never interpolated: they are model 1's.

    Args:
        model: the architecture, any `nn.Module`; its own weights are not used.
        t1: the state dict of model 1.
        t2: the state dict of model 2.
        data: a pair of tensors (x, y), or anything that yields (x, y) batches again at every pass.
        loss: `cross_entropy`, `squared`, or a callable (outputs, y) that returns the mean over the batch.
        norm_stats: `interpolate` or `recompute`.
        norm_data: where recomputed statistics come from, like `data`; `data` itself by default.
        batch_size: examples at a time, where `data` is a pair of tensors.

    Raises:
        LmcError: state dicts of different architectures, NaN weights, an unknown loss or treatment of statistics.

    Example:
        >>> net, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)
        >>> t1, t2 = {"weight": torch.tensor([[-1.0]])}, {"weight": torch.tensor([[3.0]])}
        >>> LayerCube(net, t1, t2, (x, torch.zeros(1, 1)), loss="squared")(0.25).loss.item()  # (-1 + 0.25 * 4)^2
        0.0
    """

    def __init__(
        self,
        model: nn.Module,
        t1: Mapping[str, Tensor],
        t2: Mapping[str, Tensor],
        data: Batches,
        loss: str | Callable[[Tensor, Tensor], Tensor] = "cross_entropy",
        norm_stats: str = "interpolate",
        norm_data: Batches | None = None,
        batch_size: int = 500,
    ):
        _check_states(model, t1, t2)
        if norm_stats not in ("interpolate", "recompute"):
            raise LmcError(f"norm_stats={norm_stats!r}: must be 'interpolate' or 'recompute'")
        if not callable(loss) and loss not in LOSSES:
            raise LmcError(f"loss={loss!r}: must be one of {', '.join(LOSSES)}, or a callable(outputs, y)")
        self.t1, self.t2 = dict(t1), dict(t2)
        self.loss = loss if callable(loss) else LOSSES[loss]
        self.norm_stats, self.batch_size = norm_stats, batch_size
        self.data, self.norm_data = data, data if norm_data is None else norm_data
        self.dtype = next(value.dtype for value in self.t1.values() if value.is_floating_point())
        x = next(self._batches(self.data))[0][:2]
        self.model = model.to(self.dtype)
        self._layers = find_layers(self.model, x)
        seats = SEATS if x.dim() == 4 and x[0, 0].numel() <= SMALL else 1
        self._stack = Stack(self.model, seats, x).eval()

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the L layers, in the order of the forward pass."""
        return tuple(layer.name for layer in self._layers)

    def state(self, a: float | Tensor) -> dict[str, Tensor]:
        """The state dict at one point of the cube, a number or (L,), without recomputed statistics."""
        point = self._points(a)[0]
        moving = {key: point[i] for i, layer in enumerate(self._layers) for key in layer.keys}
        state = dict(self.t1)
        for key, weight in moving.items():
            # written so that both ends are exact
            state[key] = torch.lerp(self.t1[key], self.t2[key], weight.to(self.dtype))
        return state

    @torch.no_grad()
    def __call__(self, a: float | Tensor) -> Values:
        r"""$\varphi$ and the error at points of the cube.

        Args:
            a: a number (all layers), one point (L,), or n points (n, L).

        Returns:
            Loss and error, of shape () or (n,).

        Raises:
            LmcError: a vector of the wrong length.
        """
        points = self._points(a)
        parts = [self._evaluate(chunk) for chunk in points.split(self._stack.width)]
        loss, error = (torch.cat(part) for part in zip(*parts, strict=True))
        return Values(loss, error) if torch.as_tensor(a).dim() == 2 else Values(loss[0], error[0])

    def _points(self, a: float | Tensor) -> Tensor:
        """Any accepted form of `a` as (n, L) float64."""
        points = torch.as_tensor(a, dtype=torch.float64)
        n_layers = len(self._layers)
        if points.dim() == 0:
            points = points.expand(n_layers)
        points = points[None] if points.dim() == 1 else points
        if points.dim() != 2 or points.shape[1] != n_layers:
            shape = tuple(torch.as_tensor(a).shape)
            raise LmcError(
                f"a: has shape {shape}; must be a number, ({n_layers},) or (n, {n_layers}), one entry a layer"
            )
        return points

    def _evaluate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and error at no more points than the stack has seats; spare seats repeat the last point."""
        n, width = len(points), self._stack.width
        for k in range(width):
            if k < n or k == width - 1 == 0:
                self._stack.load(k, self.state(points[k]))
        if self.norm_stats == "recompute":
            self._recompute()
        loss, wrong, count = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64), 0
        for x, y in self._batches(self.data):
            out = self._outputs(x)
            for k in range(n):
                loss[k] += self.loss(out[:, k], y).double().cpu() * len(y)
                wrong[k] += _n_wrong(out[:, k], y)
            count += len(y)
        return loss / count, wrong / count

    def _outputs(self, x: Tensor) -> Tensor:
        if x.dim() == 4 and self._stack.width > 1:  # small grouped convolutions are faster in channels-last on a CPU
            wide = x.repeat(1, self._stack.width, 1, 1).contiguous(memory_format=torch.channels_last)
            return self._stack.net(wide).unflatten(1, (self._stack.width, -1))
        return self._stack(x[:, None].expand(-1, self._stack.width, *x.shape[1:]))

    def _recompute(self) -> None:
        """Normalisation statistics from one pass over `norm_data`: the mean over batches of each batch's moments."""
        norms = [module for module in self._stack.modules() if hasattr(module, "running_mean")]
        momenta = [module.momentum for module in norms]
        for module in norms:
            module.running_mean.zero_()
            module.running_var.fill_(1)
            module.num_batches_tracked.zero_()
            module.momentum = None  # a cumulative average
            module.train()
        for x, _ in self._batches(self.norm_data):
            self._outputs(x)
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        self._stack.eval()

    def _batches(self, data: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        if isinstance(data, tuple) and len(data) == 2 and all(map(torch.is_tensor, data)):
            data = zip(*(part.split(self.batch_size) for part in data), strict=True)
        for x, y in data:
            yield (x.to(self.dtype) if x.is_floating_point() else x), (y.to(self.dtype) if y.is_floating_point() else y)


def _n_wrong(out: Tensor, y: Tensor) -> float:
    """The number of wrong classes; NaN where outputs are not class scores."""
    if y.is_floating_point() or out.dim() != 2:
        return float("nan")
    return float((out.argmax(1) != y).sum())


def _check_states(model: nn.Module, t1: Mapping[str, Tensor], t2: Mapping[str, Tensor]) -> None:
    shapes = [{key: tuple(value.shape) for key, value in state.items()} for state in (model.state_dict(), t1, t2)]
    for name, other in (("t1", shapes[1]), ("t2", shapes[2])):
        for key in sorted(set(shapes[0]) | set(other)):
            if shapes[0].get(key) != other.get(key):
                mine, theirs = shapes[0].get(key, "absent"), other.get(key, "absent")
                raise LmcError(f"{name}: is of another architecture at {key!r}: {theirs} where the model has {mine}")
    for name, state in (("t1", t1), ("t2", t2)):
        for key, value in state.items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise LmcError(f"{name}: {key!r} holds NaN or infinite weights; every weight must be finite")
