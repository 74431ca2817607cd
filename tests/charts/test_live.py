"""Figures that grow: whatever there is so far can be drawn, on axes that do not move."""

import json
import re

import pandas as pd

from lmclib.charts import live

LOSSES = pd.DataFrame(
    [(0, None, 0.0, 2.3), (0, None, 1.0, 1.1), (0, 0.5, 1.0, 1.2)], columns=["seed", "fork_epoch", "epoch", "loss"]
)


def curves(forks, top=0.5):
    return pd.DataFrame(
        [
            {
                "seed": 0,
                "fork_epoch": fork,
                "epoch": 2,
                "pair": "1–2",
                "split": "train",
                "norm_stats": treatment,
                "alpha": alpha,
                "error_barrier": 4 * alpha * (1 - alpha) * top / (1 + fork),
                "loss_barrier": 4 * alpha * (1 - alpha) * top / (1 + fork),
            }
            for fork in forks
            for treatment in ("interpolate", "recompute")
            for alpha in (0, 0.5, 1)
        ]
    )


def test_training_is_drawn_from_its_first_point_to_its_last_epoch():
    for n in (1, 2, 3):
        spec = live.training(LOSSES[:n], 12, [0, 0.5], "256 images").to_dict()
        assert '"domain": [0, 12]' in json.dumps(spec)
        assert spec["title"]["subtitle"] == "256 images"
    assert "epoch 1 of 12" in spec["title"]["text"][0]
    assert "the parent in the colour of the text" in spec["description"]


def test_nothing_is_black_on_a_dark_page():
    charts = live.training(LOSSES, 2, (0.5,), "digits"), live.against_fork({"run": curves((0, 0.5))})
    for chart in charts:
        said = json.dumps(chart.to_dict())
        assert "currentColor" in said
        assert not re.search(r'"(black|white|#555)"', said)


def test_barriers_are_drawn_fork_by_fork_on_the_axis_of_all():
    for forks in ([0], [0, 0.5], [0, 0.5, 2]):
        spec = json.dumps(live.against_fork({"this run": curves(forks)}, fork_epochs=[0, 0.5, 2]).to_dict())
        assert '"domain": ["0", "0.5", "2"]' in spec
        assert '"domain": [0, 1]' in spec
    title = live.against_fork({"this run": curves([0, 1])}).title.text
    assert title == ["Forked at 0: a barrier of 50.0%; at 1: 25.0%"]


def test_a_pinned_run_is_told_by_dash_and_shape_and_may_have_other_forks():
    chart = live.against_fork({"this run: seed 1": curves([0, 1]), "pinned: seed 0": curves([0, 2], 0.2)}, "loss")
    spec = json.dumps(chart.to_dict())
    assert '"domain": ["0", "1", "2"]' in spec
    assert '"domain": ["this run: seed 1", "pinned: seed 0"]' in spec
    assert "nats" in chart.title.text[0]
