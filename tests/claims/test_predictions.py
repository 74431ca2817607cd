"""The claims about predictions can go either way."""

from itertools import combinations

import numpy as np
import pandas as pd

import lmclib as lmc

SEEDS, FORKS = range(5), (0.0, 1.0, 2.0)


def forks(factor, wrong=1.0):
    rng = np.random.default_rng(0)
    rows = []
    for seed in SEEDS:
        for fork in FORKS:
            actual, distance = 2 / (1 + fork), 1 + fork  # farther, and lower
            rows.append(
                {"case": "weight decay", "seed": seed, "fork_epoch": fork, "actual": actual, "distance": distance,
                 "predicted": factor * actual * rng.uniform(0.95, 1.05) * wrong}
            )  # fmt: skip
    table = pd.DataFrame(rows)
    return table.drop(columns="distance"), table[["case", "seed", "fork_epoch", "distance"]]


def layers(energy_tells=True, distance_tells=False):
    rng = np.random.default_rng(1)
    rows = []
    for seed in SEEDS:
        for epoch in (3, 12):
            barrier = rng.uniform(0.1, 1, 10)
            noise, other = rng.uniform(0.1, 1, 10), rng.uniform(0.1, 1, 10)
            rows.append(
                pd.DataFrame(
                    {"seed": seed, "fork_epoch": 0.0, "epoch": epoch, "layer": range(10), "barrier": barrier,
                     "energy": barrier if energy_tells else noise, "distance": barrier if distance_tells else other,
                     "parameters": rng.permutation(10)}
                )
            )  # fmt: skip
    return pd.concat(rows)


def sets(additive):
    rng = np.random.default_rng(2)
    rows = []
    for seed in SEEDS:
        own, cross = rng.uniform(0.1, 1, 6), rng.uniform(-1, 3, (6, 6))
        for n in range(1, 7):
            for chosen in combinations(range(6), n):
                actual = own[list(chosen)].sum()
                if not additive:
                    actual += sum(cross[i, j] for i, j in combinations(chosen, 2))
                key = "".join("1" if i in chosen else "0" for i in range(6))
                rows.append({"seed": seed, "set": key, "n_layers": n, "predicted": 1.01 * actual, "actual": actual})
    return pd.DataFrame(rows)


def claims(**changes):
    table, geometry = forks(changes.get("factor", 1.2), changes.get("wrong", 1.0))
    own = {name: changes[name] for name in ("energy_tells", "distance_tells") if name in changes}
    found = lmc.prediction_claims(table, geometry, layers(**own), sets(changes.get("additive", False)))
    return {name: [part.verdict for part in parts] for name, parts in found.items()}


def test_good_predictions_hold():
    found = claims()
    assert (found["B6"], found["B8"], found["B9"]) == (["holds"], ["holds"] * 4, ["holds"] * 2)
    assert found["B10"] == ["holds"] * 3


def test_what_is_not_measured_is_not_judged():
    assert [*lmc.prediction_claims(layers=layers())] == ["B8", "B9"]
    assert [*lmc.prediction_claims(sets=sets(additive=False))] == ["B10"]
    assert [*lmc.prediction_claims(*forks(1.2))] == ["B6"]
    assert lmc.prediction_claims() == {}


def test_bad_ones_fail():
    found = claims(factor=4.0, energy_tells=False)
    assert (found["B6"], found["B8"]) == (["fails"], ["fails"] * 4)
    assert "holds" not in found["B9"]


def test_a_wrong_sign_is_no_ballpark():
    """It has no factor at all, so no seed can be judged, rather than one that looks fine."""
    assert "B6" not in claims(wrong=-1.0)


def test_squared_distance_explains_what_it_tells_as_well():
    found = claims(distance_tells=True)
    assert found["B8"] == ["explained", "holds"] * 2
    assert "holds" not in found["B9"]


def test_sums_of_single_layers_explain_sets_that_only_add_up():
    assert claims(additive=True)["B10"][:2] == ["explained", "explained"]


def test_a_better_predictor_must_beat_the_midpoint_itself():
    rows = [
        {"seed": seed, "method": method, "actual": 1.0 + fork, "predicted": (1.0 + fork) * (1 + off + 0.01 * seed)}
        for seed in SEEDS
        for fork in FORKS
        for method, off in (("published", 1.0), ("logit-cubic", 0.1), ("logit-quintic", 0.01))
    ]
    cost = pd.Series({"published": 6.0, "logit-cubic": 8.0, "logit-quintic": 20.0})
    (part,) = lmc.better_predictor_claim(pd.DataFrame(rows), cost)
    assert part.verdict == "explained"
    np.testing.assert_allclose(part.values, -0.9)
    worse = cost.copy()
    worse["logit-cubic"] = 30.0
    assert lmc.better_predictor_claim(pd.DataFrame(rows), worse) == []
