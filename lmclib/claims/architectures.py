"""The claims about other architectures than residual networks, as parts to be judged: each network apart."""

from collections.abc import Mapping

import pandas as pd

from lmclib.claims.layers import equal_shares
from lmclib.claims.verdicts import Part

LANGUAGE = "gpt"  # how names of language models begin


def architecture_claims(final: Mapping[str, pd.DataFrame], random: Mapping[str, pd.DataFrame]) -> dict[str, list[Part]]:
    """A8 of language models and A9 of all others, at the end of training, siblings of one initialisation, against `models`.

    Args:
        final: `layer_table` of each network, a pair a seed, by what its parts are called, which begins with the network's name.
        random: `parameter_set_barriers` of the same pairs, by the same names, as far as they were measured.

    Returns:
        The parts of each claim; one that no network can judge is left out.
    """
    claims: dict[str, list[Part]] = {"A8": [], "A9": []}
    for name, table in final.items():
        claims["A8" if name.startswith(LANGUAGE) else "A9"] += equal_shares(table, name, random.get(name))
    return {claim: parts for claim, parts in claims.items() if parts}
