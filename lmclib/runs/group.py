"""Families that train together: one model, data set, recipe and precision, several seeds."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from tqdm.auto import tqdm

from lmclib.device import default_device
from lmclib.runs.family import Family
from lmclib.runs.joint import train_side_by_side, train_together
from lmclib.runs.plan import Plan
from lmclib.runs.watching import Watch
from lmclib.runs.workers import current_workers, side_by_side
from lmclib.store.address import address
from lmclib.store.writer import BackgroundWriter

Progress = bool | Callable[[int, int], None]  # a bar or none, or called with the steps done and the steps in all


class TrainingGroup:
    """Families that train together: one model, data set, recipe and precision, several seeds.

    Args:
        families: the families, each of which trains the whole group when one of its networks is first asked for.
        progress: whether to show a progress bar, or a function of (steps done, steps in all).
        workers: processes side by side, on a CPU, if none are there yet; 1 is this process alone.
        watch: called with each network at the ends of its epochs and where it is stored, unless it trains in a worker; may not raise.
    """

    def __init__(self, families: Sequence[Family], progress: Progress, workers: int, watch: Watch | None = None):
        self.families, self.progress, self.workers, self.watch = list(families), progress, workers, watch
        for family in families:
            family.train_missing = self.train

    @property
    def label(self) -> str:
        """What it does, in words."""
        first = self.families[0]
        return f"train {first.spec.model} on {first.card.label}"

    @property
    def is_open(self) -> bool:
        """Whether anything is left to train."""
        return any(Plan(family).is_open for family in self.families)

    @property
    def name(self) -> str:
        """An address of what its families share, under which others wait for it."""
        first = self.families[0]
        return address({"kind": "group", **{k: v for k, v in first.description.items() if k != "seed"}})

    def lock(self) -> AbstractContextManager[None]:
        """Held while it trains: whoever else wants the same waits."""
        return self.families[0].store.lock(self.name, self.label)

    def train(self) -> None:
        """Train what the store lacks; whoever else wants the same waits, and then finds it done.

        A run that diverges is reported, and the others go on. What is stopped in the middle goes on from there in the next call:
        from the very step where `progress` raised, if it has ended an epoch before, else from its last place that was written down.
        """
        if not self.is_open:
            return
        with self.lock(), BackgroundWriter(self.families[0].store) as writer:
            plans = [Plan(family, writer, self.watch) for family in self.families]
            with tqdm(total=0, desc=self.label, unit="step", disable=self.progress is not True, mininterval=0.5) as bar:
                done = 0

                def on_step(steps: int) -> None:
                    nonlocal done
                    done += steps
                    bar.total = sum(
                        plan.missing_steps for plan in plans
                    )  # known as runs begin, some where they were stopped
                    bar.update(steps)
                    if callable(self.progress):
                        self.progress(done, bar.total)

                self._train(plans, on_step)

    def _train(self, plans: Sequence[Plan], on_step: Callable[[int], None]) -> None:
        if default_device().type != "cpu":
            train_together(plans, on_step)
            return
        with nullcontext() if current_workers() else side_by_side(self.workers):
            if (workers := current_workers()) is None:
                train_together(plans, on_step)
            else:
                train_side_by_side(plans, on_step, workers)
