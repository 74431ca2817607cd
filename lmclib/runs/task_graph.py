"""The task graph: what is to be trained and measured by workers, where each job waits for nothing but what it needs."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lmclib.runs.joint import Child, train_part
from lmclib.runs.pairs import Pair
from lmclib.runs.plan import Plan
from lmclib.runs.workers import Workers

if TYPE_CHECKING:
    from distributed import Future


class TaskGraph:
    """Jobs for workers: a parent from one fork to the next, its children, and what is measured of them.

    A child waits for its own fork, and a measurement for its own two networks. What is measured goes before what is trained, so
    that results are there early.

    Args:
        workers: who does the jobs.

    Attributes:
        steps: of training, that the jobs take in all.
    """

    def __init__(self, workers: Workers):
        self.workers, self.steps = workers, 0
        self.jobs: dict[Future, int | None] = {}  # the steps that each takes; None is a measurement
        self.last: dict[str, Future] = {}  # by address: the last job that trains a run
        self.wanted: dict[str, set[int]] = {}  # by address: the checkpoints of a child after its last job

    def train(self, plans: Iterable[Plan]) -> None:
        """Add what some families lack; runs that several of them want are one run."""
        of_parent: dict[str, list[Plan]] = {}
        for plan in plans:
            of_parent.setdefault(plan.family.parent_address, []).append(plan)
        for at, sharing in of_parent.items():
            forks = self._train_parent(at, sharing)
            for plan in sharing:
                for child in sorted(plan.missing):
                    self._train_child(plan, child, forks.get(child[0]))

    def _train_parent(self, at: str, sharing: list[Plan]) -> dict[int, "Future"]:
        """Add a parent from one fork that is missing to the next; the jobs after which each is there."""
        missing = {step: plan for plan in sharing for step in plan.missing_forks}
        stored, forks = {step for plan in sharing for step in plan.family.fork_steps} - set(missing), {}
        for step in sorted(missing):
            before = max((other for other in {*stored, *forks} if other < step), default=0)
            forks[step] = self._train(missing[step], step, None, at, None, step - before)
        return forks

    def _train_child(self, plan: Plan, child: tuple[int, int], fork: "Future | None") -> None:
        """Add a child, unless it is among the jobs with all of its checkpoints; other checkpoints of one run come one after the other."""
        at, checkpoints = plan.family.child_address(*child), set(plan.family.checkpoint_steps(child[0]))
        if not checkpoints <= self.wanted.get(at, set()):
            self.wanted[at] = self.wanted.get(at, set()) | checkpoints
            self._train(plan, child[0], child, at, fork, plan.steps_of(*child))

    def _train(self, plan: Plan, step: int, part: Child, at: str, fork: "Future | None", steps: int) -> "Future":
        """Add a parent up to a fork, or one child of that fork; after what else trains the same run."""
        family = plan.family
        own = family.spec.model_copy(update={"fork_epochs": (family.fork_epochs[family.fork_steps.index(step)],)})
        given = own, str(family.store.root), str(family.store.results.root), part
        after = [job for job in (fork, self.last.get(at)) if job is not None]
        self.last[at] = job = self.workers.submit(
            "parent" if part is None else "child", train_part, *given, after=after
        )
        self.jobs[job] = steps
        self.steps += steps
        return job

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
