"""Pairs of trained networks, and the layer cube between them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from lmclib.cube.points import LayerCube
from lmclib.data.dataset import Dataset
from lmclib.device import default_device
from lmclib.errors import LmcError
from lmclib.networks.partition import Partition

if TYPE_CHECKING:
    from lmclib.runs.family import Family

Children = tuple[int, int]
NORM_EXAMPLES = 5_000  # which statistics are recomputed from: each is a mean over as many images, and all their pixels


class LastCube(threading.local):
    """The last cube that was measured in this thread, and what it was of: making a network ready takes longer than some of its points,
    and many pairs are measured one after the other.

    Cubes that come from each other are for one thread, and their network must stay what it is.
    """

    cube: LayerCube | None = None
    model: nn.Module | None = None
    data: Dataset | None = None
    how: tuple = ()


LAST = LastCube()


@dataclass(frozen=True)
class Pair:
    """Two children at one epoch: siblings, or an independent pair (of different parents, so of different initialisations)."""

    families: tuple[Family, Family]
    fork_epoch: float
    epoch: int
    children: Children

    @property
    def relation(self) -> str:
        """`siblings` or `independent`."""
        return "siblings" if self.families[0] is self.families[1] else "independent"

    def cube(
        self,
        split: str = "train",
        norm_stats: str = "interpolate",
        examples: int | None = None,
        layers: Partition = "layers",
        last: LastCube | None = None,
    ) -> LayerCube:
        """The layer cube between the two, on all examples or on some, evenly spaced; recomputed statistics come from the training split."""
        one = self.families[0]
        states = [f.child(self.fork_epoch, k, self.epoch) for f, k in zip(self.families, self.children, strict=True)]
        return cube_between(one.model, *states, one.data, split, norm_stats, examples, layers, last)

    @property
    def labels(self) -> dict[str, object]:
        """The columns that tell this pair from others."""
        one, two = (family.spec.seed for family in self.families)
        seeds = ("", "") if one == two else (f"{one}.", f"{two}.")
        return {
            "relation": self.relation,
            "seed": one,
            "fork_epoch": self.fork_epoch,
            "epoch": self.epoch,
            "child_epoch": self.epoch - self.fork_epoch,
            "pair": "–".join(f"{seed}{child + 1}" for seed, child in zip(seeds, self.children, strict=True)),
        }

    @property
    def names(self) -> list[str]:
        """What the two are, whichever code trains them."""
        return [
            f.child_name(f.fork_step(self.fork_epoch), k) for f, k in zip(self.families, self.children, strict=True)
        ]


def cube_between(
    model: nn.Module,
    t1: Mapping[str, Tensor],
    t2: Mapping[str, Tensor],
    data: Dataset,
    split: str,
    norm_stats: str,
    examples: int | None,
    layers: Partition = "layers",
    last: LastCube | None = None,
) -> LayerCube:
    """The layer cube between two networks on the computing device.

    Args:
        model: the architecture.
        t1: the state dict of model 1.
        t2: the state dict of model 2.
        data: the data set.
        split: `train` or `test`.
        norm_stats: `interpolate`, or `recompute` from the training split, of which `NORM_EXAMPLES` evenly spaced are enough.
        examples: how many of the split's examples, evenly spaced; all by default.
        layers: what has an axis of its own, as `LayerCube` takes it.
        last: the cube that this one is made from, where only the two networks are others; this one's from then on.
    """
    how = split, norm_stats, examples, layers
    if last is not None and last.model is model and last.data is data and last.how == how:
        return last.cube.between(t1, t2)
    device = default_device()
    on_device = data.to(device)
    given = on_device.pair(split, examples=examples)
    norm_data = None  # what is evaluated gives the statistics, too, in one pass
    if norm_stats == "recompute" and (split != "train" or len(given[1]) != min(len(data.train), NORM_EXAMPLES)):
        norm_data = on_device.pair("train", examples=NORM_EXAMPLES)
    cube = LayerCube(model, t1, t2, given, norm_stats=norm_stats, norm_data=norm_data, device=device, layers=layers)
    if last is None:
        return cube
    last.cube, last.model, last.data, last.how = cube, model, data, how
    return cube.between(t1, t2)  # as whoever measures may give it a loss of its own


def sibling_pairs(
    families: Iterable[Family],
    fork_epochs: Sequence[float] | None = None,
    epochs: Sequence[int] | None = None,
    children: Sequence[Children] | None = None,
) -> list[Pair]:
    """Every two siblings of every fork at every stored epoch, or those of them that are asked for.

    Args:
        families: forking experiments, one a seed.
        fork_epochs: which forks, as trained.
        epochs: which stored epochs; -1 is the last.
        children: which siblings, counted from 0.

    Raises:
        LmcError: none of the epochs is stored at any of the forks.
    """
    places = [
        (family, fork, family.epochs(fork))
        for family in families
        for fork in (family.fork_epochs if fork_epochs is None else fork_epochs)
    ]
    found = [
        Pair((family, family), fork, epoch, pair)
        for family, fork, stored in places
        for epoch in _chosen(stored, epochs)
        for pair in (children or family.pairs)
    ]
    if places and not found and epochs is not None and not any(_chosen(stored, epochs) for *_, stored in places):
        known = sorted({epoch for *_, stored in places for epoch in stored})
        raise LmcError(
            f"epochs={list(epochs)}: none of them is stored; must be among {', '.join(map(str, known))}, or -1"
        )
    return found


def independent_pairs(
    families: Sequence[Family], fork_epoch: float = 0, epochs: Sequence[int] | None = None
) -> list[Pair]:
    """The first children of neighbouring seeds: networks that share neither initialisation nor data order; none of one seed."""
    if len(families) < 2:
        return []
    # around the ring, so that there are as many pairs as seeds
    ring = zip(families, [*families[1:], families[0]], strict=True)
    return [
        Pair((one, two), fork_epoch, epoch, (0, 0))
        for one, two in (ring if len(families) > 2 else [tuple(families)])
        for epoch in _chosen(one.epochs(fork_epoch), epochs)
    ]


def _chosen(stored: list[int], epochs: Sequence[int] | None) -> list[int]:
    if epochs is None:
        return stored
    return sorted({stored[-1] if epoch == -1 else epoch for epoch in epochs if epoch == -1 or epoch in stored})
