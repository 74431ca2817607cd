"""Forking: one parent trained once, and siblings that leave it at the same point with data orders of their own."""

from collections.abc import Sequence
from pathlib import Path

from lmclib.root import RUNS
from lmclib.runs.family import Family
from lmclib.runs.group import Progress, TrainingGroup
from lmclib.runs.spec import ForkSpec
from lmclib.runs.watching import Watch
from lmclib.store.store import Store
from lmclib.training.loop import Diverged


def fork(
    spec: ForkSpec, store: Store | str | Path | None = None, progress: Progress = True, workers: int = 1
) -> Family:
    """Train what the store lacks of a forking experiment, and return the family.

    Args:
        spec: the experiment.
        store: where runs are remembered, `data/runs` by default.
        progress: whether to show a progress bar with the time left; or a function of (steps done, steps in all).
        workers: how many processes of one thread train side by side, on a CPU; small networks in lock-step in each of them. A run's
            bits do not depend on their number.

    Raises:
        LmcError: a spec that cannot be run, said before any compute.
        Diverged: the loss of a run did not stay finite; all others are stored.
    """
    (family,) = fork_all([spec], store, progress, workers)
    family.train_missing()
    if dead := family.diverged():
        raise Diverged("; ".join(dead))
    return family


def fork_all(
    specs: Sequence[ForkSpec],
    store: Store | str | Path | None = None,
    progress: Progress = True,
    workers: int = 1,
    watch: Watch | None = None,
) -> list[Family]:
    """Plan several forking experiments (seeds, say), of which those that share model, data and recipe train together.

    They train when the first of their networks is asked for: where all that is measured of them is remembered, never.

    Args:
        specs: the experiments.
        store: as in `fork`.
        progress: as in `fork`; what it raises stops the training, which then goes on from there in the next call.
        workers: as in `fork`.
        watch: called with each network at the ends of its epochs and where it is stored, unless it trains in a worker.
    """
    store = store if isinstance(store, Store) else Store(store or RUNS)
    families = [Family(spec, store) for spec in specs]  # checks everything before any compute
    groups: dict[tuple, list[Family]] = {}
    for family in families:
        spec = family.spec
        groups.setdefault((spec.model, spec.data, spec.recipe, spec.precision), []).append(family)
    for group in groups.values():
        TrainingGroup(group, progress, workers, watch)
    return families
