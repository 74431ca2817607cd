"""Figures of layer-wise barriers: heatmaps over training, shares of the full barrier, staircases, windows and pairs."""

import altair as alt
import pandas as pd

from lmclib.charts import style
from lmclib.charts.forking import fork_label
from lmclib.measures.layerwise import NETWORK, null_model

MEASURES = {"loss": "loss_barrier", "error": "error_barrier"}
INTO = {"1": "into model 1", "2": "into model 2"}


def largest(table: pd.DataFrame) -> dict[str, float]:
    """The largest absolute barrier of each case and measure, by the condition under which it is shown."""
    return {
        f"measure == '{name}' && which == '{case}'": float(rows[column].abs().max())
        for name, column in MEASURES.items()
        for case, rows in table.groupby("case", sort=False)
    }


def heatmap(table: pd.DataFrame) -> alt.Chart:
    """Layer × epoch, into model 1 and into model 2, the whole network on top; below, the layers at the chosen epoch.

    Args:
        table: `layer_table` of one pair a `case`, fork and epoch, with `case` and `split`.
    """
    layers = [name for name in table.layer.unique() if name != NETWORK]
    cases, forks, measured = (
        list(table["case"].unique()),
        sorted(table.fork_epoch.unique()),
        sorted(table.epoch.unique()),
    )
    table = table[table["into"] != "both"].assign(
        fork=table.fork_epoch.map(fork_label), f=table.fork_epoch.map(forks.index), e=table.epoch.map(measured.index)
    )
    final = table[
        (table["case"] == cases[0]) & (table.f == 0) & (table.e == len(measured) - 1) & (table.baseline == "models")
    ]
    final = final[final.split == "train"]
    full, single = final[final.layer == NETWORK].loss_barrier.max(), final[final.layer != NETWORK].loss_barrier.max()
    fork = style.slider("fork", len(forks), "fork, early to late ")
    moment = style.slider("moment", len(measured), "time, start to end ", last=True)
    switches = (
        style.switch("which", cases, "pair "),
        style.switch("measure", list(MEASURES), "barrier in "),
        style.switch("split", ["train", "test"], "data "),
        style.switch("baseline", ["models", "cut"], "baseline "),
    )
    columns = ["case", "fork", "f", "epoch", "e", "layer", "into", "split", "baseline", *MEASURES.values()]
    # only siblings were forked at several epochs
    shown = (
        f"datum.case == which && (which != '{cases[0]}' || datum.f == fork) && datum.split == split && "
        "datum.baseline == baseline"
    )
    base = (
        alt.Chart(table[columns].round(4))
        .transform_filter(shown)
        .transform_calculate(value="measure == 'loss' ? datum.loss_barrier : datum.error_barrier")
    )
    tooltip = [
        "layer:N",
        alt.Tooltip("fork:N", title="forked at epoch"),
        alt.Tooltip("epoch:Q", title="children at epoch"),
        alt.Tooltip("loss_barrier:Q", title="loss barrier, nats", format=".3f"),
        alt.Tooltip("error_barrier:Q", title="error barrier", format=".1%"),
    ]
    colour = alt.Color("value:Q", title="barrier", scale=style.signed(largest(table)))

    def column(into: str, first: bool) -> alt.VConcatChart:
        rect = base.transform_filter(f"datum.into == '{into}'").mark_rect().encode(color=colour, tooltip=tooltip)
        axis = {} if first else {"axis": alt.Axis(labels=False, ticks=False)}
        whole = rect.transform_filter(f"datum.layer == '{NETWORK}'").encode(
            x=alt.X("epoch:O", title=None, axis=None), y=alt.Y("layer:N", title=None, **axis)
        )
        single = rect.transform_filter(f"datum.layer != '{NETWORK}'").encode(
            x=alt.X("epoch:O", title="epoch", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("layer:N", title=None, sort=layers[::-1], **axis),
        )
        size = {"width": 190}
        return alt.vconcat(
            whole.properties(height=18, title=INTO[into], **size),
            single.properties(height=18 * min(len(layers), 30), **size),
            spacing=4,
        )

    bars = (
        base.transform_filter("datum.e == moment")
        .transform_calculate(direction="'into model ' + datum.into")
        .mark_bar()
        .encode(
            x=alt.X("layer:N", sort=[*layers, NETWORK], title=None, axis=alt.Axis(labelAngle=-60)),
            xOffset="direction:N",
            y=alt.Y("value:Q", title="barrier at the chosen epoch"),
            color=alt.Color("direction:N", title="averaged", scale=alt.Scale(range=list(style.OKABE_ITO[:2]))),
            tooltip=tooltip,
        )
        .properties(width=420, height=150)
    )
    maps = alt.hconcat(column("1", True), column("2", False), spacing=10)
    chart = alt.vconcat(maps, bars).resolve_scale(color="independent").add_params(fork, moment, *switches)
    title = f"All layers averaged: {full:.2g} nats. The worst single layer: {single:.2g}"
    words = (
        f"Heatmaps of layer barriers over layer and epoch, into model 1 and into model 2, and bars at the chosen epoch. At the "
        f"end, for siblings of the first fork, the full loss barrier is {full:.2f} nats and the largest of a single layer {single:.2f}."
    )
    return style.described(chart, title, words)


def shares(final: pd.DataFrame, tenth: float = 0.1) -> alt.Chart:
    """Every layer's part of the full loss barrier at the end of training: a point a seed and direction, a panel a case.

    Args:
        final: `layer_table` of the training split against `models`, with `case`.
    """
    keys = ["case", "seed", "into"]
    full = final[final.layer == NETWORK].set_index(keys).loss_barrier.rename("full")
    table = final[(final.layer != NETWORK) & (final["into"] != "both")].join(full, on=keys)
    table = table.assign(share=table.loss_barrier / table.full, direction=table["into"].map(INTO))
    layers, cases = list(table.layer.unique()), list(table["case"].unique())
    top = table.groupby("case", sort=False).share.max()
    columns = ["case", "seed", "layer", "direction", "share", "loss_barrier"]
    base = alt.Chart(table[columns].round(4))
    colour = alt.Color("direction:N", title="averaged")
    points = base.mark_point(opacity=0.8).encode(
        x=alt.X("share:Q", title="part of the full barrier", axis=alt.Axis(format="%", tickCount=4)),
        y=alt.Y("layer:N", sort=layers[::-1], title=None),
        color=colour,
        shape=alt.Shape("direction:N", title="averaged"),
        tooltip=[
            "layer:N",
            "seed:N",
            "direction:N",
            alt.Tooltip("share:Q", format=".1%"),
            alt.Tooltip("loss_barrier:Q", title="nats", format=".3f"),
        ],
    )
    rule = base.mark_rule(strokeDash=[3, 3], color="#555").encode(x=alt.datum(tenth))
    panels = [
        (points + rule).transform_filter(alt.datum.case == case).properties(width=150, height=230, title=case)
        for case in cases
    ]
    for panel in panels[1:]:
        panel.layer[0].encoding.y.axis = alt.Axis(labels=False, ticks=False)
    title = f"The worst single layer carries {top.iloc[0]:.0%} of the barrier between {cases[0]}"
    words = (
        "Layer barriers at the end of training as parts of the full one, a point a seed and direction; the largest: "
        + ", ".join(f"{case} {value:.0%}" for case, value in top.items())
    )
    return style.described(alt.hconcat(*panels, spacing=12), title, words + ".")


def staircases(table: pd.DataFrame) -> alt.Chart:
    """The barrier while layers are added one by one: a map over epochs for the chosen order, all orders at the chosen epoch.

    Args:
        table: `staircase_table` of one pair a `case` and epoch, with `case`.
    """
    cases, measured, orders = list(table["case"].unique()), sorted(table.epoch.unique()), list(table.order.unique())
    table = table[table["into"] != "both"].assign(e=table.epoch.map(measured.index), direction=table["into"].map(INTO))
    last = table[(table["case"] == cases[0]) & (table.e == len(measured) - 1) & (table["into"] == "1")]
    up = last[last.order == "bottom-up"].sort_values("n_layers").loss_barrier
    highest, full = int(up.argmax()) + 1, up.iloc[-1]
    moment = style.slider("moment", len(measured), "time, start to end ", last=True)
    switches = (
        style.switch("order", orders, "order "),
        style.switch("which", cases, "pair "),
        style.switch("direction", list(INTO.values()), "averaged "),
        style.switch("measure", list(MEASURES), "barrier in "),
    )
    columns = ["case", "order", "draw", "n_layers", "layer", "epoch", "e", "direction", *MEASURES.values()]
    base = (
        alt.Chart(table[columns].round(4))
        .transform_filter("datum.case == which && datum.direction == direction")
        .transform_calculate(value="measure == 'loss' ? datum.loss_barrier : datum.error_barrier")
    )
    tooltip = [
        "order:N",
        alt.Tooltip("n_layers:Q", title="layers averaged"),
        alt.Tooltip("layer:N", title="added last"),
        alt.Tooltip("epoch:Q", title="children at epoch"),
        alt.Tooltip("value:Q", title="barrier", format=".3f"),
    ]
    heat = (
        base.transform_filter("datum.order == order && datum.draw == 0")
        .mark_rect()
        .encode(
            x=alt.X("epoch:O", title="epoch", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("n_layers:O", title="layers averaged", sort="descending"),
            color=alt.Color("value:Q", title="barrier", scale=style.signed(largest(table))),
            tooltip=tooltip,
        )
        .properties(width=150, height=230)
    )
    x, y = alt.X("n_layers:Q", title="layers averaged"), alt.Y("value:Q", title="barrier at the chosen epoch")
    colour = alt.Color("order:N", title="order", scale=alt.Scale(domain=orders))
    at = base.transform_filter("datum.e == moment")
    thin = (
        at.transform_filter("datum.order == 'random'")
        .mark_line(strokeWidth=0.7, opacity=0.5)
        .encode(x=x, y=y, color=colour, detail="draw:N", tooltip=tooltip)
    )
    lines = (
        at.transform_filter("datum.order != 'random'")
        .mark_line(interpolate="step-after", point=True)
        .encode(
            x=x,
            y=y,
            color=colour,
            strokeDash=alt.StrokeDash("order:N", title="order", scale=alt.Scale(domain=orders)),
            opacity=alt.condition("datum.order == order", alt.value(1), alt.value(0.45)),
            tooltip=tooltip,
        )
    )
    chart = alt.hconcat(heat, (thin + lines).properties(width=270, height=230))
    chart = chart.resolve_scale(color="independent", strokeDash="independent")  # one legend for both
    title = f"From the input up, {highest} of {len(up)} layers make the highest barrier, {up.max():.2g} nats; all make {full:.2g}"
    words = (
        f"Barrier against the number of layers averaged, for the orders {', '.join(orders)}, and a map over epochs for one of "
        f"them. Bottom-up it peaks at {up.max():.2f} nats after {highest} layers and ends at {full:.2f}."
    )
    return style.described(chart.add_params(moment, *switches), title, words)


def windows(table: pd.DataFrame, full: pd.Series) -> alt.Chart:
    """The part of the full barrier that windows of neighbouring layers carry, against the null model's equal share.

    Args:
        table: `window_barriers` of several seeds.
        full: the full loss barrier of each seed.
    """
    table = table[table["into"] == "both"]
    layers, width = list(table.layer.unique()), int(table.n_layers.iloc[0])
    depth = len(layers) + width - 1
    table = table.assign(share=table.loss_barrier / table.seed.map(full))
    means = table.groupby("layer", sort=False).share.mean()
    points = (
        alt.Chart(table[["layer", "seed", "share"]].round(4))
        .mark_point()
        .encode(
            x=alt.X("layer:N", sort=layers, title="first layer of the window", axis=alt.Axis(labelAngle=-60)),
            y=alt.Y("share:Q", title="part of the full barrier", axis=alt.Axis(format="%")),
            color=alt.Color("seed:N"),
            shape=alt.Shape("seed:N"),
            tooltip=["layer:N", "seed:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    line = (
        alt.Chart(means.round(4).reset_index())
        .mark_line(color="#555")
        .encode(x=alt.X("layer:N", sort=layers), y="share:Q")
    )
    equal = null_model(width, 1.0, depth)
    rule = alt.Chart().mark_rule(strokeDash=[3, 3]).encode(y=alt.datum(equal))
    title = (
        f"{width} layers from {means.idxmax()} on carry {means.max():.0%} of the barrier; an equal share is {equal:.0%}"
    )
    words = (
        f"Part of the full loss barrier of every window of {width} layers, a point a seed, with their mean; it is highest, "
        f"{means.max():.0%}, from {means.idxmax()} on and lowest, {means.min():.0%}, from {means.idxmin()} on. The null model is {equal:.0%}."
    )
    return style.described((rule + line + points).properties(width=500, height=220), title, words)


def pairs(table: pd.DataFrame, single: pd.DataFrame) -> alt.Chart:
    """The barrier of every two layers, or how much it exceeds the sum of both layers' own; means over seeds.

    Args:
        table: `pair_barriers` of several seeds.
        single: `layer_table` of the same pairs, against `models`.
    """
    own = (
        single[(single["into"] == "both") & (single.layer != NETWORK)].groupby("layer", sort=False).loss_barrier.mean()
    )
    layers = list(own.index)
    both = table[table["into"] == "both"].groupby(["layer", "other"], sort=False).loss_barrier.mean().reset_index()
    both["excess"] = both.loss_barrier - both.layer.map(own) - both.other.map(own)
    top = both.loc[both.loss_barrier.idxmax()]
    shown = {"barrier of both": "loss_barrier", "more than the sum of single ones": "excess"}
    show = style.switch("show", list(shown), "")
    tops = {f"show == '{name}'": float(both[column].abs().max()) for name, column in shown.items()}
    chart = (
        alt.Chart(both.round(4))
        .transform_calculate(value="show == 'barrier of both' ? datum.loss_barrier : datum.excess")
        .mark_rect()
        .encode(
            x=alt.X("other:N", sort=layers, title=None, axis=alt.Axis(labelAngle=-60)),
            y=alt.Y("layer:N", sort=layers[::-1], title=None),
            color=alt.Color("value:Q", title="nats", scale=style.signed(tops)),
            tooltip=[
                "layer:N",
                "other:N",
                alt.Tooltip("loss_barrier:Q", title="both, nats", format=".3f"),
                alt.Tooltip("excess:Q", title="more than the sum", format=".3f"),
            ],
        )
        .properties(width=330, height=330)
        .add_params(show)
    )
    more = float((both.excess > 0).mean())
    title = (
        f"{top.layer} with {top.other}: {top.loss_barrier:.2g} nats; {more:.0%} of pairs exceed the sum of their layers"
    )
    words = f"Matrix of the loss barriers of every two layers; the highest is {top.loss_barrier:.2f} nats, of {top.layer} and {top.other}."
    return style.described(chart, title, words)
