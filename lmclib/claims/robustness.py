"""The claims about steps in weight space, as parts to be judged: towards the other model, at random, within the training subspace and beyond it."""

from collections.abc import Mapping

import pandas as pd

from lmclib.claims.verdicts import Part, parts_of
from lmclib.measures.kinds import STABLE
from lmclib.measures.layerwise import NETWORK
from lmclib.measures.noise import CORRECTED, PUBLISHED
from lmclib.measures.perturbation import AVERAGING, COMPLEMENT, RANDOM, SPREAD, SUBSPACE

HALF, WHOLE = 0.5, 1.0  # of the way to the other model
RISE = "of test images by which the error rises"
NATS = "nats of test loss"


def random_step_claims(steps: pd.DataFrame) -> dict[str, list[Part]]:
    """A7, with the random baseline of equal norm that A13's reviewers asked for.

    Args:
        steps: `perturbation_table` of the test split, a pair a seed, with random directions within layers and over all layers.

    Returns:
        The parts of each claim; one that no seed can judge is left out, as in all that follows.
    """
    within, spread = (_error_rises(steps, direction) for direction in (RANDOM, SPREAD))
    looks = {
        "median layer, the norm of its difference": (WHOLE, lambda rises: rises.median(axis=1)),
        "median layer, half of it": (HALF, lambda rises: rises.median(axis=1)),
        "every layer, the norm of its difference": (WHOLE, lambda rises: rises.max(axis=1)),
    }
    withstands = parts_of(
        *(
            {"name": f"random steps; {what}", "values": look(_at(within, s)), "threshold": STABLE, "side": "below", "unit": RISE,
             "rival": "the same norm, spread over all layers", "control": look(_at(spread, s))}
            for what, (s, look) in looks.items()
        )
    )  # fmt: skip
    return _judged(
        {"A7": [*withstands, *_kinder_than_random(steps, "averaging against a random step as long; median layer")]}
    )


def transformer_claims(steps: pd.DataFrame) -> dict[str, list[Part]]:
    """A5 on pairs of vision transformers.

    Args:
        steps: `perturbation_table` of the test split from both models, with `case` (how the pair was trained) and `protocol`.
    """
    parts = []
    for (case, protocol), rows in steps.groupby(["case", "protocol"], sort=False):
        parts += _kinder_than_random(rows, f"{case}; {protocol} draws; median layer")
    return _judged({"A5": parts})


def noise_claims(noise: pd.DataFrame) -> dict[str, list[Part]]:
    """A6 from `noise_table`, as published and corrected."""
    half = noise[noise.sigma == HALF]
    loss = half.groupby(["version", "seed", "layer", "direction"]).loss.mean().unstack("direction")
    parts = []
    for version in (PUBLISHED, CORRECTED):
        if version in loss.index:
            parts += _order_of_noise(loss.loc[version], version)
    return _judged({"A6": parts})


def _order_of_noise(loss: pd.DataFrame, version: str) -> list[Part]:
    """Null space below averaging direction below training subspace, in the network and in the median layer."""
    differences = {
        f"{COMPLEMENT} below averaging": (COMPLEMENT, AVERAGING, RANDOM, AVERAGING, "a random step in place of the null space"),
        f"averaging below {SUBSPACE}": (AVERAGING, SUBSPACE, AVERAGING, RANDOM, "a random step in place of the training subspace"),
    }  # fmt: skip
    wanted = []
    for what, (low, high, rival_low, rival_high, rival) in differences.items():
        for where in ("whole network", "median layer"):
            values, control = (
                _over_layers(loss[a] - loss[b], where) for a, b in ((low, high), (rival_low, rival_high))
            )
            wanted.append(
                {"name": f"{version}; {what}; {where}", "values": values, "threshold": 0, "side": "below",
                 "unit": f"{NATS} between the two", "rival": rival, "control": control}
            )  # fmt: skip
    return parts_of(*wanted)


def _over_layers(values: pd.Series, where: str) -> pd.Series:
    """One number a seed, from values by seed and layer: the network's, or the median over layers that have one."""
    network = values.index.get_level_values("layer") == NETWORK
    return values[network if where == "whole network" else ~network].groupby("seed").median()


def _kinder_than_random(steps: pd.DataFrame, name: str) -> list[Part]:
    """Halfway to the other model less a random step as long; the control puts the first draw in its place, against the others."""
    half = steps[(steps.sigma == HALF) & (steps.layer != NETWORK)]
    keys = ["seed", "into", "layer"]
    averaging = half[half.direction == AVERAGING].set_index(keys).loss
    random = half[half.direction == RANDOM]
    first = random[random.draw == 0].set_index(keys).loss
    others = random[random.draw > 0].groupby(keys).loss.mean()
    return parts_of(
        {"name": name, "values": _median_layer(averaging - random.groupby(keys).loss.mean()), "threshold": 0, "side": "below",
         "unit": f"{NATS} more than after a random step", "rival": "another random step", "control": _median_layer(first - others)}
    )  # fmt: skip


def _median_layer(values: pd.Series) -> pd.Series:
    return values.groupby(["seed", "layer"]).mean().groupby("seed").median()


def _error_rises(steps: pd.DataFrame, direction: str) -> pd.Series:
    own = steps[(steps.direction == direction) & (steps.layer != NETWORK)]
    return own.groupby(["sigma", "seed", "layer"]).error_rise.mean()


def _at(rises: pd.Series, sigma: float) -> pd.DataFrame:
    """A row a seed, a column a layer."""
    return rises[rises.index.get_level_values("sigma") == sigma].droplevel("sigma").unstack()


def _judged(claims: Mapping[str, list[Part]]) -> dict[str, list[Part]]:
    return {claim: parts for claim, parts in claims.items() if parts}
