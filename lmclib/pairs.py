"""Pairs of stored networks, and any measurement of their layer cubes: computed once, remembered in the store."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd
import torch
from tqdm.auto import tqdm

from lmclib.cube import LayerCube
from lmclib.device import default_device
from lmclib.errors import LmcError
from lmclib.families import Family
from lmclib.store import looking

MEASURES = 1  # part of every remembered table's address: raise it when a change alters what measurements mean


@dataclass(frozen=True)
class Pair:
    """Two children at one epoch: siblings, or strangers (of different parents, so of different initialisations)."""

    families: tuple[Family, Family]
    fork_epoch: float
    epoch: int
    children: tuple[int, int]

    @property
    def kin(self) -> str:
        return "siblings" if self.families[0] is self.families[1] else "strangers"

    def cube(self, split: str = "train", norm_stats: str = "interpolate", examples: int | None = None) -> LayerCube:
        """The layer cube between the two, on all examples or on some, evenly spaced; recomputed statistics come from the training split."""
        one = self.families[0]
        states = (f.child(self.fork_epoch, k, self.epoch) for f, k in zip(self.families, self.children, strict=True))
        on_device = one.data.to(default_device())
        data, norm_data = on_device.pair(split), on_device.pair("train")
        if examples is not None and examples < len(data[1]):
            chosen = torch.linspace(0, len(data[1]) - 1, examples).round().long()
            data = tuple(part[chosen] for part in data)
        return LayerCube(one.model, *states, data, norm_stats=norm_stats, norm_data=norm_data, device=default_device())

    @property
    def labels(self) -> dict[str, object]:
        """The columns that tell this pair from others."""
        one, two = (family.spec.seed for family in self.families)
        seeds = ("", "") if one == two else (f"{one}.", f"{two}.")
        return {
            "kin": self.kin,
            "seed": one,
            "fork_epoch": self.fork_epoch,
            "epoch": self.epoch,
            "child_epoch": self.epoch - self.fork_epoch,
            "pair": "–".join(f"{seed}{child + 1}" for seed, child in zip(seeds, self.children, strict=True)),
        }

    @property
    def addresses(self) -> list[str]:
        """Where the two are stored."""
        return [
            f.child_address(round(self.fork_epoch * f.epoch_steps), k)
            for f, k in zip(self.families, self.children, strict=True)
        ]


def sibling_pairs(
    families: Iterable[Family],
    fork_epochs: Sequence[float] | None = None,
    epochs: Sequence[int] | None = None,
    children: Sequence[tuple[int, int]] | None = None,
) -> list[Pair]:
    """Every two siblings of every fork at every stored epoch, or those of them that are asked for.

    Args:
        families: forking experiments, one a seed.
        fork_epochs: which forks, as trained.
        epochs: which stored epochs; -1 is the last.
        children: which siblings, counted from 0.
    """
    return [
        Pair((family, family), fork, epoch, pair)
        for family in families
        for fork in (family.fork_epochs if fork_epochs is None else fork_epochs)
        for epoch in _chosen(family.epochs(fork), epochs)
        for pair in (children or family.pairs)
    ]


def stranger_pairs(
    families: Sequence[Family], fork_epoch: float = 0, epochs: Sequence[int] | None = None
) -> list[Pair]:
    """The first children of neighbouring seeds: networks that share neither initialisation nor data order.

    Raises:
        LmcError: fewer than two families.
    """
    if len(families) < 2:
        raise LmcError(f"families: has {len(families)}; strangers need at least two seeds")
    # around the ring, so that there are as many pairs as seeds
    ring = zip(families, [*families[1:], families[0]], strict=True)
    return [
        Pair((one, two), fork_epoch, epoch, (0, 0))
        for one, two in (ring if len(families) > 2 else [tuple(families)])
        for epoch in _chosen(one.epochs(fork_epoch), epochs)
    ]


def over_pairs(
    pairs: Iterable[Pair],
    measure: Callable[..., pd.DataFrame],
    split: str = "train",
    norm_stats: str = "interpolate",
    progress: bool = True,
    examples: int | None = None,
    each: Mapping[str, Sequence] | None = None,
    **options: object,
) -> pd.DataFrame:
    """A measurement of every pair's cube, in one table; what the store has is not measured again.

    Args:
        pairs: from `sibling_pairs` or `stranger_pairs`.
        measure: `barrier_curve`, `layer_barriers`, …: a function of a cube that returns a table.
        split: `train` or `test`.
        norm_stats: `interpolate` or `recompute`.
        progress: whether to show a progress bar.
        examples: how many of the split's examples, evenly spaced; all by default.
        each: one option and its values, which are measured and remembered one after the other: for what takes long together.
        **options: handed to `measure`; plain values only, as they are part of the table's address.

    Returns:
        The tables' rows with `kin`, `seed`, `fork_epoch`, `epoch` (the parent's clock), `child_epoch`, `pair`, `split`,
        `norm_stats`.
    """
    name, parts = measure.__name__, []
    what = f"{name.replace('_', ' ')} ({split}, {norm_stats})"
    given = [{**options, option: value} for option, values in each.items() for value in values] if each else [options]
    jobs = list(product(pairs, given))
    unit = "pair" if each is None else "measurement"
    for pair, own in tqdm(jobs, desc=what, unit=unit, disable=not progress or looking() is not None):
        description = {
            "kind": name,
            "children": pair.addresses,
            "epoch": pair.epoch,
            "split": split,
            "norm_stats": norm_stats,
            "examples": examples,
            "measures": MEASURES,
            **own,
        }
        table = pair.families[0].store.table(
            description, lambda pair=pair, own=own: _measured(measure, pair.cube(split, norm_stats, examples), own)
        )
        parts.append(table.assign(**pair.labels, split=split, norm_stats=norm_stats))
    return pd.concat(parts, ignore_index=True)


def _measured(measure: Callable[..., pd.DataFrame], cube: LayerCube, options: Mapping) -> pd.DataFrame:
    """A measurement, and how many passes over the data it took."""
    table = measure(cube, **options)
    table.attrs["passes"] = cube.passes
    return table


def _chosen(stored: list[int], epochs: Sequence[int] | None) -> list[int]:
    if epochs is None:
        return stored
    return sorted({stored[-1] if epoch == -1 else epoch for epoch in epochs if epoch == -1 or epoch in stored})
