"""Figures of predicted barriers: against the fork, as energies, against what was measured, and what they cost."""

import altair as alt
import numpy as np
import pandas as pd

from lmclib.charts import scales, style
from lmclib.charts.forking import fork_label
from lmclib.cube.energies import Energies
from lmclib.measures.agreement import agreement, agreements

NAMES = {
    "actual": "actual",
    "published": "as published",
    "gradient": "with gradients",
    "taylor3": "third order",
    "taylor4": "fourth order",
    "hermite": "quintic of the loss",
    "logit-cubic": "cubic of the outputs",
    "logit-quintic": "quintic of the outputs",
}
ROW = 15  # pixels that the name of a layer needs
FEWEST = 5  # pairs whose order a rank correlation is said of
FLOOR = 1e-4  # nats: what is smaller or negative is drawn here on logarithmic axes


def against_fork(table: pd.DataFrame) -> alt.Chart:
    """Predicted (hollow) and actual (filled) barriers of the full path against the fork epoch, a panel a case.

    Args:
        table: `case`, `seed`, `fork_epoch`, `method`, `predicted`, `actual`.
    """
    keys = ["case", "seed", "fork_epoch"]
    actual = table.drop_duplicates(keys).assign(method="actual", predicted=lambda rows: rows.actual)
    long = pd.concat([actual, table], ignore_index=True).assign(fork=lambda rows: rows.fork_epoch.map(fork_label))
    long["what"] = long.method.map(NAMES)
    cases, what = list(table["case"].unique()), [NAMES[m] for m in ("actual", *table.method.unique())]
    said = {
        case: agreement(rows.predicted, rows.actual)
        for case, rows in table[table.method == "published"].groupby("case", sort=False)
    }
    columns = ["case", "seed", "fork", "fork_epoch", "what", "predicted"]
    base = alt.Chart(long[columns].round(6))
    colour = alt.Color("what:N", scale=alt.Scale(domain=what), title="barrier")
    # one scale for all panels
    heights = scales.Measures("", long, {"barrier": "predicted"})
    y = heights.position(field="predicted:Q", title="loss barrier at α = ½, nats")
    mean = heights.position(field="mean(predicted):Q", title="loss barrier at α = ½, nats")
    tip = [
        "what:N",
        "seed:N",
        alt.Tooltip("fork:N", title="fork epoch"),
        alt.Tooltip("predicted:Q", title="nats", format=".4f"),
    ]

    def panel(case: str) -> alt.LayerChart:
        own = base.transform_filter(alt.datum.case == case)
        forks = [fork_label(f) for f in sorted(long[long["case"] == case].fork_epoch.unique())]
        x = alt.X("fork:O", sort=forks, title="fork epoch", axis=alt.Axis(labelAngle=-45 if len(forks) > 5 else 0))
        shape = alt.Shape("what:N", scale=alt.Scale(domain=what), title="barrier")
        points = [
            own.transform_filter(f"{('!', '')[filled]}(datum.what == 'actual')")
            .mark_point(filled=filled, strokeWidth=1.5)
            .encode(x=x, y=y, color=colour, shape=shape, tooltip=tip)
            for filled in (True, False)
        ]
        lines = style.dashed(own, "what", what).encode(x=x, y=mean, color=colour)
        return alt.layer(lines, *points).properties(width=145, height=220, title=case)

    first = said[cases[0]]
    title = f"{cases[0].capitalize()}: Proposition 1 is off by {first.relative_error:.0%} in the median"
    if first.n >= FEWEST and np.isfinite(first.spearman):
        title += f", with rank correlation {first.spearman:.2f} over {first.n:.0f} pairs"
    words = "Predicted and actual loss barriers against the fork epoch. Proposition 1: " + "; ".join(
        f"{case}, rank correlation {_rho(a.spearman if a.n >= FEWEST else np.nan)}, median relative error {a.relative_error:.0%}"
        for case, a in said.items()
    )
    return style.described(alt.hconcat(*map(panel, cases)), title, words + ".")


