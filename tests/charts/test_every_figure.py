"""Every figure: its scales stay when its controls move, its title follows them, its data are its table. One without an entry here fails."""

import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import product

import altair as alt
import numpy as np
import pandas as pd
import pytest
import torch
import vl_convert
from charted import (
    FORKS,
    assert_scales_stay,
    client_rounds,
    client_shares,
    compared_table,
    curves,
    layer_table,
    layer_triples,
    parabola_cuts,
    parents,
    stair_table,
    step_table,
)

from lmclib import charts
from lmclib.charts import (
    architectures,
    federated,
    fork_figure,
    forking,
    layers,
    live,
    merging,
    predictions,
    recipes,
    robustness,
    scaling,
    theory,
    toy,
)
from lmclib.charts.narrow import narrow
from lmclib.claims.recipes import Forked
from lmclib.cube.energies import Energies
from lmclib.theory import landscapes

FINAL = curves().query("epoch == 12")
LAST = layer_table().query("epoch == 12 and fork_epoch == 0 and split == 'train' and baseline == 'models'")
NAMES = ("a", "b", "c")


@dataclass
class Figure:
    """How a figure is made from a made-up table, and what is known of it without its own code.

    Attributes:
        make: makes the chart.
        holds: numbers of the table, all of which are in the chart's data, by the column there.
        switches: controls that choose what is measured, on which scales may depend.
    """

    make: Callable[[], alt.TopLevelMixin]
    holds: Mapping[str, np.ndarray] = field(default_factory=dict)
    switches: tuple[str, ...] = ()


def geometry_table() -> pd.DataFrame:
    columns = ("origin_angle", "fork_angle", "plane_cosine", "distance")
    return pd.DataFrame(
        {"seed": seed, "fork_epoch": fork, "epoch": epoch, "child_epoch": epoch - fork}
        | {name: (k + 1) * epoch / (1 + fork) + seed for k, name in enumerate(columns)}
        for seed, fork, epoch in product((0, 1), (0.0, 0.5), (1, 2, 4))
    )


def window_table() -> pd.DataFrame:
    return pd.DataFrame(
        {"layer": layer, "seed": seed, "into": into, "n_layers": 2, "loss_barrier": k + seed + 0.5}
        for k, layer in enumerate(NAMES)
        for seed in (0, 1)
        for into in ("1", "both")
    )


def pair_table() -> pd.DataFrame:
    barriers = {("a", "b"): 0.5, ("a", "c"): 0.4, ("b", "c"): 0.2}
    pairs = ({"layer": a, "other": b, "into": "both", "loss_barrier": v} for (a, b), v in barriers.items())
    return pd.DataFrame(pairs).assign(seed=0)


def single_table() -> pd.DataFrame:
    return pd.DataFrame({"seed": 0, "layer": NAMES, "into": "both", "loss_barrier": [0.1, 0.2, 0.3]})


def cased(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.what == "network"].assign(case="weight decay")


def energies() -> Energies:
    hessians = np.array([[[4.0, 1, -3], [1, 2, 0], [-3, 0, 1]]] * 2)
    return Energies(NAMES, np.zeros((2, 3)), hessians)


def set_table() -> pd.DataFrame:
    keys = ["".join(digits) for digits in product("01", repeat=3)][1:]
    return pd.DataFrame({"set": keys, "loss_barrier": np.linspace(-0.1, 2, 7)})


def term_table() -> pd.DataFrame:
    keys = product(("weight decay", "no weight decay"), (0, 1), (0.0, 0.5))
    return pd.DataFrame(
        {"case": c, "seed": s, "fork_epoch": f, "slopes": s - f - len(c), "curvature": 2.25 + s + f} for c, s, f in keys
    )


def by_direction(column: str) -> pd.DataFrame:
    keys = [column, "layer", "direction", "sigma"]
    return step_table().groupby([*keys, "seed"])[["loss", "error"]].mean().groupby(keys).mean()


def averaging_less_random() -> np.ndarray:
    steps = step_table().query("sigma > 0").set_index(["setting", "sigma", "layer", "seed"])
    averaging = steps[steps.direction == "averaging direction"].loss
    random = steps[steps.direction == "random"].loss.groupby(level=[0, 1, 2, 3]).mean()
    return (averaging - random).to_numpy()


