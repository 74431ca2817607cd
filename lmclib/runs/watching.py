"""What can be seen of networks while they train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from lmclib.runs.family import Family


@dataclass(frozen=True)
class Moment:
    """A network on its way through training, at the end of an epoch or where it is stored.

    Attributes:
        family: whose it is.
        fork_epoch: where it left its parent; None for the parent itself.
        sibling: which child of that fork, counted from 0; None for the parent.
        epoch: where it is, on the parent's clock.
        state: its state dict, which whoever watches must not change.
    """

    family: Family
    fork_epoch: float | None
    sibling: int | None
    epoch: float
    state: Mapping[str, Tensor]


Watch = Callable[[Moment], None]
