"""The claims about federated clients, as parts to be judged."""

import pandas as pd

from lmclib.claims.layers import both_ways
from lmclib.claims.verdicts import Part, parts_of
from lmclib.measures.kinds import STABLE
from lmclib.measures.layerwise import NETWORK

SAME = "the same data"  # what tables call the control's split
EXTREME = 0.9  # of a client's examples in one class
FEW = 0.5  # of all layers
FULL, NOTHING = "all", "none"  # the two sets of layers that are no partial average


def unaveraged_clients_claim(layers: pd.DataFrame) -> dict[str, list[Part]]:
    """A10 at the end of training.

    Args:
        layers: `unaveraged_layers` of the last epoch, training split, against `models`: `case`, `seed`, `layer`, `into`,
            `loss_barrier`, `error_barrier`; the control's case is `the same data`.

    Returns:
        The parts of the claim; one that no seed can judge is left out.
    """
    parts = [
        part
        for case, own in layers[layers["case"] != SAME].groupby("case", sort=False)
        for part in _layers(own, layers[layers["case"] == SAME], str(case))
    ]
    return {"A10": parts} if parts else {}


def partial_averaging_claim(rounds: pd.DataFrame, splits: pd.DataFrame) -> dict[str, list[Part]]:
    """A11 after the last round.

    Args:
        rounds: `federated_accuracy`: `case`, `averaged`, `seed`, `round`, `local_accuracy`.
        splits: `split_table` of the same splits: `case`, `seed`, `client`, `class`, `share`.

    Returns:
        The parts of the claim; one that fewer than two seeds could judge is left out, as the partial set is chosen on other seeds.
    """
    last = rounds[rounds["round"] == rounds["round"].max()]
    parts = [
        part
        for case, own in last.groupby("case", sort=False)
        for part in _partial(own, str(case), commonest_class(splits[splits["case"] == case]) > EXTREME)
    ]
    return {"A11": parts} if parts else {}


def commonest_class(splits: pd.DataFrame) -> float:
    """The share of its commonest class in the median client's examples.

    Example:
        >>> commonest_class(pd.DataFrame({"seed": 0, "client": [0, 0, 1, 1], "share": [0.7, 0.3, 0.1, 0.9]}))
        0.8
    """
    return float(splits.groupby(["seed", "client"]).share.max().median())


def _layers(own: pd.DataFrame, same: pd.DataFrame, case: str) -> list[Part]:
    """Layer barriers of one split in equal shares of its full one, and how many layers have one at all."""
    whole = own[(own.layer == NETWORK) & (own["into"] == "both")].set_index("seed")
    n_layers = own.layer.nunique() - 1
    # where there is no barrier there is nothing to share out, and the average of two bad networks can be better than they are
    equal = (whole.loss_barrier / n_layers)[(whole.error_barrier > STABLE) & (whole.loss_barrier > 0)]
    shares, rival = (both_ways(table, "loss_barrier").reindex(equal.index).div(equal, axis=0) for table in (own, same))
    named = {"rival": "two clients with the same data, in another order"}
    unit = "equal shares of the split's full loss barrier"
    above = {
        name: (both_ways(table, "error_barrier") > STABLE).mean(axis=1)
        for name, table in (("own", own), ("same", same))
    }
    return parts_of(
        {"name": f"median layer; {case}", "values": shares.median(axis=1), "threshold": 1, "side": "below", "unit": unit,
         **named, "control": rival.median(axis=1)},
        {"name": f"every layer; {case}", "values": shares.max(axis=1), "threshold": 1, "side": "below", "unit": unit,
         **named, "control": rival.max(axis=1)},
        {"name": f"layers with an error barrier; {case}", "values": above["own"], "threshold": FEW, "side": "below",
         "unit": f"of all layers, above {STABLE:.0%}", **named, "control": above["same"]},
    )  # fmt: skip


def _partial(last: pd.DataFrame, case: str, extreme: bool) -> list[Part]:
    """All layers against the partial set that was best on the other seeds, and what no averaging gives in the winner's place."""
    accuracy = last.pivot(index="seed", columns="averaged", values="local_accuracy")
    sets = [name for name in accuracy if name not in (FULL, NOTHING)]
    if not sets or len(accuracy) < 2:
        return []
    best = {seed: accuracy.loc[accuracy.index != seed, sets].mean().idxmax() for seed in accuracy.index}
    partial = pd.Series({seed: accuracy.loc[seed, name] for seed, name in best.items()})
    values = accuracy[FULL] - partial
    control = accuracy[FULL] - accuracy[NOTHING] if extreme else accuracy[NOTHING] - partial
    return parts_of(
        {"name": f"{case}, {'extreme' if extreme else 'not extreme'}", "values": values, "threshold": 0,
         "side": "below" if extreme else "above",
         "unit": "mean local accuracy, all layers less the best partial set of the other seeds",
         "rival": f"no averaging in place of {'the partial set' if extreme else 'all layers'}", "control": control}
    )  # fmt: skip
