"""Checkpoints written beside training."""

import pytest
import torch

import lmclib as lmc
from lmclib.store.store import Store
from lmclib.training.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=128, milestones=(1,))
SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 1), siblings=2, recipe=RECIPE)


def test_writing_beside_training_keeps_order_and_tells_what_failed(tmp_path):
    from lmclib.store.writer import BackgroundWriter

    store, seen = Store(tmp_path), []
    with BackgroundWriter(store) as writer:
        for i in range(50):
            writer.later(seen.append, i)
        writer.save("run", "a", {"w": torch.ones(3)})
    assert seen == list(range(50))
    assert store.load_state("run", "a")["w"].tolist() == [1, 1, 1]
    with pytest.raises(ZeroDivisionError), BackgroundWriter(store) as writer:
        writer.later(lambda: 1 / 0)
