"""Steps with the training subspace of stored moments: which moments, and that nothing is measured twice."""

import pytest

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.measures import subspace_steps as module
from lmclib.measures.perturbation import Centre, snapshot_ranks
from lmclib.training.recipe import Recipe

SPEC = lmc.ForkSpec(
    model="mlp-6", fork_epochs=(0,), recipe=Recipe(epochs=3, batch_size=128, milestones=()), checkpoint_epochs=(1, 2, 3)
)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return lmc.fork(SPEC, store=tmp_path_factory.mktemp("store"), progress=False)


def test_moments_are_both_runs_and_the_fork(family):
    (pair,) = lmc.sibling_pairs([family], epochs=(-1,))
    moments = module.stored_moments(pair)
    assert len(moments) == 1 + 2 * 3
    assert snapshot_ranks(Centre(pair.cube()), moments)["network"] == 7
    (earlier,) = lmc.sibling_pairs([family], epochs=(2,))
    assert len(module.stored_moments(earlier)) == 1 + 2 * 2, "nothing from after the pair's own epoch"


def test_tables_are_remembered(family, monkeypatch):
    pairs = lmc.sibling_pairs([family], epochs=(-1,))
    table = lmc.subspace_steps(pairs, "test", sigma=(0.5,), draws=1)
    assert set(table.direction) == set(module.ALL)
    assert (table.split.unique(), table.seed.unique()) == (["test"], [0])
    monkeypatch.setattr(module, "_measured", lambda *_: pytest.fail("measured twice"))
    assert lmc.subspace_steps(pairs, "test", sigma=(0.5,), draws=1).equals(table)


def test_splits_differ_and_examples_count(family):
    pairs = lmc.sibling_pairs([family], epochs=(-1,))
    few, train, test = (
        lmc.subspace_steps(pairs, split, examples, sigma=(0.5,), draws=1, directions=("averaging direction",)).loss
        for split, examples in (("train", 100), ("train", None), ("test", None))
    )
    assert not (few == train).any()
    assert not (train == test).any()


def test_no_pairs_are_refused():
    with pytest.raises(LmcError, match="pairs: must hold at least one pair"):
        lmc.subspace_steps([])
