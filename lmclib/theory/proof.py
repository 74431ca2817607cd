"""Theorem 4.1 on single layers of deep linear networks, with symbols for all weights and data."""

from collections.abc import Sequence

import pandas as pd
import sympy


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
