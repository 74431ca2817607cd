"""Figures of single layers keep their scales, and say what they show."""

from itertools import combinations

import pandas as pd
import pytest
from charted import assert_scales_stay, assert_title_follows, controls, dataset, layer_table, stair_table

from lmclib.charts import layers, scales, style


@pytest.fixture(scope="module")
def heatmap() -> dict:
    return layers.heatmap(layer_table()).to_dict()


def test_the_heatmap_never_rescales(heatmap):
    assert_scales_stay(heatmap, switches=("measure",))
    assert controls(heatmap)["epoch"] == [3, 6, 12]
    assert controls(heatmap)["fork"] == ["0", "0.5", "4"]


def test_the_heatmap_offers_what_was_measured_and_nothing_else():
    table = layer_table()
    assert controls(layers.heatmap(table).to_dict())["split"] == ["train", "test"]
    assert "split" not in controls(layers.heatmap(table[table.split == "train"]).to_dict())  # nothing to choose


def test_the_heatmaps_title_names_the_worst_layer_of_what_it_shows(heatmap):
    answers = next(param["value"] for param in heatmap["params"] if param["name"] == "answers")
    table = layer_table().query(
        "case == 'siblings' and fork_epoch == 4 and epoch == 6 and split == 'test' and into != 'both'"
    )
    single = table[(table.baseline == "cut") & (table.layer != "network")]
    worst = single.loc[single.error_barrier.idxmax()]
    said = " ".join(answers["siblings|4|6|error|test|cut"])
    assert f"{scales.percent(worst.error_barrier)} ({worst.layer}" in said
    assert "siblings|4|3|error|test|cut" not in answers  # not forked yet
    assert "which + '|' + own_fork + '|' + epoch" in heatmap["title"]["text"]["expr"]


def test_the_heatmaps_data_are_the_table(heatmap):
    shown = dataset(heatmap, "baseline", "loss_barrier")
    table = layer_table().query("into != 'both'")
    assert len(shown) == len(table)
    assert shown.loss_barrier.to_numpy() == pytest.approx(table.loss_barrier.to_numpy(), abs=1e-4)


@pytest.mark.parametrize("n", [5, 40, 60])
def test_names_of_layers_in_the_heatmap_do_not_touch(n):
    one = layer_table().query("layer != 'network'").iloc[:1]
    more = [one.assign(layer=f"more.{k}") for k in range(n)]
    table = pd.concat([layer_table(), *more], ignore_index=True)
    spec = layers.heatmap(table).to_dict()
    for column in spec["vconcat"][0]["hconcat"]:
        rows = column["vconcat"][1]["layer"][0]["encoding"]["y"]["scale"]["domain"]
        assert column["vconcat"][1]["height"] / len(rows) > style._theme()["config"]["axis"]["labelFontSize"]


def test_staircases_never_rescale_and_say_where_they_are_highest():
    table = stair_table()
    spec = layers.staircases(table).to_dict()
    assert_scales_stay(spec, switches=("measure",))
    answers = next(param["value"] for param in spec["params"] if param["name"] == "answers")
    steps = table.query("case == 'independent' and order == 'top-down' and epoch == 6 and into == '1'")
    top = steps.loc[steps.loss_barrier.idxmax()]
    said = " ".join(answers["independent|top-down|into model 1|loss|6"])
    assert f"{top.n_layers} of {len(steps)} layers make the highest barrier, {scales.nats(top.loss_barrier)}" in said


def test_pairs_of_layers_have_a_scale_for_each_of_both_pictures():
    """And the title counts what has one sign in every seed, beside chance."""
    names, heights = ["a", "b", "c"], ([0.5, 0.4, 0.2], [0.5, 0.1, 0.2])
    single = pd.DataFrame(
        {"seed": seed, "layer": name, "into": "both", "loss_barrier": height}
        for seed in (0, 1)
        for name, height in zip(names, [0.1, 0.2, 0.25], strict=True)
    )
    pairs = pd.DataFrame(
        {"seed": seed, "layer": one, "other": two, "into": "both", "loss_barrier": height}
        for seed in (0, 1)
        for (one, two), height in zip(combinations(names, 2), heights[seed], strict=True)
    )
    spec = layers.pairs(pairs, single).to_dict()
    assert_scales_stay(spec, switches=("show",))
    answers = assert_title_follows(spec, "show")
    assert answers["barrier of both",].endswith("0.5\u00a0nats, is that of a with b")
    said = answers["more than the sum of single ones",]
    assert said.startswith(
        "In every seed 33% of pairs exceed the sum of their two layers and 33% fall short of it (by chance 25% each)"
    )


def test_the_first_of_several_random_orders_is_mapped():
    """Wherever its number begins."""
    table = stair_table()
    table = table[table.draw > 0].assign(draw=lambda rows: rows.draw.map({1: 7, 2: 5}))
    shown = dataset(layers.staircases(table).to_dict(), "mapped", "draw")
    assert set(shown[shown.mapped].draw) == {5}


def test_parts_of_the_barrier_have_equal_ranges_side_by_side():
    table = layer_table().query("epoch == 12 and fork_epoch == 0 and split == 'train' and baseline == 'models'")
    spec = layers.shares(table).to_dict()
    ranges = {str(panel["layer"][0]["encoding"]["x"]["scale"]["domain"]) for panel in spec["hconcat"]}
    assert len(ranges) == 1
