"""Parents: how good the network is that children leave, at every point where some leave it."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from lmclib.cube.points import LayerCube
from lmclib.device import one_thread
from lmclib.errors import LmcError
from lmclib.runs.family import Family
from lmclib.runs.measuring import labelled
from lmclib.runs.pairs import LAST, cube_between
from lmclib.store.dry_run import NotRun
from lmclib.store.roots import Code
from lmclib.store.tables import Question
from lmclib.training.loop import Diverged

SPLITS = ("train", "test")
COLUMNS = ["seed", "epoch", "split", "norm_stats", "loss", "error"]


def network_values(cube: LayerCube) -> pd.DataFrame:
    r"""How good one network is: loss and error at a corner of the cube, $\varphi(0)$.

    Returns:
        One row: `loss` (nats for cross-entropy), `error` (a fraction).

    Example:
        >>> import torch
        >>> end = {"weight": torch.tensor([[3.0]])}
        >>> data = torch.ones(1, 1), torch.ones(1, 1)
        >>> cube = LayerCube(torch.nn.Linear(1, 1, bias=False), end, end, data, loss="squared")
        >>> network_values(cube).loss.item()  # (3 - 1)^2
        4.0
    """
    loss, error = cube(0.0)
    return pd.DataFrame({"loss": [loss.item()], "error": [error.item()]})


def parent_values(
    families: Iterable[Family],
    splits: Sequence[str] = SPLITS,
    norm_stats: str = "interpolate",
    examples: int | None = None,
) -> pd.DataFrame:
    r"""The parent's training curve: $\mathcal L(\theta_f)$ and the error at every stored epoch $f$, which are its forks.

    Each value is remembered by itself in the store. A parent whose loss did not stay finite is left out from there on, with a warning.

    Args:
        families: forking experiments, one a seed.
        splits: `train`, `test`, or both.
        norm_stats: `interpolate` for the parent's own running statistics, or `recompute`.
        examples: how many of the training split's examples, evenly spaced; all by default. The test split is taken whole.

    Returns:
        A row a seed, epoch and split: `seed`, `epoch` (the parent's clock), `split`, `norm_stats`, `loss` (nats), `error` (a fraction).

    Raises:
        LmcError: a split that there is not.

    Source:
        Landscaping Linear Mode Connectivity, section 3: where on its way down a parent is when children leave it.
    """
    if unknown := [split for split in splits if split not in SPLITS]:
        raise LmcError(f"splits={list(splits)!r}: {unknown[0]!r} must be one of {', '.join(map(repr, SPLITS))}")
    done, missing, codes = [], None, {}
    for family, epoch, split in _places(families, splits):
        how = split, norm_stats, examples if split == "train" else None
        code = codes.setdefault(family, Code((network_values, cube_between), (family.code,)))
        try:
            table = family.store.table(_question(family, code, epoch, *how), partial(_measured, family, epoch, *how))
        except Diverged as error:
            warnings.warn(f"parent_values: left out, as {error}", stacklevel=2)
            continue
        except NotRun as error:  # after all others were looked up
            missing = missing or error
            continue
        done.append((table, {"seed": family.spec.seed, "epoch": epoch, "split": split, "norm_stats": norm_stats}))
    if missing:
        raise missing
    return labelled(done)[COLUMNS] if done else pd.DataFrame(columns=COLUMNS)


def _places(families: Iterable[Family], splits: Sequence[str]) -> Iterator[tuple[Family, float, str]]:
    for family in families:
        yield from ((family, epoch, split) for epoch in family.fork_epochs for split in splits)


def _question(family: Family, code: Code, epoch: float, split: str, norm_stats: str, examples: int | None) -> Question:
    about = {
        "parent": family.parent_name,
        "step": family.fork_step(epoch),
        "split": split,
        "norm_stats": norm_stats,
        "examples": examples,
    }
    return replace(Question.of(network_values, {}, about, networks=[family.summary]), code=code)


def _measured(family: Family, epoch: float, split: str, norm_stats: str, examples: int | None) -> pd.DataFrame:
    state = family.parent(epoch)
    cube = cube_between(family.model, state, state, family.data, split, norm_stats, examples, last=LAST)
    with one_thread():
        table = network_values(cube)
    table.attrs["passes"] = cube.passes
    return table
