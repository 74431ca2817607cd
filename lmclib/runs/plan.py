"""Plans: what a family still lacks, and how what is trained is written down."""

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lmclib.files import write_text
from lmclib.provenance import provenance
from lmclib.runs.checkpoints import joined_state, split_state, step_name
from lmclib.runs.family import DIVERGED, Family
from lmclib.runs.watching import Moment, Watch
from lmclib.store.writer import BackgroundWriter
from lmclib.training.loop import Diverged
from lmclib.training.run import Run

RESUME_SECONDS = 10  # at most how often a run writes down where it is, at the end of an epoch; a kill loses at most this and an epoch
RESUME = "resume"  # the checkpoint from which a run goes on after a kill
PARENT, CHILD = 0, 1  # the first number of a run's random stream


@dataclass
class Clock:
    """The time since training began, shared out by steps: networks that train together have no time of their own."""

    start: float = field(default_factory=time.monotonic)
    steps: int = 0

    def seconds(self, steps: int) -> float:
        return (time.monotonic() - self.start) * steps / max(1, self.steps)


class Plan:
    """What one family still lacks, and how to write down what is trained of it.

    Args:
        family: the family.
        writer: writes checkpoints down; None for a plan that is only looked at.
        watch: called with what is trained at the ends of its epochs and where it is stored; may not raise.

    Attributes:
        missing: the children that are not wholly stored, as fork step and number; those whose loss diverged are not among them.
        missing_steps: the steps that are still to be taken, as far as they are known.
    """

    def __init__(self, family: Family, writer: BackgroundWriter | None = None, watch: Watch | None = None):
        self.family, self.store, self.writer, self.watch = family, family.store, writer, watch
        self.under_way: dict[
            str, tuple[Run, Callable]
        ] = {}  # by address: runs that have ended an epoch, and what reads them
        self.dead_parent = family.divergence(family.parent_address) is not None
        stored = self._stored_forks()
        self.missing = {
            (step, sibling)
            for step in family.fork_steps
            for sibling in range(family.spec.siblings)
            if self._is_missing(step, sibling) and not (self.dead_parent and step not in stored)
        }
        self.missing_steps = sum(self.steps_of(*part) for part in self.missing)
        self.began, self.saved_at = time.monotonic(), {}

    @property
    def is_open(self) -> bool:
        """Whether anything is left to train."""
        return bool(self.missing or self.missing_forks)

    @property
    def missing_forks(self) -> set[int]:
        """The fork points of the parent that are not stored; none where its loss diverged."""
        return set() if self.dead_parent else set(self.family.fork_steps) - self._stored_forks()

    def steps_of(self, fork_step: int, sibling: int) -> int:
        """The steps of a child from its fork to its end."""
        return self.family.checkpoint_steps(fork_step)[-1] - fork_step

    def _is_missing(self, fork_step: int, sibling: int) -> bool:
        at = self.family.child_address(fork_step, sibling)
        wanted = {step_name(step) for step in self.family.checkpoint_steps(fork_step)}
        return not wanted <= self.store.states(at) and self.family.divergence(at) is None

    def _stored_forks(self) -> set[int]:
        """The fork points of the parent that are stored."""
        return {int(name) for name in self.store.states(self.family.parent_address) if name.isdigit()}

    def first_runs(self) -> list[Run]:
        """The children whose fork point is stored, and the parent if any is not."""
        family, starts = self.family, {}
        for step in {step for step, _ in self.missing} & self._stored_forks():
            # a damaged one is set aside when it is read, and made again
            if (found := self.store.load_state(family.parent_address, step_name(step))) is not None:
                starts[step] = found
        stored = self._stored_forks()
        runs = [run for step in sorted(starts) for run in self._children(step, *split_state(starts[step]))]
        lacking = self.missing_forks
        if lacking:
            runs.append(self._parent(lacking, stored))
        if 0 in lacking:  # the parent's start is a fork point that no step leads to
            runs = [*self.on_checkpoint(self._at_zero(), family.model.state_dict(), {}, Clock()), *runs]
        return [run for run in runs if run.step < run.stop]

    def _at_zero(self) -> Run:
        return Run("the parent", (PARENT, self.family.spec.seed), {}, 0, 0, frozenset([0]))

    def _parent(self, lacking: set[int], stored: set[int]) -> Run:
        """The parent from its last stored fork point, or place to go on from, that nothing that is lacking lies before."""
        family = self.family
        start, state, momentum = 0, family.model.state_dict(), None
        for step in sorted((step for step in stored if 0 < step <= min(lacking)), reverse=True):
            if (found := self.store.load_state(family.parent_address, step_name(step))) is not None:
                start, (state, momentum) = step, split_state(found)
                break
        resume = self.store.load_state(family.parent_address, RESUME)
        if resume is not None and start < int(resume["step"]) < min(lacking):
            start = int(resume.pop("step"))
            state, momentum = split_state(resume)
        self.missing_steps += max(lacking) - start
        name = f"the parent (seed {family.spec.seed})"
        return Run(name, (PARENT, family.spec.seed), state, start, max(lacking), frozenset(lacking), momentum)

    def _children(self, fork_step: int, state: dict[str, Tensor], momentum: dict[str, Tensor]) -> list[Run]:
        """The children of a fork that are missing, each from its fork or from its place to go on from."""
        family = self.family
        reset = family.spec.recipe.schedule_after_fork == "reset"
        anew = reset or fork_step == 0  # before the first step an optimiser remembers nothing
        steps = family.checkpoint_steps(fork_step)
        runs = []
        for sibling in (sibling for step, sibling in sorted(self.missing) if step == fork_step):
            name = f"child {sibling} of fork {fork_step / family.epoch_steps:.3g} (seed {family.spec.seed})"
            stream = (CHILD, family.spec.seed, fork_step, sibling)
            run = Run(name, stream, state, fork_step, steps[-1], frozenset(steps), None if anew else momentum)
            run.clock = fork_step if reset else 0
            at = family.child_address(fork_step, sibling)
            resume = self.store.load_state(at, RESUME)
            if resume is not None and self._has_all_until(int(resume["step"]), at, steps):
                run.step = int(resume.pop("step"))
                self.missing_steps -= run.step - fork_step
                run.state, run.momentum = split_state(resume)
            runs.append(run)
        return runs

    def _has_all_until(self, step: int, at: str, wanted: list[int]) -> bool:
        """Whether nothing that is wanted lies before a place to go on from: it may be from a run that was measured at other epochs."""
        return {step_name(other) for other in wanted if other <= step} <= self.store.states(at)

    def on_checkpoint(self, run: Run, state: dict[str, Tensor], momentum: dict[str, Tensor], clock: Clock) -> list[Run]:
        """Write a checkpoint down; at a fork point of the parent, hand out its children."""
        self._show(run, state)
        if run.step == run.stop:
            self.under_way.pop(self._address(run), None)
        if run.random_stream[0] == PARENT:
            self._write(run, {"kind": "parent"}, joined_state(state, momentum), clock)
            self.writer.finish()  # a child is begun when its fork is stored
            return self._children(run.step, state, momentum)
        fork_step, sibling = run.random_stream[2:]
        self._write(run, {"kind": "child", "fork_step": fork_step, "sibling": sibling}, state, clock)
        return []

    def _write(self, run: Run, what: dict, tensors: dict[str, Tensor], clock: Clock) -> None:
        at = self._address(run)
        self.writer.later(self.store.describe, at, {**what, **self.family.description})
        self.writer.save(at, step_name(run.step), tensors)
        if run.step == run.stop:
            self.writer.later(self.store.drop_state, at, RESUME)
        if run.step == run.stop or not self.store.signatures([at]):  # at first, too, for what is stopped
            seconds = clock.seconds(run.step - (run.random_stream[2] if run.random_stream[0] == CHILD else 0))
            made_by = {**self.family.code.made_by, "networks": [self.family.summary]}
            self.writer.later(self.store.sign, at, {**provenance(seconds), **made_by})

    def on_diverged(self, run: Run, error: Diverged) -> None:
        """Write down that a run is dead, and say so; the others go on."""
        at = self._address(run)
        self.under_way.pop(at, None)
        self.writer.later(write_text, self.store.root / at / DIVERGED, json.dumps({"said": str(error)}))
        self.writer.later(self.store.drop_state, at, RESUME)
        warnings.warn(str(error), stacklevel=2)

    def on_epoch(self, run: Run, read: Callable) -> None:
        """Write down where a run is, from where it goes on after a kill; not more often than every few seconds."""
        at, now = self._address(run), time.monotonic()
        self.under_way[at] = run, read
        if self.watch is not None:
            self._show(run, read()[0])
        if now - self.saved_at.get(at, self.began) >= RESUME_SECONDS:
            self._save_place(run, *read())
            self.saved_at[at] = now

    def on_stop(self, clock: Clock) -> None:
        """Write down where every run is that has ended an epoch, from where it goes on: to be called between two steps of all runs."""
        for run, read in list(self.under_way.values()):
            state, momentum = read()
            if run.step in run.checkpoints or run.step == run.stop:  # due after this very step
                self.on_checkpoint(run, state, momentum, clock)
            if run.step < run.stop:
                self._save_place(run, state, momentum)

    def _save_place(self, run: Run, state: dict[str, Tensor], momentum: dict[str, Tensor]) -> None:
        place = {**joined_state(state, momentum), "step": torch.tensor(run.step)}
        self.writer.save(self._address(run), RESUME, place)

    def _show(self, run: Run, state: dict[str, Tensor]) -> None:
        if self.watch is None:
            return
        steps, child = self.family.epoch_steps, run.random_stream[2:]
        fork, sibling = (child[0] / steps, child[1]) if child else (None, None)
        self.watch(Moment(self.family, fork, sibling, run.step / steps, state))

    def _address(self, run: Run) -> str:
        return (
            self.family.parent_address
            if run.random_stream[0] == PARENT
            else self.family.child_address(*run.random_stream[2:])
        )
