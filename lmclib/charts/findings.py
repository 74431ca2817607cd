"""What the book found, in a sentence each, with the number, the scale and the place that shows it: filled in from the ledger's rows."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmclib.book.ledger import parts_in, rows
from lmclib.charts.style import STATIC
from lmclib.claims.verdicts import Part, verdict

SCALES = ("paper", "cifar", "digits", "smoke")  # the largest first
NAMES = {"paper": "paper scale", "cifar": "real images", "digits": "8×8 digits", "smoke": "a smoke test"}


@dataclass(frozen=True)
class Finding:
    """A sentence about the means of some parts of a claim.

    Attributes:
        claim: the claim's ID.
        needs: how the names of the parts begin, in the order in which `says` takes them.
        says: makes the sentence.
    """

    claim: str
    needs: tuple[str, ...]
    says: Callable[..., str]


def _parted(plain: Part, recomputed: Part) -> str:
    left = _mean(recomputed) / _mean(plain)
    return (
        f"Two copies of a network that part at initialisation end with **{_mean(plain):.0%} of error between them**, those of the latest fork "
        f"with {_control(plain):.1%}. Recomputing batch-norm statistics on the way leaves {left:.0%} of the first."
    )


def _early(stands: Part, _: Part) -> str:
    said = {"explained": ", so the ridge may be no more than that", "holds": ", so the ridge comes first"}
    return (
        f"At half of training **{_mean(stands):.0%} of the final barrier is there**, and {_control(stands):.0%} of the siblings' squared distance"
        f"{said.get(stands.verdict, '')}."
    )


def _layers(median: Part, worst: Part) -> str:
    return (
        f"Average one layer only, without normalisation: the median layer makes **{_mean(median):.2g} equal shares of the full barrier**, the "
        f"worst {_mean(worst):.2g}. As many parameters from anywhere in the network make {_control(median):.2g} in the median and "
        f"{_control(worst):.2g} at worst."
    )


def _middle(up: Part, down: Part) -> str:
    return (
        f"Adding the middle third of the layers to the average raises the barrier by **{_more(_mean(up), 'of the full one ')}** than adding the "
        f"first or last third does (from the output down by {_more(_mean(down))}, in random orders by {_more(_control(up))})."
    )


def _sets(ranks: Part) -> str:
    better = "the plain sum is as good" if _control(ranks) >= _mean(ranks) else "the matrix is better"
    return (
        f"The matrix of curvatures ranks sets of layers of one size with **ρ = {_mean(ranks):.2f}**; adding up the measured barriers of single "
        f"layers does so with {_control(ranks):.2f}: {better}."
    )


FINDINGS = (
    Finding(
        "F1", ("parted at initialisation, separated; interp", "parted at initialisation, separated; recomp"), _parted
    ),
    Finding("B2", ("stands at half", "the first fork's is"), _early),
    Finding("A1", ("median layer; no norm", "every layer; no norm"), _layers),
    Finding("A2", ("the middle third, bottom", "the middle third, top"), _middle),
    Finding("B10", ("ranks, against the sum of the layers' own measured",), _sets),
)


def findings(store: str | Path, profile: str) -> list[str]:
    """The book's findings as Markdown, each from the largest scale of which several seeds were judged.

    Args:
        store: the store with the chapters' rows.
        profile: the scale at which the book is built.
    """
    judged = rows(store, profile)
    found = []
    for finding in FINDINGS:
        own = {row["profile"]: row for row in judged if row["claim"] == finding.claim}
        for row in (own[scale] for scale in SCALES if scale in own):
            parts = [part for start in finding.needs for part in parts_in(row) if part.name.startswith(start)]
            if len(parts) == len(finding.needs) and min(len(part.values) for part in parts) > 1:
                found.append(f"{finding.says(*parts)} {_place(row, parts)}")
                break
    return found


def _place(row: dict, parts: Sequence[Part]) -> str:
    chapter, claim = row["chapter"], row["claim"]
    page = "html" if os.environ.get(STATIC) else "ipynb"
    n = min(len(part.values) for part in parts)
    return (
        f"<small>({NAMES[row['profile']]}, {n} seeds; [{chapter.replace('_', ' ')}]({chapter}.{page}), "
        f"[{claim}](ledger.{page}#claim-{claim}): {verdict(parts_in(row))})</small>"
    )


def _more(difference: float, of: str = "") -> str:
    """A difference of two shares in words.

    Example:
        >>> _more(0.12), _more(-0.51, "of the whole ")
        ('12% more', '51% of the whole less')
    """
    return f"{abs(difference):.0%} {of}{'more' if difference >= 0 else 'less'}"


def _mean(part: Part) -> float:
    return float(np.mean(part.values))


def _control(part: Part) -> float:
    return float(np.mean(part.control))
