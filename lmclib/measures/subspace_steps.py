"""Steps within what siblings' training has seen and beyond it, remembered: their stored moments span the training subspace."""

import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product

import pandas as pd
from torch import Tensor

from lmclib.device import one_thread
from lmclib.errors import LmcError
from lmclib.measures.perturbation import AVERAGING, COMPLEMENT, RANDOM, SPREAD, SUBSPACE, perturbation_table
from lmclib.runs.family import Family
from lmclib.runs.pairs import LAST, Pair, cube_between
from lmclib.store.dry_run import NotRun
from lmclib.store.tables import Question
from lmclib.training.loop import Diverged

ALL = (AVERAGING, RANDOM, SPREAD, SUBSPACE, COMPLEMENT)


def stored_moments(pair: Pair) -> list[dict[str, Tensor]]:
    """The state dicts of both networks at every stored epoch up to the pair's own, and of the parents that they left."""
    parents = {id(family): family for family in pair.families}.values()
    found = [family.parent(pair.fork_epoch) for family in parents]
    for family, child in zip(pair.families, pair.children, strict=True):
        found += [family.child(pair.fork_epoch, child, epoch) for epoch in _epochs(family, pair)]
    return found


def subspace_steps(
    pairs: Iterable[Pair],
    split: str = "test",
    examples: int | None = None,
    sigma: Sequence[float] = (0, 0.5, 1),
    draws: int = 5,
    directions: Sequence[str] = ALL,
) -> pd.DataFrame:
    r"""`perturbation_table` of every pair from model 1, with the training subspace of its own stored moments.

    What the store has is not measured again; each kind of direction is remembered by itself. Pairs of which a network diverged in training are left out, with a warning.

    Args:
        pairs: from `sibling_pairs`, for instance.
        split: `train` or `test`.
        examples: how many of the split's examples, evenly spaced; all by default.
        sigma: lengths of steps, in units of the norm of the difference.
        draws: of each random direction.
        directions: which.

    Returns:
        The tables' rows with `relation`, `seed`, `fork_epoch`, `epoch`, `child_epoch`, `pair`, `split`, `norm_stats`.

    Raises:
        LmcError: no pairs, or all of them diverged, or as `perturbation_table`.
    """
    parts, dead, missing = [], [], None
    for pair, direction in product(pairs, directions):
        options = {"sigma": tuple(sigma), "draws": draws, "directions": (direction,)}
        store, question = pair.families[0].store, _question(pair, split, examples, options)
        try:
            table = store.table(question, partial(_measured, pair, split, examples, options))
        except Diverged as error:
            dead.append(str(error))
            warnings.warn(f"subspace_steps: a pair is left out, as {error}", stacklevel=2)
            continue
        except NotRun as error:  # after all others were looked up
            missing = missing or error
            continue
        parts.append(table.assign(**pair.labels, split=split, norm_stats="interpolate"))
    if missing:
        raise missing
    if not parts:
        raise LmcError(dead[0] if dead else "pairs: must hold at least one pair")
    return pd.concat(parts, ignore_index=True)


def _epochs(family: Family, pair: Pair) -> list[int]:
    return [epoch for epoch in family.epochs(pair.fork_epoch) if epoch <= pair.epoch]


def _question(pair: Pair, split: str, examples: int | None, options: dict) -> Question:
    about = {
        "children": pair.names,
        "epoch": pair.epoch,
        "epochs": [_epochs(family, pair) for family in pair.families],
        "snapshots of": "both networks at these epochs, and their parents",
        "split": split,
        "norm_stats": "interpolate",
        "examples": examples,
    }
    families = list(dict.fromkeys(pair.families))
    known = {"parts": [family.code for family in families], "networks": [family.summary for family in families]}
    return Question.of(perturbation_table, options, about, roots=(stored_moments, cube_between), **known)


def _measured(pair: Pair, split: str, examples: int | None, options: dict) -> pd.DataFrame:
    with one_thread():
        cube, seen = pair.cube(split, examples=examples, last=LAST), {SUBSPACE, COMPLEMENT} & set(options["directions"])
        return perturbation_table(cube, **options, snapshots=stored_moments(pair) if seen else None)
