"""The claims about other recipes and other architectures can go either way."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from charted import curves, layer_table

import lmclib as lmc
from lmclib.claims.forking import planes_ahead

FORKS, AGES, SEEDS = (0.0, 1.0), (1, 2, 6, 12), range(5)


def geometry(angle, fork_angle=60.0, speed=1.0):
    """Siblings whose plane cosine comes to 1 at some speed, with noise between seeds."""
    return pd.DataFrame(
        {"seed": s, "fork_epoch": f, "epoch": f + a, "child_epoch": a, "distance": 10 + s + a, "origin_angle": angle + s,
         "fork_angle": fork_angle + s, "plane_cosine": 1 - (1 - a / 12) ** speed + 0.001 * s}
        for s in SEEDS for f in FORKS for a in AGES
    )  # fmt: skip


def forked(geometry):
    evolution = curves(FORKS, seeds=SEEDS)
    return lmc.Forked(evolution, evolution.query("epoch == 12"), geometry, evolution.query("epoch == 12"), geometry)


def parts(usual, slow, claim):
    found = lmc.recipe_claims(forked(usual), {"slow": forked(slow)}, "slow")
    return {part.name: part for part in found[claim]}


def test_smaller_angles_at_a_low_rate_can_be_those_of_shorter_ways():
    name = "angle from the origin, smaller at the lower rate"
    assert parts(geometry(40.0), geometry(20.0), "B4")[name].verdict == "holds"
    assert parts(geometry(20.0), geometry(40.0), "B4")[name].verdict == "fails"
    turned = parts(geometry(40.0), geometry(20.0, fork_angle=20.0), "B4")[
        name
    ]  # seen from the fork it is smaller by as much
    assert turned.verdict == "explained"


@pytest.mark.parametrize(("speed", "verdict"), [(2.0, "holds"), (0.5, "fails")])
def test_planes_can_be_fixed_sooner_or_later_at_a_low_rate(speed, verdict):
    found = parts(geometry(40.0), geometry(40.0, speed=speed), "B5")["sooner at the lower rate"]
    assert found.verdict == verdict
    assert found.values == pytest.approx([found.values[0]] * 5, abs=1e-9)


def test_every_change_has_parts_of_its_own_and_the_usual_recipe_has_none():
    one = forked(geometry(40.0))
    found = lmc.recipe_claims(one, {"slow": one, "none": one}, "slow")
    names = [part.name for part in found["B7"]]
    assert len(names) == len(set(names)) == 2 * len({name.rpartition("; ")[0] for name in names})
    assert {name.rpartition("; ")[2] for name in names} == {"slow", "none"}


def test_ages_are_compared_where_both_have_them():
    one, other = geometry(40.0, speed=2.0).query("fork_epoch == 0"), geometry(40.0).query("fork_epoch == 0")
    shorter = other[other.child_epoch < 12]
    expected = np.mean([1 - (1 - a / 12) ** 2 - a / 12 for a in (1, 2)])
    assert planes_ahead(one, shorter)[0] == pytest.approx(expected)


def test_language_models_have_a_row_of_their_own():
    table = pd.concat(
        layer_table().query("epoch == 12 and fork_epoch == 0 and split == 'train' and baseline == 'models' and case == 'siblings'")
        .assign(seed=seed) for seed in SEEDS
    )  # fmt: skip
    found = lmc.architecture_claims({"gpt-d16-l1": table, "vgg11-w8, recomputed": table}, {"gpt-d16-l1": table})
    assert {name: len(own) for name, own in found.items()} == {"A8": 3, "A9": 3}
    assert all(part.control for part in found["A8"])
    assert not any(part.control for part in found["A9"])
    flat = table.assign(error_barrier=0.0)
    assert lmc.architecture_claims({"gpt-d16-l1": flat}, {}) == {}


def test_parts_keep_everything_but_their_name():
    usual = forked(geometry(40.0))
    plain = lmc.forking_claims(usual.evolution, usual.final, usual.geometry, usual.long_curves, usual.long_geometry)
    named = lmc.recipe_claims(usual, {"same": usual}, "slow")
    for claim in named:
        assert [replace(part, name="") for part in named[claim]] == [replace(part, name="") for part in plain[claim]]
