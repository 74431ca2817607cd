"""The claims about forking a network, judged."""

from collections.abc import Callable

import pandas as pd

from lmclib.measures.barriers import barrier_height
from lmclib.measures.kinds import STABLE, barrier_kind


def stable_from(errors: pd.Series, below: float = STABLE) -> float | None:
    """The first fork epoch from which on every error barrier is below 2 %; None where there is none.

    Example:
        >>> stable_from(pd.Series({0.0: 0.5, 1.0: 0.01, 2.0: 0.03, 5.0: 0.0}))
        5.0
    """
    return next((fork for fork in errors.index if (errors[errors.index >= fork] < below).all()), None)


def forking_claims(evolution: pd.DataFrame, geometry: pd.DataFrame) -> dict[str, dict]:
    """Judge F1 and B1 to B5 and B7 from barrier curves over training and the siblings' geometry.

    Args:
        evolution: `barrier_evolution` of one pair a seed, training split, one treatment of statistics.
        geometry: `sibling_geometry` of the same pairs.

    Returns:
        For each claim `holds`, `measured`, `values`, `unit` and `figure`, as `judge` takes them.
    """
    seeds = [
        _Seed(evolution[evolution.seed == seed], geometry[geometry.seed == seed]) for seed in evolution.seed.unique()
    ]

    def claim(
        holds: Callable, measured: Callable, values: Callable, unit: str, figure: str, join: str = ", "
    ) -> dict[str, object]:
        return {
            "holds": {seed.name: holds(seed) for seed in seeds},
            "measured": "by seed: " + join.join(measured(seed) for seed in seeds),
            "values": [float(values(seed)) for seed in seeds],
            "unit": unit,
            "figure": figure,
        }

    return {
        "F1": claim(
            lambda s: bool(s.error[s.forks[0]] > STABLE and stable_from(s.error) is not None),
            lambda s: (
                "never stable" if stable_from(s.error) is None else f"stable from fork {stable_from(s.error):.2g}"
            ),
            lambda s: s.error[s.forks[0]],
            "error barrier at the first fork",
            "fig-against-fork",
        ),
        "B1": claim(
            lambda s: all("ridge" in kind for kind in s.late_kinds) and bool(s.error[s.forks[-1]] < STABLE),
            lambda s: f"first fork {' → '.join(s.late_kinds)}, last fork ends at {s.error[s.forks[-1]]:.1%}",
            lambda s: s.mid_error,
            "error barrier of the first fork in mid-training",
            "fig-evolution",
            "; ",
        ),
        "B2": claim(
            lambda s: bool(
                s.loss[s.forks[0]] > max(s.loss[s.forks[len(s.forks) // 2]], s.loss[s.forks[-1]])
                and s.mid_loss >= s.loss[s.forks[0]] / 2
            ),
            lambda s: f"{s.mid_loss:.2f} nats in mid-training, {s.loss[s.forks[0]]:.2f} at the end",
            lambda s: s.loss[s.forks[0]],
            "nats, final loss barrier of the first fork",
            "fig-evolution",
            "; ",
        ),
        "B3": claim(
            lambda s: len(set(s.kinds)) >= 3,
            lambda s: " → ".join(s.kinds),
            lambda s: len(set(s.kinds)),
            "kinds",
            "fig-kinds",
            "; ",
        ),
        "B4": claim(
            lambda s: [s.first.origin_angle > s.last.origin_angle, s.first.fork_angle > s.last.fork_angle],
            lambda s: (
                f"at the origin {s.first.origin_angle:.0f}° → {s.last.origin_angle:.0f}°, "
                f"at the fork {s.first.fork_angle:.0f}° → {s.last.fork_angle:.0f}°"
            ),
            lambda s: s.first.origin_angle - s.last.origin_angle,
            "degrees that the angle at the origin falls",
            "fig-geometry",
            "; ",
        ),
        "B5": claim(
            lambda s: [first > other for first, other in s.planes],
            lambda s: ", ".join(
                f"{first:.2f} against the {name} fork's {other:.2f}"
                for name, (first, other) in zip(("middle", "last"), s.planes, strict=True)
            ),
            lambda s: s.planes[0][0] - s.planes[0][1],
            "cosine of the first fork less that of the middle one, at the same child epoch",
            "fig-geometry",
            "; ",
        ),
        "B7": claim(
            lambda s: bool(s.first.distance > s.last.distance),
            lambda s: f"{s.first.distance:.1f} → {s.last.distance:.1f}",
            lambda s: s.first.distance - s.last.distance,
            "by which the distance falls from the first fork to the last",
            "fig-geometry",
        ),
    }


class _Seed:
    """What the rules judge, of one seed: `loss` and `error` are final barriers by fork epoch."""

    def __init__(self, evolution: pd.DataFrame, geometry: pd.DataFrame):
        self.name = int(evolution.seed.iloc[0])
        curves = dict(list(evolution.groupby(["fork_epoch", "epoch"])))
        epochs = sorted(evolution.epoch.unique())
        end, middle = epochs[-1], epochs[len(epochs) // 2]
        self.forks = sorted(evolution.fork_epoch.unique())
        self.loss, self.error = (
            pd.Series({fork: barrier_height(curves[fork, end], of)["barrier"] for fork in self.forks})
            for of in ("loss", "error")
        )
        self.kinds = [barrier_kind(curves[fork, end]) for fork in self.forks]
        first = self.forks[0]
        self.late_kinds = [barrier_kind(curves[first, epoch]) for epoch in epochs if epoch >= middle]
        self.mid_loss, self.mid_error = (
            barrier_height(curves[first, middle], of)["barrier"] for of in ("loss", "error")
        )
        early, middle_fork, late = (
            geometry[geometry.fork_epoch == fork].sort_values("epoch")
            for fork in (first, self.forks[len(self.forks) // 2], self.forks[-1])
        )
        self.first, self.last = early.iloc[-1], late.iloc[-1]
        self.planes = [_at_one_age(early, other) for other in (middle_fork, late)]


def _at_one_age(early: pd.DataFrame, other: pd.DataFrame) -> tuple[float, float]:
    """Both forks' plane cosines at the same age: the other's first epoch, and the early fork's nearest to it."""
    age = other.child_epoch.iloc[0]
    nearest = early.iloc[(early.child_epoch - age).abs().argmin()]
    return float(nearest.plane_cosine), float(other.plane_cosine.iloc[0])
