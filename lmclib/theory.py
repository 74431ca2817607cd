r"""Deep linear networks, one layer at a time: the loss along a cut in closed form, and where convexity ends.

A network with the weights $W_1, \dots, W_L$ is $f(x) = W_L \sigma(W_{L-1} \cdots \sigma(W_1 x))$, and deep *linear* where $\sigma$ is the
identity. The **cut** of the layers $S$ from model 1 to model 2 is the loss of $(1-\alpha) W_k + \alpha W_k'$ for $k \in S$, all other layers
being model 1's.

Weights are a list of L tensors (..., d_k, d_{k-1}), whose leading dimensions are independent networks; inputs are (..., n, d_0),
targets (..., n, d_L). Layers are counted from 0 at the input, as in `LayerCube.layers`.
"""

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import pandas as pd
import sympy
import torch
from torch import Tensor

from lmclib.errors import LmcError

Weights = Sequence[Tensor]
KINDS = ("full rank", "rank deficient", "zero layers")


def squared(outputs: Tensor, y: Tensor) -> Tensor:
    r"""$\frac1n \sum_i \lVert f(x_i) - y_i \rVert^2$, one loss a network (...)."""
    return (outputs - y).square().sum(-1).mean(-1)


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    r"""$-\frac1n \sum_i \sum_c y_{ic} \log \mathrm{softmax}(f(x_i))_c$ in nats, one loss a network (...)."""
    return -(y * outputs.log_softmax(-1)).sum(-1).mean(-1)