def energy_matrix(energies: Energies, sets: pd.DataFrame) -> alt.Chart:
    """The matrix of cross-layer energies; ticked layers are summed in the page and compared with what was measured.

    Args:
        energies: of one cube.
        sets: `set_table` of the same cube.
    """
    layers, depth = list(energies.layers), len(energies.layers)
    both = energies.hessians.sum(0) / 16  # α (1 - α) / 2 times the mean of both ends, at α = ½
    slopes = (energies.gradients[0] - energies.gradients[1]) / 4
    rows = [
        {
            "layer": layers[i],
            "other": layers[j],
            "i": i,
            "j": j,
            "published": both[i, j],
            "gradient": both[i, j] + (slopes[i] if i == j else 0),
        }
        for i in range(depth)
        for j in range(depth)
    ]
    boxes = [
        alt.param(f"l{i}", value=True, bind=alt.binding_checkbox(name=f"{name} ")) for i, name in enumerate(layers)
    ]
    chosen = f"[{', '.join(box.name for box in boxes)}]"
    told = (
        alt.param("ticked", expr=" + ".join(f"({box.name} ? '1' : '0')" for box in boxes)),
        alt.param("count", expr=" + ".join(f"({box.name} ? 1 : 0)" for box in boxes)),
        alt.param("predicted", expr=_block_sum(both)),
        alt.param("measured", value=dict(zip(sets.set, sets.loss_barrier.round(5), strict=True))),
    )
    data = alt.Chart(pd.DataFrame(rows).round(6))
    colours = scales.Measures("", pd.DataFrame({"energy": both.ravel()}), {"energy": "energy"})
    colour = colours.colour(title="part of the barrier, nats").copy()
    colour.shorthand = "published:Q"
    matrix = (
        data.transform_calculate(on=f"{chosen}[datum.i] && {chosen}[datum.j]")
        .mark_rect()
        .encode(
            x=alt.X(
                "other:N", title=None, axis=alt.Axis(labelAngle=-60, **style.SHORT), scale=alt.Scale(domain=layers)
            ),
            y=alt.Y("layer:N", title=None, axis=alt.Axis(**style.SHORT), scale=alt.Scale(domain=layers[::-1])),
            color=colour,
            opacity=alt.condition("datum.on", alt.value(1), alt.value(0.15)),
            tooltip=["layer:N", "other:N", alt.Tooltip("published:Q", title="nats", format=".4f")],
        )
        .properties(width=290, height=290)
    )
    names = {"published": NAMES["published"], "gradient": NAMES["gradient"]}
    order = [NAMES["actual"], *names.values()]
    # every set that can be ticked fits
    ends = [end for matrix in (both, both + np.diag(slopes)) for end in _block_range(matrix)]
    every = pd.DataFrame({"value": [*ends, sets.loss_barrier.min(), sets.loss_barrier.max()]})
    x = scales.Measures("", every, {"barrier": "value"}).position(alt.X, title="barrier at α = ½, nats")
    y = alt.Y("what:N", title=None, scale=alt.Scale(domain=order))
    colour = alt.Color("what:N", legend=None, scale=alt.Scale(domain=order, range=list(style.OKABE_ITO[:3])))
    stroke = alt.Stroke("what:N", legend=None, scale=alt.Scale(domain=order, range=list(style.OKABE_ITO[:3])))
    tip = ["what:N", alt.Tooltip("value:Q", title="nats", format=".3f")]
    bars = (
        data.transform_filter(f"{chosen}[datum.i] && {chosen}[datum.j]")
        .transform_aggregate(published="sum(published)", gradient="sum(gradient)")
        .transform_fold(list(names), as_=["method", "value"])
        .transform_calculate(what=f"datum.method == 'published' ? '{names['published']}' : '{names['gradient']}'")
        .mark_bar(fillOpacity=0.35, strokeWidth=2)
        .encode(x=x, y=y, color=colour, stroke=stroke, tooltip=tip)
    )
    actual = (
        alt.Chart(pd.DataFrame({"what": [NAMES["actual"]]}))
        .transform_calculate(value="measured[ticked]")
        .transform_filter("isValid(datum.value)")
        .mark_bar()
        .encode(x=x, y=y, color=colour, tooltip=tip)
    )
    right = (actual + bars).properties(width=190, height=110)
    chart = alt.hconcat(matrix, right, spacing=20).resolve_scale(color="independent", stroke="independent")
    full, off = float(both.sum()), float(both.trace() / both.sum())
    found = float(sets[sets.set == "1" * depth].loss_barrier.item())
    said = "isValid(measured[ticked]) ? format(measured[ticked], '.2~g') + ' nats' : 'not measured'"
    # short lines: beside them is the page's button
    title = f"[count + ' of {depth} layers ticked', 'predicted ' + format(predicted, '.2~g') + ' nats as published', 'actual ' + ({said})]"
    words = (
        f"Matrix of cross-layer energies, and bars of the predicted and actual barrier of the ticked layers. With all layers ticked, as "
        f"at first, {full:.2f} nats are predicted and {found:.2f} measured; single layers make {off:.0%} of the prediction."
    )
    heading = alt.TitleParams(text=alt.expr(title), subtitle="tick layers: the prediction is summed in the page")
    return chart.add_params(*boxes, *told).properties(
        title=heading, description=words, autosize=alt.AutoSizeParams(type="pad", resize=True)
    )


