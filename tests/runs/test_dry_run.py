"""Families train when they are asked, and never in a dry run."""

import pytest

import lmclib as lmc
from lmclib.runs.fork import fork_all
from lmclib.runs.plan import Plan
from lmclib.store.dry_run import NotRun, dry_run
from lmclib.store.store import Store
from lmclib.training.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=128, milestones=(1,))
SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 1), siblings=2, recipe=RECIPE)


def test_families_train_when_first_asked(tmp_path):
    (family,) = fork_all([SPEC], tmp_path, progress=False)
    assert not list(tmp_path.rglob("*.safetensors"))
    family.child(0, 0)
    assert Plan(family).missing == set()


def test_a_dry_run_trains_measures_and_writes_nothing(tmp_path):
    store = Store(tmp_path / "none")
    with dry_run():
        (family,) = fork_all([SPEC], store)
        with pytest.raises(NotRun, match="mlp-8 on digits: not trained yet"):
            family.child(0, 0)
        with pytest.raises(NotRun, match="barrier_curve: not measured yet"):
            lmc.barrier_evolution([family], 3, progress=False)
    assert not (tmp_path / "none").exists()
