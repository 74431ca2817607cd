"""The claims about forking a network, as parts to be judged."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from lmclib.claims.verdicts import Part, parts_of
from lmclib.measures.barriers import barrier_height
from lmclib.measures.kinds import STABLE, KindRule, barrier_kind, barrier_shape

MONOTONE = -0.5  # Kendall's τ below which something falls with the fork epoch
TREATMENTS = {"interpolate": "interpolated statistics", "recompute": "recomputed statistics"}


def stable_from(errors: pd.Series, below: float = STABLE) -> float | None:
    """The first fork epoch from which on every error barrier is below 2 %; None where there is none.

    Example:
        >>> stable_from(pd.Series({0.0: 0.5, 1.0: 0.01, 2.0: 0.03, 5.0: 0.0}))
        5.0
    """
    return next((fork for fork in errors.index if (errors[errors.index >= fork] < below).all()), None)


def forking_claims(
    evolution: pd.DataFrame,
    final: pd.DataFrame,
    geometry: pd.DataFrame,
    long_curves: pd.DataFrame,
    long_geometry: pd.DataFrame,
) -> dict[str, list[Part]]:
    """F1, B1 to B5 and B7, as parts with a number a seed.

    Args:
        evolution: `barrier_evolution` of one pair a seed, training split, one treatment of statistics: the first fork over training,
            and the others at the end at least.
        final: the same at the end of training, for all forks and both treatments.
        geometry: `sibling_geometry` of the same pairs.
        long_curves: `barrier_evolution` at the end for the last fork alone, whose children trained as long as the first fork's
            (`schedule_after_fork="reset"`): what is left of a difference of forks if it is not one of training time.
        long_geometry: `sibling_geometry` of those.

    Returns:
        The parts of each claim; one that no seed can judge is left out.
    """
    train = final[final.split == "train"]
    first, last = train.fork_epoch.min(), train.fork_epoch.max()
    plain = train[train.norm_stats == "interpolate"]
    long = _heights(long_curves, "error")[last]
    claims = {
        "F1": _separated(train, first, last),
        "B1": _ridge(evolution, plain, long, first, last),
        "B2": _early(evolution, geometry, plain, first),
        "B3": _kinds(plain, first),
        "B4": [
            *_falls(geometry, long_geometry, "origin_angle", "degrees", "angle from the origin"),
            *_falls(geometry, long_geometry, "fork_angle", "degrees", "angle from the fork"),
        ],
        "B5": _planes(geometry, long_geometry),
        "B7": _falls(geometry, long_geometry, "distance", "distance", "distance"),
    }
    return {claim: parts for claim, parts in claims.items() if parts}


def _heights(curves: pd.DataFrame, of: str) -> pd.DataFrame:
    """Barrier heights: a row a seed, a column a fork."""
    return curves.groupby(["seed", "fork_epoch"]).apply(
        lambda curve: barrier_height(curve, of)["barrier"], include_groups=False
    ).unstack()  # fmt: skip


def _separated(train: pd.DataFrame, first: float, last: float) -> list[Part]:
    parts = []
    for treatment in train.norm_stats.unique():
        name = TREATMENTS[treatment]
        error = _heights(train[train.norm_stats == treatment], "error")
        unit = "error barrier at the end"
        rival = "any two siblings, however late they part: the last fork"
        parts += parts_of(
            {"name": f"parted at initialisation, separated; {name}", "values": error[first], "unit": unit,
             "threshold": STABLE, "rival": rival, "control": error[last]},
            {"name": f"the last fork, stable; {name}", "values": error[last], "unit": unit, "threshold": STABLE,
             "side": "below", "rival": "any two siblings: the first fork", "control": error[first]},
        )  # fmt: skip
    return parts


def _ridge(evolution: pd.DataFrame, plain: pd.DataFrame, long: pd.Series, first: float, last: float) -> list[Part]:
    end = _heights(plain, "error")
    late = evolution[(evolution.fork_epoch == first) & (evolution.epoch >= evolution.epoch.max() / 2)]
    lowest = (
        late.groupby(["seed", "epoch"])
        .apply(lambda curve: barrier_height(curve, "error")["barrier"], include_groups=False)
        .groupby("seed")
        .min()
    )
    return parts_of(
        {"name": "the first fork, from half of training on", "values": lowest, "threshold": KindRule().bump_below,
         "unit": "lowest error barrier of the measured epochs",
         "rival": "any pair late in training: the last fork at its end", "control": end[last]},
        {"name": "the last fork, trained as long as the first", "values": long, "threshold": STABLE, "side": "below",
         "unit": "error barrier at the end", "rival": "any pair that trains so long: the first fork",
         "control": end[first]},
    )  # fmt: skip


def _early(evolution: pd.DataFrame, geometry: pd.DataFrame, plain: pd.DataFrame, first: float) -> list[Part]:
    of_first = evolution[evolution.fork_epoch == first]
    over = of_first.groupby(["seed", "epoch"]).apply(
        lambda curve: barrier_height(curve, "loss")["barrier"], include_groups=False
    ).unstack()  # fmt: skip
    squared = geometry[geometry.fork_epoch == first].pivot_table(index="seed", columns="epoch", values="distance") ** 2
    end = over.columns[-1]
    middle = min(over.columns, key=lambda epoch: abs(epoch - end / 2))
    loss = _heights(plain, "loss")
    return parts_of(
        {"name": "stands at half of training", "values": over[middle] / over[end], "threshold": 0.5,
         "unit": f"loss barrier of the first fork at epoch {middle} over that at the end",
         "rival": "the siblings are far apart by then: squared distance, in place of the barrier",
         "control": squared[middle] / squared[end]},
        {"name": "the first fork's is the highest", "values": loss[first] - loss.drop(columns=first).max(axis=1),
         "threshold": 0, "unit": "nats above the highest of the other forks"},
    )  # fmt: skip


def _kinds(plain: pd.DataFrame, first: float) -> list[Part]:
    kinds, parabolas, widths = {}, {}, {"error": {}, "loss": {}}
    for seed, curves in plain.groupby("seed"):
        by_fork = [curve for _, curve in curves.groupby("fork_epoch")]
        kinds[seed] = len({barrier_kind(curve) for curve in by_fork})
        parabolas[seed] = len({barrier_kind(_parabola(curve)) for curve in by_fork})
        of_first = curves[curves.fork_epoch == first]
        for of, found in widths.items():
            found[seed] = barrier_shape(of_first, of)[1]
    return parts_of(
        {"name": "kinds over the forks", "values": kinds, "threshold": 2.5, "unit": "kinds of the four",
         "rival": "parabolas of the same heights, which have no shape of their own", "control": parabolas},
        *(
            {"name": f"the first fork's is wider than a parabola, in the {of}", "values": found, "threshold": 0.52,
             "unit": "share of the segment above ¾ of the height"}
            for of, found in widths.items()
        ),
    )  # fmt: skip


def _parabola(curve: pd.DataFrame) -> pd.DataFrame:
    height = curve.error_barrier.max()
    return curve.assign(error_barrier=4 * height * curve.alpha * (1 - curve.alpha))


def _falls(geometry: pd.DataFrame, long: pd.DataFrame, column: str, unit: str, name: str) -> list[Part]:
    """That something falls with the fork epoch, and that it still does where the children of both forks train equally long."""
    end = _at_the_end(geometry, column)
    several = end if end.shape[1] > 1 else end.iloc[:0]  # one fork has no order
    tau = {seed: _kendall(row.index, row) for seed, row in several.iterrows()}
    gap = end.iloc[:, 0] - _at_the_end(long, column).iloc[:, 0]
    return parts_of(
        {"name": f"{name}, over all forks", "values": tau, "threshold": MONOTONE, "side": "below",
         "unit": "Kendall's τ with the fork epoch"},
        {"name": f"{name}, children trained equally long", "values": gap, "threshold": 0,
         "unit": f"{unit} of the first fork less the last one's"},
    )  # fmt: skip


def _at_the_end(geometry: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row a seed, a column a fork."""
    last = geometry.sort_values("epoch").groupby(["seed", "fork_epoch"]).last()
    return last[column].unstack()


