"""Families: what a forking experiment leaves behind, one parent and children that leave it at several points."""

from __future__ import annotations

from functools import cached_property
from math import ceil
from numbers import Real
from typing import TYPE_CHECKING

from torch import Tensor, nn

from lmclib.code.fingerprint import code_fingerprint
from lmclib.cube.points import LayerCube
from lmclib.data.dataset import Dataset
from lmclib.data.load import load_data
from lmclib.errors import LmcError
from lmclib.files import read_json
from lmclib.networks.build import initialise, model_factory
from lmclib.runs.checkpoints import split_state, step_name
from lmclib.runs.pairs import Pair
from lmclib.runs.spec import ForkSpec, fork_steps
from lmclib.store.address import address
from lmclib.store.dry_run import NotRun, current_dry_run
from lmclib.store.roots import Code
from lmclib.store.store import Store
from lmclib.training.loop import Diverged, train
from lmclib.training.recipe import steps_per_epoch

if TYPE_CHECKING:
    from lmclib.runs.group import TrainingGroup

DIVERGED = "diverged.json"  # beside the checkpoints of a run that has no more of them


class Family:
    """A parent's children: where they forked, what is stored of them, and the cube between any two siblings.

    Networks that the store lacks are trained when one of them is first asked for.

    Attributes:
        spec: the experiment.
        store: where its runs are remembered.
        card: what is known of the data set before it is loaded.
        group: the families that train together with this one, and how; None where nothing trains it.
    """

    def __init__(self, spec: ForkSpec, store: Store):
        self.spec, self.store = spec, store
        self.factory = model_factory(spec.model)
        self.card = store.data_card(spec.data)
        self.epoch_steps = steps_per_epoch(self.card.n_train, spec.recipe)
        self.fork_steps = fork_steps(spec, self.epoch_steps)
        self.group: TrainingGroup | None = None
        if (dry := current_dry_run()) is not None:
            dry.meet(self)

    @cached_property
    def model(self) -> nn.Module:
        """The architecture, with the parent's initialisation; built when first needed."""
        return initialise(self.factory, self.card.shape, len(self.card.classes), self.spec.seed)

    @cached_property
    def description(self) -> dict[str, object]:
        """What decides the content of this family's runs, in plain values; the code that trains them is apart, in `code`."""
        spec = self.spec
        return {
            "model": spec.model,
            # a reader's own factory may change under its name
            **({"by": code_fingerprint(self.factory)} if ":" in spec.model else {}),
            "data": self.card.content,
            "recipe": spec.recipe.model_dump(mode="json"),
            "precision": spec.precision,
            "seed": spec.seed,
        }

    @cached_property
    def code(self) -> Code:
        """The code that builds and trains these networks."""
        return Code((self.factory, initialise, train))

    @property
    def summary(self) -> dict[str, object]:
        """Model, data and seed in words, for listings."""
        return {"model": self.spec.model, "data": self.card.label, "seed": self.spec.seed}

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

    def train_missing(self) -> None:
        """Train what the store lacks of this family, and of those that train together with it."""
        if self.group is not None:
            self.group.train()

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

    def cube(
        self,
        fork_epoch: float,
        epoch: int | None = None,
        split: str = "train",
        pair: tuple[int, int] = (0, 1),
        norm_stats: str = "interpolate",
    ) -> LayerCube:
        """The layer cube between two siblings; recomputed statistics come from the training split."""
        epoch = self.epochs(fork_epoch)[-1] if epoch is None else epoch
        return Pair((self, self), fork_epoch, epoch, pair).cube(split, norm_stats)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of siblings."""
        return [(i, j) for i in range(self.spec.siblings) for j in range(i + 1, self.spec.siblings)]

    @property
    def parent_address(self) -> str:
        """Where the parent is stored; what its children's schedule does after the fork is none of its business."""
        return address({"code": self.code.fingerprint, **self._parent})

    @property
    def parent_name(self) -> str:
        """What the parent is, whichever code trains it: the name by which committed results know it."""
        return address(self._parent)

    @property
    def _parent(self) -> dict[str, object]:
        recipe = {**self.description["recipe"], "schedule_after_fork": "continue"}
        return {"kind": "parent", **self.description, "recipe": recipe}

    def child_address(self, fork_step: int, sibling: int) -> str:
        """Where a child is stored."""
        return address({"code": self.code.fingerprint, "question": self.child_name(fork_step, sibling)})

    def child_name(self, fork_step: int, sibling: int) -> str:
        """What a child is, whichever code trains it: the name by which committed results know it."""
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
        """The step of a fork epoch, which is one of `fork_epochs`."""
        step = round(fork_epoch * self.epoch_steps) if isinstance(fork_epoch, Real) else None
        if step not in self.fork_steps:
            said = fork_epoch if step is None else f"{fork_epoch:g}"
            known = ", ".join(f"{epoch:.3g}" for epoch in self.fork_epochs)
            raise LmcError(f"fork_epoch={said}: must be one of {known}")
        return step

    def load(self, at: str, name: str) -> dict[str, Tensor]:
        """A checkpoint of a run of this family; what is missing is trained first.

        Raises:
            NotRun: it is missing, and this is a dry run.
            Diverged: the run's loss was no longer finite before it.
        """
        state = self.store.load_state(at, name)
        if state is None:
            if current_dry_run() is not None:
                raise NotRun(f"{self.spec.model} on {self.card.label}: not trained yet")
            self.train_missing()
            state = self.store.load_state(at, name)
        if state is None:
            if (said := self.divergence(at) or self.divergence(self.parent_address)) is not None:
                raise Diverged(said)
            raise LmcError(
                f"store={str(self.store.root)!r}: checkpoint {name} of run {at} is gone; fork the spec again"
            )
        return state

    def divergence(self, at: str) -> str | None:
        """What was said of a run whose loss did not stay finite; None where it did or has not been trained."""
        return read_json(self.store.root / at / DIVERGED).get("said")

    def diverged(self) -> list[str]:
        """What was said of each of this family's runs whose loss did not stay finite."""
        children = [self.child_address(step, k) for step in self.fork_steps for k in range(self.spec.siblings)]
        return [said for at in (self.parent_address, *children) if (said := self.divergence(at)) is not None]