def _block_sum(matrix: np.ndarray) -> str:
    """An expression: the sum over the block of ticked layers of a symmetric matrix."""
    depth = len(matrix)
    own = [f"l{i} * {matrix[i, i]:.6g}" for i in range(depth)]
    pairs = [f"l{i} * l{j} * {matrix[i, j] + matrix[j, i]:.6g}" for i in range(depth) for j in range(i)]
    return " + ".join([*own, *pairs])


def _block_range(matrix: np.ndarray, exact: int = 12) -> tuple[float, float]:
    """The lowest and the highest sum over the block of any set of layers; bounds on them for more layers than `exact`."""
    depth = len(matrix)
    if depth > exact:
        return float(np.minimum(matrix, 0).sum()), float(np.maximum(matrix, 0).sum())
    sets = (np.arange(2**depth)[:, None] >> np.arange(depth)) & 1
    sums = np.einsum("si,ij,sj->s", sets, matrix, sets)
    return float(sums.min()), float(sums.max())


def triptych(table: pd.DataFrame) -> alt.Chart:
    """Layer barrier, energy and distance over layers and epochs, side by side; one control moves all three.

    Args:
        table: `layer`, `fork_epoch`, `epoch`, `barrier`, `energy` (the predicted barrier), `distance`.
    """
    table = table.assign(fork=table.fork_epoch.map(fork_label))
    layers, forks = list(table.layer.unique()), [fork_label(f) for f in sorted(table.fork_epoch.unique())]
    epochs = [int(epoch) for epoch in sorted(table.epoch.unique())]
    fork = style.switch("fork", forks, "fork epoch ")
    panels = {"barrier": "barrier, nats", "energy": "energy, nats", "distance": "distance"}
    # barrier and energy are both in nats: one scale for the two, and for all forks
    nats = scales.Measures("", table.melt(value_vars=["barrier", "energy"]), {"nats": "value"})
    far = alt.Scale(scheme=style.ORDERED, domain=[0, float(table.distance.max())])
    base = alt.Chart(table[["layer", "fork", "epoch", *panels]].round(5)).transform_filter("datum.fork == fork")
    tip = [
        "layer:N",
        alt.Tooltip("fork:N", title="forked at epoch"),
        alt.Tooltip("epoch:Q"),
        *(alt.Tooltip(f"{p}:Q", format=".3f") for p in panels),
    ]

    def panel(column: str, first: bool) -> alt.Chart:
        axis = {"axis": alt.Axis(**style.SHORT, **({} if first else {"labels": False, "ticks": False}))}
        colour = alt.Color(title=None, scale=far, legend=alt.Legend(gradientLength=110))
        colour = colour if column == "distance" else nats.colour(gradientLength=110).copy()
        colour.shorthand = f"{column}:Q"
        return (
            base.mark_rect()
            .encode(
                x=alt.X("epoch:O", axis=alt.Axis(labelAngle=0), scale=alt.Scale(domain=epochs)),
                y=alt.Y("layer:N", title=None, scale=alt.Scale(domain=layers[::-1]), **axis),
                color=colour,
                tooltip=tip,
            )
            .properties(width=130, height=max(220, ROW * len(layers)), title=panels[column])
        )

    charts = [panel(column, i == 0) for i, column in enumerate(panels)]
    answers = {(name,): _ranking_answer(name, table[table.fork == name]) for name in forks}
    words = "Three heatmaps over layers and epochs: layer barrier, energy and distance."
    chart = alt.hconcat(*charts, spacing=8).resolve_scale(color="independent").add_params(fork)
    return style.answered(chart, ["fork"], answers, (forks[0],), words)


