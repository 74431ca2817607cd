"""The claims about forking under other hyper-parameters, as parts to be judged: each change of the recipe apart."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from lmclib.claims.forking import forking_claims, planes_ahead
from lmclib.claims.verdicts import Part, parts_of

VARIED = ("B1", "B2", "B4", "B5", "B7")  # of which the paper shows variants


@dataclass(frozen=True)
class Forked:
    """What was measured of a forking experiment with one recipe, as `forking_claims` takes it."""

    evolution: pd.DataFrame
    final: pd.DataFrame
    geometry: pd.DataFrame
    long_curves: pd.DataFrame
    long_geometry: pd.DataFrame


def recipe_claims(usual: Forked, changed: Mapping[str, Forked], slow: str) -> dict[str, list[Part]]:
    """B1, B2, B4, B5 and B7 with other recipes, and what the paper says of a lower learning rate.

    Args:
        usual: with the recipe of the chapter on forking.
        changed: with another one, by what the change is called.
        slow: the name of the one with the lower rate.

    Returns:
        The parts of each claim; one that no seed can judge is left out.
    """
    claims: dict[str, list[Part]] = {claim: [] for claim in VARIED}
    for case, found in changed.items():
        parts = forking_claims(found.evolution, found.final, found.geometry, found.long_curves, found.long_geometry)
        for claim in VARIED:
            claims[claim] += [replace(part, name=f"{part.name}; {case}") for part in parts.get(claim, [])]
    if slow in changed:
        claims["B4"] += _smaller_angles(usual.geometry, changed[slow].geometry)
        claims["B5"] += _sooner(usual.geometry, changed[slow].geometry)
    return {claim: parts for claim, parts in claims.items() if parts}


def _smaller_angles(usual: pd.DataFrame, slow: pd.DataFrame) -> list[Part]:
    """That siblings end at smaller angles at a lower rate, beside what they are nearer by: the angle about the fork does not know how far."""
    gaps = {
        column: (_at_the_end(usual, column) - _at_the_end(slow, column)).dropna().groupby("seed").mean()
        for column in ("origin_angle", "fork_angle")
    }
    return parts_of(
        {"name": "angle from the origin, smaller at the lower rate", "values": gaps["origin_angle"], "threshold": 0,
         "unit": "degrees at the higher rate less those at the lower one, mean over forks",
         "rival": "children that merely went less far: the angle from the fork, which no length changes",
         "control": gaps["fork_angle"]},
    )  # fmt: skip


def _sooner(usual: pd.DataFrame, slow: pd.DataFrame) -> list[Part]:
    """That planes are fixed sooner at a lower rate, at equal ages of children of the same fork."""
    ahead = {}
    for fork in sorted(set(usual.fork_epoch) & set(slow.fork_epoch)):
        both = (table[table.fork_epoch == fork] for table in (slow, usual))
        for seed, value in planes_ahead(*both).items():
            ahead.setdefault(seed, []).append(value)
    means = pd.DataFrame(ahead).mean()
    return parts_of(
        {"name": "sooner at the lower rate", "values": means, "threshold": 0,
         "unit": "plane cosine at the lower rate less that at the higher one, mean over ages and forks"},
    )  # fmt: skip


def _at_the_end(geometry: pd.DataFrame, column: str) -> pd.Series:
    return geometry.sort_values("epoch").groupby(["seed", "fork_epoch"])[column].last()
