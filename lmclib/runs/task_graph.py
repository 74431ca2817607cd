"""The task graph: what is to be trained and measured by workers, where each job waits for nothing but what it needs."""

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from lmclib.runs.family import Family
from lmclib.runs.joint import train_part
from lmclib.runs.lock_step import together
from lmclib.runs.pairs import Pair
from lmclib.runs.plan import Plan
from lmclib.runs.spec import ForkSpec
from lmclib.runs.workers import Workers

if TYPE_CHECKING:
    from distributed import Future


class TaskGraph:
    """Jobs for workers: parents from one fork to the next, their children, and what is measured of them.

    A job trains in lock-step as many small networks as its worker would have to train anyway. Children wait for their own forks, and
    a measurement for its own two networks. What is measured goes before what is trained, so that results are there early.

    Args:
        workers: who does the jobs.

    Attributes:
        steps: of training, that the jobs take in all.
    """

    def __init__(self, workers: Workers):
        self.workers, self.steps = workers, 0
        self.jobs: dict[Future, int | None] = {}  # the steps that each takes; None is a measurement
        self.last: dict[str, Future] = {}  # by address: the last job that trains a run
        # by a parent's address and a step: the job after which that fork is stored
        self.forks: dict[tuple[str, int], Future] = {}
        self.wanted: dict[str, set[int]] = {}  # by address: the checkpoints of a child after its last job

    def train(self, plans: Iterable[Plan]) -> None:
        """Add what some families lack; runs that several of them want are one run."""
        plans = list(plans)
        runs = sum(len(plan.missing) + bool(plan.missing_forks) for plan in plans)
        by_parent = _by(plans, lambda plan: plan.family.parent_address)
        for alike in _by(by_parent.values(), lambda sharing: _trained_as(sharing[0], "continue")).values():
            self._train_parents(alike, runs)
        for alike in _by(plans, _trained_as).values():
            self._train_children(alike, runs)

    def _train_parents(self, by_parent: Sequence[Sequence[Plan]], runs: int) -> None:
        """Add parents that train together from one fork that is missing to the next, for the families that share each."""
        size = self._size(by_parent[0][0], runs)
        forks = [sorted({step for plan in sharing for step in plan.family.fork_steps}) for sharing in by_parent]
        lacking = [{step: plan for plan in sharing for step in plan.missing_forks} for sharing in by_parent]
        for step in sorted(set().union(*lacking)):
            # from the fork before, be that stored or trained just before this one
            parents = [
                (own[step], step - max((other for other in before if other < step), default=0))
                for own, before in zip(lacking, forks, strict=True)
                if step in own
            ]
            for part in _parts(parents, size):
                self._train("parent", step, [(plan, None) for plan, _ in part], sum(steps for _, steps in part))

    def _train_children(self, alike: Sequence[Plan], runs: int) -> None:
        """Add children that train together. Families of one parent come one after the other: what several want is added for the first."""
        size = self._size(alike[0], runs)
        for one_of_each in zip_longest(*_by(alike, lambda plan: plan.family.parent_address).values()):
            children = [(step, plan, k) for plan in one_of_each if plan is not None for step, k in sorted(plan.missing)]
            for step in sorted({step for step, *_ in children}):
                new = [(plan, k) for at, plan, k in children if at == step and self._is_new(plan, at, k)]
                for part in _parts(new, size):
                    self._train("child", step, part, sum(plan.steps_of(step, k) for plan, k in part))

    def _size(self, plan: Plan, runs: int) -> int:
        return together(plan.family.card.shape, runs, self.workers.n)

    def _is_new(self, plan: Plan, step: int, sibling: int) -> bool:
        """Whether a child, with all of its checkpoints, is not among the jobs yet."""
        known = self.wanted.setdefault(plan.family.child_address(step, sibling), set())
        new = set(plan.family.checkpoint_steps(step)) - known
        known |= new
        return bool(new)

    def _train(self, kind: str, step: int, runs: Sequence[tuple[Plan, int | None]], steps: int) -> None:
        """Add a job for runs that train together: parents up to a fork, or children of it; after what else trains the same runs.

        Args:
            kind: `parent` or `child`.
            step: of the fork.
            runs: the plans that want them, and which child of each, by number; None is the parent.
            steps: that they take in all.
        """
        siblings: dict[Family, tuple[int, ...]] = {}
        addresses, after = [], []
        for plan, k in runs:
            family = plan.family
            siblings[family] = siblings.get(family, ()) + (() if k is None else (k,))
            at = family.parent_address if k is None else family.child_address(step, k)
            after += [self.last.get(at), None if k is None else self.forks.get((family.parent_address, step))]
            addresses.append(at)
        given = [(_only(family, step), own) for family, own in siblings.items()], *_where(family)
        after = [job for job in dict.fromkeys(after) if job is not None]
        job = self.workers.submit(kind, train_part, *given, after=after)
        for at in addresses:
            self.last[at] = job
            if kind == "parent":
                self.forks[at, step] = job
        self.jobs[job] = steps
        self.steps += steps

    def measure(self, pair: Pair, work: Callable[..., None], *given: object) -> None:
        """Add a measurement of a pair, which reads its networks from the store."""
        networks = [
            family.child_address(family.fork_step(pair.fork_epoch), k)
            for family, k in zip(pair.families, pair.children, strict=True)
        ]
        after = [self.last[at] for at in networks if at in self.last]
        self.jobs[self.workers.submit("measure", work, *given, after=after, priority=1)] = None

    def run(self, on_step: Callable[[int], object], on_measured: Callable[[], object] = lambda: None) -> None:
        """Wait until all is done.

        Args:
            on_step: told how many steps were taken.
            on_measured: called after each measurement.

        Raises:
            LmcError: what went wrong in a job, or the workers are gone; what was stored is kept.
        """
        for steps in self.workers.finished(self.jobs):
            if steps is None:
                on_measured()
            else:
                on_step(steps)


def _by(items: Iterable, key: Callable[..., object]) -> dict[object, list]:
    """Items in groups of one key, in the order in which they come."""
    groups: dict[object, list] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _parts(items: Sequence, size: int) -> list[Sequence]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _trained_as(plan: Plan, schedule: str | None = None) -> tuple:
    """What runs have in common that can train in lock-step; of parents, whatever their children's schedule."""
    spec = plan.family.spec
    recipe = spec.recipe if schedule is None else spec.recipe.model_copy(update={"schedule_after_fork": schedule})
    return *_where(plan.family), spec.model, spec.data, recipe, spec.precision


def _where(family: Family) -> tuple[str, str]:
    """Where its runs and the committed tables are."""
    return str(family.store.root), str(family.store.results.root)


def _only(family: Family, step: int) -> ForkSpec:
    """A family's spec with one of its forks."""
    return family.spec.model_copy(update={"fork_epochs": (family.fork_epochs[family.fork_steps.index(step)],)})
