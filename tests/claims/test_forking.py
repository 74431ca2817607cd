"""The claims about forking can go either way."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

import lmclib as lmc
from lmclib.claims.forking import _kendall
from lmclib.claims.verdicts import verdict

GRID = np.linspace(0, 1, 25)
SEEDS = range(5)
EPOCHS = (3, 6, 9, 12)


def curves(heights, epochs=EPOCHS, norm_stats="interpolate", flat=1):
    """Parabolas to the power `flat`, which is below 1 for those that are wider."""
    return pd.DataFrame(
        {
            "seed": seed, "fork_epoch": fork, "epoch": epoch, "alpha": a, "split": "train", "norm_stats": norm_stats,
            "pair": "1–2", "error_barrier": b, "loss_barrier": 4 * b,
        }
        for seed in SEEDS
        for fork, height in heights.items()
        for epoch in epochs
        for a, b in zip(GRID, height * (1 + 0.01 * seed) * (4 * GRID * (1 - GRID)) ** flat, strict=True)
    )  # fmt: skip


def geometry(falls, forks=(0.0, 1.0, 2.0), epochs=EPOCHS, grows=0.5):
    return pd.DataFrame(
        {
            "seed": seed, "fork_epoch": fork, "epoch": epoch, "child_epoch": epoch - fork,
            "distance": (9 - falls * fork) * (epoch / 12) ** grows * (1 + 0.01 * seed), "origin_angle": 50 - 10 * falls * fork,
            "fork_angle": 60 - falls * fork, "plane_cosine": 1 - (0.1 + falls * 0.02 * fork) * (1 - epoch / 12),
        }
        for seed in SEEDS
        for fork in forks
        for epoch in epochs
    )  # fmt: skip


def verdicts(heights, falls=1.0, flat=1, long_height=0.0, grows=2):
    over, end = curves(heights, flat=flat), curves(heights, epochs=(12,), flat=flat)
    final = pd.concat([end, end.assign(norm_stats="recompute")])
    claims = lmc.forking_claims(
        over,
        final,
        geometry(falls, grows=grows),
        curves({2.0: long_height}, epochs=(12,)),
        geometry(falls, forks=(2.0,)),
    )
    return {name: verdict(parts) for name, parts in claims.items()}, claims


def test_a_ridge_that_falls_with_the_fork_holds():
    found, _ = verdicts({0.0: 0.5, 1.0: 0.06, 2.0: 0.001}, flat=0.5)
    assert {name: found[name] for name in ("F1", "B1", "B2", "B4", "B7")} == dict.fromkeys(
        ("F1", "B1", "B2", "B4", "B7"), "holds"
    )


def test_where_nothing_parts_nothing_holds():
    found, claims = verdicts(dict.fromkeys((0.0, 1.0, 2.0), 0.001), falls=0.0, long_height=0.001)
    assert found["F1"] == "mixed"  # not separated; the last fork is stable, and so is the first
    assert [part.verdict for part in claims["F1"]] == ["fails", "explained"] * 2
    assert found["B4"] != "holds"
    assert found["B7"] != "holds"
    assert [part.verdict for part in claims["B1"]] == ["fails", "explained"]


def test_a_late_fork_that_is_only_young_does_not_hold():
    """Children of the last fork, once they train as long as the first's, are separated as well."""
    _, claims = verdicts({0.0: 0.5, 1.0: 0.06, 2.0: 0.001}, long_height=0.4)
    assert claims["B1"][1].verdict == "fails"


def test_parabolas_have_the_kinds_of_their_heights_and_are_not_wide():
    _, claims = verdicts({0.0: 0.5, 1.0: 0.06, 2.0: 0.001})
    assert [part.verdict for part in claims["B3"]] == ["explained", "fails", "fails"]
    _, claims = verdicts({0.0: 0.5, 1.0: 0.06, 2.0: 0.001}, flat=0.3)
    assert [part.verdict for part in claims["B3"]][1:] == ["holds", "holds"]


def test_a_distance_that_grows_as_early_explains_an_early_barrier():
    heights = {0.0: 0.5, 1.0: 0.06, 2.0: 0.001}
    assert verdicts(heights, grows=2)[1]["B2"][0].verdict == "holds"
    assert verdicts(heights, grows=0)[1]["B2"][0].verdict == "explained"


def test_planes_are_compared_at_equal_ages():
    """All forks turn alike from their own start: then none is ahead of another."""
    table = geometry(0.0, epochs=range(1, 13))
    table["plane_cosine"] = 1 - np.exp(-table.child_epoch / 4)
    long = table[table.fork_epoch == 2.0]
    claims = lmc.forking_claims(
        curves({0.0: 0.5, 1.0: 0.1, 2.0: 0.0}), curves({0.0: 0.5, 1.0: 0.1, 2.0: 0.0}, epochs=(12,)), table,
        curves({2.0: 0.0}, epochs=(12,)), long,
    )  # fmt: skip
    assert all(abs(value) < 1e-9 for part in claims["B5"] for value in part.values)
    assert lmc.stable_from(pd.Series({0.0: 0.5, 1.0: 0.5})) is None


def test_kendalls_coefficient_is_scipys():
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 8):
        for _ in range(20):
            one, other = np.arange(n), rng.integers(0, 6, n)  # with ties
            assert _kendall(one, other) == pytest.approx(kendalltau(one, other).statistic, nan_ok=True)
