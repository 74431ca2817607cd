"""Forking experiments and what they leave behind: one parent, and children that leave it at several points."""

from collections.abc import Callable
from functools import cached_property
from math import ceil

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from lmclib.data import Dataset, load_data
from lmclib.device import Precision, default_device
from lmclib.errors import LmcError
from lmclib.models import build_model
from lmclib.store import NotRun, Store, address, looking
from lmclib.training import NUMERICS, Recipe, steps_per_epoch


class ForkSpec(BaseModel):
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

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "resnet20"
    data: str = "digits"
    fork_epochs: tuple[float, ...] = Field((0, 0.5, 1, 2, 5), min_length=1)
    siblings: int = Field(2, ge=1)
    seed: int = Field(0, ge=0)
    recipe: Recipe = Recipe()
    checkpoint_epochs: tuple[int, ...] | None = None
    precision: Precision = "float32"


class Family:
    """A parent's children: where they forked, what is stored of them, and the cube between any two siblings.

    Networks that the store lacks are trained when one of them is first asked for.

    Attributes:
        spec: the experiment.
        store: where its runs are remembered.
        card: what is known of the data set before it is loaded.
        model: the architecture, with the parent's initialisation.
    """

    def __init__(self, spec: ForkSpec, store: Store):
        self.spec, self.store = spec, store
        self.card = store.data_card(spec.data)
        self.model: nn.Module = build_model(spec.model, self.card.shape, len(self.card.classes), spec.seed)
        self.epoch_steps = steps_per_epoch(self.card.n_train, spec.recipe)
        self.train_missing: Callable[[], None] = lambda: None
        self.fork_steps = _fork_steps(spec, self.epoch_steps)
        recipe = spec.recipe.model_dump(mode="json")
        self.description = {
            "model": spec.model,
            "data": self.card.fingerprint,
            "recipe": recipe,
            "precision": spec.precision,
            "seed": spec.seed,
            "numerics": NUMERICS,
        }
        if (look := looking()) is not None:
            look.meet(self)

    @cached_property
    def data(self) -> Dataset:
        """The data set, loaded when first needed.

        Raises:
            LmcError: it is not the one that the card describes.
        """
        data = load_data(self.spec.data)
        if data.card != self.card:
            raise LmcError(f"data={self.spec.data!r}: has changed while it was in use; start again")
        return data

    @property
    def fork_epochs(self) -> tuple[float, ...]:
        """The fork epochs as trained, rounded to whole steps."""
        return tuple(step / self.epoch_steps for step in self.fork_steps)

    def epochs(self, fork_epoch: float) -> list[int]:
        """The epochs at which the children of a fork are stored."""
        step = self.fork_step(fork_epoch)
        return [checkpoint // self.epoch_steps for checkpoint in self.checkpoint_steps(step)]

    def parent(self, fork_epoch: float) -> dict[str, Tensor]:
        """The state dict of the parent at a fork."""
        state, _ = split_state(self.load(self.parent_address, step_name(self.fork_step(fork_epoch))))
        return state

    def child(self, fork_epoch: float, sibling: int, epoch: int | None = None) -> dict[str, Tensor]:
        """The state dict of one child; `sibling` counts from 0, `epoch` from the parent's start (the last by default)."""
        epochs = self.epochs(fork_epoch)
        epoch = epochs[-1] if epoch is None else epoch
        if epoch not in epochs:
            raise LmcError(f"epoch={epoch}: must be one of {epochs}, the stored epochs of fork {fork_epoch:g}")
        if not 0 <= sibling < self.spec.siblings:
            raise LmcError(f"sibling={sibling}: must be from 0 to {self.spec.siblings - 1}")
        return self.load(self.child_address(self.fork_step(fork_epoch), sibling), step_name(epoch * self.epoch_steps))

    def siblings(self, fork_epoch: float, epoch: int | None = None, pair: tuple[int, int] = (0, 1)):
        """Two siblings' state dicts."""
        return tuple(self.child(fork_epoch, sibling, epoch) for sibling in pair)

    def cube(self, fork_epoch: float, epoch: int | None = None, split="train", pair=(0, 1), norm_stats="interpolate"):
        """The layer cube between two siblings; recomputed statistics come from the training split."""
        from lmclib.cube import LayerCube  # the floor above: a convenience that families hand out

        device = default_device()
        data = self.data.to(device)
        states = self.siblings(fork_epoch, epoch, pair)
        given, norm_data = data.pair(split), data.pair("train")
        return LayerCube(self.model, *states, given, norm_stats=norm_stats, norm_data=norm_data, device=device)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of siblings."""
        return [(i, j) for i in range(self.spec.siblings) for j in range(i + 1, self.spec.siblings)]

    @property
    def parent_address(self) -> str:
        return address({"kind": "parent", **self.description})

    def child_address(self, fork_step: int, sibling: int) -> str:
        return address({"kind": "child", "fork_step": fork_step, "sibling": sibling, **self.description})

    def checkpoint_steps(self, fork_step: int) -> list[int]:
        """The steps after which a child of this fork is stored, the last one included."""
        epochs, start = self.spec.recipe.epochs, fork_step if self.spec.recipe.schedule_after_fork == "reset" else 0
        stop = ceil(start / self.epoch_steps) + epochs
        wanted = self.spec.checkpoint_epochs or range(0, stop, ceil(epochs / 20))
        return sorted(
            {e * self.epoch_steps for e in wanted if fork_step < e * self.epoch_steps} | {stop * self.epoch_steps}
        )

    def fork_step(self, fork_epoch: float) -> int:
        step = round(fork_epoch * self.epoch_steps)
        if step not in self.fork_steps:
            known = ", ".join(f"{epoch:.3g}" for epoch in self.fork_epochs)
            raise LmcError(f"fork_epoch={fork_epoch:g}: must be one of {known}")
        return step

    def load(self, at: str, name: str) -> dict[str, Tensor]:
        """A checkpoint of a run of this family; what is missing is trained first."""
        state = self.store.load_state(at, name)
        if state is None:
            if looking() is not None:
                raise NotRun(f"{self.spec.model} on {self.card.label}: not trained yet")
            self.train_missing()
            state = self.store.load_state(at, name)
        if state is None:
            raise LmcError(
                f"store={str(self.store.root)!r}: checkpoint {name} of run {at} is gone; fork the spec again"
            )
        return state


def _fork_steps(spec: ForkSpec, epoch_steps: int) -> tuple[int, ...]:
    """The fork epochs as steps, checked."""
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


def step_name(step: int) -> str:
    return f"{step:08d}"


def joined_state(state: dict[str, Tensor], momentum: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**{f"state/{k}": v for k, v in state.items()}, **{f"momentum/{k}": v for k, v in momentum.items()}}


def split_state(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    parts = {"state": {}, "momentum": {}}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = value
    return parts["state"], parts["momentum"]
