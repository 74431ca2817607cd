"""The claims about federated clients can go either way."""

import numpy as np
import pandas as pd

import lmclib as lmc

RNG = np.random.default_rng(0)
SEEDS = range(5)
LAYERS = ("a", "b", "c", "d")


def layers(case, heights, full=4.0, error=0.5, layer_error=0.0):
    """`unaveraged_layers` of one split: each layer's barrier in equal shares, with 5 % of noise."""
    rows = []
    for seed in SEEDS:
        noise = 1 + 0.05 * RNG.standard_normal(4)
        for name, height in zip((*LAYERS, "network"), (*(np.array(heights) * full / 4 * noise), full), strict=True):
            for into in ("1", "2", "both"):
                own = error if name == "network" else layer_error
                rows.append(
                    {
                        "case": case,
                        "seed": seed,
                        "layer": name,
                        "into": into,
                        "loss_barrier": height,
                        "error_barrier": own,
                    }
                )
    return pd.DataFrame(rows)


def a10(heights, same=(2, 2, 2, 2), **more):
    table = pd.concat([layers("own classes", heights, **more), layers("the same data", same)])
    return {part.name: part.verdict for part in lmc.unaveraged_clients_claim(table).get("A10", [])}


def test_small_layer_barriers_hold_and_large_ones_fail():
    few = a10([0.1] * 4)
    assert set(few.values()) == {"holds", "explained"}  # no layer has an error barrier in either
    assert few["median layer; own classes"] == "holds"
    many = a10([2.0] * 4, layer_error=0.3)
    assert set(many.values()) == {"fails"}


def test_one_bad_layer_is_said_apart():
    found = a10([0.1, 0.1, 0.1, 3])
    assert (found["median layer; own classes"], found["every layer; own classes"]) == ("holds", "fails")


def test_clients_with_the_same_data_explain_what_they_have_as_little_of():
    assert a10([0.3] * 4, same=(0.1,) * 4)["median layer; own classes"] == "explained"


def test_the_control_is_in_the_same_unit():
    """The layers of both are divided by the split's own full barrier, whatever the control's is."""
    table = pd.concat([layers("own classes", [0.1] * 4), layers("the same data", [0.4] * 4, full=2.0)])
    part = lmc.unaveraged_clients_claim(table)["A10"][0]
    assert np.mean(part.control) == np.clip(np.mean(part.control), 0.19, 0.21)


def test_without_a_full_barrier_only_the_number_of_layers_is_judged():
    assert list(a10([0.1] * 4, error=0.0)) == ["layers with an error barrier; own classes"]
    assert list(a10([0.1] * 4, full=-4.0)) == ["layers with an error barrier; own classes"]  # better in the middle


def accuracy(case, **means):
    return pd.DataFrame(
        {
            "case": case,
            "averaged": name,
            "seed": seed,
            "round": number,
            "local_accuracy": mean * number / 2 + 0.005 * RNG.standard_normal(),
        }
        for name, mean in means.items()
        for seed in SEEDS
        for number in (1, 2)
    )


def splits(case, commonest):
    return pd.DataFrame(
        {"case": case, "seed": seed, "client": k, "class": c, "share": share}
        for seed in SEEDS
        for k in range(4)
        for c, share in (("a", commonest), ("b", 1 - commonest))
    )


def a11(commonest, **means):
    (part,) = lmc.partial_averaging_claim(accuracy("some", **means), splits("some", commonest))["A11"]
    return part


def test_all_layers_must_win_and_so_must_averaging():
    assert a11(0.6, all=0.9, body=0.8, head=0.7, none=0.6).verdict == "holds"
    assert a11(0.6, all=0.8, body=0.9, head=0.7, none=0.6).verdict == "fails"
    assert a11(0.6, all=0.8, body=0.7, head=0.7, none=0.9).verdict == "explained"


def test_in_an_extreme_split_a_partial_set_must_win_and_beat_no_averaging():
    part = a11(0.95, all=0.5, body=0.9, head=0.7, none=0.6)
    assert (part.verdict, part.name) == ("holds", "some, extreme")
    assert a11(0.95, all=0.9, body=0.5, head=0.7, none=0.6).verdict == "fails"
    assert a11(0.95, all=0.5, body=0.9, head=0.7, none=0.99).verdict == "explained"


def test_the_partial_set_is_chosen_on_the_other_seeds():
    """A set that is best on one seed by luck is not the one that this seed is judged by."""
    table = accuracy("some", all=0.7, body=0.8, head=0.75, none=0.6)
    table.loc[(table.seed == 0) & (table.averaged == "head"), "local_accuracy"] = 0.95  # on average head is below body
    (part,) = lmc.partial_averaging_claim(table, splits("some", 0.6))["A11"]
    own = table[(table["round"] == 2) & (table.seed == 0)].set_index("averaged").local_accuracy
    assert part.values[0] == own["all"] - own["body"]


def test_one_seed_cannot_choose():
    table = accuracy("some", all=0.9, body=0.8, none=0.6)
    assert lmc.partial_averaging_claim(table[table.seed == 0], splits("some", 0.6)) == {}