def _rho(value: float) -> str:
    """A rank correlation in words: it is undefined where values do not vary."""
    return f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "undefined"


def _ranking_answer(fork: str, rows: pd.DataFrame) -> str:
    """How well energy and distance rank the layer barriers of one fork at its last epoch: epochs are unlike each other, and not pooled."""
    said, last = {}, int(rows.epoch.max())
    rows = rows[rows.epoch == last]
    for column in ("energy", "distance"):
        defined = min(rows[column].nunique(), rows.barrier.nunique()) > 1
        said[column] = _rho(rows[column].corr(rows.barrier, method="spearman") if defined else np.nan)
    return (
        f"Forked at epoch {fork}: rank correlation with the barrier over the {len(rows)} layers at epoch {last}: energy {said['energy']}, "
        f"distance alone {said['distance']}"
    )


def panels(table: pd.DataFrame, columns: int = 3) -> alt.Chart:
    """Predicted against actual, a panel a predictor, with identity and a factor of two; choose of what barriers are.

    Headings are of one kind of barrier each, as a number over a pool of unlike things says nothing of any of them.

    Args:
        table: `method`, `predicted`, `actual`, `fork_epoch`, and `what`: network, layers, ….
    """
    table = table.assign(fork=table.fork_epoch.map(fork_label))
    forks = [fork_label(f) for f in sorted(table.fork_epoch.unique())]
    kinds = list(table.what.unique())
    kind = style.switch("kind", kinds, "barriers of ")
    right, top = (1.3 * float(max(table[column].max(), 1)) for column in ("actual", "predicted"))
    table = table.assign(p=table.predicted.clip(FLOOR), a=table.actual.clip(FLOOR))
    axis = alt.Axis(format="~g", tickCount=4, labelOverlap=True)
    x = alt.X("a:Q", scale=alt.Scale(type="log", domain=[FLOOR, right], nice=False), title="actual, nats", axis=axis)
    high = alt.Scale(type="log", domain=[FLOOR, top], nice=False)
    y = alt.Y("p:Q", scale=high, title="predicted", axis=axis)
    base = alt.Chart(table[["method", "what", "fork", "a", "p", "actual", "predicted"]].round(6)).transform_filter(
        "datum.what == kind"
    )
    ends = [FLOOR, right]
    band = (
        alt.Chart(pd.DataFrame({"a": ends, "low": [v / 2 for v in ends], "high": [v * 2 for v in ends]}))
        .mark_area(opacity=0.15, color="#888", clip=True)
        .encode(x=x, y=alt.Y("low:Q", scale=high, title="predicted", axis=axis), y2="high:Q")
    )
    line = (
        alt.Chart(pd.DataFrame({"a": ends}))
        .mark_line(color=style.INK, strokeWidth=1, clip=True)
        .encode(x=x, y=alt.Y("a:Q", scale=high, title="predicted", axis=axis))
    )
    tip = [
        "what:N",
        alt.Tooltip("fork:N", title="fork epoch"),
        alt.Tooltip("actual:Q", title="actual, nats", format=".4f"),
        alt.Tooltip("predicted:Q", title="predicted, nats", format=".4f"),
    ]
    dots = base.mark_point(size=28, opacity=0.75).encode(
        x=x,
        y=y,
        color=style.fork_colour(forks),
        tooltip=tip,
    )
    measured = agreements(table, ["what", "method"])
    methods = [name for name in NAMES if name in set(table.method)]
    headings = {
        f"{method}|{what}": [NAMES[method], *_agreement_lines(measured.loc[what, method])]
        for what, method in measured.index
    }
    charts = []
    for method in methods:
        lines = f"headings['{method}|' + kind] || [{NAMES[method]!r}, 'not predicted', '']"
        heading = alt.TitleParams(text=alt.expr(lines), fontSize=12)
        own = dots.transform_filter(alt.datum.method == method)
        charts.append((band + line + own).properties(width=145, height=145, title=heading))
    answers = {(what,): _closest(what, measured.loc[what]) for what in kinds}
    words = (
        "Predicted against actual barriers, a panel a predictor; rank correlation and median relative error: "
        + "; ".join(f"{NAMES[name]} {' '.join(_agreement_lines(m))}" for name, m in measured.loc[kinds[0]].iterrows())
    )
    chart = alt.concat(*charts, columns=columns, spacing=14)
    chart = chart.add_params(kind, alt.param("headings", value=headings))
    return style.answered(chart, ["kind"], answers, (kinds[0],), words + ".")


