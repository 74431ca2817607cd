"""Whether networks fit, against tables whose ends are known."""

import pandas as pd
import pytest

import lmclib as lmc
from lmclib.book.settings import Settings
from lmclib.charts.ledger import cards
from lmclib.claims.fit import end_errors


def curve(ends, seed=0, epoch=9, **more):
    one, two = ends
    chord = [one, (one + two) / 2, two]
    barrier = [0, 0.5, 0]
    errors = [c + b for c, b in zip(chord, barrier, strict=True)]
    return pd.DataFrame({"seed": seed, "epoch": epoch, "error": errors, "error_barrier": barrier, **more})


def test_the_worse_of_two_ends_counts_at_the_last_epoch():
    table = pd.concat([curve((0.5, 0.6), epoch=3), curve((0.001, 0.03)), curve((0.0, 0.004), seed=1)])
    assert end_errors(table).round(9).tolist() == [0.03, 0.004]
    assert lmc.fit_said(table) == "not fitted: training error up to 3.0 % in 1 of 2 pairs"


def test_only_the_networks_as_they_were_trained_count():
    others = [curve((0.9, 0.9), split="test"), curve((0.8, 0.8), split="train", norm_stats="recompute")]
    table = pd.concat([*others, curve((0, 0), split="train", norm_stats="interpolate")])
    assert lmc.fit_said(table) == "fitted: training error at most 0.0 % (n = 1)"


def test_of_layers_the_chord_between_both_models_counts():
    rows = pd.DataFrame(
        {"seed": 0, "epoch": 9, "error": 0.31, "error_barrier": [0.3, 0.1], "baseline": ["models", "cut"]}
    )
    assert end_errors(rows).tolist() == pytest.approx([0.01])


def test_a_card_says_whether_networks_fit(tmp_path):
    settings = Settings({"profile": "smoke", "store": str(tmp_path)}, {"store"})
    part = lmc.Part("a", (1.0,), "nats", 0)
    row = lmc.judge(
        "B1", [part], "toy", settings, "resnet_forking", "not fitted: training error up to 3.0 % in 1 of 2 pairs"
    )
    assert "Not fitted: training error up to 3.0 % in 1 of 2 pairs." in cards([row]).data
    assert "lmc-fit" not in cards([lmc.judge("B1", [part], "toy", settings, "resnet_forking")]).data
