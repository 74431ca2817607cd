"""Predicting barriers from what the two ends know: their curvature, their slopes, or their outputs' derivatives."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lmclib.barriers import _grid, barrier_curve
from lmclib.cube import LayerCube
from lmclib.errors import LmcError
from lmclib.functional import jet
from lmclib.layerwise import Groups, _named, group_barriers

EXPANSIONS = {"published": 2, "gradient": 2, "taylor3": 3, "taylor4": 4}  # the order of each end's expansion
INTERPOLATIONS = {"hermite": 2, "logit-cubic": 1, "logit-quintic": 2}  # derivatives taken at both ends
METHODS = (*EXPANSIONS, *INTERPOLATIONS)
ENERGY_METHODS = ("published", "gradient")
Jets = list[tuple[tuple[Tensor, ...], Tensor]]  # the outputs' derivatives along a line, and the targets, batch by batch


def predict_curve(cube: LayerCube, alphas: int | Sequence[float] = 25, method: str = "published") -> pd.DataFrame:
    r"""The barrier curve of the full path as its two ends foretell it.

    `published` and `gradient` mix the second-order expansions of both ends,

    $$B(\alpha) \approx \alpha(1-\alpha)\big[(g_1 - g_2)\cdot\Delta + \tfrac12 \Delta^\top(\alpha H_1 + (1-\alpha) H_2)\Delta\big],$$

    without and with the first term; `taylor3` and `taylor4` expand further. `hermite` is the quintic with the loss's values,
    slopes and curvatures at both ends, with an error $O(\lVert\Delta\rVert^6)$. `logit-cubic` and `logit-quintic` interpolate each
    example's *outputs* that way, from values and one or two derivatives along the path, and then take the exact loss.

    Args:
        cube: the layer cube, with interpolated statistics.
        alphas: how many evenly spaced points, or the points.
        method: one of the seven names above.

    Returns:
        `alpha`, `loss_barrier`; the frame's `attrs["cost"]` is what it took, in forward passes over the data, measured.

    Raises:
        LmcError: an unknown method, points outside [0, 1], recomputed statistics.

    Source:
        Landscaping Linear Mode Connectivity, proposition 1 (`published`); the others are ours.

    Example:
        >>> net, x = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
        >>> ends = ({"weight": torch.tensor([[w]])} for w in (-1.0, 1.0))
        >>> cube = LayerCube(net, *ends, (x, torch.zeros(1, 1)), loss="squared")
        >>> [predict_curve(cube, (0.5,), method).loss_barrier.item() for method in ("published", "gradient", "hermite")]
        [1.0, -1.0, -1.0]
    """
    grid = _grid(alphas)
    with _Cost(cube) as cost:
        corner = torch.ones(len(cube.layers), dtype=torch.float64)
        barrier = _predict(cube, corner, grid, [_checked(method)])[method]
    return cost.on(pd.DataFrame({"alpha": grid, "loss_barrier": barrier}))


def predict_layer_barriers(
    cube: "LayerCube | Energies", alphas: Sequence[float] = (0.5,), method: str = "published"
) -> pd.DataFrame:
    r"""Every single layer's barrier in the weighted form, as foretold by `predict_group_barriers`.

    Returns:
        `layer`, `alpha`, `loss_barrier`; measured cost in `attrs["cost"]` where a cube was given.

    Source:
        Landscaping Linear Mode Connectivity, proposition 2.
    """
    table = predict_group_barriers(cube, {name: [name] for name in cube.layers}, alphas, method)
    return table.rename(columns={"group": "layer"})


def predict_group_barriers(
    cube: "LayerCube | Energies", groups: Groups, alphas: Sequence[float] = (0.5,), method: str = "published"
) -> pd.DataFrame:
    r"""The barriers (`into="both"`) of sets of layers; `published` takes all of them from one energy matrix per end.

    With $E^{(k)}_{\ell m} = (P_\ell\Delta)^\top H_k (P_m\Delta)$ the barrier of a set $S$ is
    $\frac{\alpha(1-\alpha)}2 \sum_{\ell, m \in S} (\alpha E^{(1)}_{\ell m} + (1-\alpha) E^{(2)}_{\ell m})$; `gradient` adds
    $\alpha(1-\alpha)\sum_{\ell\in S} (g_1 - g_2)\cdot P_\ell\Delta$. The methods that interpolate do so along each cut, between a model and
    the hybrid at its other end, so they cost passes for every set.

    Args:
        cube: the layer cube; or its `Energies`, which answer `published` and `gradient` for all sets at no further cost.
        groups: sets of layer names; a mapping gives each a name of its own.
        alphas: points in [0, 1].
        method: as in `predict_curve`.

    Returns:
        `group`, `alpha`, `loss_barrier`; measured cost in `attrs["cost"]` where a cube was given.

    Raises:
        LmcError: an empty group, an unknown layer or method.

    Source:
        Landscaping Linear Mode Connectivity, equations 18, 20 and 21.
    """
    named, grid = _named(cube, groups), _grid(list(alphas))
    if isinstance(cube, Energies):
        if method not in ENERGY_METHODS:
            raise LmcError(f"method={method!r}: energies know {' and '.join(ENERGY_METHODS)}; give the cube for others")
        return _table({name: cube.barrier(corner, grid, method) for name, corner in named.items()}, grid)
    with _Cost(cube) as cost:
        if _checked(method) in ENERGY_METHODS:
            energies = Energies.of(cube)
            barriers = {name: energies.barrier(corner, grid, method) for name, corner in named.items()}
        else:
            barriers = {name: _predict(cube, corner, grid, [method])[method] for name, corner in named.items()}
    return cost.on(_table(barriers, grid))


def prediction_table(
    cube: LayerCube, of: str = "network", methods: Sequence[str] = METHODS, alpha: float = 0.5
) -> pd.DataFrame:
    """Predicted and actual barriers (`into="both"`) side by side, by several methods from the same derivatives.

    Args:
        cube: the layer cube, with interpolated statistics.
        of: `network`, the full path; or `layers`, every single one.
        methods: as in `predict_curve`.
        alpha: the point.

    Returns:
        A row a set and method: `group`, `method`, `predicted`, `actual`, both loss barriers.

    Raises:
        LmcError: an unknown method or `of`.
    """
    if of not in ("network", "layers"):
        raise LmcError(f"of={of!r}: must be 'network' or 'layers'")
    methods, grid = [_checked(method) for method in methods], _grid([alpha])
    groups = {"network": cube.layers} if of == "network" else {name: [name] for name in cube.layers}
    actual = group_barriers(cube, groups, (alpha,)).query("into == 'both'").set_index("group").loss_barrier
    return pd.DataFrame(
        {"group": name, "method": method, "predicted": barrier.item(), "actual": actual[name]}
        for name, corner in _named(cube, groups).items()
        for method, barrier in _predict(cube, corner, grid, methods).items()
    )


@dataclass(frozen=True)
class Energies:
    r"""What second order knows of a cube: at each end the slopes $g_k \cdot P_\ell\Delta$ and the matrix $E^{(k)}$ of cross-layer energies.

    Attributes:
        layers: the L names.
        gradients: (2, L).
        hessians: (2, L, L).
    """

    layers: tuple[str, ...]
    gradients: np.ndarray
    hessians: np.ndarray

    @classmethod
    def of(cls, cube: LayerCube) -> "Energies":
        """From two gradients and two Hessians of the cube, one of each at every end."""
        ends = [cube._derivatives(end, second=True) for end in (0.0, 1.0)]
        gradients, hessians = (torch.stack(part).numpy() for part in zip(*ends, strict=True))
        return cls(cube.layers, gradients, hessians)

    def barrier(self, corner: Tensor, alphas: np.ndarray, method: str = "published") -> np.ndarray:
        """The predicted barrier of the layers that are 1 in `corner` (L,), at alphas (n,)."""
        e = corner.numpy()
        one, two = (e @ hessian @ e for hessian in self.hessians)
        slope = (self.gradients[0] - self.gradients[1]) @ e if method == "gradient" else 0
        return alphas * (1 - alphas) * (slope + (alphas * one + (1 - alphas) * two) / 2)

    def table(self) -> pd.DataFrame:
        """A row an end and layer: `end` (1, 2), `layer`, `gradient`, and `energies`, the layer's row of the matrix."""
        return pd.DataFrame(
            {"end": k + 1, "layer": layer, "gradient": self.gradients[k, i], "energies": self.hessians[k, i]}
            for k in range(2)
            for i, layer in enumerate(self.layers)
        )

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> "Energies":
        """The inverse of `table`."""
        ends = [rows for _, rows in table.groupby("end", sort=True)]
        return cls(
            tuple(ends[0].layer),
            np.stack([rows.gradient.to_numpy() for rows in ends]),
            np.stack([np.stack(rows.energies.tolist()) for rows in ends]),
        )


