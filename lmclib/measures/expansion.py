"""From derivatives at the two ends of a line to the barrier between them: Taylor polynomials and two-point interpolation."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from math import factorial

import numpy as np
import torch
from torch import Tensor

from lmclib.cube.points import LayerCube
from lmclib.networks.differentiable import jet

EXPANSIONS = {"published": 2, "gradient": 2, "taylor3": 3, "taylor4": 4}  # the order of each end's expansion
INTERPOLATIONS = {"hermite": 2, "logit-cubic": 1, "logit-quintic": 2}  # derivatives taken at both ends
METHODS = (*EXPANSIONS, *INTERPOLATIONS)
OF_OUTPUTS = ("taylor3", "taylor4", "logit-cubic", "logit-quintic")  # take the derivatives of the outputs


def predict_barriers(
    cube: LayerCube, corner: Tensor, grid: np.ndarray, methods: Sequence[str]
) -> dict[str, np.ndarray]:
    """One set's barrier by several methods from the same derivatives, in the weighted form: into model 1, into model 2.

    Args:
        cube: the layer cube.
        corner: 1 for the layers of the set, 0 for the others (L,).
        grid: alphas (n,).
        methods: some of `METHODS`.

    Returns:
        Barriers (n,) by method.
    """
    t, ones = torch.as_tensor(grid).to(cube.device), torch.ones_like(corner)
    far = max((INTERPOLATIONS[m] for m in methods if m in INTERPOLATIONS), default=None)
    near = max(far or 0, *(EXPANSIONS.get(m, 0) for m in methods))
    # the loss's own derivatives up to the second are quicker by backward passes than from those of all outputs
    make = _End if any(m in OF_OUTPUTS for m in methods) else _LossEnd
    one, two = (make(cube, end, corner, near) for end in (0 * ones, ones))
    cuts = (one, two), (one, two)
    if far is not None and not bool((corner == 1).all()):  # on the full path both cuts are the one path
        far1, far2 = (make(cube, end, corner, far) for end in (corner, ones - corner))
        cuts = (one, far1), (far2, two)
    barriers = {}
    for method in methods:
        if method in EXPANSIONS:
            into1, into2 = (_expansion(end.terms, step, method) for end, step in ((one, t), (two, t - 1)))
        else:
            curves = [_interpolation(*cut, t, method) for cut in cuts]
            into1, into2 = (curve[:-2] - curve[k] for curve, k in zip(curves, (-2, -1), strict=True))
        barriers[method] = ((1 - t) * into1 + t * into2).cpu().numpy()
    return barriers


class _LossEnd:
    """One end of a line: the loss and its first two derivatives along it."""

    def __init__(self, cube: LayerCube, at: Tensor, direction: Tensor, order: int):
        self.terms = cube.derivatives.along(at, direction).to(cube.device)


class _End:
    """One end of a line: the outputs' derivatives along it, batch by batch, and the loss's, from one pass over them."""

    def __init__(self, cube: LayerCube, at: Tensor, direction: Tensor, order: int):
        self.cube, self.jets = cube, list(cube.derivatives.jets(at, direction, order))

    @cached_property
    def terms(self) -> Tensor:
        """The loss and its derivatives along the line."""
        return _mean(self.jets, lambda outputs, y: _loss_jet(self.cube, outputs, y))


def _expansion(terms: Tensor, t: Tensor, method: str) -> Tensor:
    """How much the loss changes over steps t (n,) by its Taylor polynomial at an end."""
    first = 2 if method == "published" else 1
    return sum(terms[k] * t**k / factorial(k) for k in range(first, EXPANSIONS[method] + 1))


def _interpolation(start: _End, stop: _End, t: Tensor, method: str) -> Tensor:
    """The loss at t (n,) and at both ends by two-point interpolation, (n + 2,)."""
    points, order = torch.cat([t, t.new_tensor([0.0, 1.0])]), INTERPOLATIONS[method] + 1
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
