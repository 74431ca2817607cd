"""Figures of deep linear networks keep their scales, and count so that small bars are seen."""

import pandas as pd
from charted import assert_scales_stay, assert_title_follows, dataset, legend, parabola_cuts

from lmclib.charts import theory


def test_parabolas_of_all_depths_have_one_linear_scale():
    table = parabola_cuts()
    spec = theory.parabolas(table).to_dict()
    assert_scales_stay(spec)
    heights = spec["layer"][0]["encoding"]["y"]["scale"]
    assert "type" not in heights  # linear: on no other scale is it a parabola
    assert heights["domain"][1] >= table.loss.max()
    answers = assert_title_follows(spec, "depth")
    assert answers[2,].endswith("at most 2e-09")
    assert len(dataset(spec, "alpha", "passes")) == len(table)
    layers = table.groupby("depth").layer.unique()
    assert legend(spec["layer"][0]["encoding"]["color"]) == {f"{n}": list(those) for n, those in layers.items()}


def test_a_kind_with_few_networks_has_a_row_of_its_own_on_a_logarithmic_scale():
    table = pd.DataFrame({"kind": ["many"] * 3000 + ["few"] * 2, "curvature": [0.0] * 2999 + [1.0, 0.3, 0.5]})
    spec = theory.histogram(table, bins=10).to_dict()
    unit = spec["spec"]["layer"][0]
    assert unit["encoding"]["y"]["scale"]["type"] == "symlog"
    assert spec["facet"]["row"]["sort"] == ["many (3,000)", "few (2)"]
    counts = dataset(spec, "networks").groupby("kind").networks.sum()
    assert counts.to_dict() == {"many (3,000)": 3000, "few (2)": 2}
    assert unit["encoding"]["y"]["scale"]["domain"][1] > 2999
