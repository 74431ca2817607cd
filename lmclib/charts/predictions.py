"""Figures of predicted barriers: against the fork, as energies, against what was measured, and what they cost."""

import altair as alt
import numpy as np
import pandas as pd

from lmclib.charts import style
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
    y = alt.Y("predicted:Q", title="loss barrier at α = ½, nats", scale=alt.Scale(type="symlog", constant=0.01))
    tip = [
        "what:N",
        "seed:N",
        alt.Tooltip("fork:N", title="fork epoch"),
        alt.Tooltip("predicted:Q", title="nats", format=".4f"),
    ]

    def panel(case: str) -> alt.LayerChart:
        own = base.transform_filter(alt.datum.case == case)
        forks = [fork_label(f) for f in sorted(long[long["case"] == case].fork_epoch.unique())]
        x = alt.X("fork:O", sort=forks, title="fork epoch", axis=alt.Axis(labelAngle=0))
        shape = alt.Shape("what:N", scale=alt.Scale(domain=what), title="barrier")
        points = [
            own.transform_filter(f"{('!', '')[filled]}(datum.what == 'actual')")
            .mark_point(filled=filled, strokeWidth=1.5)
            .encode(x=x, y=y, color=colour, shape=shape, tooltip=tip)
            for filled in (True, False)
        ]
        lines = own.mark_line().encode(
            x=x,
            y="mean(predicted):Q",
            color=colour,
            strokeDash=alt.StrokeDash("what:N", title="barrier", scale=alt.Scale(domain=what)),
        )
        return alt.layer(lines, *points).properties(width=145, height=220, title=case)

    title = f"Proposition 1 is off by {said[cases[0]].relative_error:.0%} in the median, with rank correlation {said[cases[0]].spearman:.2f}"
    words = "Predicted and actual loss barriers against the fork epoch. Proposition 1: " + "; ".join(
        f"{case}, rank correlation {a.spearman:.2f}, median relative error {a.relative_error:.0%}"
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
    key = " + ".join(f"({box.name} ? '1' : '0')" for box in boxes)
    count = " + ".join(f"({box.name} ? 1 : 0)" for box in boxes)
    data = alt.Chart(pd.DataFrame(rows).round(6))
    matrix = (
        data.transform_calculate(on=f"{chosen}[datum.i] && {chosen}[datum.j]")
        .mark_rect()
        .encode(
            x=alt.X("other:N", sort=layers, title=None, axis=alt.Axis(labelAngle=-60)),
            y=alt.Y("layer:N", sort=layers[::-1], title=None),
            color=alt.Color(
                "published:Q", title="part of the barrier, nats", scale=style.signed(float(abs(both).max()))
            ),
            opacity=alt.condition("datum.on", alt.value(1), alt.value(0.15)),
            tooltip=["layer:N", "other:N", alt.Tooltip("published:Q", title="nats", format=".4f")],
        )
        .properties(width=290, height=290)
    )
    order = [NAMES["actual"], NAMES["published"], NAMES["gradient"]]
    x = alt.X("value:Q", title="barrier of the ticked layers at α = ½, nats")
    y = alt.Y("what:N", sort=order, title=None, scale=alt.Scale(domain=order))
    colour = alt.Color(
        "what:N", sort=order, legend=None, scale=alt.Scale(domain=order, range=list(style.OKABE_ITO[:3]))
    )
    names = {"published": NAMES["published"], "gradient": NAMES["gradient"]}
    tip = ["what:N", alt.Tooltip("value:Q", title="nats", format=".3f")]
    bars = (
        data.transform_filter(f"{chosen}[datum.i] && {chosen}[datum.j]")
        .transform_aggregate(published="sum(published)", gradient="sum(gradient)")
        .transform_fold(list(names), as_=["method", "value"])
        .transform_calculate(what=f"datum.method == 'published' ? '{names['published']}' : '{names['gradient']}'")
        .mark_bar(fillOpacity=0.35, strokeWidth=2)
        .encode(x=x, y=y, color=colour, stroke=alt.Stroke("what:N", sort=order, legend=None), tooltip=tip)
    )
    measured = alt.Chart(sets[["set", "loss_barrier"]].round(5)).transform_filter(f"datum.set == {key}")
    actual = (
        measured.transform_calculate(what=f"'{NAMES['actual']}'", value="datum.loss_barrier")
        .mark_bar()
        .encode(x=x, y=y, color=colour, tooltip=tip)
    )
    names_chosen = (
        alt.Chart(pd.DataFrame({"here": [0]}))
        .transform_calculate(text=f"({count}) + ' of {depth} layers are ticked below'")
        .mark_text(align="left", fontSize=13)
        .encode(x=alt.value(0), y=alt.value(-8), text="text:N")
    )
    right = (actual + bars + names_chosen).properties(width=190, height=110)
    chart = alt.hconcat(matrix, right, spacing=20).resolve_scale(color="independent", stroke="independent")
    ones = np.ones(depth)
    full = float(ones @ both @ ones)
    off = float(both.trace() / full)
    found = float(sets[sets.set == "1" * depth].loss_barrier.item())
    title = f"All layers: predicted {full:.2g} nats, actual {found:.2g}; single layers make {off:.0%} of the prediction"
    words = f"Matrix of cross-layer energies, and bars of the predicted and actual barrier of the ticked layers; for all layers {full:.2f} predicted, {found:.2f} actual."
    return style.described(chart.add_params(*boxes), title, words, "tick layers: the prediction is summed in the page")


def triptych(table: pd.DataFrame) -> alt.Chart:
    """Layer barrier, energy and distance over layers and epochs, side by side; one slider moves all three.

    Args:
        table: `layer`, `fork_epoch`, `epoch`, `barrier`, `energy` (the predicted barrier), `distance`.
    """
    layers, forks = list(table.layer.unique()), sorted(table.fork_epoch.unique())
    table = table.assign(f=table.fork_epoch.map(forks.index), fork=table.fork_epoch.map(fork_label))
    fork = style.slider("fork", len(forks), "fork, early to late ")
    panels = {"barrier": "barrier, nats", "energy": "energy, nats", "distance": "distance"}
    # barrier and energy are both in nats: one scale for the two
    tops = {f"fork == {f}": float(rows[["barrier", "energy"]].abs().max().max()) for f, rows in table.groupby("f")}
    base = alt.Chart(table[["layer", "fork", "f", "epoch", *panels]].round(5)).transform_filter("datum.f == fork")
    tip = [
        "layer:N",
        alt.Tooltip("fork:N", title="forked at epoch"),
        alt.Tooltip("epoch:Q"),
        *(alt.Tooltip(f"{p}:Q", format=".3f") for p in panels),
    ]

    def panel(column: str, first: bool) -> alt.Chart:
        axis = {} if first else {"axis": alt.Axis(labels=False, ticks=False)}
        scale = alt.Scale(scheme=style.ORDERED) if column == "distance" else style.signed(tops)
        return (
            base.mark_rect()
            .encode(
                x=alt.X("epoch:O", axis=alt.Axis(labelAngle=0)),
                y=alt.Y("layer:N", sort=layers[::-1], title=None, **axis),
                color=alt.Color(f"{column}:Q", title=None, scale=scale, legend=alt.Legend(gradientLength=110)),
                tooltip=tip,
            )
            .properties(width=130, height=220, title=panels[column])
        )

    charts = [panel(column, i == 0) for i, column in enumerate(panels)]
    rho = {column: table[column].corr(table.barrier, method="spearman") for column in ("energy", "distance")}
    title = f"Rank correlation with the layer barrier: energy {rho['energy']:.2f}, distance alone {rho['distance']:.2f}"
    words = (
        f"Three heatmaps over layers and epochs: layer barrier, energy and distance. Over all forks the rank correlation with the "
        f"barrier is {rho['energy']:.2f} for the energy and {rho['distance']:.2f} for the distance."
    )
    chart = alt.hconcat(*charts, spacing=8).resolve_scale(color="independent").add_params(fork)
    return style.described(chart, title, words)


def panels(table: pd.DataFrame, columns: int = 3) -> alt.Chart:
    """Predicted against actual, a panel a predictor, with identity and a factor of two; filter by what is predicted.

    Args:
        table: `method`, `predicted`, `actual`, `fork_epoch`, and `what`: network, layers, ….
    """
    table = table.assign(fork=table.fork_epoch.map(fork_label))
    forks = [fork_label(f) for f in sorted(table.fork_epoch.unique())]
    kinds = list(table.what.unique())
    kind = style.switch("kind", ["all", *kinds], "barriers of ")
    top = float(max(table.actual.max(), 1)) * 2
    table = table.assign(p=table.predicted.clip(FLOOR, top), a=table.actual.clip(FLOOR))
    scale = alt.Scale(type="log", domain=[FLOOR, top], nice=False)
    axis = alt.Axis(format="~g", tickCount=4, labelOverlap=True)
    x, y = (
        alt.X("a:Q", scale=scale, title="actual, nats", axis=axis),
        alt.Y("p:Q", scale=scale, title="predicted", axis=axis),
    )
    base = alt.Chart(table[["method", "what", "fork", "a", "p", "actual", "predicted"]].round(6)).transform_filter(
        "kind == 'all' || datum.what == kind"
    )
    ends = [FLOOR, top]
    band = (
        alt.Chart(pd.DataFrame({"a": ends, "low": [v / 2 for v in ends], "high": [v * 2 for v in ends]}))
        .mark_area(opacity=0.15, color="#888", clip=True)
        .encode(x=x, y=alt.Y("low:Q", scale=scale, title="predicted", axis=axis), y2="high:Q")
    )
    line = (
        alt.Chart(pd.DataFrame({"a": ends}))
        .mark_line(color="#666", strokeWidth=1)
        .encode(x=x, y=alt.Y("a:Q", scale=scale))
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
        shape=alt.Shape("what:N", scale=alt.Scale(domain=kinds), title="barriers of"),
        tooltip=tip,
    )
    measured = agreements(table, ["method"])
    charts = []
    for method in (name for name in NAMES if name in measured.index):
        m = measured.loc[method]
        said = f"ρ {m.spearman:.2f}, within a fork {m.within_spearman:.2f}, off by {m.relative_error:.0%}"
        heading = alt.TitleParams(NAMES[method], subtitle=said, fontSize=12, subtitleFontSize=10)
        own = dots.transform_filter(alt.datum.method == method)
        charts.append((band + line + own).properties(width=145, height=145, title=heading))
    best = measured.relative_error.idxmin()
    title = f"Closest: {NAMES[best]}, off by {measured.relative_error[best]:.0%} in the median"
    words = (
        "Predicted against actual barriers, a panel a predictor; rank correlation and median relative error: "
        + "; ".join(f"{NAMES[name]} {m.spearman:.2f}, {m.relative_error:.0%}" for name, m in measured.iterrows())
    )
    return style.described(alt.concat(*charts, columns=columns, spacing=14).add_params(kind), title, words + ".")


def price(table: pd.DataFrame) -> alt.Chart:
    """The median relative error of predictors against their cost, with the frontier, and evaluating the midpoint itself.

    Args:
        table: `method`, `cost` in forward passes, `relative_error`; with a row `actual`, the evaluation, of error 0.
    """
    table = table.assign(name=table.method.map(NAMES), shown=table.relative_error.clip(0.005)).sort_values("cost")
    table["place"] = range(len(table))  # by cost
    frontier = table[table.relative_error <= table.relative_error.cummin()]
    x = alt.X(
        "cost:Q", title="cost in forward passes over the data", scale=alt.Scale(type="log", nice=False, padding=30)
    )
    y = alt.Y("shown:Q", title="median relative error", scale=alt.Scale(type="log"), axis=alt.Axis(format="%"))
    tip = ["name:N", alt.Tooltip("cost:Q", format=".1f"), alt.Tooltip("relative_error:Q", format=".1%")]
    base = alt.Chart(table.round(4)).encode(x=x, y=y)
    points = base.mark_point(size=80).encode(
        color=alt.condition("datum.method == 'actual'", alt.value(style.OKABE_ITO[1]), alt.value(style.OKABE_ITO[0])),
        tooltip=tip,
    )
    text = [  # to the right and to the left in turn, as some cost nearly the same
        base.transform_filter(f"datum.place % 2 == {place}").mark_text(align=align, dx=dx, dy=dy).encode(text="name:N")
        for place, align, dx, dy in ((0, "left", 8, -7), (1, "right", -8, 9))
    ]
    line = alt.Chart(frontier.round(4)).mark_line(strokeDash=[4, 3], color="#888").encode(x=x, y=y)
    exact = table[table.method == "actual"].iloc[0]
    cheaper = int((table.cost < exact.cost).sum())
    title = f"Evaluating the midpoint costs {exact.cost:.0f} passes; {cheaper or 'none'} of the predictors cost less"
    words = "Median relative error against cost in forward passes: " + "; ".join(
        f"{row['name']} {row.cost:.0f} passes, {row.relative_error:.0%}" for _, row in table.iterrows()
    )
    return style.described(alt.layer(line, points, *text).properties(width=480, height=260), title, words + ".")


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
        y = alt.Y("value:Q", title="nats", scale=alt.Scale(type="symlog", constant=0.01))
        base = alt.Chart(own[["fork", "seed", "term", "value"]].round(6))
        points = base.mark_point().encode(
            x=x, y=y, color=colour, shape=alt.Shape("term:N", title="term", scale=terms), tooltip=tip
        )
        return (base.mark_line().encode(x=x, y="mean(value):Q", color=colour) + points).properties(
            width=220, height=180, title=case
        )

    title = f"What slopes add is {ratio.iloc[0]:.0%} of what curvature does, in the median"
    words = (
        "The slope term and the curvature term of the second-order prediction against the fork epoch. Median ratio: "
        + ", ".join(f"{case} {value:.0%}" for case, value in ratio.items())
    )
    return style.described(alt.hconcat(*map(panel, cases)), title, words + ".")
