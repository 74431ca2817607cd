"""The claims about layers can go either way."""

import numpy as np
import pandas as pd

import lmclib as lmc

LAYERS = [f"layer{i}" for i in range(12)]
RNG = np.random.default_rng(0)
SEEDS = range(5)


def layer_rows(shares, full=3.0, error=0.5):
    """`layer_table` with some parts of the full barrier, and 5 % of noise."""
    rows = []
    for seed in SEEDS:
        noise = 1 + 0.05 * RNG.standard_normal(len(LAYERS))
        for name, share in zip([*LAYERS, "network"], [*(shares * noise), 1.0], strict=True):
            for into in ("1", "2", "both"):
                height = share * full * (1 + 0.1 * seed)
                rows.append({"seed": seed, "layer": name, "into": into, "loss_barrier": height, "error_barrier": error})
    return pd.DataFrame(rows)


def staircases(middle):
    """Bottom-up and top-down with so much of the rise in the middle third, and random orders that rise evenly."""
    outer = (1 - middle) / 2
    steps = np.cumsum(np.repeat([outer, middle, outer], 4) / 4)
    rows = []
    for seed in SEEDS:
        for order, draw, at in (("bottom-up", 0, steps), ("top-down", 0, steps), ("random", 0, np.arange(1, 13) / 12)):
            jitter = 0.01 * RNG.standard_normal(12)
            for n, height in enumerate(3 * (1 + 0.1 * seed) * (at + jitter), 1):
                rows.append(
                    {"seed": seed, "order": order, "draw": draw, "into": "both", "n_layers": n, "loss_barrier": height}
                )
    return pd.DataFrame(rows)


def windows(bump):
    highest = np.r_[bump, np.ones(8)]
    own = pd.DataFrame(
        {"seed": seed, "layer": LAYERS[i], "into": "both", "loss_barrier": b * (1 + 0.05 * RNG.standard_normal())}
        for seed in SEEDS
        for i, b in enumerate(highest)
    )
    random = pd.DataFrame(
        {"seed": seed, "draw": draw, "loss_barrier": b * (1 + 0.05 * RNG.standard_normal())}
        for seed in SEEDS
        for draw in range(5)
        for b in np.ones(9)
    )
    return own, random


def claims(shares=0.01, middle=0.8, bump=3.0, low=None, random=0.2):
    table = layer_rows(np.full(12, shares) if np.isscalar(shares) else shares)
    low = layer_rows(np.full(12, 0.01), full=1.0) if low is None else low
    own, drawn = windows(bump)
    parameters = layer_rows(np.full(12, random)).query("layer != 'network' and into != 'both'")
    return {
        **lmc.single_layer_claims(table, parameters, {"recomputed statistics": table}),
        **lmc.layer_set_claims(table, staircases(middle), own, drawn),
        **lmc.learning_rate_claims(table, low),
    }


def said(parts):
    return [part.verdict for part in parts]


def test_layers_without_a_barrier_hold_and_those_with_their_share_fail():
    assert said(claims(shares=0.01)["A1"]) == ["holds"] * 6
    assert said(claims(shares=0.2)["A1"]) == ["fails"] * 6  # an equal share of twelve is 0.083


def test_one_bad_first_block_is_said_apart():
    shares = np.full(12, 0.01)
    shares[1] = 0.5
    assert said(claims(shares=shares)["A1"])[:3] == ["holds", "holds", "fails"]


def test_what_the_two_losses_differ_by_is_no_layers_barrier():
    """Layers that do nothing: in one direction each has half of the difference, which here is six equal shares of the whole barrier."""
    table = layer_rows(np.full(12, 0.0))
    ends = table["into"].map({"1": 1.5, "2": -1.5, "both": 0.0}).where(table.layer != "network", 0.0)
    table = table.assign(loss_barrier=table.loss_barrier + ends)
    found = lmc.single_layer_claims(table, table.query("layer != 'network' and into != 'both'"), {})["A1"]
    assert [max(map(abs, part.values)) < 1e-9 for part in found] == [True] * 3


def test_as_many_random_parameters_explain_what_layers_do_no_better():
    assert said(claims(shares=0.01, random=0.009)["A1"])[:3] == ["explained"] * 3


def test_without_a_full_barrier_there_is_nothing_to_judge():
    table = layer_rows(np.full(12, 0.01), error=0.0)
    own, drawn = windows(1.0)
    found = {
        **lmc.single_layer_claims(table, table.query("layer != 'network'"), {}),
        **lmc.layer_set_claims(table, staircases(0.5), own, drawn),
        **lmc.learning_rate_claims(table, table),
    }
    assert "A1" not in found


def test_the_middle_third_must_add_most_and_more_than_random_orders():
    assert said(claims(middle=0.8)["A2"]) == ["holds", "holds"]
    assert said(claims(middle=0.2)["A2"]) == ["fails", "fails"]


def test_rates_change_which_layers_only_if_they_do_so_more_than_seeds():
    ramp = np.linspace(0.01, 0.05, 12)
    same = claims(shares=ramp, low=layer_rows(ramp, full=1.0))["A12"]
    assert said(same) == ["holds", "fails"]
    turned = claims(shares=ramp, low=layer_rows(ramp[::-1], full=1.0))["A12"]
    assert said(turned) == ["holds", "holds"]


def test_layers_are_not_ordered_where_a_rate_has_no_barrier():
    ramp = np.linspace(0.01, 0.05, 12)
    (full,) = claims(shares=ramp, low=layer_rows(ramp[::-1], full=0.5, error=0.01))["A12"]
    assert (full.name, full.verdict) == ("the full barrier", "holds")


def test_an_order_that_does_not_repeat_itself_is_no_other_order():
    """At the low rate each seed has an order of its own: then that it is not the high rate's says nothing."""
    ramp, shuffled = np.linspace(0.01, 0.05, 12), np.random.default_rng(0)
    low = layer_rows(ramp, full=1.0)
    alone = ~low.layer.eq("network")
    low.loc[alone, "loss_barrier"] = shuffled.permutation(low[alone].loss_barrier.to_numpy())
    (_, which) = claims(shares=ramp, low=low)["A12"]
    assert which.verdict != "holds"
    assert max(which.control) < 0.8


def test_the_first_block_is_told_by_its_names():
    table = layer_rows(np.full(12, 0.01))
    names = ["conv", "norm", "stages.0.conv1", "stages.0.norm1", "stages.0.conv2", "stages.0.norm2", "stages.1.conv1"]
    names = dict(zip(table.layer[table.layer != "network"].unique(), [*names, *"abcde"], strict=True))
    found = lmc.single_layer_claims(table.replace({"layer": names}), table.replace({"layer": names}), {})["A1"]
    assert found[1].name.startswith("all but the first 6 layers")


def test_a_window_stands_out_only_beside_random_sets():
    assert said(claims(bump=3.0)["A13"]) == ["holds"]
    assert said(claims(bump=1.0)["A13"]) == ["explained"]
