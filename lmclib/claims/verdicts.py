"""Verdicts: what a claim's rule says of what was measured."""

from collections.abc import Mapping, Sequence

import numpy as np

from lmclib.claims.catalogue import CLAIMS
from lmclib.errors import LmcError

VERDICTS = ("holds", "holds in part", "fails", "not run yet")


def verdict(holds: Mapping[object, bool | Sequence[bool]]) -> str:
    """The verdict on parts or replicates: holds (all), holds in part (some), fails (none).

    Example:
        >>> verdict({0: True, 1: True}), verdict({0: [True, False]}), verdict({0: False})
        ('holds', 'holds in part', 'fails')
    """
    parts = [bool(part) for value in holds.values() for part in (value if isinstance(value, list | tuple) else [value])]
    if not parts:
        raise LmcError(f"holds={dict(holds)}: must have at least one replicate")
    return "holds" if all(parts) else "holds in part" if any(parts) else "fails"


def judged(
    claim: str,
    holds: Mapping[object, bool | Sequence[bool]],
    measured: str,
    values: Sequence[float],
    unit: str,
    scale: str,
    figure: str,
) -> dict[str, str]:
    """The row of a claim that was measured.

    Args:
        claim: the claim's ID.
        holds: whether the rule is met, for each seed or case; a list where it has parts.
        measured: what was measured, in words and figures made from the tables.
        values: the figure whose spread is told, one a replicate; none where the result is exact.
        unit: what the values are.
        scale: model, data and length of the runs.
        figure: the name of the figure that shows it.

    Raises:
        LmcError: an unknown claim, or nothing to judge.
    """
    if claim not in CLAIMS:
        raise LmcError(f"claim={claim!r}: must be one of {', '.join(CLAIMS)}")
    numbers = np.asarray(values, dtype=float)
    spread = f" ± {numbers.std(ddof=1):.3g}" if len(numbers) > 1 else ""
    told = f"{numbers.mean():.3g}{spread} {unit} (n = {len(numbers)})" if len(numbers) else "exact, no spread"
    return {
        "claim": claim,
        "verdict": verdict(holds),
        "measured": measured,
        "spread": told,
        "scale": scale,
        "figure": figure,
    }
