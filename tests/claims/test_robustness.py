"""The claims about steps can go either way, and their controls can win."""

import numpy as np
import pandas as pd
import pytest

import lmclib as lmc
from lmclib.measures.noise import CORRECTED, PUBLISHED
from lmclib.measures.perturbation import AVERAGING, COMPLEMENT, RANDOM, SPREAD, SUBSPACE

LAYERS = ("stem", "block", "head")
SEEDS = range(5)


def step_rows(loss, rise, worst=1.0, into=("1",)):
    """`perturbation_table` with so much loss and rise of the error by direction, a little noise, and a last layer that is `worst` times as bad."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"seed": seed, "layer": layer, "into": model, "direction": direction, "draw": draw, "sigma": sigma}
        | {
            "loss": sigma * (loss[direction] + 0.02 * rng.standard_normal()),
            "error_rise": sigma * rise.get(direction, 0.0) * bad,
        }
        for seed in SEEDS
        for layer, bad in zip((*LAYERS, "network"), (1, 1, worst, 50), strict=True)
        for model in into
        for direction in loss
        for draw in range(1 if direction == AVERAGING else 4)
        for sigma in (0.0, 0.5, 1.0)
    )


def cnn(averaging=0.1, random=0.5, within=0.001, spread=0.1, worst=1.0):
    loss = {AVERAGING: averaging, RANDOM: random, SPREAD: random}
    return step_rows(loss, {RANDOM: within, SPREAD: spread}, worst)


def said(parts):
    return [part.verdict for part in parts]


def test_layers_that_withstand_hold_and_fragile_ones_fail():
    assert said(lmc.random_step_claims(cnn())["A7"]) == ["holds"] * 4
    assert said(lmc.random_step_claims(cnn(within=0.1))["A7"])[:3] == ["fails"] * 3


def test_one_fragile_layer_is_said_apart():
    assert said(lmc.random_step_claims(cnn(worst=100.0))["A7"])[:3] == ["holds", "holds", "fails"]


def test_where_the_same_length_anywhere_does_no_more_it_is_the_length():
    assert said(lmc.random_step_claims(cnn(within=0.01, spread=0.005))["A7"])[:3] == ["explained"] * 3


def test_half_the_step_is_judged_by_half_the_step():
    assert said(lmc.random_step_claims(cnn(within=0.03))["A7"])[:2] == ["fails", "holds"]


def test_averaging_is_kinder_than_chance_or_not():
    assert said(lmc.random_step_claims(cnn(averaging=0.9))["A7"])[3] == "fails"
    assert said(lmc.random_step_claims(cnn(averaging=0.5))["A7"])[3] != "holds"


def test_the_network_is_no_layer():
    """Its error rises fifty times as much, and no part of A7 notices."""
    (every,) = (part for part in lmc.random_step_claims(cnn())["A7"] if "every layer" in part.name)
    assert max(every.values) == pytest.approx(0.001)


def test_without_halfway_or_whole_steps_there_is_nothing_to_judge():
    table = cnn()
    assert lmc.random_step_claims(table[table.sigma == 0]) == {}
    assert lmc.noise_claims(noise().query("sigma != 0.5")) == {}


def vision(averaging, random):
    tables = [
        step_rows({AVERAGING: averaging[case], RANDOM: random}, {}, into=("1", "2")).assign(
            case=case, protocol=protocol
        )
        for case in averaging
        for protocol in ("fresh", "line")
    ]
    return pd.concat(tables, ignore_index=True)


def test_transformers_are_judged_pair_by_pair_and_protocol_by_protocol():
    parts = lmc.transformer_claims(vision({"high rate": 0.1, "low rate": 0.9}, random=0.5))["A5"]
    assert said(parts) == ["holds", "holds", "fails", "fails"]
    assert [part.name.split(";")[:2] for part in parts[:2]] == [
        ["high rate", " fresh draws"],
        ["high rate", " line draws"],
    ]


def test_another_random_step_can_explain_a_transformer():
    """The first draw is much milder than all others, so it beats them by as much as averaging does."""
    table = vision({"high rate": 0.1}, random=0.5)
    first = (table.direction == RANDOM) & (table.draw == 0)
    table.loc[first, "loss"] = -0.2 * table.sigma[first]
    assert said(lmc.transformer_claims(table)["A5"]) == ["explained"] * 2


def test_both_directions_of_a_pair_count():
    table = vision({"high rate": 0.1}, random=0.5)
    back = (table.direction == AVERAGING) & (table["into"] == "2")
    table.loc[back, "loss"] = 3.0 * table.sigma[back]
    assert said(lmc.transformer_claims(table)["A5"]) == ["fails"] * 2


def noise(null=1.0, averaging=2.0, subspace=3.0, random=1.5):
    """`noise_table` of both versions with so much loss at every step, in layers and in the network, and a little noise."""
    rng = np.random.default_rng(0)
    losses = {COMPLEMENT: null, AVERAGING: averaging, SUBSPACE: subspace, RANDOM: random}
    return pd.DataFrame(
        {
            "version": version,
            "seed": seed,
            "layer": layer,
            "into": into,
            "direction": direction,
            "draw": 0,
            "sigma": 0.5,
        }
        | {"loss": loss + 0.01 * rng.standard_normal()}
        for version in (PUBLISHED, CORRECTED)
        for seed in SEEDS
        for layer in (*LAYERS, "network")
        for into in ("1", "2")
        for direction, loss in losses.items()
        if (direction, layer) != (COMPLEMENT, "head")  # whose snapshots span all of it
    )


def test_the_published_order_holds_where_it_is_there():
    parts = lmc.noise_claims(noise())["A6"]
    assert said(parts) == ["holds"] * 8
    assert [part.name.split(";")[0] for part in parts] == [PUBLISHED] * 4 + [CORRECTED] * 4


def test_an_averaging_direction_below_the_null_space_fails():
    assert said(lmc.noise_claims(noise(averaging=0.5))["A6"])[:4] == ["fails", "fails", "holds", "holds"]


def test_random_steps_explain_what_subspaces_do_no_more_of():
    parts = said(lmc.noise_claims(noise(null=1.5, random=1.2))["A6"])[:4]
    assert parts == ["explained", "explained", "holds", "holds"]
    parts = said(lmc.noise_claims(noise(subspace=3.0, random=3.5))["A6"])[:4]
    assert parts[2:] == ["explained"] * 2


def test_versions_are_judged_apart():
    table = noise()
    away = (table.version == CORRECTED) & (table.direction == AVERAGING)
    table.loc[away, "loss"] = 0.2
    assert said(lmc.noise_claims(table)["A6"]) == ["holds"] * 4 + ["fails"] * 2 + ["holds"] * 2