PRICES = pd.DataFrame({"method": ["actual", "published"], "cost": [3.0, 12.0], "relative_error": [0.0, 0.4]})
SHARES = pd.DataFrame({"network": ["linear"] * 2 + ["ReLU"] * 2, "size": [1, 2] * 2, "share": [0, 0.5, 0.25, 0.75]})
CURVATURES = pd.DataFrame({"kind": ["many"] * 4 + ["few"], "curvature": [0.0, 0.1, 0.2, 1.0, 1.0]})
LOSSES = pd.DataFrame(
    [(0, None, 0.0, 2.3), (0, None, 1.0, 1.1), (0, 0.5, 1.0, 1.2)], columns=["seed", "fork_epoch", "epoch", "loss"]
)
S = np.round(np.linspace(0.3, 2, 35), 4)
ONE = torch.ones(1, 1).double()
DIAGONAL = np.linspace(0, 1, 41)

SIBLINGS = LAST[LAST["case"] == LAST["case"].iloc[0]]
RATES = pd.DataFrame(
    {
        "rate": [0.1, 0.1, 0.01, 0.01],
        "weight_decay": [1e-4, 0] * 2,
        "seed": 0,
        "barrier": [0.5, 0.4, 0.1, 0],
        "end": [0.0, 0.01, 0.2, 0.3],
    }
)

PATH = pd.DataFrame({"alpha": [0.0, 0.5, 1.0], "loss": [1.0, 2.0, 1.5], "loss_barrier": [0.0, 0.75, 0.0]})
MEASURED = pd.DataFrame(
    {
        "layer": ["a", "b"] * 3,
        "into": ["1", "1", "2", "2", "both", "both"],
        "loss_barrier": [0.1, 0.3, -0.1, 0.2, 0.0, 0.25],
    }
)
PREDICTED = pd.DataFrame(
    {
        "layer": list("abab"),
        "method": ["published"] * 2 + ["gradient"] * 2,
        "predicted": [0.2, 0.1, 0.3, 0.4],
        "actual": [0.1, 0.2] * 2,
    }
)
MERGES = pd.DataFrame(
    {"candidate": ["x", "y", "x"], "norm_stats": ["interpolate"] * 2 + ["recompute"], "loss": [0.1, 0.2, 0.3]}
)
SHARED = pd.DataFrame({"pair": ["p", "p", "q", "q"], "layer": list("abab"), "share": [0.0, 1.0, 0.5, 0.25]})


STREAMS = {
    n: pd.DataFrame({"kind": ["parent", "child", "measure"], "worker": workers, "start": start, "stop": stop})
    for n, workers, start, stop in ((1, [1, 1, 1], [0, 1, 4], [1, 4, 5]), (2, [1, 2, 1], [0, 1, 3], [1, 3, 4]))
}


def recipes_measured() -> dict[str, Forked]:
    final = FINAL.query("norm_stats == 'interpolate'").assign(split="train")
    found = Forked(curves(), final, geometry_table(), final, geometry_table())
    return {"usual": found, "slow": found}


