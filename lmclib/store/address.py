"""Addresses: the hash of everything that decides a result's content."""

import hashlib
import json
import re
from collections.abc import Mapping

from lmclib.errors import LmcError

DIGITS = 20  # of an address
ADDRESS = re.compile(f"[0-9a-f]{{{DIGITS}}}")


def address(description: Mapping) -> str:
    """The address of a result: the first 20 hex digits of the SHA-256 of its description as canonical JSON.

    Raises:
        LmcError: something in it is no plain value, so that it cannot be found again.

    Example:
        >>> address({"seed": 0, "lr": 0.1}) == address({"lr": 0.1, "seed": 0})
        True
    """
    return hashlib.sha256(canonical(description).encode()).hexdigest()[:DIGITS]


def canonical(description: Mapping) -> str:
    """A description as JSON with one spelling for one meaning."""
    try:
        return json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise LmcError(
            f"options: must be plain values (numbers, text, lists of them), as results are found by them ({error})"
        ) from None
