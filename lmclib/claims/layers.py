"""The claims about layer-wise barriers, judged."""

import pandas as pd

from lmclib.measures.kinds import STABLE
from lmclib.measures.layerwise import NETWORK

TENTH = 0.1  # of the full barrier: what "almost none" means in a single layer


def layer_claims(
    siblings: pd.DataFrame, low: pd.DataFrame, stairs: pd.DataFrame, windows: pd.DataFrame
) -> dict[str, dict]:
    """Judge A1, A2, A12 and A13 at the end of training, siblings of the first fork, training split, against `models`.

    Args:
        siblings: `layer_table`, a pair a seed.
        low: the same at a low learning rate.
        stairs: `staircase_table` of the siblings.
        windows: `window_barriers` of the siblings, a third of the layers wide.

    Returns:
        For each claim `holds`, `measured`, `values`, `unit` and `figure`, as `judge` takes them.
    """
    full = _full(siblings, "loss_barrier")
    return {
        "A1": _single_layers(siblings),
        "A2": _middle(stairs, full),
        "A12": _learning_rate(siblings, low),
        "A13": _windows(windows, full, siblings.layer.nunique() - 1),
    }


def _full(table: pd.DataFrame, of: str) -> pd.Series:
    """The whole network's barrier of each seed."""
    whole = table[(table.layer == NETWORK) & (table["into"] == "both")]
    return whole.set_index("seed")[of]


def _single_layers(table: pd.DataFrame) -> dict:
    holds, said, parts = {}, [], []
    full_error = _full(table, "error_barrier")
    for seed in full_error.index:
        own = table[(table.seed == seed) & (table.layer != NETWORK) & (table["into"] != "both")]
        share = {of: own[of].max() / _full(table, of)[seed] for of in ("loss_barrier", "error_barrier")}
        holds[seed] = [bool(full_error[seed] > STABLE and part < TENTH) for part in share.values()]
        worst = own.loc[own.loss_barrier.idxmax()].layer
        said.append(f"loss {share['loss_barrier']:.0%} ({worst}), error {share['error_barrier']:.0%}")
        parts.append(share["loss_barrier"])
    return {
        "holds": holds,
        "measured": "worst single layer, of the full barrier, by seed: " + "; ".join(said),
        "values": parts,
        "unit": "the worst single layer's part of the full loss barrier",
        "figure": "fig-shares",
    }


def _middle(stairs: pd.DataFrame, full: pd.Series) -> dict:
    """What adding the middle third of the layers does to the barrier, as a part of the full one."""
    depth = int(stairs.n_layers.max())
    holds, said, parts = {}, [], []
    for seed in full.index:
        rises = []
        for order in ("bottom-up", "top-down"):
            rows = stairs[(stairs.seed == seed) & (stairs.order == order) & (stairs["into"] == "1")]
            at = rows.set_index("n_layers").loss_barrier
            rises.append((at[depth - depth // 3] - at[depth // 3]) / full[seed])
        holds[seed] = [bool(rise > 0.5) for rise in rises]
        said.append(f"{rises[0]:.0%} bottom-up, {rises[1]:.0%} top-down")
        parts.append(sum(rises) / 2)
    return {
        "holds": holds,
        "measured": "rise over the middle third of the layers, of the full barrier, by seed: " + "; ".join(said),
        "values": parts,
        "unit": "part of the full barrier that the middle third adds, mean of both orders",
        "figure": "fig-staircases",
    }


def _learning_rate(table: pd.DataFrame, low: pd.DataFrame) -> dict:
    full = [_full(one, "loss_barrier") for one in (table, low)]
    apart = abs(full[0].mean() - full[1].mean()) > full[0].std() + full[1].std()
    worst = []
    for one in (table, low):
        own = one[(one.layer != NETWORK) & (one["into"] == "both")]
        worst.append(own.groupby("layer", sort=False).loss_barrier.mean().idxmax())
    return {
        "holds": {"both rates": [bool(apart), worst[0] != worst[1]]},
        "measured": f"full barrier {full[0].mean():.3g} ± {full[0].std():.2g} nats, worst layer {worst[0]}; at the low rate "
        f"{full[1].mean():.3g} ± {full[1].std():.2g}, worst layer {worst[1]}",
        "values": (full[0] - full[1]).tolist(),
        "unit": "nats that the full loss barrier falls with the rate",
        "figure": "fig-layers",
    }


def _windows(windows: pd.DataFrame, full: pd.Series, depth: int) -> dict:
    rows = windows[windows["into"] == "both"]
    share = (rows.loss_barrier / rows.seed.map(full)).groupby([rows.layer, rows.seed], sort=False).mean().unstack()
    best = share.mean(axis=1).idxmax()
    equal = rows.n_layers.iloc[0] / depth
    highest = share.loc[best]
    return {
        "holds": {"all seeds": bool(highest.mean() - equal > highest.std())},
        "measured": f"the {rows.n_layers.iloc[0]} layers from {best} on alone make {highest.mean():.0%} of the full barrier; an equal share is {equal:.0%}",
        "values": highest.tolist(),
        "unit": "part of the full barrier",
        "figure": "fig-windows",
    }
