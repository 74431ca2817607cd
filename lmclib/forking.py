"""Forking: one parent trained once, and siblings that leave it at the same point with data orders of their own."""

import time
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from tqdm.auto import tqdm

from lmclib.data import Dataset, load_data
from lmclib.errors import LmcError
from lmclib.models import build_model
from lmclib.store import Store, address
from lmclib.training import NUMERICS, Recipe, Run, steps_per_epoch, train

RESUME_SECONDS = 10  # at most how often a run writes down where it is, at the end of an epoch; a kill loses at most this and an epoch
PARENT, CHILD = 0, 1  # the first number of a run's random stream


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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "resnet20"
    data: str = "digits"
    fork_epochs: tuple[float, ...] = Field((0, 0.5, 1, 2, 5), min_length=1)
    siblings: int = Field(2, ge=1)
    seed: int = Field(0, ge=0)
    recipe: Recipe = Recipe()
    checkpoint_epochs: tuple[int, ...] | None = None


class Family:
    """A parent's children: where they forked, what is stored of them, and the cube between any two siblings."""

    def __init__(self, spec: ForkSpec, store: Store):
        self.spec, self.store = spec, store
        self.data: Dataset = load_data(spec.data)
        self.model: nn.Module = build_model(spec.model, self.data.shape, len(self.data.classes), spec.seed)
        self.epoch_steps = steps_per_epoch(self.data, spec.recipe)
        self.fork_steps = _fork_steps(spec, self.epoch_steps)
        recipe = spec.recipe.model_dump(mode="json")
        self.description = {
            "model": spec.model,
            "data": self.data.fingerprint,
            "recipe": recipe,
            "seed": spec.seed,
            "numerics": NUMERICS,
        }

    @property
    def fork_epochs(self) -> tuple[float, ...]:
        """The fork epochs as trained, rounded to whole steps."""
        return tuple(step / self.epoch_steps for step in self.fork_steps)

    def epochs(self, fork_epoch: float) -> list[int]:
        """The epochs at which the children of a fork are stored."""
        step = self._fork_step(fork_epoch)
        return [checkpoint // self.epoch_steps for checkpoint in self.checkpoint_steps(step)]

    def parent(self, fork_epoch: float) -> dict[str, Tensor]:
        """The state dict of the parent at a fork."""
        state, _ = _split(self._load(self.parent_address, _name(self._fork_step(fork_epoch))))
        return state

    def child(self, fork_epoch: float, sibling: int, epoch: int | None = None) -> dict[str, Tensor]:
        """The state dict of one child; `sibling` counts from 0, `epoch` from the parent's start (the last by default)."""
        epochs = self.epochs(fork_epoch)
        epoch = epochs[-1] if epoch is None else epoch
        if epoch not in epochs:
            raise LmcError(f"epoch={epoch}: must be one of {epochs}, the stored epochs of fork {fork_epoch:g}")
        if not 0 <= sibling < self.spec.siblings:
            raise LmcError(f"sibling={sibling}: must be from 0 to {self.spec.siblings - 1}")
        return self._load(self.child_address(self._fork_step(fork_epoch), sibling), _name(epoch * self.epoch_steps))

    def siblings(self, fork_epoch: float, epoch: int | None = None, pair: tuple[int, int] = (0, 1)):
        """Two siblings' state dicts."""
        return tuple(self.child(fork_epoch, sibling, epoch) for sibling in pair)

    def cube(self, fork_epoch: float, epoch: int | None = None, split="train", pair=(0, 1), norm_stats="interpolate"):
        """The layer cube between two siblings; recomputed statistics come from the training split."""
        from lmclib.cube import LayerCube  # the floor above: a convenience that families hand out

        data, norm_data = self.data.pair(split), self.data.pair("train")
        t1, t2 = self.siblings(fork_epoch, epoch, pair)
        return LayerCube(self.model, t1, t2, data, norm_stats=norm_stats, norm_data=norm_data)

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

    def _fork_step(self, fork_epoch: float) -> int:
        step = round(fork_epoch * self.epoch_steps)
        if step not in self.fork_steps:
            known = ", ".join(f"{epoch:.3g}" for epoch in self.fork_epochs)
            raise LmcError(f"fork_epoch={fork_epoch:g}: must be one of {known}")
        return step

    def _load(self, at: str, name: str) -> dict[str, Tensor]:
        state = self.store.load_state(at, name)
        if state is None:
            raise LmcError(
                f"store={str(self.store.root)!r}: checkpoint {name} of run {at} is gone; fork the spec again"
            )
        return state


Progress = bool | Callable[[int, int], None]  # a bar or none, or called with the steps done and the steps in all


def fork(spec: ForkSpec, store: Store | str | Path | None = None, progress: Progress = True) -> Family:
    """Train what the store lacks of a forking experiment, and return the family.

    Args:
        spec: the experiment.
        store: where runs are remembered, `data/runs` by default.
        progress: whether to show a progress bar with the time left; or a function of (steps done, steps in all).

    Raises:
        LmcError: a spec that cannot be run, said before any compute, or a loss that diverges.
    """
    return fork_all([spec], store, progress)[0]


def fork_all(
    specs: Sequence[ForkSpec], store: Store | str | Path | None = None, progress: Progress = True
) -> list[Family]:
    """Fork several specs (seeds, say) together, in lock-step where they share model, data and recipe."""
    store = store if isinstance(store, Store) else Store(store or "data/runs")
    families = [Family(spec, store) for spec in specs]  # checks everything before any compute
    groups: dict[tuple, list[Family]] = {}
    for family in families:
        groups.setdefault((family.spec.model, family.spec.data, family.spec.recipe), []).append(family)
    for group in groups.values():
        _train_missing(group, store, progress)
    return families


def _train_missing(families: list[Family], store: Store, progress: Progress) -> None:
    kin = address({"kind": "lock", **{k: v for k, v in families[0].description.items() if k != "seed"}})
    with store.lock(kin):
        nurseries = [_Nursery(family) for family in families]
        runs = [run for nursery in nurseries for run in nursery.first_runs()]
        total = sum(nursery.missing_steps for nursery in nurseries)
        if not runs:
            return
        owner = {}
        for nursery in nurseries:
            owner[nursery.family.spec.seed] = nursery

        def on_checkpoint(run: Run, state: dict, momentum: dict) -> Iterable[Run]:
            return owner[run.stream[1]].on_checkpoint(run, state, momentum)

        def on_epoch(run: Run, read: Callable) -> None:
            owner[run.stream[1]].on_epoch(run, read)

        first = families[0]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        label = f"train {first.spec.model} on {first.data.label}"
        with tqdm(total=total, desc=label, unit="step", disable=progress is not True, mininterval=0.5) as bar:
            done = 0

            def on_step(steps: int) -> None:
                nonlocal done
                done += steps
                bar.update(steps)
                if callable(progress):
                    progress(done, total)

            train(first.model, first.data, first.spec.recipe, runs, on_checkpoint, on_step, device, on_epoch)


class _Nursery:
    """What one family still lacks, and how to write it down."""

    def __init__(self, family: Family):
        self.family, self.store = family, family.store
        self.missing = {
            (step, sibling)
            for step in family.fork_steps
            for sibling in range(family.spec.siblings)
            if not self._wanted(step) <= self.store.states(family.child_address(step, sibling))
        }
        self.missing_steps = sum(family.checkpoint_steps(step)[-1] - step for step, _ in self.missing)
        self.saved_at: dict[str, float] = {}

    def _wanted(self, fork_step: int) -> set[str]:
        return {_name(step) for step in self.family.checkpoint_steps(fork_step)}

    def first_runs(self) -> list[Run]:
        """The children whose fork point is stored, and the parent if any is not."""
        family = self.family
        have = {int(name) for name in self.store.states(family.parent_address) if name.isdigit()}
        forks = {step for step, _ in self.missing} | (set(family.fork_steps) - have)
        runs = [run for step in sorted(forks & have) for run in self._children(step)]
        lacking = forks - have
        if lacking:
            runs.append(self._parent(lacking, have))
        if 0 in lacking:  # the parent's start is a fork point that no step leads to
            zero = {key: torch.zeros_like(value) for key, value in family.model.named_parameters()}
            runs = [*self.on_checkpoint(self._at_zero(), family.model.state_dict(), zero), *runs]
        return [run for run in runs if run.step < run.stop]

    def _at_zero(self) -> Run:
        return Run("the parent", (PARENT, self.family.spec.seed), {}, 0, 0, frozenset([0]))

    def _parent(self, lacking: set[int], have: set[int]) -> Run:
        family = self.family
        start = max((step for step in have if step <= min(lacking)), default=0)
        state, momentum = family.model.state_dict(), None
        if start:
            state, momentum = _split(family._load(family.parent_address, _name(start)))
        resume = self.store.load_state(family.parent_address, "resume")
        if resume is not None and start < int(resume["step"]) < min(lacking):
            start = int(resume.pop("step"))
            state, momentum = _split(resume)
        self.missing_steps += max(lacking) - start
        name = f"the parent (seed {family.spec.seed})"
        stream = (PARENT, family.spec.seed)
        return Run(name, stream, state, start, max(lacking), frozenset(lacking), momentum)

    def _children(self, fork_step: int) -> list[Run]:
        family = self.family
        siblings = [sibling for step, sibling in sorted(self.missing) if step == fork_step]
        if not siblings:
            return []
        state, momentum = _split(family._load(family.parent_address, _name(fork_step)))
        reset = family.spec.recipe.schedule_after_fork == "reset"
        runs = []
        for sibling in siblings:
            steps = family.checkpoint_steps(fork_step)
            name = f"child {sibling} of fork {fork_step / family.epoch_steps:.3g} (seed {family.spec.seed})"
            stream = (CHILD, family.spec.seed, fork_step, sibling)
            run = Run(name, stream, state, fork_step, steps[-1], frozenset(steps), None if reset else momentum)
            run.clock = fork_step if reset else 0
            at = family.child_address(fork_step, sibling)
            resume = self.store.load_state(at, "resume")
            if resume is not None and self._has_all_until(int(resume["step"]), at, steps):
                run.step = int(resume.pop("step"))
                self.missing_steps -= run.step - fork_step
                run.state, run.momentum = _split(resume)
            runs.append(run)
        return runs

    def _has_all_until(self, step: int, at: str, wanted: list[int]) -> bool:
        """Whether nothing that is wanted lies before a place to go on from: it may be from a run that looked elsewhere."""
        return {_name(other) for other in wanted if other <= step} <= self.store.states(at)

    def on_checkpoint(self, run: Run, state: dict[str, Tensor], momentum: dict[str, Tensor]) -> list[Run]:
        """Write a checkpoint down; at a fork point of the parent, hand out its children."""
        if run.stream[0] == PARENT:
            at = self.family.parent_address
            self.store.describe(at, {"kind": "parent", **self.family.description})
            self.store.save_state(at, _name(run.step), _joined(state, momentum))
            if run.step == run.stop:
                self.store.drop_state(at, "resume")
            return self._children(run.step)
        fork_step, sibling = run.stream[2:]
        at = self.family.child_address(fork_step, sibling)
        self.store.describe(
            at, {"kind": "child", "fork_step": fork_step, "sibling": sibling, **self.family.description}
        )
        self.store.save_state(at, _name(run.step), state)
        if run.step == run.stop:
            self.store.drop_state(at, "resume")
        return []

    def on_epoch(self, run: Run, read: Callable) -> None:
        """Write down where a run is, from where it goes on after a kill; not more often than every few seconds."""
        at, now = self._address(run), time.monotonic()
        if now - self.saved_at.setdefault(at, now) >= RESUME_SECONDS:
            self.store.save_state(at, "resume", {**_joined(*read()), "step": torch.tensor(run.step)})
            self.saved_at[at] = now

    def _address(self, run: Run) -> str:
        return self.family.parent_address if run.stream[0] == PARENT else self.family.child_address(*run.stream[2:])


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


def _name(step: int) -> str:
    return f"{step:08d}"


def _joined(state: dict[str, Tensor], momentum: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**{f"state/{k}": v for k, v in state.items()}, **{f"momentum/{k}": v for k, v in momentum.items()}}


def _split(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    parts = {"state": {}, "momentum": {}}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = value
    return parts["state"], parts["momentum"]
