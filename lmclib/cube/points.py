"""The layer cube between two models: everything in this book is a restriction or a derivative of it."""

import copy
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lmclib.cube.batching import Batches, Batching, HalvedBatches, check_data, is_pair, rows_among
from lmclib.cube.derivatives import Derivatives
from lmclib.cube.interpolation import Interpolation, check_states
from lmclib.cube.losses import LOSSES, loss_sums
from lmclib.cube.prepared import Prepared
from lmclib.cube.shared import PROBES, SharedEvaluation
from lmclib.cube.statistics import own_statistics, tracked_norms
from lmclib.device import full_precision, named_device
from lmclib.errors import LmcError
from lmclib.networks.differentiable import copied
from lmclib.networks.layers import Layer, find_layers
from lmclib.networks.partition import Partition, partitioned
from lmclib.networks.stacked import Stack

# where points share passes: the largest value of all points together is at most so many numbers, on a CPU and on a GPU, but each
# point has so many examples at least
NUMBERS, EXAMPLES = (2**24, 2**28), 8  # a GPU is full with these, and leaves room for other processes
AT_ONCE = 2**27, 2**32  # numbers in the largest value up to which statistics are those of all data as one batch
KEPT = 4  # interpolated weights are kept while points are walked, where there are no more coefficients than these
# points evaluated together, where images are small: few on all data as one batch, of which no more fit into a core's cache
SIDE_BY_SIDE = {"interpolate": 4, "recompute": 2}
SHARED = 0.7  # of all layers of all points, the part left to compute below which sharing beats side by side


class Values(NamedTuple):
    """Mean loss (nats for cross-entropy) and error (a fraction in [0, 1]), float64; error is NaN without classes."""

    loss: Tensor
    error: Tensor


