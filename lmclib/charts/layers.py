"""Figures of layer-wise barriers: heatmaps over training, shares of the full barrier, staircases, windows and pairs."""

import json

import altair as alt
import pandas as pd

from lmclib.charts import scales, style
from lmclib.charts.forking import fork_label
from lmclib.measures.layerwise import NETWORK, null_model

MEASURES = {"loss": "loss_barrier", "error": "error_barrier"}
INTO = {"1": "into model 1", "2": "into model 2"}
NAME = 13  # pixels from one name to the next, of which none touches another


def heatmap(table: pd.DataFrame) -> alt.Chart:
    """Layer × epoch, into model 1 and into model 2, the whole network on top; below, the layers at the chosen epoch.

    One scale of colours and heights for all pairs, forks, epochs, splits and baselines.

    Args:
        table: `layer_table` of one pair a `case`, fork and epoch, with `case` and `split`.
    """
    layers = [name for name in table.layer.unique() if name != NETWORK]
    table = table[table["into"] != "both"].assign(fork=table.fork_epoch.map(fork_label))
    cases, forks = list(table["case"].unique()), _labels(table)
    epochs = [int(epoch) for epoch in sorted(table.epoch.unique())]
    splits = [split for split in ("train", "test") if (table.split == split).any()]
    shown = scales.Measures("measure", table, MEASURES)
    forked = len(forks) > 1  # else there is no fork to choose, nor to speak of
    controls = (
        style.switch("which", cases, "pair "),
        *([style.switch("fork", forks, "fork epoch (siblings) ")] if forked else []),
        style.switch("epoch", epochs, "children at epoch " if forked else "epoch ", last=True),
        style.switch("measure", list(MEASURES), "barrier in "),
        style.switch("split", splits, "data "),
        style.switch("baseline", ["models", "cut"], "baseline "),
    )
    # only siblings were forked at several epochs; other pairs are shown at the fork that they have
    only = {case: rows.fork.iloc[0] for case, rows in table.groupby("case", sort=False) if rows.fork.nunique() == 1}
    own_fork = alt.param(
        "own_fork", expr=f"({json.dumps(only)})[which] || {'fork' if forked else json.dumps(forks[0])}"
    )
    columns = ["case", "fork", "epoch", "layer", "into", "split", "baseline", *MEASURES.values()]
    base = (
        alt.Chart(table[columns].round(4))
        .transform_filter(
            "datum.case == which && datum.fork == own_fork && datum.split == split && datum.baseline == baseline"
        )
        .transform_calculate(value=shown.value)
    )
    tooltip = [
        "layer:N",
        *([alt.Tooltip("fork:N", title="forked at epoch")] if forked else []),
        alt.Tooltip("epoch:Q", title="children at epoch" if forked else "epoch"),
        alt.Tooltip("loss_barrier:Q", title="loss barrier, nats", format=".3f"),
        alt.Tooltip("error_barrier:Q", title="error barrier", format=".1%"),
    ]
    colour = shown.colour(title="barrier at α = ½")
    times = alt.Scale(domain=epochs)

    def column(into: str, first: bool) -> alt.VConcatChart:
        rect = base.transform_filter(f"datum.into == '{into}'").mark_rect().encode(color=colour, tooltip=tooltip)
        axis = {"axis": alt.Axis(**style.SHORT, **({} if first else {"labels": False, "ticks": False}))}
        whole = rect.transform_filter(f"datum.layer == '{NETWORK}'").encode(
            x=alt.X("epoch:O", title=None, axis=None, scale=times),
            y=alt.Y("layer:N", title=None, scale=alt.Scale(domain=[NETWORK]), **axis),
        )
        single = rect.transform_filter(f"datum.layer != '{NETWORK}'").encode(
            x=alt.X("epoch:O", title="epoch", axis=alt.Axis(labelAngle=0), scale=times),
            y=alt.Y("layer:N", title=None, scale=alt.Scale(domain=layers[::-1]), **axis),
        )
        row = (
            alt.Chart(pd.DataFrame({"epoch": epochs}))
            .transform_filter("datum.epoch == epoch")
            .mark_rect(filled=False, stroke=style.OKABE_ITO[1], strokeWidth=2)
            .encode(
                x=alt.X("epoch:O", title="epoch", axis=alt.Axis(labelAngle=0), scale=times),
                y=alt.value(0),
                y2=alt.value("height"),
            )
        )
        size = {"width": 190}
        return alt.vconcat(
            whole.properties(height=18, title=INTO[into], **size),
            # many rows are as low as their names allow
            (single + row).properties(height=max(18 * min(len(layers), 30), NAME * len(layers)), **size),
            spacing=4,
        )

    bars = (
        base.transform_filter("datum.epoch == epoch")
        .transform_calculate(direction="'into model ' + datum.into")
        .mark_bar()
        .encode(
            x=alt.X(
                "layer:N",
                scale=alt.Scale(domain=[*layers, NETWORK]),
                title=None,
                axis=alt.Axis(labelAngle=-60, labelOverlap=True, **style.SHORT),
            ),
            xOffset="direction:N",
            y=shown.position(title="barrier at the chosen epoch"),
            color=alt.Color("direction:N", title="averaged", scale=_directions()),
            tooltip=tooltip,
        )
        .properties(width=420, height=150)
    )
    maps = alt.hconcat(column("1", True), column("2", False), spacing=10)
    chart = alt.vconcat(maps, bars).resolve_scale(color="independent").add_params(*controls, own_fork)
    words = (
        "Heatmaps of layer barriers over layer and epoch, into model 1 and into model 2, the whole network in a row of its own, "
        "and bars at the chosen epoch."
    )
    names = ["which", "own_fork", "epoch", "measure", "split", "baseline"]
    start = (cases[0], only.get(cases[0], forks[0]), epochs[-1], "loss", splits[0], "models")
    return style.answered(chart, names, _heatmap_answers(table, shown), start, words)


