"""Training the runs of several families together, in this process."""

from collections.abc import Callable, Iterable, Sequence

from lmclib.device import default_device, one_thread
from lmclib.runs.plan import Clock, Plan
from lmclib.training.loop import train
from lmclib.training.run import Run


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
        on_step(steps)

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
            on_diverged=lambda run, error: owner[run.random_stream[1]].on_diverged(run, error),
        )
