"""Derivatives of the cube: exact, with running statistics as parameters among the others."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from lmclib.cube.batching import Batches, Batching, HalvedBatches, Result
from lmclib.cube.interpolation import Interpolation
from lmclib.cube.losses import check_mean
from lmclib.cube.selfcheck import Mode, check_derivatives
from lmclib.device import full_precision
from lmclib.errors import LmcError
from lmclib.networks.differentiable import Functional, check_differentiable, differentiating, jet

NUMBERS = 2**17, 2**22  # inputs at a time, on a CPU and on a GPU: the graphs of derivatives hold far more than a pass


class Derivatives:
    r"""Derivatives of $\varphi(a) = \mathcal L(\theta_1 + \sum_\ell a_\ell P_\ell\Delta)$ in $a$, and of the outputs along lines.

    Args:
        model: the architecture.
        ends: the two models.
        loss: (outputs, y) to the mean over the batch.
        data: as `LayerCube` takes them.
        batching: how data reach the model.

    Attributes:
        passes: what was asked for so far, in forward passes over the data.
    """

    def __init__(
        self,
        model: nn.Module,
        ends: Interpolation,
        loss: Callable[[Tensor, Tensor], Tensor],
        data: Batches,
        batching: Batching,
    ):
        self.model, self.function = model, Functional(model)
        self.ends, self.loss, self.data, self.batching = ends, loss, data, batching
        self.device, self.dtype = batching.device, batching.dtype
        x = next(batching.of(data))[0]
        at_most = max(1, NUMBERS[self.device.type != "cpu"] // max(1, x[0].numel()))
        self.batches = HalvedBatches("derivatives of the cube", at_most)
        self.passes = 0

    def _check(self, mode: Mode) -> None:
        check_derivatives(
            mode, self.model, self.ends.layers, self.ends.t1, self.ends.t2, self.loss, self.batching.of(self.data)
        )

    def _state(self, a: float | Tensor) -> dict[str, Tensor]:
        return self.ends.moved(self.ends.points(a)[0].to(self.device, self.dtype))

    def _loss(self, alphas: Tensor | list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        """The loss of a batch at a point, differentiable in its coefficients."""
        loss = check_mean(self.loss, self.loss(self.function(self.ends.moved(alphas), x), y))
        if not loss.requires_grad:
            raise LmcError(f"loss={getattr(self.loss, '__name__', self.loss)!r}: has no derivative in the outputs")
        return loss

    def _over_batches(self, work: Callable[[Tensor, Tensor], Result]) -> Iterator[Result]:
        return self.batches.over(self.batching.of(self.data, self.batches.size), work)

    def parameter_gradient(self, a: float | Tensor) -> Tensor:
        r"""$\nabla_\theta\mathcal L(\theta(a))$ over all parameters of all layers, statistics left out: (p,) float64."""
        total, count = 0, 0
        state = {key: value.detach() for key, value in self._state(a).items()}
        leaves = [state[key].requires_grad_() for layer in self.ends.layers for key in layer.parameters]
        self.passes += 3

        def work(x: Tensor, y: Tensor) -> tuple[Tensor, int]:
            parts = torch.autograd.grad(self.loss(self.function(state, x), y), leaves, materialize_grads=True)
            return torch.cat([part.double().flatten() for part in parts]) * len(y), len(y)

        with full_precision(), differentiating():
            for part, n in self._over_batches(work):
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
        start = self._state(a)
        # layers that stay carry no derivative, which saves the work on all before the first that moves; those that move are one
        # vector, as forward mode is slow to begin with each operation
        moves = zip(self.ends.layers, self.ends.points(direction)[0].tolist(), strict=True)
        moving = [(key, d) for layer, d in moves if d for key in layer.tensors]
        at = torch.cat([start[key].flatten() for key, _ in moving])
        along = torch.cat([(d * (self.ends.t2[key] - self.ends.t1[key])).flatten() for key, d in moving])
        zero = torch.zeros((), dtype=self.dtype, device=self.device)

        def moved(t: Tensor) -> dict[str, Tensor]:
            parts = (at + t * along).split([start[key].numel() for key, _ in moving])
            return start | {key: part.view_as(start[key]) for (key, _), part in zip(moving, parts, strict=True)}

        def work(x: Tensor, y: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            return jet(lambda t: self.function(moved(t), x), zero, order), y

        if order > 1:
            self._check("forward")
        self.passes += 2**order
        with full_precision():
            yield from self._over_batches(work)

    def along(self, a: float | Tensor, direction: Tensor) -> Tensor:
        r"""The loss at a point and its first two derivatives along a direction (L,): $\varphi, \nabla\varphi\cdot d, d^\top\nabla^2\varphi\, d$.

        By two backward passes, the second through the first, so it costs what one row of the Hessian does.
        """
        point, total, count = self.ends.points(a)[0], 0, 0
        steps = self.ends.points(direction)[0].to(self.device, self.dtype)

        def work(x: Tensor, y: Tensor) -> tuple[Tensor, int]:
            t = torch.zeros((), dtype=self.dtype, device=self.device, requires_grad=True)
            loss = self._loss(point.to(self.device, self.dtype) + t * steps, x, y)
            (first,) = torch.autograd.grad(loss, [t], create_graph=True, materialize_grads=True)
            check_differentiable([first])
            second = _second(first, [t])
            return torch.stack([loss.detach().double(), first.detach().double(), second[0]]) * len(y), len(y)

        self.passes += 3 + 4
        with full_precision(), differentiating():
            for part, n in self._over_batches(work):
                total, count = total + part, count + n
        self._check("backward")
        return (total / count).cpu()

    def up_to(self, order: int, a: float | Tensor) -> tuple[Tensor, Tensor]:
        """The gradient (L,) and, for order 2, the Hessian (L, L) at a point; zeros in its place for order 1."""
        points = self.ends.points(a)
        if len(points) != 1:
            raise LmcError(
                f"a: has {len(points)} points; a derivative is taken at one, a number or ({points.shape[1]},)"
            )
        n_layers, count, sums = points.shape[1], 0, None

        def work(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, int]:
            # a leaf for each layer, so that a backward pass for some layers does not visit the others
            leaves = [alpha.to(self.device, self.dtype).requires_grad_() for alpha in points[0]]
            loss = self._loss(leaves, x, y)
            first = torch.autograd.grad(loss, leaves, create_graph=order > 1, materialize_grads=True)
            if order > 1:
                check_differentiable(first)
            hessian = torch.zeros(n_layers, n_layers, dtype=torch.float64, device=self.device)
            for i in range(n_layers if order > 1 else 0):
                hessian[i, i:] = _second(first[i], leaves[i:])
            return torch.stack(first).detach().double() * len(y), hessian * len(y), len(y)

        self.passes += 3 + 4 * n_layers * (order - 1)
        with full_precision(), differentiating():
            for *parts, n in self._over_batches(work):
                sums = parts if sums is None else [total + part for total, part in zip(sums, parts, strict=True)]
                count += n
        if order > 1:
            self._check("backward")
        gradient, hessian = ((total / count).cpu() for total in sums)
        return gradient, hessian + hessian.triu(1).T


def _second(slope: Tensor, leaves: list[Tensor]) -> Tensor:
    """The derivatives of a first derivative; zero where it does not depend on anything."""
    if not slope.requires_grad:
        return torch.zeros(len(leaves), dtype=torch.float64, device=leaves[0].device)
    row = torch.autograd.grad(slope, leaves, retain_graph=True, materialize_grads=True)
    return torch.stack(row).detach().double()
