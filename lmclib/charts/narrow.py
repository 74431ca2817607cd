"""The layout of a chart on a phone: what stood side by side stands one below the other, with text as large as before."""

import textwrap
from collections.abc import Mapping

WIDTH = 205  # pixels of one view, which leaves room for an axis at 360
LINE = 38  # characters of a title
TITLE_SIZE = 13
LABEL = 90  # pixels of an axis label


def narrow(spec: Mapping[str, object]) -> dict[str, object]:
    """A chart's specification for a narrow page, without its data sets, which are the wide one's.

    Args:
        spec: of the wide chart.
    """
    top = {name: value for name, value in spec.items() if name != "datasets"}
    stacked = _stacked(top)
    config = dict(stacked.get("config", {}))
    config["axis"] = {**config.get("axis", {}), "labelLimit": LABEL}
    config["view"] = {**config.get("view", {}), "continuousWidth": WIDTH, "discreteWidth": WIDTH}
    # entries one below the other, and so are legends
    config["legend"] = {**config.get("legend", {}), "columns": 1, "layout": {"bottom": {"direction": "vertical"}}}
    config["title"] = {**config.get("title", {}), "fontSize": TITLE_SIZE}
    return {**stacked, "config": config, "params": [_rewrapped(param) for param in stacked.get("params", [])]}


def _stacked(part: object) -> object:
    """Every view no wider than the page, under the one that was beside it."""
    if isinstance(part, list):
        return [_stacked(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    new = {name: value if name in ("datasets", "params") else _stacked(value) for name, value in part.items()}
    if "hconcat" in new:
        new["vconcat"] = new.pop("hconcat")
    if "concat" in new or "facet" in new:
        new = {**new, "columns": 1} if "columns" in new else new
    if isinstance(new.get("width"), int | float):
        new["width"] = min(new["width"], WIDTH)
    if "gradientLength" in new:
        new["gradientLength"] = min(new["gradientLength"], WIDTH - 30)
    if "columns" in new and "labelLimit" in new:  # a legend of its own
        new["columns"] = 1
    if isinstance(axis := new.get("axis"), Mapping) and axis.get("labels") is False and "ticks" in axis:
        # its labels were those of the view beside it
        new["axis"] = {key: value for key, value in axis.items() if key not in ("labels", "ticks")}
    if isinstance(title := new.get("title"), Mapping) and isinstance(title.get("text"), list):
        new["title"] = {**title, "text": textwrap.wrap(" ".join(title["text"]), LINE)}
    return new


def _rewrapped(param: Mapping[str, object]) -> Mapping[str, object]:
    """The titles for every choice, in shorter lines and as many for each."""
    if param.get("name") != "answers":
        return param
    lines = {key: textwrap.wrap(" ".join(said), LINE) for key, said in param["value"].items()}
    most = max(map(len, lines.values()))
    return {**param, "value": {key: [*said, *[""] * (most - len(said))] for key, said in lines.items()}}