def energy_table(cube: LayerCube) -> pd.DataFrame:
    """The `Energies` of a cube as a table that the store can keep."""
    return Energies.of(cube).table()


def end_slopes(cube: LayerCube) -> pd.DataFrame:
    r"""How stationary the two ends are: the norm of the loss's gradient there, and its slope along the path.

    Returns:
        A row an end: `end` (1, 2), `gradient_norm` $\lVert\nabla\mathcal L(\theta_k)\rVert$ over all parameters, `slope`
        $\nabla\mathcal L(\theta_k) \cdot \Delta$ (statistics count as parameters here), in nats per unit of α.

    Example:
        >>> net, x = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
        >>> ends = ({"weight": torch.tensor([[w]])} for w in (-1.0, 3.0))
        >>> cube = LayerCube(net, *ends, (x, torch.zeros(1, 1)), loss="squared")  # w², so 2 w and 2 w · 4
        >>> end_slopes(cube)[["gradient_norm", "slope"]].values.tolist()
        [[2.0, -8.0], [6.0, 24.0]]
    """
    rows = []
    for end, alpha in ((1, 0.0), (2, 1.0)):
        norm = cube.parameter_gradient(alpha).norm()
        rows.append({"end": end, "gradient_norm": float(norm), "slope": float(cube.gradient(alpha).sum())})
    return pd.DataFrame(rows)


