"""The claims about predicting barriers, judged."""

import pandas as pd

from lmclib.measures.agreement import agreement

BALLPARK, MATTERS = 2, 0.01  # a factor; nats, below which a barrier's prediction is not judged
AS_CHEAP = 1.5  # of Proposition 1's cost in counted passes


def prediction_claims(forks: pd.DataFrame, layers: pd.DataFrame, steps: pd.DataFrame) -> dict[str, dict]:
    """Judge B6, B8, B9 and B10; B6 is left out where no barrier is high enough to be judged.

    Args:
        forks: the full path by `published` at the end of training: `case` (the first two are judged), `seed`, `fork_epoch`,
            `predicted`, `actual`.
        layers: single layers over forks and epochs: `seed`, `fork_epoch`, `epoch`, `layer`, `barrier`, `energy`, `distance`.
        steps: steps of staircases: `seed`, `predicted`, `actual`.

    Returns:
        For each claim `holds`, `measured`, `values`, `unit` and `figure`, as `judge` takes them.
    """
    claims = {"B6": _ballpark(forks), "B8": _layers(layers), "B9": _both_needed(layers), "B10": _staircases(steps)}
    return {name: claim for name, claim in claims.items() if claim["holds"]}


def better_predictor_claim(table: pd.DataFrame, cost: pd.Series) -> dict:
    """Judge B12b from the full path by several methods (`method`, `seed`, `predicted`, `actual`) and each method's cost."""
    rivals = [m for m in cost.index if m != "published" and cost[m] <= AS_CHEAP * cost["published"]]
    holds, said, factors = {}, [], []
    for seed, rows in table.groupby("seed"):
        off = {m: agreement(own.predicted, own.actual).relative_error for m, own in rows.groupby("method")}
        best = min(rivals, key=off.get, default=None)
        holds[int(seed)] = best is not None and off[best] < off["published"]
        said.append(f"{best} {off[best]:.0%} against {off['published']:.0%}" if best else "no method is as cheap")
        factors.append(off["published"] / off[best] if best else float("nan"))
    return {
        "holds": holds,
        "measured": "median relative error by seed: " + "; ".join(said),
        "values": factors,
        "unit": "times smaller error than Proposition 1's at about its cost or less",
        "figure": "fig-price",
    }


def _ballpark(forks: pd.DataFrame) -> dict:
    cases = list(forks["case"].unique())[:2]
    chosen = forks[forks["case"].isin(cases) & (forks.actual > MATTERS)]
    ratio = chosen.predicted / chosen.actual
    near = ratio.between(1 / BALLPARK, BALLPARK).groupby([chosen.seed, chosen["case"]], sort=False).mean()
    # a seed without such a barrier in one of the cases is judged by the other
    by_seed = {int(seed): part.droplevel(0) for seed, part in near.groupby(level=0)}
    return {
        "holds": {seed: [bool(share > 0.5) for share in part] for seed, part in by_seed.items()},
        "measured": "forks within a factor of two, by seed: "
        + "; ".join(", ".join(f"{case} {share:.0%}" for case, share in part.items()) for part in by_seed.values()),
        "values": ratio.groupby(chosen.seed).median().tolist(),
        "unit": "median of predicted over actual",
        "figure": "fig-prediction",
    }


def _layers(layers: pd.DataFrame) -> dict:
    moments = layers.groupby(["seed", "fork_epoch", "epoch"])[["energy", "barrier"]].apply(
        lambda rows: rows.energy.corr(rows.barrier, method="spearman")
    )
    by_seed = moments.groupby("seed").median()
    return {
        "holds": {int(seed): bool(value > 0.8) for seed, value in by_seed.items()},
        "measured": "by seed: " + ", ".join(f"{value:.2f}" for value in by_seed),
        "values": by_seed.tolist(),
        "unit": "median rank correlation over layers",
        "figure": "fig-triptych",
    }


def _both_needed(layers: pd.DataFrame) -> dict:
    layers = layers.assign(squared=layers.distance**2, curvature=layers.energy / layers.distance**2)
    rho = {
        int(seed): {
            what: rows[what].corr(rows.barrier, method="spearman") for what in ("energy", "curvature", "squared")
        }
        for seed, rows in layers.groupby("seed")
    }
    return {
        "holds": {
            seed: [bool(r["energy"] > r[other]) for other in ("curvature", "squared")] for seed, r in rho.items()
        },
        "measured": "rank correlation with the layer barrier by seed: "
        + "; ".join(
            f"energy {r['energy']:.2f}, curvature alone {r['curvature']:.2f}, squared distance alone {r['squared']:.2f}"
            for r in rho.values()
        ),
        "values": [r["energy"] - max(r["curvature"], r["squared"]) for r in rho.values()],
        "unit": "by which the energy's rank correlation exceeds the better one's of the two",
        "figure": "fig-triptych",
    }


def _staircases(steps: pd.DataFrame) -> dict:
    by_seed = {int(seed): agreement(rows.predicted, rows.actual) for seed, rows in steps.groupby("seed")}
    return {
        "holds": {seed: bool(a.spearman > 0.8) for seed, a in by_seed.items()},
        "measured": "by seed: "
        + "; ".join(f"ρ {a.spearman:.2f}, predicted over actual {a.ratio:.2f}" for a in by_seed.values()),
        "values": [a.spearman for a in by_seed.values()],
        "unit": "rank correlation over the steps of all staircases",
        "figure": "fig-energy-matrix",
    }
