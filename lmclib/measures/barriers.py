"""Barriers: how much worse the models on the segment are than the straight line between its ends."""

from collections.abc import Iterable, Sequence
from numbers import Integral

import numpy as np
import pandas as pd
import torch

from lmclib.cube.points import LayerCube
from lmclib.errors import LmcError
from lmclib.runs.family import Family
from lmclib.runs.measuring import over_pairs
from lmclib.runs.pairs import sibling_pairs


def barrier_curve(cube: LayerCube, alphas: int | Sequence[float] = 25) -> pd.DataFrame:
    r"""The barrier curve $B(\alpha) = \varphi(\alpha 1) - [(1 - \alpha)\varphi(0) + \alpha\varphi(1)]$.

    Args:
        cube: the layer cube between two models.
        alphas: how many evenly spaced points from 0 to 1, or the points themselves.

    Returns:
        One row a point: `alpha`, `loss`, `error`, `loss_barrier`, `error_barrier`.

    Raises:
        LmcError: no point, fewer than two evenly spaced ones, or points outside [0, 1].

    Source:
        Landscaping Linear Mode Connectivity, section 3.

    Example:
        >>> net, x = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
        >>> ends = ({"weight": torch.tensor([[w]])} for w in (-1.0, 1.0))
        >>> cube = LayerCube(net, *ends, (x, torch.zeros(1, 1)), loss="squared")
        >>> barrier_curve(cube, 3).loss_barrier.tolist()  # w^2 is convex: -4 alpha (1 - alpha)
        [0.0, -1.0, 0.0]
    """
    grid = alpha_grid(alphas)
    points = sorted({0.0, 1.0, *grid})  # the ends are always needed, as the chord's
    values = cube(torch.tensor(points, dtype=torch.float64)[:, None].repeat(1, len(cube.layers)))
    table = pd.DataFrame({"alpha": grid})
    for name, value in zip(("loss", "error"), values, strict=True):
        at = dict(zip(points, value.tolist(), strict=True))
        table[name] = [at[alpha] for alpha in grid]
        table[f"{name}_barrier"] = table[name] - ((1 - grid) * at[0.0] + grid * at[1.0])
    return table[["alpha", "loss", "error", "loss_barrier", "error_barrier"]]


def barrier_height(curve: pd.DataFrame, of: str = "error") -> pd.Series:
    r"""The barrier $\max_\alpha B(\alpha)$ and where it is: `barrier`, `alpha`.

    Args:
        curve: the rows of `barrier_curve`.
        of: `error` or `loss`.

    Raises:
        LmcError: of something else.

    Example:
        >>> curve = pd.DataFrame({"alpha": [0, 0.5, 1], "error_barrier": [0, 0.25, 0]})
        >>> barrier_height(curve).tolist()
        [0.25, 0.5]
    """
    if of not in ("error", "loss"):
        raise LmcError(f"of={of!r}: must be 'error' or 'loss'")
    top = curve.loc[curve[f"{of}_barrier"].idxmax()]
    return pd.Series({"barrier": top[f"{of}_barrier"], "alpha": top["alpha"]})


def barrier_evolution(
    families: Iterable[Family],
    alphas: int | Sequence[float] = 25,
    epochs: Sequence[int] | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
    fork_epochs: Sequence[float] | None = None,
    split: str = "train",
    norm_stats: str = "interpolate",
    progress: bool = True,
    examples: int | None = None,
) -> pd.DataFrame:
    """The barrier curves between siblings at every fork over the children's epochs; remembered in the store.

    Args:
        families: forking experiments, one a seed.
        alphas: as in `barrier_curve`.
        epochs: which of the stored epochs; all by default, `(-1,)` for the last.
        pairs: which pairs of siblings; all by default.
        fork_epochs: which forks, as trained; all by default.
        split: `train` or `test`.
        norm_stats: `interpolate` or `recompute`.
        progress: whether to show a progress bar.
        examples: how many of the split's examples, evenly spaced; all by default.

    Returns:
        The rows of `barrier_curve` with `seed`, `fork_epoch`, `epoch` (the parent's clock), `child_epoch`, `pair`,
        `split` and `norm_stats`.

    Source:
        Landscaping Linear Mode Connectivity, figures 1 and 8 to 12.
    """
    grid = alpha_grid(alphas)
    alphas = int(alphas) if isinstance(alphas, Integral) else grid.tolist()
    chosen = sibling_pairs(families, fork_epochs, epochs, pairs)
    table = over_pairs(chosen, barrier_curve, split, norm_stats, progress, examples, alphas=alphas)
    return table.drop(columns="relation")


def alpha_grid(alphas: int | Sequence[float]) -> np.ndarray:
    """Points on the segment: as many evenly spaced ones from 0 to 1, or those that are given.

    Raises:
        LmcError: none, some outside [0, 1], or fewer than two evenly spaced ones.

    Example:
        >>> alpha_grid(3).tolist(), alpha_grid([0.5]).tolist()
        ([0.0, 0.5, 1.0], [0.5])
    """
    if isinstance(alphas, Integral) and not isinstance(alphas, bool) and alphas >= 2:
        return np.linspace(0, 1, int(alphas))
    if (grid := unit_points(alphas)) is None:
        raise LmcError(
            f"alphas={alphas!r}: must be at least one number in [0, 1], or how many evenly spaced ones, 2 or more"
        )
    return grid


def unit_points(alphas: object) -> np.ndarray | None:
    """One or more numbers in [0, 1] as an array; None for anything else."""
    try:
        grid = np.asarray(alphas, dtype=float)
    except (TypeError, ValueError):
        return None
    return (
        grid if grid.ndim == 1 and len(grid) and bool(((grid >= 0) & (grid <= 1)).all()) else None
    )  # NaN is in no range
