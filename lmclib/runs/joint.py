"""Training the runs of several families together, and one run by itself."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

from lmclib.device import default_device, one_thread
from lmclib.runs.family import Family
from lmclib.runs.lock_step import narrowest
from lmclib.runs.plan import Clock, Plan
from lmclib.runs.spec import ForkSpec
from lmclib.runs.workers import stop_if_unwanted
from lmclib.store.store import Store
from lmclib.store.writer import BackgroundWriter
from lmclib.training.loop import train
from lmclib.training.run import Run

Siblings = tuple[int, ...]  # the children of a fork, by number; none of them is the parent


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
            fitted=lambda runs: narrowest(family, runs),
            on_diverged=lambda run, error: owner[run.random_stream[1]].on_diverged(run, error),
        )


def train_part(families: Sequence[tuple[ForkSpec, Siblings]], root: str, results: str) -> None:
    """Train together, in a worker, parents to their last forks, or children, unless somebody has done so meanwhile.

    Who works on one of these runs is waited for; a worker for whose job nobody waits any more stops, and this one goes on from there.

    Args:
        families: alike but for their seeds and forks, and what of each is trained.
        root: of the store.
        results: of the committed tables beside it.
    """
    store = Store(root, results)
    with ExitStack() as locks:
        plans, writer = [], locks.enter_context(BackgroundWriter(store))
        wanted = [(Family(spec, store), siblings) for spec, siblings in families]
        for at, label in sorted(
            (at, f"train {own.spec.model} on {own.card.label}") for own, part in wanted for at in _addresses(own, part)
        ):
            locks.enter_context(
                store.lock(at, label)
            )  # in one order, so that two that want the same never wait for each other
        for family, siblings in wanted:
            plans.append(plan := Plan(family, writer))
            plan.missing &= {(step, k) for step in family.fork_steps for k in siblings}
        train_together(plans, lambda steps: stop_if_unwanted())


def _addresses(family: Family, siblings: Siblings) -> list[str]:
    """Where the runs are stored of which a job is."""
    return [family.child_address(step, k) for step in family.fork_steps for k in siblings] or [family.parent_address]
