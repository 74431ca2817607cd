"""The layer cube between two models: everything in this book is a restriction or a derivative of it."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmclib.device import Fitting, full_precision, keep_freed_memory
from lmclib.errors import LmcError
from lmclib.functional import Functional, check_differentiable, copied, differentiating, jet
from lmclib.layers import find_layers
from lmclib.prefix import Prefixes
from lmclib.selfcheck import Mode, check_derivatives
from lmclib.stack import SMALL, Stack

Batches = tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]]
LOSSES = {"cross_entropy": F.cross_entropy, "squared": F.mse_loss}
WIDTH = 4  # points evaluated side by side where images are small
# where points share passes: the largest value of all points together is at most so many numbers, on a CPU and on a GPU, but each
# point has so many examples at least
NUMBERS, EXAMPLES = (2**25, 2**31), 8
KEPT = 4  # interpolated weights are kept while points are walked, where there are no more coefficients than these
SHARED = 0.7  # of all layers of all points, the part left to compute below which sharing beats side by side
# examples at a time where nothing else decides, on a CPU and on a GPU; half as many where they do not fit into memory
BATCH = 250, 2000
DERIVATIVE_NUMBERS = 2**17, 2**22  # inputs at a time for derivatives, whose graphs hold far more than a pass


class Values(NamedTuple):
    """Mean loss (nats for cross-entropy) and error (a fraction in [0, 1]), float64; error is NaN without classes."""

    loss: Tensor
    error: Tensor


class LayerCube:
    r"""The layer cube $\varphi(a) = \mathcal{L}(\theta_1 + \sum_\ell a_\ell P_\ell \Delta)$, $a \in [0, 1]^L$.

    $\Delta = \theta_2 - \theta_1$ and $P_\ell$ projects on layer $\ell$. The diagonal $\varphi(\alpha \cdot 1)$ is the
    linear path of both papers, the edges at the corners are single layers, staircases are cumulative averages.

    Running statistics of normalisation layers are interpolated like weights (`norm_stats="interpolate"`) or computed anew
    at every point from `norm_data` (`"recompute"`). Integer buffers are never interpolated: they are model 1's. Frozen
    parameters move like all others; a shared (tied) one counts once, in the first layer that uses it.

    Values and derivatives are computed in the state dicts' floating-point type, so float64 state dicts give float64
    throughout, and float32 ones float32 without TF32; sums over examples are float64 always, and results are on the CPU.
    Where a batch does not fit into memory, half of it is tried, with a warning. When derivatives of second order are first taken of an
    architecture, they are compared with differences, with a warning where they are wrong.

    Args:
        model: the architecture, any `nn.Module`; its own weights are not used.
        t1: the state dict of model 1.
        t2: the state dict of model 2.
        data: a pair of tensors (x, y), or anything that yields (x, y) batches again at every pass.
        loss: `cross_entropy`, `squared`, or a callable (outputs, y) that returns the mean over the batch.
        norm_stats: `interpolate` or `recompute`.
        norm_data: where recomputed statistics come from, like `data`; `data` itself by default.
        batch_size: examples at a time where `data` is a pair of tensors; by default as many as suit what is computed.
        device: where to compute; where the first tensor of `t1` is by default.

    Attributes:
        passes: what was asked for so far, in forward passes over the data at one point: a gradient counts three, a row of
            the Hessian four, outputs with k derivatives $2^k$.

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
        batch_size: int | None = None,
        device: str | torch.device | None = None,
    ):
        _check_states(model, t1, t2)
        if norm_stats not in ("interpolate", "recompute"):
            raise LmcError(f"norm_stats={norm_stats!r}: must be 'interpolate' or 'recompute'")
        if not callable(loss) and loss not in LOSSES:
            raise LmcError(f"loss={loss!r}: must be one of {', '.join(LOSSES)}, or a callable(outputs, y)")
        self.device = torch.device(next(iter(t1.values())).device if device is None else device)
        self.t1, self.t2 = ({key: value.to(self.device) for key, value in t.items()} for t in (t1, t2))
        self.loss = loss if callable(loss) else LOSSES[loss]
        self.norm_stats = norm_stats
        self.data, self.norm_data = data, data if norm_data is None else norm_data
        self.dtype = next(value.dtype for value in self.t1.values() if value.is_floating_point())
        self.batch_size = batch_size
        x = next(self._batches(self.data))[0][:2]
        self._passes = Fitting("points of the cube")
        at_most = max(1, DERIVATIVE_NUMBERS[self.device.type != "cpu"] // max(1, x[0].numel()))
        self._derived = Fitting("derivatives of the cube", at_most)
        self.model = copied(model).to(self.device, self.dtype)
        self.model.load_state_dict(self.t1)  # for its integer buffers
        self._layers = find_layers(self.model, x)
        small = x.dim() == 4 and x[0, 0].numel() <= SMALL
        self._stack = Stack(self.model, WIDTH if small else 1, x).eval()
        if self._stack.width == 1 and all(value.dim() < 5 for value in self.t1.values()):
            self._stack.to(memory_format=torch.channels_last)
        self._prefixes = self._function = None
        self.passes = 0

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the L layers, in the order of the forward pass."""
        return tuple(layer.name for layer in self._layers)

    def state(self, a: float | Tensor) -> dict[str, Tensor]:
        """The state dict at one point of the cube, a number or (L,), without recomputed statistics."""
        point = self._points(a)[0]
        state = dict(self.t1)
        for i, alpha in enumerate(point.tolist()):
            state |= self._mixed(i, alpha)
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
        self.passes += len(points)
        with full_precision():
            if self.norm_stats == "interpolate" and self._shares(points):
                parts = [self._evaluate_shared(points)]
            else:
                parts = [self._evaluate(chunk) for chunk in points.split(self._stack.width)]
        loss, error = (torch.cat(part) for part in zip(*parts, strict=True))
        return Values(loss, error) if torch.as_tensor(a).dim() == 2 else Values(loss[0], error[0])

    def gradient(self, a: float | Tensor) -> Tensor:
        r"""$\partial\varphi / \partial a$ at one point, exact: entry $\ell$ is $\langle\nabla\mathcal L(\theta(a)), P_\ell\Delta\rangle$.

        Args:
            a: a number (all layers) or one point (L,).

        Returns:
            (L,) float64.

        Raises:
            LmcError: several points, recomputed statistics, a loss without a derivative.

        Example:
            >>> net, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)
            >>> ends = ({"weight": torch.tensor([[w]])} for w in (-1.0, 3.0))
            >>> LayerCube(net, *ends, (x, torch.zeros(1, 1)), loss="squared").gradient(0)  # 2 (-1) 4
            tensor([-8.], dtype=torch.float64)
        """
        return self._derivatives(a, second=False)[0]

    def hessian(self, a: float | Tensor) -> Tensor:
        r"""$\partial^2\varphi / \partial a^2$ at one point, exact: the energies $(P_\ell\Delta)^\top H(\theta(a)) (P_m\Delta)$.

        Where activations are piecewise linear, this is the Hessian within the linear region of each example: the kinks between
        regions, where the gradient jumps, are not in it.

        One row a layer by a second backward pass, which stops at that layer: the matrix is symmetric, so half of each
        row is known. `float32` weights give it to about six digits, `float64` ones to rounding.

        Args:
            a: a number (all layers) or one point (L,).

        Returns:
            (L, L) float64, symmetric.

        Raises:
            LmcError: as `gradient`.

        Source:
            Landscaping Linear Mode Connectivity, equations 20 and 21: the matrix of cross-layer energies.

        Example:
            >>> net, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)
            >>> ends = ({"weight": torch.tensor([[w]])} for w in (-1.0, 3.0))
            >>> LayerCube(net, *ends, (x, torch.zeros(1, 1)), loss="squared").hessian(0)  # 2 · 4²
            tensor([[32.]], dtype=torch.float64)
        """
        return self._derivatives(a, second=True)[1]

    def parameter_gradient(self, a: float | Tensor) -> Tensor:
        r"""$\nabla_\theta\mathcal L(\theta(a))$ over all parameters of all layers, statistics left out: (p,) float64.

        Example:
            >>> net, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)
            >>> ends = ({"weight": torch.tensor([[w]])} for w in (-1.0, 3.0))
            >>> LayerCube(net, *ends, (x, torch.zeros(1, 1)), loss="squared").parameter_gradient(0.5)  # 2 w
            tensor([2.], dtype=torch.float64)
        """
        function, total, count = self._differentiable(), 0, 0
        state = {
            key: value.detach() for key, value in self._moved(self._points(a)[0].to(self.device, self.dtype)).items()
        }
        leaves = [state[key].requires_grad_() for layer in self._layers for key in layer.parameters]
        self.passes += 3

        def work(x: Tensor, y: Tensor) -> tuple[Tensor, int]:
            parts = torch.autograd.grad(self.loss(function(state, x), y), leaves, materialize_grads=True)
            return torch.cat([part.double().flatten() for part in parts]) * len(y), len(y)

        with full_precision(), differentiating():
            for part, n in self._derived.over(self._batches(self.data, self._derived.size), work):
                total, count = total + part, count + n
        return (total / count).cpu()

    def jets(self, a: Tensor, direction: Tensor, order: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        r"""The outputs at $a$ and their derivatives along a direction in the cube, up to `order`, batch by batch.

        $f^{(k)} = \frac{d^k}{dt^k} f_{\theta(a + t d)}(x)\big|_{t=0}$ by nested forward mode: no Hessian is formed.

        Args:
            a: a point (L,).
            direction: (L,).
            order: the highest derivative.

        Yields:
            $(f, f', \dots)$, each (B, ...), and the targets (B, ...).

        Raises:
            LmcError: recomputed statistics.
        """
        function, start = self._differentiable(), self._moved(self._points(a)[0].to(self.device, self.dtype))
        # layers that stay carry no derivative, which saves the work on all before the first that moves; those that move are one
        # vector, as forward mode is slow to begin with each operation
        moves = zip(self._layers, self._points(direction)[0].tolist(), strict=True)
        moving = [(key, d) for layer, d in moves if d for key in layer.tensors]
        at = torch.cat([start[key].flatten() for key, _ in moving])
        along = torch.cat([(d * (self.t2[key] - self.t1[key])).flatten() for key, d in moving])
        zero = torch.zeros((), dtype=self.dtype, device=self.device)

        def moved(t: Tensor) -> dict[str, Tensor]:
            parts = (at + t * along).split([start[key].numel() for key, _ in moving])
            return start | {key: part.view_as(start[key]) for (key, _), part in zip(moving, parts, strict=True)}

        def work(x: Tensor, y: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            return jet(lambda t: function(moved(t), x), zero, order), y

        if order > 1:
            self._check_derivatives("forward")
        self.passes += 2**order
        with full_precision():
            yield from self._derived.over(self._batches(self.data, self._derived.size), work)

    @torch.no_grad()
    def seconds_per_pass(self) -> float:
        """The seconds of one forward pass over the data: the unit in which derivatives and predictions are priced."""
        function, state = self._differentiable(), self._moved(self._points(0)[0].to(self.device, self.dtype))

        def work(x: Tensor, y: Tensor) -> float:
            start = time.perf_counter()
            float(function(state, x).sum())  # reading a number waits for the device
            return time.perf_counter() - start

        with full_precision():
            return sum(self._derived.over(self._batches(self.data, self._derived.size), work))

    def _derivatives(self, a: float | Tensor, second: bool) -> tuple[Tensor, Tensor]:
        function, points = self._differentiable(), self._points(a)
        if len(points) != 1:
            raise LmcError(
                f"a: has {len(points)} points; a derivative is taken at one, a number or ({points.shape[1]},)"
            )
        n_layers, count, sums = points.shape[1], 0, None

        def work(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, int]:
            # a leaf for each layer, so that a backward pass for some layers does not visit the others
            leaves = [alpha.to(self.device, self.dtype).requires_grad_() for alpha in points[0]]
            loss = self.loss(function(self._moved(leaves), x), y)
            if not loss.requires_grad:
                raise LmcError(f"loss={getattr(self.loss, '__name__', self.loss)!r}: has no derivative in the outputs")
            first = torch.autograd.grad(loss, leaves, create_graph=second, materialize_grads=True)
            if second:
                check_differentiable(first)
            hessian = torch.zeros(n_layers, n_layers, dtype=torch.float64, device=self.device)
            for i in range(n_layers if second else 0):
                hessian[i, i:] = _second(first[i], leaves[i:])
            return torch.stack(first).detach().double() * len(y), hessian * len(y), len(y)

        self.passes += 3 + 4 * n_layers * second
        with full_precision(), differentiating():
            for *parts, n in self._derived.over(self._batches(self.data, self._derived.size), work):
                sums = parts if sums is None else [total + part for total, part in zip(sums, parts, strict=True)]
                count += n
        if second:
            self._check_derivatives("backward")
        gradient, hessian = ((total / count).cpu() for total in sums)
        return gradient, hessian + hessian.triu(1).T

    def _differentiable(self) -> Functional:
        if self.norm_stats != "interpolate":
            raise LmcError(
                f"norm_stats={self.norm_stats!r}: derivatives exist for 'interpolate' only, where statistics are part of θ"
            )
        if self._function is None:
            self._function = Functional(self.model)
        return self._function

    def _check_derivatives(self, mode: Mode) -> None:
        check_derivatives(mode, self.model, self._layers, self.t1, self.t2, self.loss, self._batches(self.data))

    def _moved(self, alphas: Tensor | list[Tensor]) -> dict[str, Tensor]:
        """The tensors at a point, differentiable in its coefficients."""
        keys = [(key, i) for i, layer in enumerate(self._layers) for key in layer.tensors]
        return {key: self.t1[key] + alphas[i] * (self.t2[key] - self.t1[key]) for key, i in keys}

    def _mixed(self, layer: int, alpha: float) -> dict[str, Tensor]:
        """One layer's tensors at a coefficient; both ends are exact."""
        keys = self._layers[layer].keys
        if alpha in (0, 1):
            return {key: (self.t2 if alpha else self.t1)[key] for key in keys}
        return {key: torch.lerp(self.t1[key], self.t2[key], alpha) for key in keys}

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

        def work(x: Tensor, y: Tensor) -> tuple[Tensor, int]:
            out = self._outputs(x)
            return torch.stack([self._sums(out[:, k], y) for k in range(n)], 1), len(y)

        return self._mean(work)

    def _mean(
        self, work: Callable[[Tensor, Tensor], tuple[Tensor, int]], size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean losses and errors of some points, from their sums over pieces of the data, at best of some size."""
        total, count = 0, 0
        for part, n in self._passes.over(self._batches(self.data, size), work):
            total, count = total + part, count + n
        loss, error = (total / count).cpu()
        return loss, error

    def _sums(self, out: Tensor, y: Tensor) -> Tensor:
        """The sum of losses and the number of wrong classes over a batch, on its device."""
        return torch.stack([self.loss(out, y).double() * len(y), _n_wrong(out, y)])

    def _shares(self, points: Tensor) -> bool:
        """Whether points have enough in common to be walked together rather than side by side."""
        n, n_layers = points.shape
        steps = sum(len(points[:, : i + 1].unique(dim=0)) for i in range(n_layers))
        if n == 1 or steps >= n * n_layers * (1 if self._stack.width == 1 else SHARED):
            return False
        if self._prefixes is None:
            try:
                self._prefixes = Prefixes(self.model, self._layers, next(self._batches(self.data))[0], self._mixed)
            except ValueError:
                self._prefixes = False
        return bool(self._prefixes)

    def _evaluate_shared(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and error at any number of points that share what they have in common."""
        few = len(points.unique()) <= KEPT
        weights = cache(self._mixed) if few else self._mixed
        size = max(EXAMPLES, NUMBERS[self.device.type != "cpu"] // (self._prefixes.largest * len(points)))
        if self.device.type == "cpu":
            keep_freed_memory()  # values of many points are large, and as many are freed as are made

        def work(x: Tensor, y: Tensor) -> tuple[Tensor, int]:
            if x.dim() == 4:  # convolutions are faster in channels-last
                x = x.contiguous(memory_format=torch.channels_last)
            sums = torch.zeros(2, len(points), dtype=torch.float64, device=self.device)
            for xs, ys in zip(x.split(size), y.split(size), strict=True):
                for group, out in self._prefixes.outputs(xs, points, weights):
                    sums[:, group] += self._sums(out, ys)[:, None]
            return sums, len(y)

        return self._mean(work, size)

    def _outputs(self, x: Tensor) -> Tensor:
        if x.dim() == 4:  # convolutions, small grouped ones too, are faster in channels-last
            wide = x.repeat(1, self._stack.width, 1, 1).contiguous(memory_format=torch.channels_last)
            return self._stack.net(wide).unflatten(1, (self._stack.width, -1))
        return self._stack(x[:, None].expand(-1, self._stack.width, *x.shape[1:]))

    def _recompute(self) -> None:
        """Normalisation statistics from one pass over `norm_data`: the mean of each batch's moments, weighted by its examples."""
        norms = [module for module in self._stack.modules() if getattr(module, "running_mean", None) is not None]
        momenta, seen = [module.momentum for module in norms], 0
        for module in norms:
            module.running_mean.zero_()
            module.running_var.fill_(1)
            module.num_batches_tracked.zero_()
            module.train()

        def work(x: Tensor, y: Tensor) -> int:
            buffers = [buffer for module in norms for buffer in module.buffers()]
            before = [buffer.clone() for buffer in buffers]
            for module in norms:
                module.momentum = len(y) / (seen + len(y))  # a cumulative average
            try:
                self._outputs(x)
            except torch.OutOfMemoryError:  # some norms have counted these examples, and will again in halves
                for buffer, old in zip(buffers, before, strict=True):
                    buffer.copy_(old)
                raise
            return len(y)

        for n in self._passes.over(self._batches(self.norm_data), work):
            seen += n
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        self._stack.eval()

    def _batches(self, data: Batches, size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The data where and as it is computed with; a pair of tensors in batches as the user wants them, or of some size."""
        if isinstance(data, tuple) and len(data) == 2 and all(map(torch.is_tensor, data)):
            size = self.batch_size or size or BATCH[self.device.type != "cpu"]
            data = zip(*(part.split(size) for part in data), strict=True)
        for batch in data:
            x, y = (part.to(self.device, non_blocking=True) for part in batch)
            if len(x) != len(y):
                raise LmcError(
                    f"data: {len(x)} inputs and {len(y)} targets in a batch; both go along the first dimension"
                )
            yield (x.to(self.dtype) if x.is_floating_point() else x), (y.to(self.dtype) if y.is_floating_point() else y)


def _second(slope: Tensor, leaves: list[Tensor]) -> Tensor:
    """The derivatives of a first derivative; zero where it does not depend on anything."""
    if not slope.requires_grad:
        return torch.zeros(len(leaves), dtype=torch.float64, device=leaves[0].device)
    row = torch.autograd.grad(slope, leaves, retain_graph=True, materialize_grads=True)
    return torch.stack(row).detach().double()


def _n_wrong(out: Tensor, y: Tensor) -> Tensor:
    """The number of wrong classes; NaN where outputs are not class scores."""
    if y.is_floating_point() or out.dim() != 2:
        return torch.full((), float("nan"), dtype=torch.float64, device=out.device)
    return (out.argmax(1) != y).sum().double()


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