def _planes(geometry: pd.DataFrame, long: pd.DataFrame) -> list[Part]:
    forks = sorted(geometry.fork_epoch.unique())
    first = geometry[geometry.fork_epoch == forks[0]]
    others = {
        "the middle fork": geometry[geometry.fork_epoch == forks[len(forks) // 2]],
        "the last fork": geometry[geometry.fork_epoch == forks[-1]],
        "the last fork, children trained equally long": long,
    }
    return parts_of(
        *(
            {"name": f"sooner than {name}", "values": planes_ahead(first, other), "threshold": 0,
             "unit": "plane cosine of the first fork less the other's, mean over equal ages"}
            for name, other in others.items()
        )
    )  # fmt: skip


def planes_ahead(first: pd.DataFrame, other: pd.DataFrame) -> Mapping[int, float]:
    """By how much one plane cosine exceeds another at the same ages, before either is at its end, of one fork each; by seed."""
    found = {}
    for seed, rows in other.groupby("seed"):
        own = first[first.seed == seed].sort_values("child_epoch")
        rows = rows.sort_values("child_epoch").iloc[:-1]
        rows = (
            rows[rows.child_epoch.between(own.child_epoch.iloc[0], own.child_epoch.iloc[-2])]
            if len(own) > 1
            else rows[:0]
        )
        level = np.interp(rows.child_epoch, own.child_epoch, own.plane_cosine)
        found[seed] = float(np.mean(level - rows.plane_cosine)) if len(rows) else float("nan")
    return found


def _kendall(one: Iterable[float], other: Iterable[float]) -> float:
    r"""Kendall's $\tau_b$, the cosine between the signs of all differences: loading SciPy's takes a reader of the chapter a second.

    Example:
        >>> round(_kendall([1, 2, 3], [5, 7, 6]), 3), _kendall([1, 2, 3], [3, 2, 1])  # two pairs of three are in order
        (0.333, -1.0)
    """
    signs = []
    for values in (one, other):
        values = np.asarray(list(values), dtype=float)
        signs.append(np.sign(values[:, None] - values).ravel())
    a, b = signs
    lengths = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / lengths) if lengths else np.nan  # no order where all are equal
