"""Sweeps: training families that need not be alike, all of them side by side where there are workers."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from tqdm.auto import tqdm

from lmclib.device import default_device
from lmclib.runs.family import Family
from lmclib.runs.group import TrainingGroup
from lmclib.runs.joint import train_side_by_side
from lmclib.runs.plan import Plan
from lmclib.runs.workers import Workers, current_workers


def training_waves(families: Iterable[Family]) -> list[list[TrainingGroup]]:
    """Families in groups that can train together, and groups in waves: no two families of a wave share a parent.

    Those that do (other forks, more siblings, other epochs at which they are stored) come one after the other, so that what they
    share is trained by the first of them.
    """
    waves: list[dict[str, list[Family]]] = []
    met: dict[str, int] = {}
    for family in families:
        at = family.parent_address
        met[at] = met.get(at, -1) + 1
        if met[at] == len(waves):
            waves.append({})
        spec = family.spec
        alike = spec.model_copy(update={"seed": 0, "fork_epochs": (0,), "siblings": 1, "checkpoint_epochs": None})
        waves[met[at]].setdefault(alike.model_dump_json(), []).append(family)
    return [[TrainingGroup(group, True, 1) for group in wave.values()] for wave in waves]


def train_sweep(waves: Sequence[Sequence[TrainingGroup]], progress: bool = True) -> None:
    """Train what the store lacks of all groups: with workers no run waits for one that it does not come from.

    Args:
        waves: from `training_waves`.
        progress: whether to show a progress bar with the time left.
    """
    workers = current_workers()
    for wave in waves:
        todo = [group for group in wave if group.is_open]
        if workers is not None and default_device().type == "cpu":
            _train_side_by_side(todo, workers, progress)
            continue
        for group in todo:
            group.progress = progress
            group.train()


def _train_side_by_side(groups: Sequence[TrainingGroup], workers: Workers, progress: bool) -> None:
    if not groups:
        return
    with ExitStack() as stack:
        for group in sorted(
            groups, key=lambda group: group.name
        ):  # in one order, so that two sweeps never wait for each other
            stack.enter_context(group.lock())
        plans = [Plan(family) for group in groups for family in group.families]
        total = sum(plan.missing_steps for plan in plans)
        bar = stack.enter_context(tqdm(total=total, desc="train", unit="step", disable=not progress, mininterval=0.5))
        train_side_by_side(plans, bar.update, workers)