def cost_table(cube: LayerCube, methods: Sequence[str] = METHODS, repeats: int = 2) -> pd.DataFrame:
    """What the full path's barrier at α = ½ costs by each method, and to evaluate (`actual`), in forward passes: the least of some runs.

    Returns:
        `method`, `cost`. Times, so no two runs give the same.
    """
    costs = {method: min(_cost(cube, method) for _ in range(repeats)) for method in methods}
    runs = []
    for _ in range(repeats):
        with _Cost(cube) as run:
            barrier_curve(cube, (0.5,))
        runs.append(run.seconds / run.unit)
    return pd.DataFrame({"method": [*costs, "actual"], "cost": [*costs.values(), min(runs)]})


def _cost(cube: LayerCube, method: str) -> float:
    return predict_curve(cube, (0.5,), method).attrs["cost"]


def _predict(cube: LayerCube, corner: Tensor, grid: np.ndarray, methods: Sequence[str]) -> dict[str, np.ndarray]:
    """One set's barrier by several methods from the same derivatives, in the weighted form: into model 1, into model 2."""
    t, ones = torch.as_tensor(grid), torch.ones_like(corner)
    far = max((INTERPOLATIONS[m] for m in methods if m in INTERPOLATIONS), default=None)
    near = max(far or 0, *(EXPANSIONS.get(m, 0) for m in methods))
    one, two = (_End(cube, list(cube.jets(end, corner, near))) for end in (0 * ones, ones))
    cuts = (one, two), (one, two)
    if far is not None and not bool((corner == 1).all()):  # on the full path both cuts are the one path
        far1, far2 = (_End(cube, list(cube.jets(end, corner, far))) for end in (corner, ones - corner))
        cuts = (one, far1), (far2, two)
    barriers = {}
    for method in methods:
        if method in EXPANSIONS:
            into1, into2 = (end.expansion(step, method) for end, step in ((one, t), (two, t - 1)))
        else:
            curves = [_interpolation(*cut, t, method) for cut in cuts]
            into1, into2 = (curve[:-2] - curve[k] for curve, k in zip(curves, (-2, -1), strict=True))
        barriers[method] = ((1 - t) * into1 + t * into2).numpy()
    return barriers


