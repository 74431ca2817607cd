"""Landscapes small enough to solve: products of quadratics in one dimension, and a linear network of two weights."""

from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from math import prod

import numpy as np
import pandas as pd
import sympy

from lmclib.errors import LmcError

T, ALPHA = sympy.symbols("theta alpha", real=True)


def product_of_quadratics(minima: Sequence[float]) -> sympy.Expr:
    r"""The landscape $\mathcal L(\theta) = \prod_i (\theta - m_i)^2$, the simplest with given minima.

    Args:
        minima: at least two distinct finite numbers.

    Raises:
        LmcError: fewer than two, equal or infinite minima.

    Source:
        Landscaping Linear Mode Connectivity, section 4 and figure 6.

    Example:
        >>> product_of_quadratics([-1, 1]).subs(T, 0)  # the barrier between them
        1
    """
    numbers = [m for m in minima if isinstance(m, int | float | sympy.Number) and np.isfinite(float(m))]
    if len(set(numbers)) < 2 or len(set(numbers)) < len(minima):
        raise LmcError(f"minima={list(minima)}: must be at least two distinct finite numbers")
    return reduce(lambda loss, m: loss * (T - sympy.nsimplify(m)) ** 2, minima, sympy.Integer(1))


def barrier(loss: sympy.Expr, t1: float, t2: float) -> sympy.Expr:
    r"""The barrier curve $B(\alpha)$ of a loss in $\theta$ on the segment from $\theta_1$ to $\theta_2$, in closed form.

    Example:
        >>> sympy.factor(barrier(T**2, -1, 1))
        4*alpha*(alpha - 1)
    """
    t1, t2 = sympy.nsimplify(t1), sympy.nsimplify(t2)
    chord = (1 - ALPHA) * loss.subs(T, t1) + ALPHA * loss.subs(T, t2)
    return sympy.expand(loss.subs(T, t1 + ALPHA * (t2 - t1)) - chord)


def predicted_barrier(loss: sympy.Expr, t1: float, t2: float, method: str = "published") -> sympy.Expr:
    r"""Proposition 1 in closed form, as published or with the gradient terms that it drops.

    $\alpha(1-\alpha)\big[(g_1 - g_2)\Delta + \tfrac12 \Delta^2 (\alpha H_1 + (1-\alpha) H_2)\big]$; `published` leaves out the
    first term, which is right where both ends are stationary. `gradient` is exact on any quadratic.

    Raises:
        LmcError: an unknown method.

    Source:
        Landscaping Linear Mode Connectivity, proposition 1.

    Example:
        >>> predicted_barrier(T**2, 1, 2, "gradient") - barrier(T**2, 1, 2)
        0
        >>> predicted_barrier(T**2, 1, 2, "published").subs(ALPHA, sympy.Rational(1, 2))  # the sign is wrong
        1/4
    """
    if method not in ("published", "gradient"):
        raise LmcError(f"method={method!r}: must be 'published' or 'gradient'")
    t1, t2 = sympy.nsimplify(t1), sympy.nsimplify(t2)
    delta, slope, curvature = t2 - t1, sympy.diff(loss, T), sympy.diff(loss, T, 2)
    second = delta**2 * (ALPHA * curvature.subs(T, t1) + (1 - ALPHA) * curvature.subs(T, t2)) / 2
    first = (slope.subs(T, t1) - slope.subs(T, t2)) * delta if method == "gradient" else 0
    return sympy.expand(ALPHA * (1 - ALPHA) * (first + second))


def evaluate(curve: sympy.Expr, alphas: np.ndarray) -> np.ndarray:
    """Numbers from a curve in α."""
    return np.broadcast_to(sympy.lambdify(ALPHA, curve)(alphas), alphas.shape).astype(float)


def hierarchy(minima: Sequence[float]) -> pd.DataFrame:
    r"""The barrier $\max_\alpha B(\alpha)$ between every two minima of their product of quadratics.

    The loss is zero at both ends, so the barrier is its highest stationary value in between, rounded to nine digits; and the slope is,
    so proposition 1 at α = ½ is $\tfrac1{16} \Delta^2 (H_1 + H_2)$.

    Returns:
        One row a pair, by distance: `from`, `to`, `distance`, `barrier`, and at α = ½ `predicted` (proposition 1).

    Example:
        >>> hierarchy([-1, 1]).barrier.tolist()
        [1.0]
    """
    product_of_quadratics(minima)  # which refuses what are no minima
    curvature = {a: 2 * prod((a - other) ** 2 for other in minima if other != a) for a in minima}
    rows = [
        {
            "from": a,
            "to": b,
            "distance": b - a,
            "barrier": round(highest, 9),
            "predicted": float((b - a) ** 2 * (curvature[a] + curvature[b]) / 16),
        }
        for (a, b), highest in _barriers(minima).items()
    ]
    return pd.DataFrame(rows).sort_values("distance", ignore_index=True)