def _heatmap_answers(table: pd.DataFrame, shown: scales.Measures) -> dict[tuple, str]:
    """For every map and epoch: the barrier of all layers, and that of the worst single one with its name."""
    answers = {}
    for (case, fork, epoch, split, baseline), rows in table.groupby(["case", "fork", "epoch", "split", "baseline"]):
        network, single = rows[rows.layer == NETWORK], rows[rows.layer != NETWORK]
        for name, column in MEASURES.items():
            worst = single.loc[single[column].idxmax()]
            said = shown[name].said
            answers[case, fork, int(epoch), name, split, baseline] = (
                f"{case[:1].upper()}{case[1:]}{f', fork {fork}' if table.fork.nunique() > 1 else ''}, epoch {int(epoch)}: all layers averaged {said(network[column].max())}, the worst single "
                f"layer {said(worst[column])} ({worst.layer}, {INTO[worst['into']]})"
            )
    return answers


def _labels(table: pd.DataFrame) -> list[str]:
    return [fork_label(fork) for fork in sorted(table.fork_epoch.unique())]


def _directions() -> alt.Scale:
    return alt.Scale(domain=list(INTO.values()), range=list(style.OKABE_ITO[:2]))


def shares(final: pd.DataFrame) -> alt.Chart:
    """Every layer's part of the full loss barrier at the end of training: a point a seed and direction, a panel a case; the line is an equal share.

    Args:
        final: `layer_table` of the training split against `models`, with `case`.
    """
    keys = ["case", "seed", "into"]
    full = final[final.layer == NETWORK].set_index(keys).loss_barrier.rename("full")
    table = final[final.layer != NETWORK].join(full, on=keys)
    table = table.assign(share=table.loss_barrier / table.full, direction=table["into"].map(INTO))
    # in one direction alone what the two models' losses differ by counts as every layer's
    worst = table[table["into"] == "both"].groupby(["case", "seed"], sort=False).share.max()
    table = table[table["into"] != "both"]
    layers, cases = list(table.layer.unique()), list(table["case"].unique())
    top, equal = worst.groupby("case", sort=False).mean(), 1 / len(layers)
    wide = alt.Scale(domain=[min(0, float(table.share.min())), max(equal, float(table.share.max()))], nice=True)
    columns = ["case", "seed", "layer", "direction", "share", "loss_barrier"]
    base = alt.Chart(table[columns].round(4))
    colour = alt.Color("direction:N", title="averaged")
    points = base.mark_point(opacity=0.8).encode(
        # the same range in every panel
        x=alt.X("share:Q", title="part of the full barrier", scale=wide, axis=alt.Axis(format="%", tickCount=4)),
        y=alt.Y("layer:N", sort=layers[::-1], title=None, axis=alt.Axis(**style.SHORT)),
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
    rule = alt.Chart(pd.DataFrame({"equal": [equal]})).mark_rule(strokeDash=[3, 3], color=style.INK).encode(x="equal:Q")
    panels = [
        (points.transform_filter(alt.datum.case == case) + rule).properties(
            width=150, height=max(230, 16 * len(layers)), title=case
        )
        for case in cases
    ]
    for panel in panels[1:]:
        panel.layer[0].encoding.y.axis = alt.Axis(labels=False, ticks=False, **style.SHORT)
    title = f"The worst single layer, both directions averaged, carries {top.iloc[0]:.0%} of the barrier between {cases[0]}, mean over seeds"
    words = (
        "Layer barriers at the end of training as parts of the full one, a point a seed and direction; the worst, both directions averaged, mean over seeds: "
        + ", ".join(f"{case} {value:.0%}" for case, value in top.items())
    )
    return style.described(alt.hconcat(*panels, spacing=12), title, words + ".")


def staircases(table: pd.DataFrame) -> alt.Chart:
    """The barrier while layers are added one by one: a map over epochs for the chosen order, all orders at the chosen epoch.

    Args:
        table: `staircase_table` of one pair a `case` and epoch, with `case`.
    """
    table = table[table["into"] != "both"].assign(direction=table["into"].map(INTO))
    # of several random orders one is mapped, and is what the title speaks of
    table["mapped"] = table.draw == table.groupby(["case", "order", "epoch"]).draw.transform("min")
    cases, orders = list(table["case"].unique()), list(table.order.unique())
    epochs, steps = [int(epoch) for epoch in sorted(table.epoch.unique())], sorted(map(int, table.n_layers.unique()))
    shown = scales.Measures("measure", table, MEASURES)
    controls = (
        style.switch("epoch", epochs, "children at epoch ", last=True),
        style.switch("order", orders, "order "),
        style.switch("which", cases, "pair "),
        style.switch("direction", list(INTO.values()), "averaged "),
        style.switch("measure", list(MEASURES), "barrier in "),
    )
    columns = ["case", "order", "draw", "mapped", "n_layers", "layer", "epoch", "direction", *MEASURES.values()]
    base = (
        alt.Chart(table[columns].round(4))
        .transform_filter("datum.case == which && datum.direction == direction")
        .transform_calculate(value=shown.value)
    )
    tooltip = [
        "order:N",
        alt.Tooltip("n_layers:Q", title="layers averaged"),
        alt.Tooltip("layer:N", title="added last"),
        alt.Tooltip("epoch:Q", title="children at epoch"),
        alt.Tooltip("loss_barrier:Q", title="loss barrier, nats", format=".3f"),
        alt.Tooltip("error_barrier:Q", title="error barrier", format=".1%"),
    ]
    heat = (
        base.transform_filter("datum.order == order && datum.mapped")
        .mark_rect()
        .encode(
            x=alt.X("epoch:O", title="epoch", axis=alt.Axis(labelAngle=0), scale=alt.Scale(domain=epochs)),
            y=alt.Y("n_layers:O", title="layers averaged", scale=alt.Scale(domain=steps[::-1])),
            color=shown.colour(title="barrier", gradientLength=150),
            tooltip=tooltip,
        )
        .properties(width=150, height=230)
    )
    x = alt.X("n_layers:Q", title="layers averaged", scale=alt.Scale(domain=[steps[0], steps[-1]], nice=False))
    x.axis = alt.Axis(tickMinStep=1, format="d")
    y = shown.position(title="barrier at the chosen epoch")
    colour = alt.Color(
        "order:N",
        title="order",
        scale=alt.Scale(domain=orders),
        legend=alt.Legend(columns=2, **style.AS_LINES),
    )
    at = base.transform_filter("datum.epoch == epoch")
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
    words = f"Barrier against the number of layers averaged, for the orders {', '.join(orders)}, and a map over epochs for one of them."
    return style.answered(
        chart.add_params(*controls),
        ["which", "order", "direction", "measure", "epoch"],
        _staircase_answers(table, shown),
        (cases[0], orders[0], INTO["1"], "loss", epochs[-1]),
        words,
    )


ORDERS = {"bottom-up": "From the input up", "top-down": "From the output down", "random": "In a random order"}


def _staircase_answers(table: pd.DataFrame, shown: scales.Measures) -> dict[tuple, str]:
    """Where each staircase is highest, and where it ends."""
    answers = {}
    drawn = table[table.mapped]
    for (case, order, direction, epoch), rows in drawn.groupby(["case", "order", "direction", "epoch"], sort=False):
        steps = rows.sort_values("n_layers")
        for name, column in MEASURES.items():
            top, said = steps.loc[steps[column].idxmax()], shown[name].said
            answers[case, order, direction, name, int(epoch)] = (
                f"{ORDERS.get(order, 'In ' + order + ' order')}, {top.n_layers} of {len(steps)} layers make the highest barrier, "
                f"{said(top[column])}; all make {said(steps[column].iloc[-1])} ({case}, epoch {int(epoch)})"
            )
    return answers


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
            x=alt.X(
                "layer:N", sort=layers, title="first layer of the window", axis=alt.Axis(labelAngle=-60, **style.SHORT)
            ),
            y=alt.Y("share:Q", title="part of the full barrier", axis=alt.Axis(format="%")),
            color=alt.Color("seed:N"),
            shape=alt.Shape("seed:N"),
            tooltip=["layer:N", "seed:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    line = (
        alt.Chart(means.round(4).reset_index())
        .mark_line(color=style.INK)
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
    alone = single[(single["into"] == "both") & (single.layer != NETWORK)]
    own, layers = alone.set_index(["seed", "layer"]).loss_barrier, list(alone.layer.unique())
    by_seed = table[table["into"] == "both"].copy()
    sums = [own.reindex(pd.MultiIndex.from_frame(by_seed[["seed", one]])).to_numpy() for one in ("layer", "other")]
    by_seed["excess"] = by_seed.loss_barrier - sums[0] - sums[1]
    pairs_of = by_seed.groupby(["layer", "other"], sort=False)
    both = pairs_of[["loss_barrier", "excess"]].mean().reset_index()
    top = both.loc[both.loss_barrier.idxmax()]
    shown = scales.Measures(
        "show", both, {"barrier of both": "loss_barrier", "more than the sum of single ones": "excess"}
    )
    show = style.switch("show", list(shown.all), "show ")
    chart = (
        alt.Chart(both.round(4))
        .transform_calculate(value=shown.value)
        .mark_rect()
        .encode(
            x=alt.X(
                "other:N", title=None, axis=alt.Axis(labelAngle=-60, **style.SHORT), scale=alt.Scale(domain=layers)
            ),
            y=alt.Y("layer:N", title=None, scale=alt.Scale(domain=layers[::-1]), axis=alt.Axis(**style.SHORT)),
            color=shown.colour(title="nats"),
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
    most, seeds = both.loc[both.excess.idxmax()], by_seed.seed.nunique()
    more, less = (float((signed > 0).mean()) for signed in (pairs_of.excess.min(), -pairs_of.excess.max()))
    answers = {
        (
            "barrier of both",
        ): f"The highest barrier of two layers, {scales.nats(top.loss_barrier)}, is that of {top.layer} with {top.other}",
        ("more than the sum of single ones",): (
            f"In every seed {more:.0%} of pairs exceed the sum of their two layers and {less:.0%} fall short of it (by chance {2.0**-seeds:.0%} each); on average most of all "
            f"{most.layer} with {most.other}, by {scales.nats(most.excess)}"
        ),
    }
    words = "Matrix of the loss barriers of every two layers, and of what they exceed the sum of both layers' own barriers by."
    return style.answered(chart, ["show"], answers, ("barrier of both",), words)
