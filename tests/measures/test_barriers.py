"""Barriers, kinds and geometry against closed forms."""

import numpy as np
import pandas as pd
import pytest
import torch

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.measures.barriers import alpha_grid

GRID = np.linspace(0, 1, 25)


def curve(barrier):
    return pd.DataFrame({"alpha": GRID, "error_barrier": barrier})


@pytest.mark.parametrize(
    ("barrier", "kind"),
    [
        (0.01 * 4 * GRID * (1 - GRID), "none"),
        (0.09 * 4 * GRID * (1 - GRID), "bump"),
        (0.5 * 4 * GRID * (1 - GRID), "ridge"),
        (0.5 * np.exp(-(((GRID - 0.5) / 0.15) ** 2)), "ridge"),
        (0.8 * np.clip(6 * np.minimum(GRID, 1 - GRID), 0, 1), "wide ridge"),
        (-0.3 * GRID * (1 - GRID), "none"),
    ],
)
def test_kinds_by_rule(barrier, kind):
    assert lmc.barrier_kind(curve(barrier)) == kind


def test_evolution_is_the_barrier_curve_of_each_cube(tmp_path):
    spec = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 0.5), recipe=lmc.Recipe(epochs=1, batch_size=128))
    family = lmc.fork(spec, tmp_path, progress=False)
    table = lmc.barrier_evolution([family], alphas=5, split="test", progress=False)
    assert len(table) == 2 * 5
    expected = lmc.barrier_curve(family.cube(0.5, split="test"), 5)
    got = table[table.fork_epoch == family.fork_epochs[1]].reset_index()[expected.columns]
    pd.testing.assert_frame_equal(got, expected)
    np.testing.assert_allclose(lmc.sibling_geometry([family]).plane_cosine, 1)  # one measured epoch: the last


def test_statistics_do_not_count_as_geometry():
    one = {"w": torch.zeros(2), "n.running_mean": torch.zeros(2)}
    other = {"w": torch.tensor([3.0, 4.0]), "n.running_mean": torch.full((2,), 100.0)}
    assert lmc.distance(one, other) == 5


def test_bad_alphas_are_named():
    with pytest.raises(LmcError, match="alphas="):
        alpha_grid([0.5, 1.5])


def test_a_height_is_of_the_loss_or_the_error():
    with pytest.raises(LmcError, match="of='los': must be 'error' or 'loss'"):
        lmc.barrier_height(pd.DataFrame({"alpha": [0.5], "loss_barrier": [1.0]}), of="los")
