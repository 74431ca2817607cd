"""Measurements of many pairs: each computed once, remembered in the store, and put together in one table."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

import pandas as pd
from tqdm.auto import tqdm

from lmclib.cube.points import LayerCube
from lmclib.device import one_thread
from lmclib.errors import LmcError
from lmclib.runs.pairs import Pair, cube_between
from lmclib.store.dry_run import current_dry_run
from lmclib.store.tables import Question
from lmclib.training.loop import Diverged


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

    What is remembered is found by the networks, the options and the code of `measure` with all that it reaches, so an edited
    measure is measured anew, and two functions of one name do not share a table. Pairs of which a network diverged in training
    are left out, with a warning.

    Args:
        pairs: from `sibling_pairs` or `independent_pairs`.
        measure: `barrier_curve`, `layer_barriers`, …: a function of a cube that returns a table.
        split: `train` or `test`.
        norm_stats: `interpolate` or `recompute`.
        progress: whether to show a progress bar.
        examples: how many of the split's examples, evenly spaced; all by default.
        each: one option and its values, which are measured and remembered one after the other: for what takes long together.
        **options: handed to `measure`; plain values only, as they are part of the table's address.

    Returns:
        The tables' rows with `relation`, `seed`, `fork_epoch`, `epoch` (the parent's clock), `child_epoch`, `pair`, `split`,
        `norm_stats`.

    Raises:
        LmcError: no pairs, or all of them diverged.
    """
    name, parts, dead = measure.__name__, [], []
    what = f"{name.replace('_', ' ')} ({split}, {norm_stats})"
    given = [{**options, option: value} for option, values in each.items() for value in values] if each else [options]
    jobs = list(product(pairs, given))
    unit = "pair" if each is None else "measurement"
    for pair, own in tqdm(jobs, desc=what, unit=unit, disable=not progress or current_dry_run() is not None):
        try:
            table = _remembered(pair, measure, split, norm_stats, examples, own)
        except Diverged as error:
            dead.append(str(error))
            warnings.warn(f"{name}: a pair is left out, as {error}", stacklevel=2)
            continue
        parts.append(table.assign(**pair.labels, split=split, norm_stats=norm_stats))
    if not parts:
        raise LmcError(dead[0] if dead else "pairs: must hold at least one pair")
    return pd.concat(parts, ignore_index=True)


def _remembered(
    pair: Pair,
    measure: Callable[..., pd.DataFrame],
    split: str,
    norm_stats: str,
    examples: int | None,
    options: Mapping[str, object],
) -> pd.DataFrame:
    one, two = pair.families
    about = {
        "children": pair.names,
        "epoch": pair.epoch,
        "split": split,
        "norm_stats": norm_stats,
        "examples": examples,
    }
    parts, networks = [one.code, two.code], [one.summary, two.summary]
    question = Question.of(measure, options, about, roots=[cube_between], parts=parts, networks=networks)
    return one.store.table(question, lambda: _measured(measure, pair.cube(split, norm_stats, examples), options))


def _measured(measure: Callable[..., pd.DataFrame], cube: LayerCube, options: Mapping[str, object]) -> pd.DataFrame:
    """A measurement, and how many passes over the data it took."""
    with one_thread():
        table = measure(cube, **options)
    table.attrs["passes"] = cube.passes
    return table
