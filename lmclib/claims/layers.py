"""The claims about layer-wise barriers, as parts to be judged."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from lmclib.claims.verdicts import Part, parts_of
from lmclib.measures.kinds import STABLE
from lmclib.measures.layerwise import NETWORK

FIRST_BLOCK = "stages.0."  # how the names of a residual network's first block begin; the stem is before it
FIRST = 3  # layers from the input that are left out where there are no such blocks
SAME = 0.8  # rank correlation from which on two orders of layers are the same


def single_layer_claims(
    siblings: pd.DataFrame,
    random_parameters: pd.DataFrame,
    normed: Mapping[str, pd.DataFrame],
    normed_random: Mapping[str, pd.DataFrame] = MappingProxyType({}),
) -> dict[str, list[Part]]:
    """A1 at the end of training, siblings of the first fork, training split, against `models`.

    Args:
        siblings: `layer_table`, a pair a seed, of networks without normalisation.
        random_parameters: `parameter_set_barriers` of the same pairs.
        normed: `layer_table` of networks with batch norm, by how their statistics are treated.
        normed_random: `parameter_set_barriers` of these, as far as they were measured.

    Returns:
        The parts of each claim; one that no seed can judge is left out, as in all that follows.
    """
    by_statistics = (
        part
        for name, table in normed.items()
        for part in equal_shares(table, f"batch norm, {name}", normed_random.get(name))
    )
    return _judged({"A1": [*equal_shares(siblings, "no normalisation", random_parameters), *by_statistics]})


def layer_set_claims(
    siblings: pd.DataFrame, stairs: pd.DataFrame, windows: pd.DataFrame, random_windows: pd.DataFrame
) -> dict[str, list[Part]]:
    """A2 and A13 on the same pairs.

    Args:
        siblings: as for A1.
        stairs: `staircase_table`, with random orders.
        windows: `window_barriers`, a third of the layers wide.
        random_windows: `random_set_barriers` of as many layers.
    """
    full = _full(siblings, "loss_barrier")
    return _judged({"A2": _middle(stairs, full), "A13": _windows(windows, random_windows, full)})


def learning_rate_claims(siblings: pd.DataFrame, low: pd.DataFrame) -> dict[str, list[Part]]:
    """A12 on the same pairs and on those of a low learning rate, as `layer_table`."""
    return _judged({"A12": _learning_rate(siblings, low)})


def _judged(claims: Mapping[str, list[Part]]) -> dict[str, list[Part]]:
    return {claim: parts for claim, parts in claims.items() if parts}


def _full(table: pd.DataFrame, of: str) -> pd.Series:
    """The whole network's barrier of each seed."""
    whole = table[(table.layer == NETWORK) & (table["into"] == "both")]
    return whole.set_index("seed")[of]


def both_ways(table: pd.DataFrame, of: str = "loss_barrier") -> pd.DataFrame:
    r"""Each layer's barrier, both directions averaged: a row a seed, a column a layer in forward order.

    In one direction alone a layer that does nothing has $(\mathcal L_1 - \mathcal L_2) / 2$ against `models`, which among many layers is
    as much as an equal share of the whole barrier; in the mean of both the two models' losses cancel.

    Args:
        table: barriers of layers against `models` with `seed`, `layer` and `into`.
        of: the column.
    """
    own = table[(table.layer != NETWORK) & (table["into"] != "both")]
    return own.groupby(["seed", "layer"], sort=False)[of].mean().unstack()[own.layer.unique()]


def equal_shares(table: pd.DataFrame, name: str, random: pd.DataFrame | None = None) -> list[Part]:
    """Layer barriers in equal shares: what a layer would have if each had as much of the full barrier as any other.

    Args:
        table: `layer_table` at the end of training, a pair a seed, training split, against `models`.
        name: what the parts are about.
        random: `parameter_set_barriers` of the same pairs, the control.

    Returns:
        The median layer, all but the first block, and every layer; nothing where no pair has a barrier.
    """
    equal = _full(table, "loss_barrier") / (table.layer.nunique() - 1)
    # where there is no barrier there is nothing to share out
    equal = equal[_full(table, "error_barrier") > STABLE]
    layers = both_ways(table).reindex(equal.index).div(equal, axis=0)
    first = _first_block(list(layers))
    drawn = None if random is None else both_ways(random).reindex(equal.index).div(equal, axis=0)
    looks = {
        "median layer": lambda shares: shares.median(axis=1),
        f"all but the first {first} layers": lambda shares: shares.iloc[:, first:].max(axis=1),
        "every layer": lambda shares: shares.max(axis=1),
    }
    rival = "as many parameters, drawn from the whole network"
    control = {} if drawn is None else {what: {"rival": rival, "control": look(drawn)} for what, look in looks.items()}
    return parts_of(
        *(
            {"name": f"{what}; {name}", "values": look(layers), "threshold": 1, "side": "below",
             "unit": "equal shares of the full loss barrier", **control.get(what, {})}
            for what, look in looks.items()
        )
    )  # fmt: skip


