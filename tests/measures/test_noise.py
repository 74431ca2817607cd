"""The published experiment and its three defects, each of which changes what it should and nothing else."""

import numpy as np
import pytest
import torch

from lmclib.errors import LmcError
from lmclib.measures.noise import CORRECTED, PUBLISHED, VERSIONS, noise_table, train_pairs
from lmclib.measures.perturbation import AVERAGING, COMPLEMENT, RANDOM, SUBSPACE, Centre

EPOCHS, SIGMA = 3, (0, 0.5)


@pytest.fixture(scope="module")
def table():
    return noise_table(0, 2, EPOCHS, SIGMA, 2)


@pytest.fixture(scope="module")
def pair():
    return train_pairs(0, 1, EPOCHS)[0]


def rows(table, version, direction, layer="network"):
    keys = ["seed", "into", "draw", "sigma"]
    own = table[(table.version == version) & (table.direction == direction) & (table.layer == layer)]
    return own.set_index(keys).sort_index()


def test_both_start_alike_and_train_on_halves_that_share_nothing(pair):
    one, two = (own[0] for own in pair.snapshots)
    assert all(torch.equal(one[key], two[key]) for key in one)
    (x1, _), (x2, _) = pair.train
    assert len(x1) == len(x2) == 201
    assert len(pair.test[0]) == 198
    assert not (x1[:, None] == x2[None]).all(-1).any()
    assert len(pair.snapshots[0]) == EPOCHS + 1


def test_aliased_snapshots_span_two_dimensions_and_copies_all_epochs(table):
    ranks = table[table.layer == "network"].groupby("version")["rank"].unique()
    assert ranks[PUBLISHED] == [2]
    assert ranks[CORRECTED] == ranks["snapshots copied"] == [2 * EPOCHS + 1]


def test_the_first_defect_changes_the_subspaces_alone(table):
    for direction in (AVERAGING, RANDOM):
        assert rows(table, PUBLISHED, direction).loss.equals(rows(table, "snapshots copied", direction).loss)
    moved = rows(table, PUBLISHED, SUBSPACE).query("sigma > 0").loss
    assert not np.isclose(moved, rows(table, "snapshots copied", SUBSPACE).query("sigma > 0").loss).any()


def test_the_second_defect_turns_the_averaging_direction(table, pair):
    cube = pair.cube()
    towards = rows(table, "towards the other model", AVERAGING).loss[0, "1", 0, 0.5]
    assert towards == pytest.approx(cube(0.5).loss.item(), rel=1e-5)
    away = rows(table, PUBLISHED, AVERAGING).loss[0, "1", 0, 0.5]
    assert away == pytest.approx(cube(-0.5).loss.item(), rel=1e-5)
    for direction in (SUBSPACE, COMPLEMENT, RANDOM):
        assert rows(table, PUBLISHED, direction).loss.equals(rows(table, "towards the other model", direction).loss)


def test_the_third_defect_shortens_layers_and_nothing_else(table, pair):
    norms = Centre(pair.cube()).norms
    for layer in pair.cube().layers:
        short = rows(table, PUBLISHED, AVERAGING, layer).length[0, "1", 0, 0.5]
        full = rows(table, "normalised after masking", AVERAGING, layer).length[0, "1", 0, 0.5]
        assert short / full == pytest.approx(norms[layer] / norms["network"])
        assert full == pytest.approx(0.5 * norms[layer])
    assert rows(table, PUBLISHED, AVERAGING).loss.equals(rows(table, "normalised after masking", AVERAGING).loss)


def test_corrected_steps_are_all_of_one_length(table):
    corrected = table[(table.version == CORRECTED) & (table.sigma == 0.5)]
    spread = corrected.groupby(["seed", "layer", "into"]).length.agg(lambda values: np.ptp(values) / values.mean())
    assert spread.max() < 1e-6
    assert set(VERSIONS) == set(table.version)


def test_no_epoch_is_refused():
    with pytest.raises(LmcError, match="epochs=0: must be at least 1"):
        noise_table(epochs=0)
