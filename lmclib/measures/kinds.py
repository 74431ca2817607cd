"""Kinds of barrier: none, bump, ridge and wide ridge, told apart by one rule."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

STABLE = 0.02  # an error barrier below 2 % is none (Frankle et al. 2020)
KINDS = ("none", "bump", "ridge", "wide ridge")


@dataclass(frozen=True)
class KindRule:
    r"""The rule that names an error barrier by its height $h = \max_\alpha B(\alpha)$ and its width.

    None below `none_below`, a bump below `bump_below`, a ridge from there on. A ridge is wide where more than `wide_from` of the
    segment lies above $\frac34 h$. A parabola, which is what any second-order theory predicts, has exactly half of it there, and up to
    0.52 of it where it is drawn by straight lines between grid points: hence the default.

    Attributes:
        none_below: an error, as a fraction.
        bump_below: an error, as a fraction.
        wide_from: a fraction of the segment.

    Source:
        Our rule for the kinds that Landscaping Linear Mode Connectivity, figure 7, tells apart by eye.

    Example:
        >>> [KindRule().name(height, width) for height, width in ((0.01, 0.5), (0.05, 0.5), (0.5, 0.5), (0.5, 0.9))]
        ['none', 'bump', 'ridge', 'wide ridge']
    """

    none_below: float = STABLE
    bump_below: float = 0.1
    wide_from: float = 0.52

    def name(self, height: float, width: float) -> str:
        """The kind of a barrier of some height and width."""
        if height < self.none_below:
            return "none"
        if height < self.bump_below:
            return "bump"
        return "wide ridge" if width > self.wide_from else "ridge"

    @staticmethod
    def script(height: str, width: str) -> str:
        """The rule in a page's own language, over parameters called like the attributes of this class."""
        wide = f"{width} > wide_from ? 'wide ridge' : 'ridge'"
        return f"{height} < none_below ? 'none' : {height} < bump_below ? 'bump' : {wide}"


def barrier_kind(curve: pd.DataFrame, rule: KindRule | None = None) -> str:
    """The kind of an error barrier, by `KindRule`.

    Args:
        curve: a barrier curve with an evenly spaced grid.
        rule: with other thresholds.

    Example:
        >>> grid = np.linspace(0, 1, 25)
        >>> barrier_kind(pd.DataFrame({"alpha": grid, "error_barrier": 0.4 * 4 * grid * (1 - grid)}))
        'ridge'
    """
    return (rule or KindRule()).name(*barrier_shape(curve))


def barrier_shape(curve: pd.DataFrame, of: str = "error") -> tuple[float, float]:
    r"""The height $h$ of a barrier in the error, or the loss, and the share of the segment that lies above $\frac34 h$, linear between points.

    Example:
        >>> grid = np.linspace(0, 1, 1001)
        >>> [round(v, 2) for v in barrier_shape(pd.DataFrame({"alpha": grid, "error_barrier": 4 * grid * (1 - grid)}))]
        [1.0, 0.5]
    """
    barrier = curve[f"{of}_barrier"].to_numpy()
    height, fine = barrier.max(), np.linspace(0, 1, 1001)
    return float(height), float((np.interp(fine, curve["alpha"], barrier) > 0.75 * height).mean())
