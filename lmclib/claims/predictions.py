"""The claims about predicting barriers, as parts to be judged."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from lmclib.claims.verdicts import Part, parts_of
from lmclib.measures.agreement import agreement

BALLPARK, MATTERS = 2, 0.01  # a factor; nats, below which a barrier's prediction is not judged
AS_CHEAP = 1.5  # of Proposition 1's cost in counted passes
GOOD = 0.8  # a rank correlation
FEWEST = 5  # sets of one size that a rank correlation is taken over


def prediction_claims(
    forks: pd.DataFrame | None = None,
    geometry: pd.DataFrame | None = None,
    layers: pd.DataFrame | None = None,
    sets: pd.DataFrame | None = None,
) -> dict[str, list[Part]]:
    """B6, B8, B9 and B10, as parts with a number a seed; those of what is measured.

    Args:
        forks: the full path by `published` at the end of training: `case`, `seed`, `fork_epoch`, `predicted`, `actual`.
        geometry: the siblings' distance there: `case`, `seed`, `fork_epoch`, `distance`.
        layers: single layers over forks and epochs: `seed`, `fork_epoch`, `epoch`, `layer`, `barrier`, `energy`, `distance`,
            `parameters`.
        sets: sets of layers at the end of training: `seed`, `set`, `n_layers`, `predicted`, `actual`; single layers among them.

    Returns:
        The parts of each claim; one that no seed can judge is left out.
    """
    claims = {
        **({} if forks is None or geometry is None else {"B6": _ballpark(forks, geometry)}),
        **({} if layers is None else {"B8": _layers(layers), "B9": _both_needed(layers)}),
        **({} if sets is None else {"B10": _sets(sets)}),
    }
    return {claim: parts for claim, parts in claims.items() if parts}


def better_predictor_claim(table: pd.DataFrame, cost: pd.Series) -> list[Part]:
    """B12b from the full path by several methods (`method`, `seed`, `predicted`, `actual`) and each method's cost in passes."""
    rivals = [m for m in cost.index if m != "published" and cost[m] <= AS_CHEAP * cost["published"]]
    gain, nothing = {}, {}
    for seed, rows in table.groupby("seed"):
        off = {m: agreement(own.predicted, own.actual).relative_error for m, own in rows.groupby("method")}
        best = min((off[m] for m in rivals if m in off), default=float("nan"))
        gain[seed], nothing[seed] = best - off["published"], -off["published"]
    return parts_of(
        {"name": "at most half more passes than Proposition 1", "values": gain, "threshold": 0, "side": "below",
         "unit": "median relative error, less Proposition 1's",
         "rival": "the midpoint itself, evaluated", "control": nothing},
    )  # fmt: skip


def _ballpark(forks: pd.DataFrame, geometry: pd.DataFrame) -> list[Part]:
    """The median factor by which a prediction is off, beside a curvature that is the same for all pairs of other seeds."""
    keys = ["case", "seed", "fork_epoch"]
    table = forks.merge(geometry[[*keys, "distance"]], on=keys)
    table = table[table.actual > MATTERS].assign(bent=lambda rows: rows.actual / rows.distance**2)
    wanted = []
    for case, rows in table.groupby("case", sort=False):
        factor, rival = {}, {}
        for seed, own in rows.groupby("seed"):
            others = rows[rows.seed != seed].bent.median()
            factor[seed] = _factor(own.predicted, own.actual)
            rival[seed] = _factor(others * own.distance**2, own.actual)
        wanted.append(
            {"name": str(case), "values": factor, "threshold": BALLPARK, "side": "below",
             "unit": "median factor by which forks are off, up or down",
             "rival": "squared distance times the median curvature of the other seeds", "control": rival}
        )  # fmt: skip
    return parts_of(*wanted)


def _factor(predicted: pd.Series, actual: pd.Series) -> float:
    """The median of max(p/a, a/p); infinite where a prediction has the wrong sign, which the median bears."""
    ratio = (predicted / actual).where(lambda r: r > 0)
    return float(np.maximum(ratio, 1 / ratio).fillna(np.inf).median())


