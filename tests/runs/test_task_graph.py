"""The graph of what is to be trained and measured: what waits for what, seen without any workers."""

from itertools import product

import pytest

import lmclib as lmc
from lmclib.runs.family import Family
from lmclib.runs.lock_step import together
from lmclib.runs.plan import Plan
from lmclib.runs.task_graph import TaskGraph
from lmclib.store.store import Store

SPEC = lmc.ForkSpec(
    model="mlp-8", fork_epochs=(0, 1), siblings=3, recipe=lmc.Recipe(epochs=2, batch_size=128, milestones=(1,))
)


class Listed:
    """Workers that only write down what they are to do."""

    def __init__(self, n):
        self.n, self.jobs = n, {}

    def submit(self, kind, work, *given, after=(), priority=0):
        name = f"{kind} {len(self.jobs)}"
        self.jobs[name] = given, set(after), priority
        return name

    def finished(self, jobs):
        return iter(jobs.values())


def before(jobs, name):
    """All that a job waits for, and what these wait for."""
    return {name}.union(*(before(jobs, other) for other in jobs[name][1]))


def trained(job):
    """The children that a job trains, by seed, fork and number, and the parents, by seed and fork."""
    families, *_ = job[0]
    children = {(spec.seed, spec.fork_epochs[0], k) for spec, siblings in families for k in siblings}
    return children, {(spec.seed, spec.fork_epochs[0]) for spec, siblings in families if not siblings}


@pytest.mark.parametrize(
    ("workers", "most"), [(21, 2), (6, 4), (1, 8)]
)  # 21 runs, and their fair share in a full stack
def test_nothing_waits_for_what_it_does_not_need(tmp_path, workers, most):
    listed = Listed(workers)
    families = [Family(SPEC.model_copy(update={"seed": seed}), Store(tmp_path)) for seed in range(3)]
    graph = TaskGraph(listed)
    graph.train(Plan(family) for family in families)
    jobs = [trained(job) for job in listed.jobs.values()]
    assert max(len(runs) for both in jobs for runs in both) == min(most, 9)
    # each run once: three parents at two forks, three children of each
    assert sorted(run for children, _ in jobs for run in children) == [*product(range(3), (0, 1), range(3))]
    assert sorted(run for _, parents in jobs for run in parents) == [*product(range(3), (0, 1))]
    for pair in lmc.sibling_pairs(families, epochs=(-1,)):
        graph.measure(pair, print, pair)
    for pair in lmc.independent_pairs(families, epochs=(-1,)):
        graph.measure(pair, print, pair)
    measured = {name: job for name, job in listed.jobs.items() if name.startswith("measure")}
    assert len(measured) == 3 * 2 * 3 + 3
    for name, ((pair,), after, priority) in measured.items():
        wanted = {
            (family.spec.seed, pair.fork_epoch, k) for family, k in zip(pair.families, pair.children, strict=True)
        }
        assert all(trained(listed.jobs[other])[0] & wanted for other in after)
        # its networks, which wait for their parents up to that fork; and their company, which is of the same fork
        children, parents = (
            set().union(*runs)
            for runs in zip(*(trained(listed.jobs[other]) for other in before(listed.jobs, name) - {name}), strict=True)
        )
        assert wanted <= children
        assert {fork for _, fork, _ in children} == {pair.fork_epoch}
        assert {
            (seed, fork) for seed, _, _ in children for fork in SPEC.fork_epochs if fork <= pair.fork_epoch
        } <= parents
        assert all(fork <= pair.fork_epoch for _, fork in parents)
        assert priority > 0, "results are there early"
    # an epoch of the parent, and of each child what is left of two
    steps = families[0].epoch_steps
    assert graph.steps == 3 * (steps + 3 * 2 * steps + 3 * steps)
    taken, seen = [], []
    graph.run(taken.append, lambda: seen.append(1))
    assert (sum(taken), len(seen)) == (graph.steps, len(measured))


def test_what_is_stored_is_waited_for_by_nobody(tmp_path):
    listed = Listed(100)
    whole = lmc.fork(SPEC, tmp_path, progress=False)
    more = Family(SPEC.model_copy(update={"fork_epochs": (0, 0.5, 1), "siblings": 4}), whole.store)
    graph = TaskGraph(listed)
    graph.train([Plan(more)])
    parents = set().union(*(trained(job)[1] for job in listed.jobs.values()))
    assert parents == {(SPEC.seed, more.fork_epochs[1])}
    after = {child: job[1] for job in listed.jobs.values() for child in trained(job)[0]}
    zero, middle, last = more.fork_epochs
    new = {(SPEC.seed, middle, k) for k in range(4)}
    assert set(after) == {(SPEC.seed, zero, 3), *new, (SPEC.seed, last, 3)}
    assert {child for child, others in after.items() if others} == new


def test_a_large_image_trains_alone(tmp_path):
    """Where lock-step does not pay, each worker has one network."""
    assert (together((3, 224, 224), 100, 2), together((16,), 100, 2)) == (1, 1)
