"""What to train: a parent, and the children that leave it at several points."""

from pydantic import Field

from lmclib.checked import Checked
from lmclib.device import Precision
from lmclib.errors import LmcError
from lmclib.training.recipe import Recipe


class ForkSpec(Checked):
    r"""A forking experiment: train a parent, fork `siblings` children from it at each of `fork_epochs`.

    A fork epoch is a number of parent epochs and may be a fraction; it is rounded to a whole step. `seed` decides the
    initialisation, the parent's data order and each child's. Epochs count from the parent's start, for children too:
    with `schedule_after_fork="continue"` a child forked at epoch $f$ of $E$ is trained for $E - f$ epochs more and
    inherits the parent's momentum; with `"reset"` it starts the recipe anew, without momentum, for $E$ epochs.

    Args:
        model: a name that `build_model` knows.
        data: a name that `load_data` knows.
        fork_epochs: where to fork.
        siblings: the number of children at each fork.
        seed: the seed of everything random.
        recipe: the hyper-parameters.
        checkpoint_epochs: the epochs at which children are stored; by default about twenty, evenly spaced, and the last.
        precision: `float32`, or `bf16` for forward and backward passes with float32 weights.
    """

    model: str = "resnet20"
    data: str = "digits"
    fork_epochs: tuple[float, ...] = Field((0, 0.5, 1, 2, 5), min_length=1)
    siblings: int = Field(2, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    recipe: Recipe = Recipe()
    checkpoint_epochs: tuple[int, ...] | None = None
    precision: Precision = "float32"


def fork_steps(spec: ForkSpec, epoch_steps: int) -> tuple[int, ...]:
    """The fork epochs as steps, checked.

    Raises:
        LmcError: one outside the parent's training, or two that are the same step.
    """
    steps: dict[int, float] = {}
    for epoch in spec.fork_epochs:
        if not 0 <= epoch < spec.recipe.epochs:
            raise LmcError(
                f"fork_epochs: {epoch:g} is out of range; must be at least 0 and below the parent's {spec.recipe.epochs} epochs"
            )
        step = round(epoch * epoch_steps)
        if step in steps:
            raise LmcError(
                f"fork_epochs: {epoch:g} rounds onto {steps[step]:g}, both are step {step}; one step is {1 / epoch_steps:.3g} epochs"
            )
        steps[step] = epoch
    return tuple(sorted(steps))