def worst_order(minima: Sequence[float]) -> float:
    """The least ratio of a barrier to one between minima that are less far apart; below 1 where farther is not always higher.

    Example:
        >>> worst_order([-1, 1]), bool(worst_order([0, 2, 4.1, 10]) < 1)
        (inf, True)
    """
    pairs = [(b - a, highest) for (a, b), highest in _barriers(minima).items()]
    return min((b / other for far, b in pairs for near, other in pairs if far > near), default=np.inf)


def find_reversal(most: int = 10) -> list[int]:
    """The four whole numbers from 0 to `most` between which a barrier over a longer way is lowest beside one over a shorter way."""
    return [*min(([0, *rest] for rest in combinations(range(1, most + 1), 3)), key=worst_order)]


def _barriers(minima: Sequence[float]) -> dict[tuple[float, float], float]:
    """Of every two minima, in plain numbers, the highest stationary value in between: the loss is zero at both."""
    coefficients = np.poly([float(m) for m in (*minima, *minima)])
    stationary = np.roots(np.polyder(coefficients)).real  # a product of real squares has real stationary points only
    return {
        (a, b): float(np.polyval(coefficients, stationary[(stationary > a) & (stationary < b)]).max())
        for a, b in combinations(sorted(minima), 2)
    }


def diagonal_network_paths(w1: Sequence[float], w2: Sequence[float], alphas: np.ndarray) -> pd.DataFrame:
    r"""The loss $\tfrac12 (w_2 w_1 - 1)^2$ of a 1-D linear network along the joint path and four single-layer cuts.

    Args:
        w1: the two weights (first layer, second layer) of model 1.
        w2: those of model 2.
        alphas: the points (n,).

    Returns:
        `path`, `alpha`, `first`, `second` (the weights) and `loss`.

    Source:
        Layer-wise Linear Mode Connectivity, figure 3; the normalisation and the numbers are ours.

    Example:
        >>> paths = diagonal_network_paths((0.5, 2), (-2, -0.5), np.array([0.0, 0.5]))
        >>> paths[paths.path == "joint"].loss.round(6).tolist()  # (-0.75 * 0.75 - 1)^2 / 2 in the middle
        [0.0, 1.220703]
    """
    (a, b), (c, d) = w1, w2
    move_first, move_second = a + alphas * (c - a), b + alphas * (d - b)
    paths = {
        "joint": (move_first, move_second),
        "first layer into model 1": (move_first, b + 0 * alphas),
        "second layer into model 1": (a + 0 * alphas, move_second),
        "first layer into model 2": (move_first, d + 0 * alphas),
        "second layer into model 2": (c + 0 * alphas, move_second),
    }
    frames = [
        pd.DataFrame({"path": name, "alpha": alphas, "first": u, "second": v, "loss": (u * v - 1) ** 2 / 2})
        for name, (u, v) in paths.items()
    ]
    return pd.concat(frames, ignore_index=True)


def bent_but_low() -> sympy.Expr:
    r"""A loss on $[0, 1]$ that lies under its chord everywhere and is not convex: $4\theta(\theta - 1) + 0.9\sin^2(2\pi\theta)/2$.

    A negative barrier does not imply convexity; convexity does imply a barrier that is nowhere positive.

    Example:
        >>> loss = bent_but_low()
        >>> bool(loss.subs(T, 0.5) < 0), bool(sympy.diff(loss, T, 2).subs(T, 0.25) < 0)
        (True, True)
    """
    return 4 * T * (T - 1) + sympy.Rational(9, 20) * sympy.sin(2 * sympy.pi * T) ** 2


def least_curvature_below_chord() -> float:
    """The least second derivative of `bent_but_low`, whose barrier is nowhere positive.

    Example:
        >>> least_curvature_below_chord() < 0
        True
    """
    grid = np.linspace(0, 1, 201)
    if evaluate(barrier(bent_but_low(), 0, 1), grid).max() > 1e-12:  # rounding
        raise LmcError("bent_but_low: has a barrier, so it shows nothing")
    return float(sympy.lambdify(T, sympy.diff(bent_but_low(), T, 2))(grid).min())
