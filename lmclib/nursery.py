"""What families still lack, and how it is trained and written down."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lmclib.device import default_device
from lmclib.families import Family, ForkSpec, joined_state, split_state, step_name
from lmclib.provenance import provenance
from lmclib.store import BackgroundWriter, Store, address
from lmclib.training import Run, train

RESUME_SECONDS = 10  # at most how often a run writes down where it is, at the end of an epoch; a kill loses at most this and an epoch
PARENT, CHILD = 0, 1  # the first number of a run's random stream
Progress = bool | Callable[[int, int], None]  # a bar or none, or called with the steps done and the steps in all


class Brood:
    """Families that train together: one model, data set, recipe and precision, several seeds.

    Args:
        families: the families.
        progress: whether to show a progress bar, or a function of (steps done, steps in all).
        workers: processes side by side, on a CPU; 1 is this process alone.
    """

    def __init__(self, families: list[Family], progress: Progress, workers: int):
        self.families, self.progress, self.workers = families, progress, workers
        for family in families:
            family.train_missing = self.train

    def train(self) -> None:
        """Train what the store lacks; whoever else wants the same waits, and then finds it done."""
        for family in self.families:
            family.train_missing = lambda: None
        first = self.families[0]
        kin = address({"kind": "lock", **{k: v for k, v in first.description.items() if k != "seed"}})
        with first.store.lock(kin), BackgroundWriter(first.store) as writer:
            nurseries = [Nursery(family, writer) for family in self.families]
            runs = [run for nursery in nurseries for run in nursery.first_runs()]
            if not runs:
                return
            total = sum(nursery.missing_steps for nursery in nurseries)
            label = f"train {first.spec.model} on {first.card.label}"
            with tqdm(total=total, desc=label, unit="step", disable=self.progress is not True, mininterval=0.5) as bar:
                done = 0

                def on_step(steps: int) -> None:
                    nonlocal done
                    done += steps
                    bar.update(steps)
                    if callable(self.progress):
                        self.progress(done, total)

                if self.workers > 1 and default_device().type == "cpu":
                    side_by_side(nurseries, self.workers, on_step)
                else:
                    train_together(nurseries, runs, on_step)


def train_together(nurseries: list["Nursery"], runs: list[Run], on_step: Callable[[int], None]) -> None:
    """Train runs of several families in this process."""
    owner = {nursery.family.spec.seed: nursery for nursery in nurseries}
    clock = Clock()

    def on_checkpoint(run: Run, state: dict, momentum: dict) -> Iterable[Run]:
        return owner[run.stream[1]].on_checkpoint(run, state, momentum, clock)

    def on_epoch(run: Run, read: Callable) -> None:
        owner[run.stream[1]].on_epoch(run, read)

    def counted(steps: int) -> None:
        clock.steps += steps
        on_step(steps)

    family = nurseries[0].family
    spec = family.spec
    train(
        family.model, family.data, spec.recipe, runs, on_checkpoint, counted, default_device(), on_epoch, spec.precision
    )


def side_by_side(nurseries: list["Nursery"], workers: int, on_step: Callable[[int], None]) -> None:
    """Train each run in a process of its own, of one thread, as many at once as there are workers: parents first, then children.

    For networks that do not fit the lock-step and for images too large for it.
    """
    from distributed import Client, as_completed
    from distributed.deploy.subprocess import SubprocessCluster

    quiet = {"dashboard": False, "dashboard_address": None}
    with (
        SubprocessCluster(n_workers=workers, threads_per_worker=1, scheduler_kwargs=quiet) as cluster,
        Client(cluster) as client,
    ):
        children = {
            (nursery.family, part): nursery.steps_of(*part) for nursery in nurseries for part in nursery.missing
        }
        for parts in ({(n.family, None): n.missing_steps for n in nurseries}, children):
            jobs = {}
            for (family, part), steps in parts.items():
                store = family.store
                job = client.submit(train_part, family.spec, str(store.root), str(store.shelf), part, pure=False)
                jobs[job] = 0 if part is None else steps
            for job in as_completed(jobs):
                job.result()  # raises what was raised there
                on_step(jobs[job])


def train_part(spec: ForkSpec, root: str, shelf: str, part: tuple[int, int] | None) -> None:
    """Train the parent of a family, or one child by fork step and number, in a process of one thread."""
    torch.set_num_threads(1)
    store = Store(root, shelf)
    with BackgroundWriter(store) as writer:
        nursery = Nursery(Family(spec, store), writer)
        nursery.missing &= set() if part is None else {part}
        if runs := nursery.first_runs():
            train_together([nursery], runs, lambda steps: None)


@dataclass
class Clock:
    """The time since training began, shared out by steps: networks that train together have no time of their own."""

    start: float = field(default_factory=time.monotonic)
    steps: int = 0

    def seconds(self, steps: int) -> float:
        return (time.monotonic() - self.start) * steps / max(1, self.steps)


class Nursery:
    """What one family still lacks, and how to write it down."""

    def __init__(self, family: Family, writer: BackgroundWriter):
        self.family, self.store, self.writer = family, family.store, writer
        self.missing = {
            (step, sibling)
            for step in family.fork_steps
            for sibling in range(family.spec.siblings)
            if not self._wanted(step) <= self.store.states(family.child_address(step, sibling))
        }
        self.missing_steps = sum(self.steps_of(*part) for part in self.missing)
        self.began, self.saved_at = time.monotonic(), {}

    def steps_of(self, fork_step: int, sibling: int) -> int:
        """The steps of a child from its fork to its end."""
        return self.family.checkpoint_steps(fork_step)[-1] - fork_step

    def _wanted(self, fork_step: int) -> set[str]:
        return {step_name(step) for step in self.family.checkpoint_steps(fork_step)}

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
            runs = [*self.on_checkpoint(self._at_zero(), family.model.state_dict(), zero, Clock()), *runs]
        return [run for run in runs if run.step < run.stop]

    def _at_zero(self) -> Run:
        return Run("the parent", (PARENT, self.family.spec.seed), {}, 0, 0, frozenset([0]))

    def _parent(self, lacking: set[int], have: set[int]) -> Run:
        family = self.family
        start = max((step for step in have if step <= min(lacking)), default=0)
        state, momentum = family.model.state_dict(), None
        if start:
            state, momentum = split_state(family.load(family.parent_address, step_name(start)))
        resume = self.store.load_state(family.parent_address, "resume")
        if resume is not None and start < int(resume["step"]) < min(lacking):
            start = int(resume.pop("step"))
            state, momentum = split_state(resume)
        self.missing_steps += max(lacking) - start
        name = f"the parent (seed {family.spec.seed})"
        stream = (PARENT, family.spec.seed)
        return Run(name, stream, state, start, max(lacking), frozenset(lacking), momentum)

    def _children(self, fork_step: int) -> list[Run]:
        family = self.family
        siblings = [sibling for step, sibling in sorted(self.missing) if step == fork_step]
        if not siblings:
            return []
        state, momentum = split_state(family.load(family.parent_address, step_name(fork_step)))
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
                run.state, run.momentum = split_state(resume)
            runs.append(run)
        return runs

    def _has_all_until(self, step: int, at: str, wanted: list[int]) -> bool:
        """Whether nothing that is wanted lies before a place to go on from: it may be from a run that looked elsewhere."""
        return {step_name(other) for other in wanted if other <= step} <= self.store.states(at)

    def on_checkpoint(self, run: Run, state: dict[str, Tensor], momentum: dict[str, Tensor], clock: Clock) -> list[Run]:
        """Write a checkpoint down; at a fork point of the parent, hand out its children."""
        if run.stream[0] == PARENT:
            self._write(run, {"kind": "parent"}, joined_state(state, momentum), clock)
            self.writer.finish()  # children start from what is stored
            return self._children(run.step)
        fork_step, sibling = run.stream[2:]
        self._write(run, {"kind": "child", "fork_step": fork_step, "sibling": sibling}, state, clock)
        return []

    def _write(self, run: Run, what: dict, tensors: dict[str, Tensor], clock: Clock) -> None:
        at = self._address(run)
        self.writer.later(self.store.describe, at, {**what, **self.family.description})
        self.writer.save(at, step_name(run.step), tensors)
        if run.step == run.stop:
            self.writer.later(self.store.drop_state, at, "resume")
            seconds = clock.seconds(run.stop - (run.stream[2] if run.stream[0] == CHILD else 0))
            self.writer.later(self.store.sign, at, provenance(seconds))

    def on_epoch(self, run: Run, read: Callable) -> None:
        """Write down where a run is, from where it goes on after a kill; not more often than every few seconds."""
        at, now = self._address(run), time.monotonic()
        if now - self.saved_at.get(at, self.began) >= RESUME_SECONDS:
            self.writer.save(at, "resume", {**joined_state(*read()), "step": torch.tensor(run.step)})
            self.saved_at[at] = now

    def _address(self, run: Run) -> str:
        return self.family.parent_address if run.stream[0] == PARENT else self.family.child_address(*run.stream[2:])
