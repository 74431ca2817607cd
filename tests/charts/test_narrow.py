"""The layout for a phone: one view wide, with the wide one's data, titles and choices."""

import json

import pytest
from charted import curves, layer_table, parents

from lmclib.charts import layers
from lmclib.charts.fork_figure import fork_figure
from lmclib.charts.narrow import LINE, WIDTH, narrow
from lmclib.charts.style import SHORT


@pytest.fixture(scope="module", params=["forks", "layers"])
def wide(request) -> dict:
    chart = fork_figure(curves(), parents()) if request.param == "forks" else layers.heatmap(layer_table())
    return chart.to_dict()


def test_nothing_stands_side_by_side_or_is_wider_than_a_phone(wide):
    text = json.dumps(narrow(wide))
    assert "hconcat" not in text
    assert "hconcat" in json.dumps(wide)  # which was left as it is

    assert max(width for width in _found(narrow(wide), "width") if isinstance(width, int)) <= WIDTH


def test_every_view_has_the_labels_of_its_axis(wide):
    assert '"labels": false, "ticks": false' not in json.dumps(narrow(wide))


def test_names_of_layers_are_as_short_in_every_view():
    map_of_layers = layers.heatmap(layer_table()).to_dict()
    for spec in (map_of_layers, narrow(map_of_layers)):
        axes = [y.get("axis", {}) for y in _found(spec, "y") if isinstance(y, dict) and y.get("field") == "layer"]
        assert len(axes) == 4  # the network's row and the layers, into either model
        assert {axis.get("labelExpr") for axis in axes} == {SHORT["labelExpr"]}


def test_the_data_are_those_of_the_wide_chart(wide):
    assert "datasets" not in narrow(wide)
    named = [{data["name"] for data in _found(spec, "data") if "name" in data} for spec in (wide, narrow(wide))]
    assert named[0] == named[1] == set(wide["datasets"])


def test_titles_say_the_same_in_shorter_lines(wide):
    answers = [next(p["value"] for p in spec["params"] if p["name"] == "answers") for spec in (wide, narrow(wide))]
    assert {key: " ".join(said).split() for key, said in answers[0].items()} == {
        key: " ".join(said).split() for key, said in answers[1].items()
    }
    assert max(len(line) for said in answers[1].values() for line in said) <= LINE
    assert len({len(said) for said in answers[1].values()}) == 1  # so that nothing moves when it changes


def _found(part, name) -> list:
    if isinstance(part, dict):
        return [part.get(name)] * (name in part) + [found for value in part.values() for found in _found(value, name)]
    return [found for item in part for found in _found(item, name)] if isinstance(part, list) else []
