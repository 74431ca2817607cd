"""Families that train together: one model, data set, recipe and precision, several seeds."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from tqdm.auto import tqdm

from lmclib.device import default_device
from lmclib.runs.family import Family
from lmclib.runs.joint import train_together
from lmclib.runs.plan import Plan
from lmclib.runs.task_graph import TaskGraph
from lmclib.runs.watching import Watch
from lmclib.runs.workers import Workers, current_workers, side_by_side
from lmclib.stopwatch import apart
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
            family.group = self

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
        own = self.workers if default_device().type == "cpu" else 1
        with apart(), nullcontext() if current_workers() else side_by_side(own):
            if (workers := current_workers()) is not None and workers.train:
                with task_graph([self], workers):
                    pass
            else:
                self._train_here()

    def _train_here(self) -> None:
        with self.lock(), BackgroundWriter(self.families[0].store) as writer:
            plans = [Plan(family, writer, self.watch) for family in self.families]
            with _reported([self]) as on_step:
                # how many steps are left is known as runs begin, some where they were stopped
                train_together(plans, lambda steps: on_step(steps, sum(plan.missing_steps for plan in plans)))


@contextmanager
def task_graph(
    groups: Iterable[TrainingGroup], workers: Workers, on_measured: Callable[[], object] = lambda: None
) -> Iterator[TaskGraph]:
    """A task graph of all that the store lacks of some groups; what this block adds to it is done at its end, too.

    Whoever else wants the same runs waits meanwhile. Where the workers do not train, the groups are trained first.

    Args:
        groups: those whose networks are needed.
        workers: who does the jobs.
        on_measured: called after each measurement.
    """
    groups = list(groups)
    if not workers.train:
        for group in groups:
            group.train()
    graph, todo = TaskGraph(workers), [group for group in groups if group.is_open]
    with ExitStack() as stack:
        # in one order, so that two that want the same never wait for each other
        for group in {group.name: group for group in sorted(todo, key=lambda group: group.name)}.values():
            stack.enter_context(group.lock())
        graph.train(Plan(family) for group in todo for family in group.families)
        on_step = stack.enter_context(_reported(todo))
        yield graph
        graph.run(lambda steps: on_step(steps, graph.steps), on_measured)


@contextmanager
def _reported(groups: Sequence[TrainingGroup]) -> Iterator[Callable[[int, int], None]]:
    """What is to be told the steps that were taken and how many there are in all: it shows them as the groups want it."""
    labels, done = {group.label for group in groups}, 0
    shown = any(group.progress is True for group in groups)
    label = labels.pop() if len(labels) == 1 else "train"
    with tqdm(total=0, desc=label, unit="step", disable=not shown, mininterval=0.5) as bar:

        def on_step(steps: int, total: int) -> None:
            nonlocal done
            done += steps
            bar.total = total
            bar.update(steps)
            for group in groups:
                if callable(group.progress):
                    group.progress(done, total)

        yield on_step
