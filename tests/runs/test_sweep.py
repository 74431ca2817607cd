"""Training families that need not be alike: what they share is trained once, by however many processes."""

import torch

import lmclib as lmc
from lmclib.runs.family import Family
from lmclib.runs.group import task_graph
from lmclib.runs.joint import train
from lmclib.runs.sweep import training_groups
from lmclib.runs.workers import current_workers, side_by_side
from lmclib.store.store import Store

RECIPE = lmc.Recipe(epochs=2, batch_size=128, milestones=(1,))
SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 1), siblings=2, recipe=RECIPE)


def changed(**changes):
    own = {name: changes.pop(name) for name in list(changes) if name in lmc.Recipe.model_fields}
    return SPEC.model_copy(update={**changes, "recipe": RECIPE.model_copy(update=own)})


def families(specs, root):
    return [Family(spec, Store(root)) for spec in specs]


OVERLAPPING = [
    SPEC,
    changed(fork_epochs=(0,)),
    changed(siblings=3),
    changed(checkpoint_epochs=(1, 2)),
    changed(schedule_after_fork="reset"),
    changed(seed=1),
    changed(lr=0.05),
]


def test_families_of_one_parent_are_never_in_one_group(tmp_path):
    groups = [[family.spec for family in group.families] for group in training_groups(families(OVERLAPPING, tmp_path))]
    assert groups[0] == [SPEC, changed(seed=1)], "seeds train together"
    assert groups[1:] == [[spec] for spec in (changed(lr=0.05), *OVERLAPPING[1:5])], "rates do not"


def quiet(found):
    groups = training_groups(found)
    for group in groups:
        group.progress = False
    return groups


def train_all(found):
    for group in quiet(found):
        group.train()


def states(found):
    return {
        (family.child_address(step, k), epoch): family.child(step / family.epoch_steps, k, epoch)
        for family in found
        for step in family.fork_steps
        for k in range(family.spec.siblings)
        for epoch in family.epochs(step / family.epoch_steps)
    }


def test_all_are_trained_with_the_bits_that_each_has_by_itself_and_by_two_processes(tmp_path, monkeypatch):
    one, two = families(OVERLAPPING, tmp_path / "one"), families(OVERLAPPING, tmp_path / "two")
    trained = []
    monkeypatch.setattr(
        "lmclib.runs.joint.train", lambda *given, **more: (trained.append(given[3]), train(*given, **more))
    )
    train_all(one)
    # two groups of the first wave, a third sibling, and children with a schedule of their own; all else is there by then
    assert len(trained) == 4
    with side_by_side(2), task_graph(quiet(two), current_workers()) as graph:
        # by forks, of which there are two: both parents of one rate, and that of the other; the children of SPEC and the other seed,
        # third siblings, those with a schedule of their own, and those of the other rate
        assert len(graph.jobs) == 2 * (2 + 4)
        # in epochs: three parents; two siblings of the forks at 0 and 1 three times; third siblings; those that start their schedule anew
        assert graph.steps == two[0].epoch_steps * (3 * 1 + 3 * 2 * (2 + 1) + (2 + 1) + 2 * (2 + 2))
    alone = lmc.fork(OVERLAPPING[2], tmp_path / "alone", progress=False)
    for root in (one, two):
        found = states(root)
        assert len(found) == len(states(one))
        for key, state in [*states(one).items(), *states([alone]).items()]:
            assert all(torch.equal(found[key][name], value) for name, value in state.items())
    trained.clear()
    train_all(families(OVERLAPPING, tmp_path / "one"))
    assert not trained