FIGURES = {
    "architectures.depth": Figure(
        lambda: architectures.depth({"one": SIBLINGS, "two": SIBLINGS}),
        {"nats": 2 * [*SIBLINGS.query("layer != 'network' and into == 'both'").loss_barrier]},
    ),
    "recipes.against_fork": Figure(
        lambda: recipes.against_fork(recipes_measured()),
        {"distance": 2 * [*geometry_table().query("epoch == 4").distance]},
        ("measure",),
    ),
    "recipes.against_rate": Figure(lambda: recipes.against_rate(RATES), {"barrier": RATES.barrier, "end": RATES.end}),
    "merging.path": Figure(lambda: merging.path(PATH), {"loss": [*PATH.loss, 1.0, 1.25, 1.5]}),
    "merging.layers": Figure(lambda: merging.layers(MEASURED), {"loss_barrier": MEASURED.loss_barrier[:4]}),
    "merging.predictions": Figure(lambda: merging.predictions(PREDICTED), {"barrier": [0.1, 0.2, *PREDICTED.predicted]}),
    "merging.candidates": Figure(lambda: merging.candidates(MERGES, "Average, x"), {"loss": MERGES.loss}),
    "merging.ratios": Figure(lambda: merging.ratios(SHARED), {"share": SHARED.share}),
    "federated.partial_averaging": Figure(
        lambda: federated.partial_averaging(client_rounds()),
        {
            "accuracy": client_rounds()[["local_accuracy", "worst_local_accuracy", "tuned_accuracy", "worst_tuned_accuracy"]]
            .to_numpy()
            .ravel(),
            "kilobytes": [4, 1, 3, 0],
        },
    ),
    "federated.over_rounds": Figure(
        lambda: federated.over_rounds(client_rounds()),
        {
            "mean": client_rounds()
            .groupby(["case", "averaged", "round"])[["local_accuracy", "tuned_accuracy"]]
            .mean()
            .to_numpy()
            .ravel()
        },
    ),
    "federated.splits": Figure(lambda: federated.splits(client_shares()), {"share": client_shares().share}),
    "fork_figure.fork_figure": Figure(
        lambda: fork_figure.fork_figure(curves(), parents()), {"loss_barrier": curves().loss_barrier}, ("measure",)
    ),
    "forking.against_fork": Figure(
        lambda: forking.against_fork(FINAL),
        {"error_barrier": FINAL.groupby(["seed", "fork_epoch", "norm_stats"]).error_barrier.max()},
        ("kind_of_barrier",),
    ),
    "forking.kinds": Figure(
        lambda: forking.kinds(FINAL),
        {"error_barrier": FINAL.query("seed == 0 and norm_stats == 'interpolate'").error_barrier},
    ),
    "forking.geometry": Figure(
        lambda: forking.geometry(geometry_table()),
        {"value": geometry_table().groupby(["fork_epoch", "epoch"]).mean().iloc[:, -4:].to_numpy().ravel()},
    ),
    "layers.heatmap": Figure(
        lambda: layers.heatmap(layer_table()),
        {"loss_barrier": layer_table().query("into != 'both'").loss_barrier},
        ("measure",),
    ),
    "layers.shares": Figure(
        lambda: layers.shares(LAST),
        {"loss_barrier": LAST.query("layer != 'network' and into != 'both'").loss_barrier},
    ),
    "layers.staircases": Figure(
        lambda: layers.staircases(stair_table()),
        {"loss_barrier": stair_table().query("into != 'both'").loss_barrier},
        ("measure",),
    ),
    "layers.windows": Figure(
        lambda: layers.windows(window_table(), pd.Series({0: 10.0, 1: 10.0})),
        {"share": window_table().query("into == 'both'").loss_barrier / 10},
    ),
    "layers.pairs": Figure(
        lambda: layers.pairs(pair_table(), single_table()), {"loss_barrier": pair_table().loss_barrier}, ("show",)
    ),
    "predictions.against_fork": Figure(
        lambda: predictions.against_fork(cased(compared_table())),
        {"predicted": [*compared_table().query("what == 'network'").predicted,
                       *compared_table().query("what == 'network' and method == 'published'").actual]},
    ),
    "predictions.energy_matrix": Figure(
        lambda: predictions.energy_matrix(energies(), set_table()), {"published": energies().hessians.sum(0).ravel() / 16}
    ),
    "predictions.triptych": Figure(lambda: predictions.triptych(layer_triples()), {"energy": layer_triples().energy}),
    "predictions.panels": Figure(lambda: predictions.panels(compared_table()), {"predicted": compared_table().predicted}),
    "predictions.price": Figure(lambda: predictions.price(PRICES), {"relative_error": PRICES.relative_error}),
    "predictions.stationarity": Figure(
        lambda: predictions.stationarity(term_table()), {"value": term_table()[["slopes", "curvature"]].to_numpy().ravel()}
    ),
    "robustness.steps": Figure(
        lambda: robustness.steps(step_table()), {"loss": by_direction("setting").loss}, ("measure",)
    ),
    "robustness.noise": Figure(
        lambda: robustness.noise(step_table().rename(columns={"setting": "version"})),
        {"error": by_direction("setting").error},
        ("measure",),
    ),
    "robustness.equal_norm": Figure(
        lambda: robustness.equal_norm(step_table()), {"difference": averaging_less_random()}
    ),
    "scaling.task_stream": Figure(lambda: scaling.task_stream(STREAMS), {"seconds": [1, 3, 1, 1, 2, 1]}),
    "theory.parabolas": Figure(lambda: theory.parabolas(parabola_cuts()), {"loss": parabola_cuts().loss}),
    "theory.histogram": Figure(lambda: theory.histogram(CURVATURES, bins=2), {"networks": [3, 1, 0, 1]}),
    "theory.not_convex": Figure(lambda: theory.not_convex(SHARES), {"share": SHARES.share}),
    "theory.baselines": Figure(  # in closed form: at the middle of the cut the output is (1 - s²)/2
        lambda: theory.baselines(ONE, ONE), {"barrier": [*((1 + S**2) ** 2 / 4), *(-((1 + S**2) ** 2) / 4)]}
    ),
    "toy.landscape": Figure(lambda: toy.landscape([-1.5, -1, 1, 1.5])),  # everything is computed in the page
    "toy.hierarchies": Figure(lambda: toy.hierarchies({"two": [-1, 1], "wider": [-2, 2]}), {"barrier": [1, 16]}),
    "toy.segment": Figure(lambda: toy.segment(landscapes.T**2, 1, 2)),  # so is this
    "toy.diagonal_network": Figure(
        lambda: toy.diagonal_network((0.5, 2), (-2, -0.5)),
        {"loss": [((0.5 - 2.5 * a) * (2 - 2.5 * a) - 1) ** 2 / 2 for a in DIAGONAL]
         + [(w * (2 - 2.5 * a) - 1) ** 2 / 2 for w in (0.5, -2) for a in DIAGONAL]
         + [((0.5 - 2.5 * a) * w - 1) ** 2 / 2 for w in (2, -0.5) for a in DIAGONAL]},
    ),
    "toy.bent_but_low": Figure(
        toy.bent_but_low,
        {"loss": [4 * t * (t - 1) + 0.45 * np.sin(2 * np.pi * t) ** 2 for t in np.linspace(0, 1, 101)]},
    ),
    "live.training": Figure(lambda: live.training(LOSSES, 12, [0, 0.5], "256 images"), {"loss": LOSSES.loss}),
    "live.against_fork": Figure(
        lambda: live.against_fork({"this run": FINAL.query("seed == 0")}, fork_epochs=FORKS),
        {"barrier": FINAL.query("seed == 0").groupby(["fork_epoch", "norm_stats"]).error_barrier.max()},
    ),
}  # fmt: skip
PHONE = 312  # pixels that a page of 360 leaves a figure


