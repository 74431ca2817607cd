"""The graph of what is to be trained and measured: what waits for what, seen without any workers."""

import pytest

import lmclib as lmc
from lmclib.runs.family import Family
from lmclib.runs.plan import Plan
from lmclib.runs.task_graph import TaskGraph
from lmclib.store.store import Store

SPEC = lmc.ForkSpec(
    model="mlp-8", fork_epochs=(0, 1), siblings=3, recipe=lmc.Recipe(epochs=2, batch_size=128, milestones=(1,))
)


class Listed:
    """Workers that only write down what they are to do."""

    def __init__(self):
        self.jobs = {}

    def submit(self, kind, work, *given, after=(), priority=0):
        name = f"{kind} {len(self.jobs)}"
        self.jobs[name] = given, set(after), priority
        return name

    def finished(self, jobs):
        return iter(jobs.values())


@pytest.fixture
def listed():
    return Listed()


def before(jobs, name):
    """All that a job waits for, and what these wait for."""
    return {name}.union(*(before(jobs, other) for other in jobs[name][1]))


def test_nothing_waits_for_what_it_does_not_need(listed, tmp_path):
    families = [Family(SPEC.model_copy(update={"seed": seed}), Store(tmp_path)) for seed in range(3)]
    graph = TaskGraph(listed)
    graph.train(Plan(family) for family in families)
    for pair in lmc.sibling_pairs(families, epochs=(-1,)):
        graph.measure(pair, print, pair)
    for pair in lmc.independent_pairs(families, epochs=(-1,)):
        graph.measure(pair, print, pair)
    measured = {name: job for name, job in listed.jobs.items() if name.startswith("measure")}
    assert len(listed.jobs) == 3 * (2 + 2 * 3) + len(measured)
    assert len(measured) == 3 * 2 * 3 + 3
    for name, ((pair,), after, priority) in measured.items():
        # two children, and the parents of theirs up to that fork
        trained = [listed.jobs[other][0] for other in before(listed.jobs, name) - {name}]
        wanted = {
            (family.spec.seed, pair.fork_epoch, k) for family, k in zip(pair.families, pair.children, strict=True)
        }
        children = {(spec.seed, spec.fork_epochs[0], part[1]) for spec, *_, part in trained if part is not None}
        parents = {(spec.seed, spec.fork_epochs[0]) for spec, *_, part in trained if part is None}
        assert children == wanted
        assert parents == {(seed, fork) for seed, last, _ in wanted for fork in SPEC.fork_epochs if fork <= last}
        assert len(after) == 2
        assert priority > 0, "results are there early"
    # an epoch of the parent, and of each child what is left of two
    steps = families[0].epoch_steps
    assert graph.steps == 3 * (steps + 3 * 2 * steps + 3 * steps)
    taken, seen = [], []
    graph.run(taken.append, lambda: seen.append(1))
    assert (sum(taken), len(seen)) == (graph.steps, len(measured))


def test_what_is_stored_is_waited_for_by_nobody(listed, tmp_path):
    whole = lmc.fork(SPEC, tmp_path, progress=False)
    more = Family(SPEC.model_copy(update={"fork_epochs": (0, 0.5, 1), "siblings": 4}), whole.store)
    graph = TaskGraph(listed)
    graph.train([Plan(more)])
    parents = [job for name, job in listed.jobs.items() if name.startswith("parent")]
    assert [given[0].fork_epochs for given, *_ in parents] == [(more.fork_epochs[1],)]
    children = {given[-1]: after for name, (given, after, _) in listed.jobs.items() if name.startswith("child")}
    middle = more.fork_steps[1]
    assert set(children) == {(0, 3), *((middle, k) for k in range(4)), (more.fork_steps[2], 3)}
    assert {child for child, after in children.items() if after} == {(middle, k) for k in range(4)}
