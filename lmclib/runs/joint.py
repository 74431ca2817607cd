"""Training the runs of several families together, and one run by itself."""

from collections.abc import Callable, Iterable, Sequence

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


def train_part(spec: ForkSpec, root: str, results: str, part: Child) -> None:
    """Train the parent of a family to its last fork, or one child, in a worker, unless somebody has done so meanwhile.

    Who works on the same run is waited for; a worker for whose job nobody waits any more stops, and this one goes on from there.
    """
    store = Store(root, results)
    family = Family(spec, store)
    at = family.parent_address if part is None else family.child_address(*part)
    with store.lock(at, f"train {spec.model} on {family.card.label}"), BackgroundWriter(store) as writer:
        plan = Plan(family, writer)
        plan.missing &= set() if part is None else {part}
        train_together([plan], lambda steps: stop_if_unwanted())
