"""Figures of federated clients say what their table says."""

import pytest
from charted import assert_scales_stay, assert_title_follows, client_rounds, client_shares, controls, dataset

from lmclib.charts import federated, layers
from lmclib.claims.verdicts import mean_interval


def answers(spec):
    return {
        key: " ".join(said).strip()
        for key, said in next(param["value"] for param in spec["params"] if param["name"] == "answers").items()
    }


def test_the_title_tells_all_none_and_the_best_part_of_the_chosen_round():
    spec = federated.partial_averaging(client_rounds()).to_dict()
    assert_scales_stay(spec)
    said = answers(spec)["Dirichlet 0.01|after one more local epoch|worst client|2"]
    # of 0.9 · 2/3 a seed, less 0.01 on average: 0.59 · 0.4
    assert said.startswith("Dirichlet 0.01, round 2: averaging all layers gives the worst client")
    assert "the best partial set (head) 23.6" in said
    assert controls(spec)["which"][-1] == "Dirichlet 0.01"


def test_intervals_are_those_of_the_ledger_and_stay_within_what_can_be():
    spec = federated.partial_averaging(client_rounds()).to_dict()
    shown = dataset(spec, "mean", "low", "high")
    own = shown.query("case == 'i.i.d.' and averaged == 'head' and `round` == 3 and whom == 'mean client'")
    low, high = mean_interval([0.8, 0.79, 0.78])
    row = own[own.when == "right after averaging"].iloc[0]
    assert (row["mean"], row.low, row.high) == pytest.approx((0.79, low, high), abs=1e-3)
    assert shown.high.max() <= 1
    assert shown.low.min() >= 0


def test_one_seed_has_a_mean_and_no_interval():
    table = client_rounds()
    shown = dataset(federated.partial_averaging(table[table.seed == 0]).to_dict(), "mean", "low", "high")
    assert (shown.low == shown["mean"]).all()


def test_without_partial_sets_there_is_none_to_tell_of():
    table = client_rounds()
    spec = federated.partial_averaging(table[table.averaged.isin(["all", "none"])]).to_dict()
    assert "partial" not in " ".join(answers(spec).values())


def test_rounds_that_all_layers_lead_are_counted():
    said = assert_title_follows(federated.over_rounds(client_rounds()).to_dict(), "which", "when")
    assert "ahead of averaging none in 3 of 3 rounds" in said["i.i.d.", "right after averaging"]
    assert "ahead of averaging none in 0 of 3 rounds" in said["Dirichlet 0.01", "right after averaging"]


def test_the_split_is_told_by_its_median_client():
    said = assert_title_follows(federated.splits(client_shares()).to_dict(), "which")
    assert "the median client has 60.0" in said["i.i.d.",]
    assert "from 10 to 30 examples" in said["Dirichlet 0.01",]


def test_heatmaps_of_what_never_forked_speak_of_no_fork():
    from charted import layer_table

    table = layer_table().query("fork_epoch == 0")
    spec = layers.heatmap(table).to_dict()
    assert "fork" not in controls(spec)
    assert not any("fork" in said for said in answers(spec).values())
    key = "siblings|0|12|loss|train|models"
    assert answers(spec)[key].startswith("Siblings, epoch 12: all layers averaged")
