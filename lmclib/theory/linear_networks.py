r"""Deep linear networks, one layer at a time: the loss along a cut in closed form, and where convexity ends.

A network with the weights $W_1, \dots, W_L$ is $f(x) = W_L \sigma(W_{L-1} \cdots \sigma(W_1 x))$, and deep *linear* where $\sigma$ is the
identity. The **cut** of the layers $S$ from model 1 to model 2 is the loss of $(1-\alpha) W_k + \alpha W_k'$ for $k \in S$, all other layers
being model 1's.

Weights are a list of L tensors (..., d_k, d_{k-1}), whose leading dimensions are independent networks; inputs are (..., n, d_0),
targets (..., n, d_L). Layers are counted from 0 at the input, as in `LayerCube.layers`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lmclib.errors import LmcError

Weights = Sequence[Tensor]


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
    check_shapes(one, two, x, y, (layer,))
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
    check_shapes(one, two, x, y, layers)
    a = alphas.to(x).reshape(-1, *[1] * max(w.dim() for w in one))
    mixed = [(1 - a) * w + a * v if k in layers else w for k, (w, v) in enumerate(zip(one, two, strict=True))]
    return loss(outputs(mixed, x, activation), y).movedim(0, -1)


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


def check_shapes(one: Weights, two: Weights, x: Tensor, y: Tensor, layers: Sequence[int]) -> None:
    shapes, others = ([tuple(w.shape[-2:]) for w in weights] for weights in (one, two))
    if shapes != others:
        raise LmcError(f"two: has weights of shapes {others}; must be those of the other model, {shapes}")
    if not layers or any(k not in range(len(shapes)) for k in layers):
        raise LmcError(f"layers={tuple(layers)}: must be one or more numbers from 0 to {len(shapes) - 1}")
    chain = [x.shape[-1], *(rows for rows, _ in shapes)]
    if chain[:-1] != [columns for _, columns in shapes] or chain[-1] != y.shape[-1] or x.shape[-2] != y.shape[-2]:
        raise LmcError(f"one: weights of shapes {shapes} do not lead from x {tuple(x.shape)} to y {tuple(y.shape)}")