def test_no_figure_is_forgotten():
    found = set()
    for module in pkgutil.iter_modules(charts.__path__):
        source = import_module(f"lmclib.charts.{module.name}")
        for name, function in inspect.getmembers(source, inspect.isfunction):
            returns = str(function.__annotations__.get("return", ""))
            if function.__module__ == source.__name__ and not name.startswith("_") and "altair" in returns:
                found.add(f"{module.name}.{name}")
    parts = ("style.", "lanes.", "merging.save", "notebook.")  # of figures, and what is done with one
    assert {name for name in found if not name.startswith(parts)} == set(FIGURES)


@pytest.fixture(scope="module", params=FIGURES)
def figure(request) -> tuple[Figure, dict]:
    own = FIGURES[request.param]
    return own, own.make().to_dict()


def test_no_control_moves_a_scale(figure):
    own, spec = figure
    if bound(spec):
        assert_scales_stay(spec, own.switches)


def test_the_title_follows_every_control(figure):
    _, spec = figure
    assert len(spec["description"]) > 30, "alt text says too little"
    if not bound(spec):
        assert " ".join(spec["title"]["text"]).strip()
        return
    depends = spec["title"]["text"]["expr"]
    for _ in range(3):  # on values that are made of others
        depends += "".join(p["expr"] for p in spec["params"] if "expr" in p and re.search(rf"\b{p['name']}\b", depends))
    for name in bound(spec):
        assert re.search(rf"\b{name}(_at_\w+)?\b", depends), f"the title says nothing of {name}"


def test_nothing_undefined_is_printed(figure):
    _, spec = figure
    printed = [spec["title"], spec["description"], [p.get("value") for p in spec.get("params", [])]]
    assert not re.search(r"\b(nan|inf|None|NaN)\b", json.dumps(printed))


def test_the_data_are_the_table(figure):
    own, spec = figure
    for column, numbers in own.holds.items():
        expected = np.sort(np.asarray(numbers, dtype=float))
        sets = [[row[column] for row in rows] for rows in spec["datasets"].values() if column in rows[0]]
        sets = [np.sort(np.array([v for v in values if v is not None], dtype=float)) for values in sets]
        sets.append(np.sort(np.concatenate(sets)))  # some figures have a table a panel
        assert any(len(values) == len(expected) and np.allclose(values, expected, atol=6e-4) for values in sets), column


def test_it_fits_on_a_phone(figure):
    """Drawn at the narrow layout it is no wider than a page of 360 pixels has room for."""
    _, spec = figure
    drawn = vl_convert.vegalite_to_svg({**narrow(spec), "datasets": spec.get("datasets", {})})
    width = float(re.search(r'<svg[^>]* width="([\d.]+)"', drawn)[1])
    assert width <= PHONE


def bound(spec: dict) -> list[str]:
    """The names of the controls that a reader can move."""
    return [param["name"].removesuffix("_at") for param in spec.get("params", []) if "bind" in param]