def _correlation(layers: pd.DataFrame, of: str) -> dict[int, float]:
    """Rank correlation over layers with the barrier, the median over forks and epochs, by seed."""
    found: dict[int, list[float]] = {}
    for (seed, _, _), rows in layers.groupby(["seed", "fork_epoch", "epoch"]):
        found.setdefault(seed, []).append(rows[of].corr(rows.barrier, method="spearman"))
    return {seed: float(np.median(values)) for seed, values in found.items()}


def _looks(layers: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    last = layers.groupby(["seed", "fork_epoch"]).epoch.transform("max")
    return {"at the end of training": layers[layers.epoch == last], "over training": layers[layers.epoch < last]}


def _layers(layers: pd.DataFrame) -> list[Part]:
    rivals = {"distance": "squared distance alone", "parameters": "the number of parameters alone"}
    return parts_of(
        *(
            {"name": f"{when}, against {rivals[rival]}", "values": _correlation(rows, "energy"),
             "threshold": GOOD, "unit": "rank correlation over layers, median over forks and epochs",
             "rival": rivals[rival], "control": _correlation(rows, rival)}
            for when, rows in _looks(layers).items()
            for rival in rivals
        )
    )  # fmt: skip


def _both_needed(layers: pd.DataFrame) -> list[Part]:
    layers = layers.assign(curvature=layers.energy / layers.distance**2)
    wanted = []
    for when, rows in _looks(layers).items():
        rho = pd.DataFrame(
            {of: pd.Series(_correlation(rows, of), dtype=float) for of in ("energy", "curvature", "distance")}
        )
        wanted.append(
            {"name": when, "values": rho.energy - rho[["curvature", "distance"]].max(axis=1), "threshold": 0,
             "unit": "rank correlation of the energy, less the better one's of curvature alone and squared distance alone"}
        )  # fmt: skip
    return parts_of(*wanted)


def _sets(sets: pd.DataFrame) -> list[Part]:
    """Ranks among sets of one size, and heights, beside the sum of the layers' own measured, or predicted, barriers."""
    found: dict[str, dict] = {name: {} for name in ("ranks", "rank sums", "rank own", "off", "off sums")}
    for seed, rows in sets.groupby("seed"):
        single = rows[rows.n_layers == 1].assign(layer=lambda r: r.set.str.index("1")).set_index("layer").sort_index()
        members = np.array([[int(digit) for digit in key] for key in rows.set])[:, single.index]
        rows = rows.assign(measured=members @ single.actual.to_numpy(), own=members @ single.predicted.to_numpy())
        several = rows[rows.n_layers.between(2, rows.n_layers.max() - 1)]
        for name, of in (("ranks", "predicted"), ("rank sums", "measured"), ("rank own", "own")):
            found[name][seed] = _over_sizes(several, lambda own, of=of: own[of].corr(own.actual, method="spearman"))
        for name, of in (("off", "predicted"), ("off sums", "measured")):
            found[name][seed] = _over_sizes(several, lambda own, of=of: agreement(own[of], own.actual).relative_error)
    ranks = {"values": found["ranks"], "threshold": GOOD, "unit": "rank correlation within one size, mean over sizes"}
    measured, own = "the sum of the layers' own measured barriers", "the sum of the layers' own predicted barriers"
    return parts_of(
        {"name": f"ranks, against {measured}", **ranks, "rival": measured, "control": found["rank sums"]},
        {"name": f"ranks, against {own}", **ranks, "rival": own, "control": found["rank own"]},
        {"name": "heights", "values": found["off"], "threshold": 0.5, "side": "below",
         "unit": "median relative error within one size, mean over sizes", "rival": measured, "control": found["off sums"]},
    )  # fmt: skip


def sizes_of(sets: pd.DataFrame) -> list[int]:
    """The numbers of layers of which there are sets enough to compare: `n_layers`, `set`."""
    counts = sets.drop_duplicates("set").n_layers.value_counts()
    return sorted(int(size) for size, count in counts.items() if count >= FEWEST)


def _over_sizes(rows: pd.DataFrame, look: Callable[[pd.DataFrame], float]) -> float:
    """The mean over sizes, as what is true of pairs need not be of larger sets."""
    distinct = rows.drop_duplicates("set")
    found = [look(distinct[distinct.n_layers == size]) for size in sizes_of(distinct)]
    return float(np.nanmean(found)) if found else float("nan")