class LayerCube:
    r"""The layer cube $\varphi(a) = \mathcal{L}(\theta_1 + \sum_\ell a_\ell P_\ell \Delta)$, $a \in [0, 1]^L$.

    $\Delta = \theta_2 - \theta_1$ and $P_\ell$ projects on layer $\ell$. The diagonal $\varphi(\alpha \cdot 1)$ is the
    linear path of both papers, the edges at the corners are single layers, staircases are cumulative averages.

    Running statistics of normalisation layers are interpolated like weights (`norm_stats="interpolate"`) or computed anew
    at every point from `norm_data` (`"recompute"`): the moments of all of it as one batch where that fits into memory, else the
    means over batches of their moments. Integer buffers are never interpolated: they are model 1's. Frozen
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
        layers: what has an axis of its own: `layers`, modules with parameters; `blocks`; `fine`, single parameters; a regular
            expression; or names, each with the layers or parameters that it stands for: see `partitioned`.

    Attributes:
        passes: what was asked for so far, in forward passes over the data at one point: a gradient counts three, a row of
            the Hessian four, outputs with k derivatives $2^k$.

    Raises:
        LmcError: state dicts of different architectures, NaN weights, data that are empty or give their batches only once, an unknown loss or treatment of statistics, a partition that
            misses or repeats a parameter.

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
        layers: Partition = "layers",
    ):
        check_states(model, t1, t2)
        if norm_stats not in ("interpolate", "recompute"):
            raise LmcError(f"norm_stats={norm_stats!r}: must be 'interpolate' or 'recompute'")
        if not callable(loss) and loss not in LOSSES:
            raise LmcError(f"loss={loss!r}: must be one of {', '.join(LOSSES)}, or a callable(outputs, y)")
        check_data(data)
        if norm_data is not None:
            check_data(norm_data, "norm_data")
        self.device = next(iter(t1.values())).device if device is None else named_device(device)
        self.loss = loss if callable(loss) else LOSSES[loss]
        self.norm_stats = norm_stats
        self.data, self.norm_data = data, data if norm_data is None else norm_data
        self.dtype = next(value.dtype for value in t1.values() if value.is_floating_point())
        self.batching = Batching(self.device, self.dtype, batch_size, classes=loss == "cross_entropy")
        x = next(self.batching.of(self.data))[0]
        self.model = copied(model).to(self.device, self.dtype)
        self.model.load_state_dict(t1)  # for its integer buffers
        axes = partitioned(self.model, find_layers(self.model, x[:2]), layers)
        self._prepared = Prepared(self.model, axes, x[: sum(PROBES)])
        self._start(t1, t2, axes)

    def _start(self, t1: Mapping[str, Tensor], t2: Mapping[str, Tensor], axes: tuple[Layer, ...]) -> None:
        t1, t2 = ({key: value.to(self.device) for key, value in t.items()} for t in (t1, t2))
        self.ends = Interpolation(t1, t2, axes)
        self._batches = HalvedBatches("points of the cube")
        self._passes = 0

    def between(self, t1: Mapping[str, Tensor], t2: Mapping[str, Tensor]) -> "LayerCube":
        r"""The layer cube between two other models of this network, on the same data, with the same loss, axes and statistics.

        What this cube found out about the network need not be found out again, so many pairs take less time. Cubes that come from each
        other must be evaluated in one thread.

        Args:
            t1: the state dict of model 1.
            t2: the state dict of model 2.

        Raises:
            LmcError: state dicts of another architecture or type, or weights that are not finite.

        Example:
            >>> net, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)
            >>> one, two, three = ({"weight": torch.tensor([[w]])} for w in (-1.0, 1.0, 3.0))
            >>> cube = LayerCube(net, one, two, (x, torch.zeros(1, 1)), loss="squared")
            >>> cube.between(one, three)(0.5).loss.item(), cube(0.5).loss.item()  # the square of the middle
            (1.0, 0.0)
        """
        check_states(self.model, t1, t2)
        if (dtype := next(value.dtype for value in t1.values() if value.is_floating_point())) != self.dtype:
            raise LmcError(f"t1: is {dtype}, where the networks of this cube are {self.dtype}; make a cube of its own")
        other = copy.copy(self)
        other.__dict__.pop("derivatives", None)
        other._start(t1, t2, self.ends.layers)
        if not self._prepared.suits(other.ends.t1):
            other.model = copied(self.model)
            other.model.load_state_dict(other.ends.t1)
            other._prepared = Prepared(other.model, self.ends.layers, self._prepared.x)
        return other

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the L layers, in the order of the forward pass."""
        return tuple(layer.name for layer in self.ends.layers)

    @property
    def passes(self) -> int:
        """What was asked for so far, in forward passes over the data at one point."""
        asked = self.__dict__.get("derivatives")
        return self._passes + (asked.passes if asked else 0)

    @cached_property
    def derivatives(self) -> Derivatives:
        """The derivatives behind `gradient`, `hessian` and every prediction.

        Raises:
            LmcError: recomputed statistics.
        """
        if self.norm_stats != "interpolate":
            raise LmcError(
                f"norm_stats={self.norm_stats!r}: derivatives exist for 'interpolate' only, where statistics are part of θ"
            )
        return Derivatives(self.model, self.ends, self.loss, self.data, self.batching)

    def state(self, a: float | Tensor) -> dict[str, Tensor]:
        """The state dict at one point of the cube, a number or (L,), without recomputed statistics."""
        return self.ends.state(self.ends.points(a)[0])

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
        points = self.ends.points(a)
        self._passes += len(points)
        with full_precision():
            if self.norm_stats == "interpolate" and self._shares(points):
                parts = [self._evaluate_shared(points)]
            else:
                parts = [self._evaluate(chunk) for chunk in points.split(self._stack(len(points)).width)]
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
        return self.derivatives.up_to(1, a)[0]

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
        return self.derivatives.up_to(2, a)[1]

    def _evaluate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and error at no more points than a stack has members; members to spare repeat the last point."""
        stack = self._stack(len(points))
        for k in range(stack.width):
            stack.load(k, self.ends.state(points[min(k, len(points) - 1)]))

        def work(x: Tensor, y: Tensor, rows: Tensor | slice = slice(None)) -> tuple[Tensor, int]:
            out = _outputs(stack, x)[rows]
            return loss_sums(self.loss, [out[:, k] for k in range(len(points))], y), len(y)

        if self.norm_stats == "interpolate" or not tracked_norms(stack):
            return self._mean(work)
        if (found := self._with_own_statistics(stack, work)) is not None:
            return found
        self._recompute(stack)
        return self._mean(work)

    def _with_own_statistics(
        self, stack: Stack, work: Callable[[Tensor, Tensor, Tensor | slice], tuple[Tensor, int]]
    ) -> tuple[Tensor, Tensor] | None:
        """Mean losses and errors where the data are among what, as one batch, gives the statistics: one pass for both."""
        if not self._fits_at_once(stack, self.norm_data) or self._among is None:
            return None
        ((x, _),) = self.batching.of(self.norm_data, len(self.norm_data[1]))
        ((_, y),) = self.batching.of(self.data, len(self.data[1]))
        try:
            with own_statistics(stack):
                sums, n = work(x, y, self._among)
        except torch.OutOfMemoryError:  # half of the data would have other statistics
            return None
        loss, error = (sums / n).cpu()
        return loss, error

    @cached_property
    def _among(self) -> Tensor | slice | None:
        """Which of the examples that give the statistics are the data; None where some are not among them."""
        if self.norm_data is self.data:
            return slice(None)
        return rows_among(self.data[0], self.norm_data[0]) if is_pair(self.data) else None

    def _recompute(self, stack: Stack) -> None:
        """Normalisation statistics from `norm_data`: as one batch where that fits, else the mean over batches of their moments."""
        size = len(self.norm_data[1]) if self._fits_at_once(stack, self.norm_data) else None
        sums, count = {}, 0

        def work(x: Tensor, y: Tensor) -> tuple[dict, int]:
            with own_statistics(stack) as moments:
                _outputs(stack, x)
            return moments, len(y)

        for moments, n in self._batches.over(self.batching.of(self.norm_data, size), work):
            count += n
            for norm, pair in moments.items():
                sums[norm] = [total + n * moment for total, moment in zip(sums.get(norm, (0, 0)), pair, strict=True)]
        for norm, (mean, var) in sums.items():
            norm.running_mean.copy_(mean / count)
            norm.running_var.copy_(var / count)

    def _fits_at_once(self, stack: Stack, data: Batches) -> bool:
        """Whether all of the data go through the network as one batch."""
        if not is_pair(data) or self.batching.size is not None:
            return False
        return len(data[1]) * stack.width * self._prepared.largest <= AT_ONCE[self.device.type != "cpu"]

    def _mean(
        self, work: Callable[[Tensor, Tensor], tuple[Tensor, int]], size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean losses and errors of some points, from their sums over pieces of the data, at best of some size."""
        total, count = 0, 0
        for part, n in self._batches.over(self.batching.of(self.data, size), work):
            total, count = total + part, count + n
        loss, error = (total / count).cpu()
        return loss, error

    def _stack(self, n: int) -> Stack:
        """What evaluates n points, as many of them together as is quickest."""
        return self._prepared.stack(min(n, SIDE_BY_SIDE[self.norm_stats]))

    @property
    def _shared(self) -> SharedEvaluation | None:
        return self._prepared.shared(self.ends.layers, self.ends.mixed)

    def _shares(self, points: Tensor) -> bool:
        """Whether points have enough in common to be walked together rather than side by side."""
        n, n_layers = points.shape
        steps = sum(len(points[:, : i + 1].unique(dim=0)) for i in range(n_layers))
        if n == 1 or steps >= n * n_layers or (steps >= n * n_layers * SHARED and self._stack(n).width > 1):
            return False
        return self._shared is not None

    def _evaluate_shared(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and error at any number of points that share what they have in common."""
        few = len(points.unique()) <= KEPT
        weights = cache(self.ends.mixed) if few else self.ends.mixed
        size = max(EXAMPLES, NUMBERS[self.device.type != "cpu"] // (self._shared.largest * len(points)))

        def work(x: Tensor, y: Tensor) -> tuple[Tensor, int]:
            if x.dim() == 4:  # convolutions are faster in channels-last
                x = x.contiguous(memory_format=torch.channels_last)
            total = torch.zeros(2, len(points), dtype=torch.float64, device=self.device)
            for xs, ys in zip(x.split(size), y.split(size), strict=True):
                groups, outs = zip(*self._shared.outputs(xs, points, weights), strict=True)
                which = {k: i for i, group in enumerate(groups) for k in group}
                total += loss_sums(self.loss, outs, ys)[:, [which[k] for k in range(len(points))]]
            return total, len(y)

        return self._mean(work, size)


def _outputs(stack: Stack, x: Tensor) -> Tensor:
    """What all members of a stack put out on a batch, (B, K, ...)."""
    if x.dim() == 4:  # convolutions, small grouped ones too, are faster in channels-last
        wide = x.repeat(1, stack.width, 1, 1).contiguous(memory_format=torch.channels_last)
        return stack(wide.unflatten(1, (stack.width, -1)))
    return stack(x[:, None].expand(-1, stack.width, *x.shape[1:]))
