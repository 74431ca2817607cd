"""The claims about other architectures than residual networks, as parts to be judged: each network apart."""

from collections.abc import Mapping

import pandas as pd

from lmclib.claims.layers import equal_shares
from lmclib.claims.verdicts import Part

OF = {"gpt": "A8", "vgg": "A9", "mobilenet": "A9", "mlp": "A9"}  # what a network is judged for, by how its name begins


def architecture_claims(final: Mapping[str, pd.DataFrame], random: Mapping[str, pd.DataFrame]) -> dict[str, list[Part]]:
    """A8 of language models and A9 of VGG, MobileNet and fully connected networks, at the end of training, siblings of one initialisation, against `models`.

    Args:
        final: `layer_table` of each network, a pair a seed, by what its parts are called, which begins with the network's name.
        random: `parameter_set_barriers` of the same pairs, by the same names, as far as they were measured.

    Returns:
        The parts of each claim; one that no network can judge is left out.
    """
    claims: dict[str, list[Part]] = {"A8": [], "A9": []}
    for name, table in final.items():
        if (claim := claim_of(name)) is not None:
            claims[claim] += equal_shares(table, name, random.get(name))
    return {claim: parts for claim, parts in claims.items() if parts}


def claim_of(network: str) -> str | None:
    """The claim that a network is judged for; None where no claim speaks of its kind.

    Example:
        >>> claim_of("gpt-d32-l3, by block"), claim_of("vit-p4-d32-l3")
        ('A8', None)
    """
    return next((claim for begin, claim in OF.items() if network.startswith(begin)), None)