def _first_block(layers: list[str]) -> int:
    """How many layers there are up to the end of the first block.

    Example:
        >>> _first_block(["conv", "norm", "stages.0.conv1", "stages.0.conv2", "stages.1.conv1", "fc"])
        4
    """
    return max((i for i, layer in enumerate(layers, 1) if layer.startswith(FIRST_BLOCK)), default=FIRST)


def _middle(stairs: pd.DataFrame, full: pd.Series) -> list[Part]:
    """By how much adding the middle third of the layers raises the barrier more than adding another third does."""
    lead = {}
    for (seed, order, draw), rows in stairs[stairs["into"] == "both"].groupby(["seed", "order", "draw"]):
        at = np.r_[0, rows.sort_values("n_layers").loss_barrier]
        a, b = len(rows) // 3, len(rows) - len(rows) // 3
        rises = at[a], at[b] - at[a], at[-1] - at[b]
        lead[seed, order, draw] = (rises[1] - max(rises[0], rises[2])) / full[seed]
    lead = pd.Series(lead).rename_axis(["seed", "order", "draw"])
    by_order = lead.groupby(["order", "seed"]).mean()
    return parts_of(
        *(
            {"name": f"the middle third, {order}", "values": by_order[order], "threshold": 0,
             "unit": "of the full barrier that it adds more than the first or the last third does",
             "rival": "the middle third of random orders", "control": by_order["random"]}
            for order in ("bottom-up", "top-down")
        )
    )  # fmt: skip


def _learning_rate(table: pd.DataFrame, low: pd.DataFrame) -> list[Part]:
    """The full barriers of two rates; and where there is a barrier at both, how alike their layers are, beside two seeds at one rate.

    Noise is that of the rate whose seeds agree less: an order that does not repeat itself cannot repeat another.
    """
    full = _full(table, "loss_barrier") - _full(low, "loss_barrier")
    stands = (
        pd.concat([_full(part, "error_barrier") for part in (table, low)], axis=1, join="inner").min(axis=1) > STABLE
    )
    seeds = list(stands.index[stands])
    one, two = (both_ways(part).reindex(seeds) for part in (table, low))
    after = dict(zip(seeds, [*seeds[1:], *seeds[:1]], strict=True)) if len(seeds) > 1 else {}
    between = {seed: one.loc[seed].corr(two.loc[seed], method="spearman") for seed in seeds}
    noise = {
        seed: min(rate.loc[seed].corr(rate.loc[other], method="spearman") for rate in (one, two))
        for seed, other in after.items()
    }
    return parts_of(
        {"name": "the full barrier", "values": full, "threshold": 0, "unit": "nats that it is higher at the high rate"},
        {"name": "which layers have one", "values": between, "threshold": SAME, "side": "below",
         "unit": "rank correlation of layer barriers between the rates",
         "rival": "chance: two seeds at one rate, the one at which they agree less", "control": noise},
    )  # fmt: skip


def _windows(windows: pd.DataFrame, random: pd.DataFrame, full: pd.Series) -> list[Part]:
    """How much the highest window stands out of all, against the highest of as many random sets of as many layers."""
    both = windows[windows["into"] == "both"]
    stands_out = both.groupby("seed").loss_barrier.agg(lambda b: b.max() / b.mean())
    drawn = random.groupby(["seed", "draw"]).loss_barrier.agg(lambda b: b.max() / b.mean()).groupby("seed").mean()
    return parts_of(
        {"name": "windows of a third of the layers", "values": stands_out[full > 0], "threshold": 1,
         "unit": "highest over mean window", "rival": "the highest of as many random sets of as many layers",
         "control": drawn},
    )  # fmt: skip