def _agreement_lines(measured: pd.Series) -> list[str]:
    """What a panel's heading says of the agreement; nothing of what is undefined, and of a few pairs no order."""
    said = {"ρ": measured.spearman, "within a fork": measured.within_spearman} if measured.n >= FEWEST else {}
    ranks = [f"{name} {value:.2f}".replace("-", "−") for name, value in said.items() if np.isfinite(value)]
    off = f"off by {measured.relative_error:.0%}" if np.isfinite(measured.relative_error) else ""
    return [", ".join(ranks), off]


def _closest(what: str, measured: pd.DataFrame) -> str:
    """The predictor with the lowest median relative error, of one kind of barrier."""
    best = measured.relative_error.idxmin()
    return f"Barriers of {what}: the closest is {NAMES[best]}, off by {measured.relative_error[best]:.0%} in the median"


def price(table: pd.DataFrame) -> alt.Chart:
    """The median relative error of predictors against their cost, with their frontier, and evaluating the midpoint itself.

    Args:
        table: `method`, `cost` in forward passes, `relative_error`; with a row `actual`, the evaluation, of error 0.
    """
    table = table.dropna(subset=["relative_error"]).assign(name=lambda rows: rows.method.map(NAMES)).sort_values("cost")
    predictors = table[table.method != "actual"]  # the evaluation itself is better than any of them
    frontier = predictors[predictors.relative_error <= predictors.relative_error.cummin()]
    ends = [0.7 * float(table.cost.min()), 2.5 * float(table.cost.max())]  # room for labels on the right
    x = alt.X(
        "cost:Q", title="cost in forward passes over the data", scale=alt.Scale(type="log", domain=ends, nice=False)
    )
    # with a zero, which the evaluation itself has
    top = float(table.relative_error.max())
    y = alt.Y(
        "relative_error:Q",
        title="median relative error",
        scale=alt.Scale(type="symlog", constant=0.03, domain=[0, 1.2 * top], nice=False),
        axis=alt.Axis(format="~%", values=[v for v in (0, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if v <= 1.2 * top]),
    )
    tip = ["name:N", alt.Tooltip("cost:Q", format=".1f"), alt.Tooltip("relative_error:Q", format=".1%")]
    base = alt.Chart(table.round(4)).encode(x=x, y=y)
    points = base.mark_point(size=80).encode(
        color=alt.condition("datum.method == 'actual'", alt.value(style.OKABE_ITO[1]), alt.value(style.OKABE_ITO[0])),
        tooltip=tip,
    )
    across = PRICE[0] * np.log(table.cost / ends[0]) / np.log(ends[1] / ends[0])
    up = PRICE[1] * (1 - np.log1p(table.relative_error / 0.03) / np.log1p(1.2 * top / 0.03))
    places = _label_places(list(table.name), list(across), list(up))
    text = [
        base.transform_filter(alt.datum.name == name).mark_text(align=align, dx=dx, dy=dy).encode(text="name:N")
        for name, (align, dx, dy) in places.items()
    ]
    line = alt.Chart(frontier.round(4)).mark_line(strokeDash=[4, 3], color=style.INK).encode(x=x, y=y)
    exact = table[table.method == "actual"].iloc[0]
    cheaper = int((table.cost < exact.cost).sum())
    title = f"Evaluating the midpoint costs {exact.cost:.0f} passes; {cheaper or 'none'} of the predictors cost less"
    words = "Median relative error against cost in forward passes: " + "; ".join(
        f"{row['name']} {row.cost:.0f} passes, {row.relative_error:.0%}" for _, row in table.iterrows()
    )
    return style.described(
        alt.layer(line, points, *text).properties(width=PRICE[0], height=PRICE[1]), title, words + "."
    )


PRICE = 480, 260  # pixels


def _label_places(names: list[str], across: list[float], down: list[float]) -> dict[str, tuple[str, int, int]]:
    """Where each point's label goes, beside the point, over no axis, no other point and no other label: alignment and shifts."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in zip(across, down, strict=True)]
    places = {}
    for name, x, y in zip(names, across, down, strict=True):
        tried = [(align, side * 9, dy) for dy in (0, -13, 13, -26, 26) for align, side in (("left", 1), ("right", -1))]
        cost = {}
        for align, dx, dy in tried:
            width = 6.5 * len(name)
            left = x + dx if align == "left" else x + dx - width
            box = (left, y + dy - 7, left + width, y + dy + 7)
            outside = box[0] < 2 or box[2] > PRICE[0] or box[1] < 0 or box[3] > PRICE[1] - 2
            over = sum(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken)
            cost[align, dx, dy] = over + 10 * outside, box
        best = min(cost, key=lambda place: cost[place][0])
        places[name] = best
        taken.append(cost[best][1])
    return places


def stationarity(table: pd.DataFrame) -> alt.Chart:
    """The two terms of the second-order prediction against the fork: slopes, which the papers drop, and curvature.

    Args:
        table: `fork_epoch`, `seed`, `case`, `slopes`, `curvature`, in nats at α = ½.
    """
    cases = list(table["case"].unique())
    ratio = (table.slopes.abs() / table.curvature.abs()).groupby(table["case"], sort=False).median()
    long = table.assign(fork=table.fork_epoch.map(fork_label)).melt(
        ["case", "fork", "fork_epoch", "seed"], ["slopes", "curvature"], var_name="term"
    )
    tip = [
        "term:N",
        "seed:N",
        alt.Tooltip("fork:N", title="fork epoch"),
        alt.Tooltip("value:Q", title="nats", format=".4f"),
    ]
    heights = scales.Measures("", long, {"nats": "value"})  # for all panels
    terms = alt.Scale(domain=["curvature", "slopes"])
    colour = alt.Color("term:N", title="term", scale=terms)

    def panel(case: str) -> alt.LayerChart:
        own = long[long["case"] == case]
        x = alt.X(
            "fork:O",
            sort=[fork_label(f) for f in sorted(own.fork_epoch.unique())],
            title="fork epoch",
            axis=alt.Axis(labelAngle=0),
        )
        y, mean = (heights.position(field=field, title="nats") for field in ("value:Q", "mean(value):Q"))
        base = alt.Chart(own[["fork", "seed", "term", "value"]].round(6))
        points = base.mark_point().encode(
            x=x, y=y, color=colour, shape=alt.Shape("term:N", title="term", scale=terms), tooltip=tip
        )
        return (base.mark_line().encode(x=x, y=mean, color=colour) + points).properties(
            width=220, height=180, title=case
        )

    title = f"{cases[0].capitalize()}: what slopes add is {ratio.iloc[0]:.0%} of what curvature does, in the median"
    words = (
        "The slope term and the curvature term of the second-order prediction against the fork epoch. Median ratio: "
        + ", ".join(f"{case} {value:.0%}" for case, value in ratio.items())
    )
    return style.described(alt.hconcat(*map(panel, cases)), title, words + ".")
