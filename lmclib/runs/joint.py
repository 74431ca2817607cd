"""Training the runs of several families: together in this process, or in processes side by side."""

from collections.abc import Callable, Iterable, Sequence

from lmclib.device import default_device, one_thread
from lmclib.runs.family import Family
from lmclib.runs.lock_step import narrowest
from lmclib.runs.plan import Clock, Plan
from lmclib.runs.spec import ForkSpec
from lmclib.runs.workers import Workers
from lmclib.store.store import Store
from lmclib.store.writer import BackgroundWriter
from lmclib.training.loop import train
from lmclib.training.run import Run

Child = tuple[int, int] | None  # by fork step and number; None is the parent


def train_together(plans: Sequence[Plan], on_step: Callable[[int], None]) -> None:
    """Train what is missing of several families of one model, data set, recipe and precision, and write it down."""
    runs = [run for plan in plans for run in plan.first_runs()]
    if not runs:
        return
    owner = {plan.family.spec.seed: plan for plan in plans}
    clock = Clock()

    def on_checkpoint(run: Run, state: dict, momentum: dict) -> Iterable[Run]:
        return owner[run.random_stream[1]].on_checkpoint(run, state, momentum, clock)

    def counted(steps: int) -> None:
        clock.steps += steps
        try:
            on_step(steps)
        except BaseException:  # somebody stops it, between two steps of all runs
            for plan in plans:
                plan.on_stop(clock)
            raise

    family = plans[0].family
    children = sum(len(plan.missing) for plan in plans)  # a parent ends where its last children begin
    with one_thread():
        train(
            family.model,
            family.data,
            family.spec.recipe,
            runs,
            on_checkpoint,
            counted,
            default_device(),
            on_epoch=lambda run, read: owner[run.random_stream[1]].on_epoch(run, read),
            precision=family.spec.precision,
            layout=narrowest(family, children),
            on_diverged=lambda run, error: owner[run.random_stream[1]].on_diverged(run, error),
        )


def train_side_by_side(plans: Sequence[Plan], on_step: Callable[[int], None], workers: Workers) -> None:
    """Train each run in a worker: a parent from one fork to the next, and a fork's children as soon as it is there.

    Raises:
        LmcError: what went wrong in one of them.
    """
    jobs = {}
    for plan in plans:
        family, parent = plan.family, []
        for epoch, step in zip(family.fork_epochs, family.fork_steps, strict=True):
            own = family.spec.model_copy(update={"fork_epochs": (epoch,)})
            where = str(family.store.root), str(family.store.results.root)
            parent = [workers.submit(train_part, own, *where, None, after=parent)]
            jobs[parent[0]] = 0
            for child in sorted(child for child in plan.missing if child[0] == step):
                jobs[workers.submit(train_part, own, *where, child, after=parent)] = plan.steps_of(*child)
    for steps in workers.finished(jobs):
        on_step(steps)


def train_part(spec: ForkSpec, root: str, results: str, part: Child) -> None:
    """Train the parent of a family to its last fork, or one child."""
    store = Store(root, results)
    with BackgroundWriter(store) as writer:
        plan = Plan(Family(spec, store), writer)
        plan.missing &= set() if part is None else {part}
        train_together([plan], lambda steps: None)