def outputs(weights: Weights, x: Tensor, activation: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """The outputs (..., n, d_L) for inputs (..., n, d_0); `activation` is applied between layers.

    Example:
        >>> two, minus_three = torch.tensor([[2.0]]), torch.tensor([[-3.0]])
        >>> outputs([two, minus_three], torch.ones(1, 1)).item(), outputs([minus_three, two], torch.ones(1, 1), torch.relu).item()
        (-6.0, 0.0)
    """
    for k, w in enumerate(weights):
        x = (activation(x) if k and activation else x) @ w.mT
    return x


class Quadratic(NamedTuple):
    r"""$c_0 + c_1 \alpha + c_2 \alpha^2$, one a network; its second derivative is $2 c_2$ everywhere."""

    c0: Tensor
    c1: Tensor
    c2: Tensor

    def __call__(self, alpha: float | Tensor) -> Tensor:
        return self.c0 + alpha * (self.c1 + alpha * self.c2)


def layer_cut(one: Weights, two: Weights, x: Tensor, y: Tensor, layer: int) -> Quadratic:
    r"""The squared loss along one layer's cut of a deep linear network, as an explicit quadratic in $\alpha$.

    With $A = W_L \cdots W_{k+1}$ and $B = W_{k-1} \cdots W_1$ of model 1 and examples as columns of $X$, $Y$,

    $$R = A W_k B X - Y, \qquad D = A (W_k' - W_k) B X, \qquad L(\alpha) = \tfrac1n \lVert R + \alpha D \rVert_F^2,$$

    so $c_0 = \frac1n\lVert R\rVert_F^2$, $c_1 = \frac2n\langle R, D\rangle_F$ and $c_2 = \frac1n\lVert D\rVert_F^2 \ge 0$: the loss is convex
    along the cut, whatever the ranks.

    Args:
        one: model 1; swap the models for the cut into model 2.
        two: model 2.
        x: inputs (..., n, d_0).
        y: targets (..., n, d_L).
        layer: the layer that moves, from 0.

    Returns:
        Coefficients of shape (...).

    Raises:
        LmcError: shapes that do not fit, a layer that is not there.

    Source:
        Layer-wise Linear Mode Connectivity, theorem 4.1, made explicit.

    Example:
        >>> cut = layer_cut(*mirrored_pair(0.5), torch.ones(1, 1).double(), torch.ones(1, 1).double(), layer=1)
        >>> [c.item() for c in cut]  # (1 + s²)² α² with s = ½
        [0.0, 0.0, 1.5625]
    """
    _check(one, two, x, y, (layer,))
    before = outputs(one[:layer], x)
    residual, change = (
        outputs([w, *one[layer + 1 :]], before) - target
        for w, target in ((one[layer], y), (two[layer] - one[layer], 0))
    )
    n = x.shape[-2]
    return Quadratic(
        residual.square().sum((-2, -1)) / n,
        2 * (residual * change).sum((-2, -1)) / n,
        change.square().sum((-2, -1)) / n,
    )


def cut_losses(
    one: Weights,
    two: Weights,
    x: Tensor,
    y: Tensor,
    layers: Sequence[int],
    alphas: Tensor,
    activation: Callable[[Tensor], Tensor] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = squared,
) -> Tensor:
    """The loss along the cut of a group of layers at alphas (p,), by forward passes: (..., p).

    Raises:
        LmcError: shapes that do not fit, an empty group, a layer that is not there.

    Example:
        >>> data = torch.ones(1, 1).double(), torch.ones(1, 1).double()
        >>> cut_losses(*mirrored_pair(0.5), *data, layers=(0, 1), alphas=torch.tensor([0, 0.5, 1]))  # both perfect, a barrier
        tensor([0.0000, 2.4414, 0.0000], dtype=torch.float64)
    """
    _check(one, two, x, y, layers)
    a = alphas.to(x).reshape(-1, *[1] * max(w.dim() for w in one))
    mixed = [(1 - a) * w + a * v if k in layers else w for k, (w, v) in enumerate(zip(one, two, strict=True))]
    return loss(outputs(mixed, x, activation), y).movedim(0, -1)


def smallest_curvature(losses: Tensor) -> Tensor:
    r"""The smallest second difference of losses (..., p) sampled evenly on $[0, 1]$, over $h^2$ and the largest loss: (...).

    Of a quadratic it is $L'' / \max L$ exactly. Convex functions have none below zero, so a negative one, beyond rounding,
    proves that a cut is not convex; a positive one proves nothing between the samples.

    Example:
        >>> t = torch.linspace(0, 1, 5)
        >>> smallest_curvature(torch.stack([4 * t**2, t, 1 - t**2])).tolist()
        [2.0, 0.0, -2.0]
    """
    second = losses.diff(n=2, dim=-1).amin(-1) * (losses.shape[-1] - 1) ** 2
    return second / losses.abs().amax(-1).clamp_min(torch.finfo(losses.dtype).tiny)


def curvatures(
    one: Weights, two: Weights, x: Tensor, y: Tensor, sizes: Sequence[int] | None = None, points: int = 9, **network
) -> pd.DataFrame:
    """The smallest curvature of the cut of every group of layers of the given sizes, for every network of a stack.

    Args:
        one: model 1, L tensors (N, d_k, d_{k-1}).
        two: model 2.
        x: inputs (N, n, d_0) or (n, d_0).
        y: targets (N, n, d_L) or (n, d_L).
        sizes: how many layers move together; 1 to L by default.
        points: evenly spaced alphas.
        **network: `activation` and `loss`, as in `cut_losses`.

    Returns:
        A row a group and network: `size`, `group` (its layers, "0+2"), `network`, `curvature`.

    Example:
        >>> stack = [[w[None] for w in model] for model in mirrored_pair(0.5)]
        >>> curvatures(*stack, torch.ones(1, 1).double(), torch.ones(1, 1).double(), sizes=(2,)).curvature.item() < 0
        True
    """
    alphas = torch.linspace(0, 1, points, dtype=x.dtype)
    tables = [
        pd.DataFrame(
            {
                "size": size,
                "group": "+".join(map(str, group)),
                "curvature": smallest_curvature(cut_losses(one, two, x, y, group, alphas, **network)),
            }
        )
        for size in sizes or range(1, len(one) + 1)
        for group in combinations(range(len(one)), size)
    ]
    return pd.concat([table.rename_axis("network").reset_index() for table in tables], ignore_index=True)


def cut_barriers(one: Weights, two: Weights, x: Tensor, y: Tensor, layer: int) -> dict[str, Tensor]:
    r"""One layer's barrier at $\alpha = \frac12$ by both baselines, into model 1.

    Against `models` it is the middle's loss less the mean of the two full models'; against `cut`, less the mean of the two
    ends of the cut, where it is $-c_2/4 \le 0$ always. Two perfect models have $c_2/4$ against `models`: the same figure with
    the other sign.

    Example:
        >>> barriers = cut_barriers(*mirrored_pair(0.5), torch.ones(1, 1).double(), torch.ones(1, 1).double(), layer=1)
        >>> {name: value.item() for name, value in barriers.items()}
        {'models': 0.390625, 'cut': -0.390625}
    """
    cut = layer_cut(one, two, x, y, layer)
    models = [squared(outputs(weights, x), y) for weights in (one, two)]
    return {"models": cut(0.5) - sum(models) / 2, "cut": cut(0.5) - (cut(0.0) + cut(1.0)) / 2}


def mirrored_pair(s: float) -> tuple[list[Tensor], list[Tensor]]:
    r"""Two perfect models $w_2 w_1 = 1$ on the two branches of the hyperbola: $(s, 1/s)$ and $(-1/s, -s)$.

    Source:
        After Layer-wise Linear Mode Connectivity, figure 3.

    Example:
        >>> [[w.item() for w in model] for model in mirrored_pair(0.5)]
        [[0.5, 2.0], [-2.0, -0.5]]
    """
    if s == 0:
        raise LmcError("s=0: the first weight must not be zero")
    return tuple([torch.full((1, 1), w, dtype=torch.float64) for w in pair] for pair in ((s, 1 / s), (-1 / s, -s)))


def random_weights(
    widths: Sequence[int], networks: int, generator: torch.Generator, kind: str = "full rank"
) -> list[Tensor]:
    r"""A stack of random networks, Gaussian with variance $1/d_{k-1}$, float64: L tensors (N, d_k, d_{k-1}).

    Args:
        widths: $d_0, \dots, d_L$.
        networks: N.
        generator: the source of randomness.
        kind: `full rank`; `rank deficient` (half the rank a layer could have); or `zero layers` (each with chance ½).

    Raises:
        LmcError: an unknown kind.

    Example:
        >>> w = random_weights((4, 4, 2), 3, torch.Generator().manual_seed(0), "rank deficient")
        >>> [tuple(v.shape) for v in w], torch.linalg.matrix_rank(w[0]).tolist()
        ([(3, 4, 4), (3, 2, 4)], [2, 2, 2])
    """
    if kind not in KINDS:
        raise LmcError(f"kind={kind!r}: must be one of {', '.join(map(repr, KINDS))}")

    def normal(*shape: int) -> Tensor:
        return torch.randn(networks, *shape, generator=generator, dtype=torch.float64)

    weights = []
    for d_in, d_out in pairwise(widths):
        rank = min(d_in, d_out) // 2
        deficient = kind == "rank deficient"
        w = normal(d_out, rank) @ normal(rank, d_in) / max(rank, 1) ** 0.5 if deficient else normal(d_out, d_in)
        if kind == "zero layers":
            w = w * torch.randint(0, 2, (networks, 1, 1), generator=generator)
        weights.append(w / d_in**0.5)
    return weights


def search(networks: int, seed: int, depths: Sequence[int] = (2, 3, 4, 6, 8), examples: int = 12) -> pd.DataFrame:
    """The smallest curvature of all single-layer cuts, in both directions, of many random deep linear networks.

    Widths from 1 to 8, inputs and targets are random too; a third of the networks has layers of half the rank, another
    third has layers that are zero.

    Args:
        networks: at least how many pairs of models.
        seed: of everything random.
        depths: numbers of layers, equally often.
        examples: n of each network's own data.

    Returns:
        A row a network: `kind`, `depth`, `curvature`, and `excess`, the largest difference between passes and the
        explicit quadratic over the largest loss.

    Example:
        >>> table = search(60, seed=0)
        >>> len(table), bool((table.curvature > -1e-10).all())
        (60, True)
    """
    generator = torch.Generator().manual_seed(seed)
    stack = max(1, min(50, networks // (len(depths) * len(KINDS))))
    tables, found = [], 0
    while found < networks:
        for depth in depths:
            for kind in KINDS:
                widths = torch.randint(1, 9, (depth + 1,), generator=generator).tolist()
                one, two = (random_weights(widths, stack, generator, kind) for _ in range(2))
                x, y = (
                    torch.randn(stack, examples, d, generator=generator, dtype=torch.float64)
                    for d in (widths[0], widths[-1])
                )
                ways = [_cuts(*models, x, y) for models in ((one, two), (two, one))]
                smallest, excess = (torch.stack([way[i] for way in ways]) for i in (0, 1))
                found += stack
                tables.append(
                    pd.DataFrame(
                        {"kind": kind, "depth": depth, "curvature": smallest.amin(0), "excess": excess.amax(0)}
                    )
                )
    return pd.concat(tables, ignore_index=True)


def _cuts(one: Weights, two: Weights, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Over all layers: the smallest curvature, and the largest relative difference from the explicit quadratic."""
    alphas = torch.linspace(0, 1, 5, dtype=x.dtype)
    smallest, excess = [], []
    for layer in range(len(one)):
        losses, cut = cut_losses(one, two, x, y, (layer,), alphas), layer_cut(one, two, x, y, layer)
        formula = torch.stack([cut(alpha) for alpha in alphas], -1)
        smallest.append(smallest_curvature(losses))
        excess.append((losses - formula).abs().amax(-1) / losses.amax(-1))
    return torch.stack(smallest).amin(0), torch.stack(excess).amax(0)


def train(weights: Weights, x: Tensor, y: Tensor, steps: int, lr: float, seed: int, **network) -> list[Tensor]:
    """Plain SGD on a stack of networks together, each with mini-batches of 32 of its own.

    Args:
        weights: L tensors (N, d_k, d_{k-1}); left as they are.
        x: inputs (n, d_0) that all share.
        y: targets (n, d_L).
        steps: of SGD.
        lr: the learning rate.
        seed: draws the batches.
        **network: `activation` and `loss`, as in `cut_losses`.

    Raises:
        LmcError: a loss that is no longer finite.

    Example:
        >>> start = [torch.full((1, 1, 1), w) for w in (0.5, 1.0)]
        >>> round(float(torch.stack(train(start, torch.ones(4, 1), torch.ones(4, 1), 200, 0.1, 0)).prod()), 4)
        1.0
    """
    loss, activation = network.get("loss", squared), network.get("activation")
    generator = torch.Generator().manual_seed(seed)
    weights = [w.detach().clone().requires_grad_() for w in weights]
    for step in range(steps):
        batch = torch.randint(0, len(x), (len(weights[0]), 32), generator=generator)
        value = loss(outputs(weights, x[batch], activation), y[batch]).sum()
        if not value.isfinite():
            raise LmcError(f"lr={lr}: the loss diverged at step {step}; must be lower")
        with torch.no_grad():
            for w, g in zip(weights, torch.autograd.grad(value, weights), strict=True):
                w -= lr * g
    return [w.detach() for w in weights]


def check_theorem(widths: Sequence[int], examples: int = 1) -> pd.DataFrame:
    r"""Theorem 4.1 with symbols for all weights and data: is $L'' = \frac2n \lVert A(W_k' - W_k)BX\rVert_F^2$, for every layer?

    Args:
        widths: $d_0, \dots, d_L$; 1 or 2, as the number of terms explodes.
        examples: n.

    Returns:
        A row a layer: `layer`, `degree` of the loss in α, and `remainder`, L'' less the squared norm; a remainder of 0 is a
        proof for all real weights and data of these shapes.

    Source:
        Layer-wise Linear Mode Connectivity, theorem 4.1.

    Example:
        >>> check_theorem((1, 1, 1)).to_dict("list")
        {'layer': [0, 1], 'degree': [2, 2], 'remainder': [0, 0]}
    """
    alpha = sympy.Symbol("alpha", real=True)
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    one, two = ([_symbols(f"{name}{k}", *shape) for k, shape in enumerate(shapes)] for name in "wv")
    x, y = _symbols("x", widths[0], examples), _symbols("y", widths[-1], examples)
    rows = []
    for k in range(len(one)):
        before, after = x, sympy.eye(widths[k + 1])
        for w in one[:k]:
            before = w * before
        for w in one[k + 1 :]:
            after = w * after
        change = after * (two[k] - one[k]) * before
        residual = after * one[k] * before + alpha * change - y
        loss = sympy.Poly(sum(r**2 for r in residual) / examples, alpha)
        norm = sympy.Rational(2, examples) * sum(d**2 for d in change)
        remainder = sympy.expand(loss.diff(alpha).diff(alpha).as_expr() - norm)
        rows.append({"layer": k, "degree": loss.degree(), "remainder": remainder})
    return pd.DataFrame(rows)


def _symbols(name: str, rows: int, columns: int) -> sympy.Matrix:
    return sympy.Matrix(rows, columns, lambda i, j: sympy.Symbol(f"{name}_{i}{j}", real=True))


def _check(one: Weights, two: Weights, x: Tensor, y: Tensor, layers: Sequence[int]) -> None:
    shapes, others = ([tuple(w.shape[-2:]) for w in weights] for weights in (one, two))
    if shapes != others:
        raise LmcError(f"two: has weights of shapes {others}; must be those of the other model, {shapes}")
    if not layers or any(k not in range(len(shapes)) for k in layers):
        raise LmcError(f"layers={tuple(layers)}: must be one or more numbers from 0 to {len(shapes) - 1}")
    chain = [x.shape[-1], *(rows for rows, _ in shapes)]
    if chain[:-1] != [columns for _, columns in shapes] or chain[-1] != y.shape[-1] or x.shape[-2] != y.shape[-2]:
        raise LmcError(f"one: weights of shapes {shapes} do not lead from x {tuple(x.shape)} to y {tuple(y.shape)}")