class _End:
    """One end of a line: the outputs' derivatives along it, batch by batch, and the loss's, from one pass over them."""

    def __init__(self, cube: LayerCube, jets: Jets):
        self.cube, self.jets = cube, jets

    @cached_property
    def terms(self) -> Tensor:
        """The loss and its derivatives along the line."""
        return _mean(self.jets, lambda outputs, y: _loss_jet(self.cube, outputs, y))

    def expansion(self, t: Tensor, method: str) -> Tensor:
        """How much the loss changes over steps t (n,) by its Taylor polynomial here."""
        first = 2 if method == "published" else 1
        return sum(self.terms[k] * t**k / factorial(k) for k in range(first, EXPANSIONS[method] + 1))


def _interpolation(start: _End, stop: _End, t: Tensor, method: str) -> Tensor:
    """The loss at t (n,) and at both ends by two-point interpolation, (n + 2,)."""
    points, order = torch.cat([t, torch.tensor([0.0, 1.0], dtype=t.dtype)]), INTERPOLATIONS[method] + 1
    if method == "hermite":
        return hermite(start.terms[:order], stop.terms[:order], points)
    both = (((a[:order], b[:order]), y) for (a, y), (b, _) in zip(start.jets, stop.jets, strict=True))
    loss = start.cube.loss
    return _mean(both, lambda ends, y: torch.stack([loss(hermite(*ends, at), y).double() for at in points]))


def hermite(one: Sequence[Tensor], two: Sequence[Tensor], t: Tensor) -> Tensor:
    r"""The polynomial on $[0, 1]$ with given value and one or two derivatives at both ends: a cubic or a quintic.

    Example:
        >>> cube = [torch.tensor(v) for v in (0.0, 0.0, 0.0)], [torch.tensor(v) for v in (1.0, 3.0, 6.0)]  # t³
        >>> hermite(*cube, torch.tensor(0.5)).item()
        0.125
    """
    t = torch.as_tensor(t).to(one[0].dtype)
    if len(one) == 2:
        basis = (2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t), (3 * t**2 - 2 * t**3, t**3 - t**2)
    else:
        basis = (
            (1 - 10 * t**3 + 15 * t**4 - 6 * t**5, t - 6 * t**3 + 8 * t**4 - 3 * t**5, (t - 1) ** 3 * -(t**2) / 2),
            (10 * t**3 - 15 * t**4 + 6 * t**5, -4 * t**3 + 7 * t**4 - 3 * t**5, (t - 1) ** 2 * t**3 / 2),
        )
    ends = zip((*basis[0], *basis[1]), (*one, *two), strict=True)
    return sum(weight * value for weight, value in ends)


def _loss_jet(cube: LayerCube, outputs: Sequence[Tensor], y: Tensor) -> Tensor:
    """The loss's derivatives along a line from those of the outputs: derivatives of the outputs' Taylor polynomial."""

    def along(t: Tensor) -> Tensor:
        value = outputs[-1] / factorial(len(outputs) - 1)
        for k in range(len(outputs) - 2, -1, -1):  # Horner's scheme: powers of t have slow derivatives in forward mode
            value = outputs[k] / factorial(k) + t * value
        return cube.loss(value, y)

    return torch.stack(jet(along, outputs[0].new_zeros(()), len(outputs) - 1)).double()


def _mean(batches: Iterable, measure: Callable) -> Tensor:
    """The mean of a batch's measure over all examples."""
    total, count = 0, 0
    for outputs, y in batches:
        total = total + measure(outputs, y).detach() * len(y)
        count += len(y)
    return total / count


def _checked(method: str) -> str:
    if method not in METHODS:
        raise LmcError(f"method={method!r}: must be one of {', '.join(map(repr, METHODS))}")
    return method


def _table(barriers: dict[str, np.ndarray], grid: np.ndarray) -> pd.DataFrame:
    parts = [pd.DataFrame({"group": name, "alpha": grid, "loss_barrier": values}) for name, values in barriers.items()]
    return pd.concat(parts, ignore_index=True)


class _Cost:
    """What a prediction costs: its seconds over the seconds of one forward pass of the same network and data."""

    def __init__(self, cube: LayerCube):
        self.cube = cube

    def __enter__(self) -> "_Cost":
        self.unit = min(self.cube.seconds_per_pass() for _ in range(2))
        self.start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.start

    def on(self, table: pd.DataFrame) -> pd.DataFrame:
        table.attrs["cost"] = self.seconds / self.unit
        return table
