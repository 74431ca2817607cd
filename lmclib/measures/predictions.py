"""Predicting barriers from what the two ends know: their curvature, their slopes, or their outputs' derivatives."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from lmclib.cube.energies import Energies
from lmclib.cube.points import LayerCube
from lmclib.errors import LmcError
from lmclib.measures.barriers import alpha_grid, barrier_curve, unit_points
from lmclib.measures.expansion import METHODS, predict_barriers
from lmclib.measures.layerwise import NETWORK, Groups, corners, group_barriers

ENERGY_METHODS = ("published", "gradient")


def predict_curve(cube: LayerCube, alphas: int | Sequence[float] = 25, method: str = "published") -> pd.DataFrame:
    r"""The barrier curve of the full path as its two ends predict it.

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
        `alpha`, `loss_barrier`; the frame's `attrs["cost"]` is what it took, in forward passes over the data, counted.

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
    grid = alpha_grid(alphas)
    with _Passes(cube) as cost:
        corner = torch.ones(len(cube.layers), dtype=torch.float64)
        barrier = predict_barriers(cube, corner, grid, [_checked(method)])[method]
    return cost.on(pd.DataFrame({"alpha": grid, "loss_barrier": barrier}))


def predict_layer_barriers(
    cube: LayerCube | Energies, alphas: Sequence[float] = (0.5,), method: str = "published"
) -> pd.DataFrame:
    r"""Every single layer's barrier in the weighted form, as predicted by `predict_group_barriers`.

    Returns:
        `layer`, `alpha`, `loss_barrier`; counted cost in `attrs["cost"]` where a cube was given.

    Source:
        Landscaping Linear Mode Connectivity, proposition 2.
    """
    table = predict_group_barriers(cube, {name: [name] for name in cube.layers}, alphas, method)
    return table.rename(columns={"group": "layer"})


def predict_group_barriers(
    cube: LayerCube | Energies, groups: Groups, alphas: Sequence[float] = (0.5,), method: str = "published"
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
        `group`, `alpha`, `loss_barrier`; counted cost in `attrs["cost"]` where a cube was given.

    Raises:
        LmcError: an empty group, an unknown layer or method.

    Source:
        Landscaping Linear Mode Connectivity, equations 18, 20 and 21.
    """
    named, grid = corners(cube, groups), unit_points(alphas)
    if grid is None:
        raise LmcError(f"alphas={alphas!r}: must be at least one number in [0, 1]")
    if isinstance(cube, Energies):
        if method not in ENERGY_METHODS:
            raise LmcError(f"method={method!r}: energies know {' and '.join(ENERGY_METHODS)}; give the cube for others")
        return _table({name: cube.barrier(corner, grid, method) for name, corner in named.items()}, grid)
    with _Passes(cube) as cost:
        if _checked(method) in ENERGY_METHODS:
            energies = Energies.of(cube)
            barriers = {name: energies.barrier(corner, grid, method) for name, corner in named.items()}
        else:
            barriers = {name: predict_barriers(cube, corner, grid, [method])[method] for name, corner in named.items()}
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
    methods, grid = [_checked(method) for method in methods], alpha_grid([alpha])
    groups = {"network": cube.layers} if of == "network" else {name: [name] for name in cube.layers}
    actual = group_barriers(cube, groups, (alpha,)).query("into == 'both'").set_index("group").loss_barrier
    return pd.DataFrame(
        {"group": name, "method": method, "predicted": barrier.item(), "actual": actual[name]}
        for name, corner in corners(cube, groups).items()
        for method, barrier in predict_barriers(cube, corner, grid, methods).items()
    )


def energy_predictions(cube: LayerCube, methods: Sequence[str] = ENERGY_METHODS) -> pd.DataFrame:
    r"""Predicted and actual barriers (`into="both"`, α = ½) of every layer and of the whole network, from one energy matrix per end.

    Args:
        cube: the layer cube, with interpolated statistics.
        methods: `published` and `gradient`, or one of them.

    Returns:
        A row a layer and method: `layer` (the last is `network`, all of them), `method`, `predicted`, `actual`, both loss barriers.

    Raises:
        LmcError: another method, recomputed statistics.

    Source:
        Landscaping Linear Mode Connectivity, proposition 2 (`published`); `gradient` is ours.

    Example:
        >>> net, x = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
        >>> ends = ({"weight": torch.tensor([[w]])} for w in (-1.0, 1.0))
        >>> cube = LayerCube(net, *ends, (x, torch.zeros(1, 1)), loss="squared")
        >>> energy_predictions(cube, ["gradient"]).round(6).values.tolist()  # w² in the middle less 1: exact where the slopes are known
        [['(root)', 'gradient', -1.0, -1.0], ['network', 'gradient', -1.0, -1.0]]
    """
    if unknown := [name for name in methods if name not in ENERGY_METHODS]:
        raise LmcError(f"method={unknown[0]!r}: must be one of {', '.join(map(repr, ENERGY_METHODS))}")
    groups = {**{name: [name] for name in cube.layers}, NETWORK: list(cube.layers)}
    energies = Energies.of(cube)
    actual = group_barriers(cube, groups).query("into == 'both'").set_index("group").loss_barrier
    return pd.DataFrame(
        {"layer": name, "method": method, "predicted": barrier, "actual": actual[name]}
        for method in dict.fromkeys(methods)
        for name, barrier in predict_group_barriers(energies, groups, method=method)
        .set_index("group")
        .loss_barrier.items()
    )


def cost_table(cube: LayerCube, methods: Sequence[str] = METHODS) -> pd.DataFrame:
    """What the full path's barrier at α = ½ costs by each method, and to evaluate (`actual`), in forward passes over the data.

    Counted, not timed: a gradient is three passes, a derivative of a gradient four, outputs with k derivatives $2^k$.

    Returns:
        `method`, `cost`.
    """
    costs = {method: predict_curve(cube, (0.5,), method).attrs["cost"] for method in methods}
    with _Passes(cube) as actual:
        barrier_curve(cube, (0.5,))
    return pd.DataFrame({"method": [*costs, "actual"], "cost": [*costs.values(), actual.counted]})


def _checked(method: str) -> str:
    if method not in METHODS:
        raise LmcError(f"method={method!r}: must be one of {', '.join(map(repr, METHODS))}")
    return method


def _table(barriers: dict[str, np.ndarray], grid: np.ndarray) -> pd.DataFrame:
    names = [name for name in barriers for _ in grid]
    return pd.DataFrame(
        {"group": names, "alpha": np.tile(grid, len(barriers)), "loss_barrier": np.concatenate([*barriers.values()])}
    )


class _Passes:
    """The passes over the data that are asked for within this context."""

    def __init__(self, cube: LayerCube):
        self.cube = cube

    def __enter__(self) -> "_Passes":
        self.before = self.cube.passes
        return self

    def __exit__(self, *_: object) -> None:
        self.counted = self.cube.passes - self.before

    def on(self, table: pd.DataFrame) -> pd.DataFrame:
        table.attrs["cost"] = self.counted
        return table
