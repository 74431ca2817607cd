"""How many networks train in lock-step, and how wide a stack few of them train in: as narrow as gives the same bits."""

from math import ceil

from torch import Tensor

from lmclib.device import default_device
from lmclib.runs.family import Family
from lmclib.training.loop import Layout, train
from lmclib.training.run import Run

WIDTHS = (2, 4)  # narrower than the fixed width; one network alone takes other ways through PyTorch
STEPS = 2  # so that momentum counts, too
LR = 1e-3  # at most: bits follow from shapes and operations, not from how far a step goes, and small steps do not diverge
# whether bits are the same, as found in this process: a reader who adds a fork does not wait for that again
_tried: dict[tuple, bool] = {}


def together(shape: tuple[int, ...], runs: int, workers: int) -> int:
    """How many runs a worker trains in one job: its fair share of them, but no more than train in lock-step, and a full stack.

    Args:
        shape: of an example, which decides whether lock-step pays.
        runs: how many there are for all workers.
        workers: how many.

    Example:
        >>> together((1, 8, 8), runs=10, workers=2), together((1, 8, 8), runs=10, workers=8), together((3, 224, 224), 10, 2)
        (8, 2, 1)
    """
    layout = Layout.on(default_device(), shape)
    places = layout.streams * layout.members
    fair = ceil(runs / max(1, workers))
    return next((width for width in WIDTHS if fair <= width < places), places)


def narrowest(family: Family, networks: int) -> Layout:
    """The narrowest layout for some networks at once that trains each to the very bits of the fixed one.

    Places without a network cost as much as those with one, so two siblings would take as long as eight, and the last two of ten as
    long as the first eight. Whether bits depend on the width is up to PyTorch, the machine and the architecture: it is tried on the
    first steps, and where they do the width stays.

    Args:
        family: whose model, data and recipe are trained.
        networks: how many are not done.
    """
    device = default_device()
    fixed = Layout.on(device, family.card.shape)
    if device.type == "cpu":
        for width in WIDTHS:
            if networks <= width < fixed.members and _same(family, Layout(1, width), fixed):
                return Layout(1, width)
    return fixed


def _same(family: Family, narrow: Layout, fixed: Layout) -> bool:
    """Whether two networks have the same bits after their first steps in both layouts."""
    spec = family.spec
    recipe = spec.recipe
    how = recipe.batch_size, recipe.optimizer, recipe.rho > 0, spec.precision
    key = type(family.model), spec.model, spec.data, *how, narrow, fixed
    if key not in _tried:
        _tried[key] = _compared(family, narrow, fixed)
    return _tried[key]


def _compared(family: Family, narrow: Layout, fixed: Layout) -> bool:
    one, other = _first_steps(family, narrow), _first_steps(family, fixed)
    return bool(one) and one.keys() == other.keys() and all(value.equal(other[key]) for key, value in one.items())


def _first_steps(family: Family, layout: Layout) -> dict[tuple[str, str], Tensor]:
    """Weights and momentum of two networks after their first steps; none of those that diverge."""
    start, ends = family.model.state_dict(), {}

    def keep(run: Run, state: dict[str, Tensor], momentum: dict[str, Tensor]) -> list[Run]:
        ends.update({(run.name, key): value for part in (state, momentum) for key, value in part.items()})
        return []

    runs = [Run(str(i), (family.spec.seed, i), start, 0, STEPS, frozenset([STEPS])) for i in range(2)]
    recipe = family.spec.recipe.model_copy(update={"lr": min(family.spec.recipe.lr, LR)})
    how = {"precision": family.spec.precision, "layout": layout, "on_diverged": lambda run, error: None}
    train(family.model, family.data, recipe, runs, keep, **how)
    return ends
