"""Figures of the forking experiment: ridges over time, barriers against the fork, kinds, geometry."""

from dataclasses import asdict
from itertools import product

import altair as alt
import numpy as np
import pandas as pd

from lmclib.charts import scales, style
from lmclib.claims.forking import stable_from
from lmclib.measures.barriers import barrier_height
from lmclib.measures.kinds import KINDS, STABLE, KindRule, barrier_kind, barrier_shape

TREATMENTS = {"interpolate": "interpolated", "recompute": "recomputed"}
# what the fork figure can show, by what its switch calls it
EVOLUTION = {"error": "error", "error barrier": "error_barrier", "loss": "loss", "loss barrier": "loss_barrier"}


def fork_label(fork_epoch: float) -> str:
    """How a fork epoch is written on every axis and in every legend."""
    return f"{fork_epoch:.2f}".rstrip("0").rstrip(".")


def heights(evolution: pd.DataFrame, of: str) -> pd.DataFrame:
    """The barrier of every curve: one row a seed, fork, epoch, pair, split and treatment."""
    keys = ["seed", "fork_epoch", "epoch", "pair", "split", "norm_stats"]
    return evolution.groupby(keys).apply(barrier_height, of=of).reset_index()


def _labelled(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    labels = [fork_label(epoch) for epoch in sorted(table.fork_epoch.unique())]
    return table.assign(fork=table.fork_epoch.map(fork_label)), labels


def landing(evolution: pd.DataFrame) -> alt.Chart:
    """Three small mountains: error over the segment, child epochs towards the reader, forks early, middle and late."""
    forks = sorted(evolution.fork_epoch.unique())
    chosen = [forks[0], forks[len(forks) // 2], forks[-1]]
    table, _ = _labelled(evolution[evolution.fork_epoch.isin(chosen)])
    last = table[table.epoch == table.epoch.max()]
    tops = [barrier_height(last[last.fork_epoch == fork])["barrier"] for fork in chosen]
    # each epoch's curve stands on a line of its own; later ones are drawn in front of earlier ones
    measured = sorted(table.epoch.unique(), reverse=True)
    table = table.assign(ground=0.55 * table.epoch.map(measured.index)).sort_values(["epoch", "alpha"])
    table = table.assign(top=table.ground + table.error)[["fork", "epoch", "alpha", "error", "ground", "top"]].round(4)
    height = 0.55 * len(measured) + 0.6
    base = (
        alt.Chart(table)
        .transform_joinaggregate(highest="max(error)", groupby=["fork", "epoch"])
        .mark_area(interpolate="monotone", fillOpacity=0.9, stroke="white", strokeWidth=1)
        .encode(
            x=alt.X("alpha:Q", title="α", axis=alt.Axis(values=[0, 0.5, 1], grid=False)),
            y=alt.Y("top:Q", title=None, axis=None, scale=alt.Scale(domain=[0, height])),
            y2="ground:Q",
            detail="epoch:O",
            fill=alt.Fill("highest:Q", legend=None, scale=alt.Scale(scheme=style.ORDERED, domain=[0, 1])),
            tooltip=[
                alt.Tooltip("fork:N", title="forked at epoch"),
                alt.Tooltip("epoch:Q", title="children at epoch"),
                alt.Tooltip("highest:Q", title="highest training error on the segment", format=".1%"),
            ],
        )
        .properties(width=165, height=330)
    )
    columns = [
        base.transform_filter(alt.datum.fork == fork_label(fork)).properties(
            title=f"forked at epoch {fork_label(fork)}"
        )
        for fork in chosen
    ]
    title = f"Fork early: {tops[0]:.0%} of error between siblings. Fork late: {max(tops[-1], 0):.0%}"
    words = (
        f"Three ridge plots of training error on the segment between two siblings, child epochs from top to bottom. At the end "
        f"the barrier is {tops[0]:.1%}, {tops[1]:.1%} and {tops[2]:.1%} for forks at epochs "
        f"{', '.join(map(fork_label, chosen))}."
    )
    return style.described(alt.hconcat(*columns, spacing=14), title, words)


def evolution(table: pd.DataFrame) -> alt.Chart:
    """The heart of the book: choose a fork on the parent's axis; its segment over training as maps, and the curve at one epoch.

    Both treatments of batch-norm statistics stand side by side, as far as the table has them. The maps and the thick curves are
    the first seed's, the thin ones other seeds'. No control rescales anything.

    Args:
        table: barrier curves of one or more seeds, of the training split.
    """
    table, labels = _labelled(table)
    table = table.assign(treatment=table.norm_stats.map(TREATMENTS))
    shown = scales.Measures("measure", table, EVOLUTION)
    own = table[table.seed == table.seed.min()]
    epochs = [int(epoch) for epoch in sorted(own.epoch.unique())]
    handle, fork = style.handle("fork", "fork", labels, "fork epoch ")
    moment, epoch = style.handle("epoch", "epoch", epochs, "children at epoch ", last=True)
    measure = style.switch("measure", list(EVOLUTION), "show ")
    treatments = [name for name in TREATMENTS.values() if name in set(table.treatment)]
    maps = alt.hconcat(*(_over_training(table, shown, treatment) for treatment in treatments), spacing=18)
    strip = _fork_strip(sorted(own.fork_epoch.unique()), epochs[-1]).add_params(moment, handle)
    chart = alt.vconcat(strip, maps, spacing=12).add_params(fork, epoch, measure)
    words = (
        "Top: the parent's epochs, with a handle for every fork. Below, for each treatment of batch-norm statistics, a map of error "
        "over alpha and child epoch, and the curve at the chosen epoch."
    )
    answers = _evolution_answers(own, shown, labels, epochs)
    return style.answered(
        chart, ["fork", "epoch", "measure"], answers, (labels[0], epochs[-1], next(iter(EVOLUTION))), words
    )


def _evolution_answers(
    own: pd.DataFrame, shown: scales.Measures, labels: list[str], epochs: list[int]
) -> dict[tuple, str]:
    """What the fork figure says at every choice: the highest value on the segment, for both treatments."""
    highest = own.groupby(["fork", "epoch", "treatment"])[list(EVOLUTION.values())].max()
    treatments = [name for name in TREATMENTS.values() if name in set(own.treatment)]
    answers = {}
    for fork, epoch, name in product(labels, epochs, EVOLUTION):
        said = [
            f"{shown[name].said(highest.loc[(fork, epoch, treatment), EVOLUTION[name]])} with {treatment} statistics"
            for treatment in treatments
            if (fork, epoch, treatment) in highest.index
        ]
        what = name if name.endswith("barrier") else f"highest {name} between siblings"
        answers[fork, epoch, name] = (
            f"Forked at epoch {fork}, seen at epoch {epoch}: {what} {', '.join(said)}"
            if said
            else f"Forked at epoch {fork}: at epoch {epoch} not measured, or no siblings yet"
        )
    return answers


def _fork_strip(forks: list[float], end: int) -> alt.LayerChart:
    """The parent's epochs with every fork as a handle; from the chosen one two children go on to the chosen epoch."""
    near = min((fork for fork in forks if fork > 0), default=1.0)
    places = np.log1p(np.array(forks) / near)  # as the axis has them
    middles = near * np.expm1((places[1:] + places[:-1]) / 2)
    low, high = -0.25 * near, float(max(end, forks[-1]))
    table = pd.DataFrame({"at": forks, "fork": [fork_label(fork) for fork in forks]})
    bands = table.assign(low=[low, *middles], high=[*middles, high], handle="fork").round(5)
    x = alt.X(
        "at:Q",
        title="parent's epoch: drag the fork",
        scale=alt.Scale(type="symlog", constant=near, domain=[low, high], nice=False),
        axis=alt.Axis(values=sorted({*forks, end}), format="~g", grid=False, labelOverlap="greedy"),
    )
    y = alt.Y("height:Q", title=None, axis=None, scale=alt.Scale(domain=[-1, 1]))
    chosen = "datum.fork == fork"
    touch = alt.Chart(bands).mark_rect(opacity=0, cursor="ew-resize").encode(x=x.copy(), x2="high:Q")
    touch.encoding.x.shorthand = "low:Q"
    lines = [  # the parent up to the fork, then two children
        {"fork": fork_label(fork), "line": line, "at": at, "height": height}
        for fork in forks
        for line, points in {
            "parent": [(low, 0), (fork, 0)],
            "child 1": [(fork, 0), (high, 0.7)],
            "child 2": [(fork, 0), (high, -0.7)],
        }.items()
        for at, height in points
    ]
    paths = (
        alt.Chart(pd.DataFrame(lines).round(5))
        .transform_filter(chosen)
        .mark_line(strokeWidth=2.5, interpolate="monotone")
        .encode(
            x=x,
            y=y,
            detail="line:N",
            color=alt.condition("datum.line == 'parent'", alt.value(style.INK), alt.value(style.OKABE_ITO[1])),
        )
    )
    handles = (
        alt.Chart(bands.assign(height=0))
        .mark_point(cursor="ew-resize", fillOpacity=1)
        .encode(
            x=x,
            y=y,
            size=alt.condition(chosen, alt.value(220), alt.value(70)),
            color=alt.condition(chosen, alt.value(style.OKABE_ITO[1]), alt.value(style.INK)),
            tooltip=[alt.Tooltip("fork:N", title="fork at epoch")],
        )
    )
    return alt.layer(touch, paths, handles).properties(width=560, height=54)


def _over_training(table: pd.DataFrame, shown: scales.Measures, treatment: str) -> alt.VConcatChart:
    """The map of one treatment over the children's epochs, and below it the curve at the chosen one, on the same α."""
    own = table[table.seed == table.seed.min()]
    measured = [int(epoch) for epoch in sorted(own.epoch.unique())]
    half = float(np.diff(sorted(own.alpha.unique())).min()) / 2
    # one table for everything, so that the page holds it once
    columns = ["treatment", "seed", "fork", "epoch", "alpha", *EVOLUTION.values()]
    base = (
        alt.Chart(table[columns].round(4))
        .transform_filter(f"datum.fork == fork && datum.treatment == '{treatment}'")
        .transform_calculate(value=shown.value, handle="'epoch'")
    )
    first = f"datum.seed == {int(own.seed.min())}"
    tooltip = [
        alt.Tooltip("fork:N", title="forked at epoch"),
        alt.Tooltip("epoch:Q", title="children at epoch"),
        alt.Tooltip("seed:N"),
        alt.Tooltip("alpha:Q", title="α", format=".2f"),
        alt.Tooltip("error:Q", title="error", format=".1%"),
        alt.Tooltip("loss:Q", title="loss, nats", format=".3f"),
    ]
    scale = alt.Scale(domain=[-half, 1 + half], nice=False)
    axis = {"values": [0, 0.5, 1], "grid": False}
    y = alt.Y("epoch:O", title="epoch, downwards", scale=alt.Scale(domain=measured))
    heat = (
        base.transform_filter(first)
        .transform_calculate(left=f"datum.alpha - {half}", right=f"datum.alpha + {half}")
        .mark_rect(cursor="ns-resize")
        .encode(
            x=alt.X("left:Q", title=None, scale=scale, axis=alt.Axis(**axis, labels=False)),
            x2="right:Q",
            y=y,
            color=shown.colour(title="colour of the maps"),
            tooltip=tooltip,
        )
    )
    # what is chosen is framed, on dark and on light cells
    row = (
        alt.Chart(pd.DataFrame({"epoch": measured}))
        .transform_filter("datum.epoch == epoch")
        .encode(x=alt.value(0), x2=alt.value("width"), y=y)
    )
    frames = [row.mark_rect(filled=False, stroke=c, strokeWidth=w) for c, w in (("white", 4), (style.OKABE_ITO[1], 2))]
    curves = base.transform_filter("datum.epoch == epoch").encode(
        x=alt.X("alpha:Q", title="α, from sibling 1 to sibling 2", scale=scale, axis=alt.Axis(**axis)),
        y=shown.position(),
        detail="seed:N",
        tooltip=tooltip,
    )
    others = curves.transform_filter(f"!({first})").mark_line(opacity=0.4, strokeWidth=1, color=style.INK)
    curve = curves.transform_filter(first).mark_line(
        point=alt.OverlayMarkDef(color=style.OKABE_ITO[1], size=30), color=style.OKABE_ITO[1]
    )
    heading = alt.TitleParams(text=alt.expr(f"measure + ', {treatment} statistics'"), fontSize=13, fontWeight="normal")
    size = {"width": 240}
    return alt.vconcat(
        alt.layer(heat, *frames).properties(height=24 * len(measured), title=heading, **size),
        alt.layer(others, curve).properties(height=170, **size),
        spacing=6,
    )


def against_fork(final: pd.DataFrame) -> alt.Chart:
    """The barrier at the end of training against the fork epoch: every seed a point, their mean a line."""
    keys = ["seed", "fork_epoch", "split", "norm_stats"]
    wide = heights(final, "error")[keys].assign(
        error_barrier=heights(final, "error").barrier, loss_barrier=heights(final, "loss").barrier
    )
    table, labels = _labelled(wide)
    table = table.assign(treatment=table.norm_stats.map(TREATMENTS))
    shown = scales.Measures("kind_of_barrier", table, {"error": "error_barrier", "loss": "loss_barrier"})
    splits = sorted(table.split.unique(), reverse=True)
    measure = style.switch("kind_of_barrier", list(shown.all), "barrier in ")
    split = style.switch("which_split", splits, "data ")
    base = (
        alt.Chart(table[["fork", "seed", "treatment", "split", "error_barrier", "loss_barrier"]].round(6))
        .transform_filter("datum.split == which_split")
        .transform_calculate(value=shown.value)
    )
    # one title and one domain for all channels, so that their legends are one
    legend = {"title": "batch-norm statistics", "scale": alt.Scale(domain=list(TREATMENTS.values()))}
    x = alt.X("fork:O", title="fork epoch", axis=alt.Axis(labelAngle=0), scale=alt.Scale(domain=labels))
    points = base.mark_point(opacity=0.75).encode(
        x=x,
        y=shown.position(title="barrier at the end of training"),
        color=alt.Color("treatment:N", **legend),
        shape=alt.Shape("treatment:N", **legend),
        tooltip=[
            alt.Tooltip("fork:N", title="fork epoch"),
            alt.Tooltip("seed:N"),
            alt.Tooltip("treatment:N", title="statistics"),
            alt.Tooltip("error_barrier:Q", title="error barrier", format=".1%"),
            alt.Tooltip("loss_barrier:Q", title="loss barrier, nats", format=".3f"),
        ],
    )
    lines = base.mark_line().encode(
        x=x,
        y=shown.position(field="mean(value):Q", title="barrier at the end of training"),
        color=alt.Color("treatment:N", **legend),
        strokeDash=alt.StrokeDash("treatment:N", **legend),
    )
    rule = (
        alt.Chart(pd.DataFrame({"value": [STABLE]}))
        .transform_filter("kind_of_barrier == 'error'")
        .mark_rule(strokeDash=[2, 3], color=style.INK)
        .encode(y=shown.position(title="barrier at the end of training"))
    )
    means = table[table.treatment == "interpolated"].groupby(["split", "fork_epoch"])[["error_barrier", "loss_barrier"]]
    answers = {
        (name, which): _against_fork_answer(name, which, means.mean().loc[which])
        for name in shown.all
        for which in splits
    }
    start = means.mean().error_barrier.loc[splits[0]]
    words = (
        f"Barrier at the end of training against fork epoch, a point a seed. Mean {splits[0]} error barrier with interpolated "
        f"statistics: {', '.join(f'{fork_label(e)}: {v:.1%}' for e, v in start.items())}."
    )
    chart = (rule + lines + points).add_params(measure, split).properties(width=500, height=280)
    return style.answered(chart, ["kind_of_barrier", "which_split"], answers, ("error", splits[0]), words)


def _against_fork_answer(measure: str, split: str, means: pd.DataFrame) -> str:
    """What the mean over seeds with interpolated statistics says, of one split."""
    if measure == "loss":
        first, last = means.loss_barrier.iloc[0], means.loss_barrier.iloc[-1]
        ends = f"{scales.nats(first)} at fork {fork_label(means.index[0])} to {scales.nats(last)} at {fork_label(means.index[-1])}"
        return f"The mean loss barrier on {split} data goes from {ends}"
    stable = stable_from(means.error_barrier)
    when = "at no fork" if stable is None else f"from fork epoch {fork_label(stable)} on"
    return f"The mean error barrier on {split} data is below 2\u00a0% {when}"


def kinds(final: pd.DataFrame) -> alt.Chart:
    """The final error-barrier curve of every fork, named by the rule, whose thresholds are sliders."""
    chosen = final[(final.split == "train") & (final.norm_stats == "interpolate") & (final.seed == final.seed.min())]
    table, labels = _labelled(chosen[chosen.pair == chosen.pair.iloc[0]])
    names = {label: barrier_kind(table[table.fork == label]) for label in labels}
    shapes = {label: barrier_shape(table[table.fork == label]) for label in labels}
    table = table.assign(
        panel=table.fork.map(lambda label: f"fork {label}"),
        height=table.fork.map(lambda label: shapes[label][0]),
        width=table.fork.map(lambda label: shapes[label][1]),
    )
    labels_of = {
        "none_below": (0.2, "none below "),
        "bump_below": (0.5, "a bump below "),
        "wide_from": (1.0, "wide where more lies above ¾ "),
    }
    sliders = [
        alt.param(
            name, value=value, bind=alt.binding_range(min=0, max=labels_of[name][0], step=0.01, name=labels_of[name][1])
        )
        for name, value in asdict(KindRule()).items()
    ]
    base = alt.Chart(table[["panel", "alpha", "error_barrier", "height", "width"]].round(5))
    domain = scales.measure(table, "error_barrier").domain
    area = base.mark_area(line={"color": style.OKABE_ITO[0]}, opacity=0.35, color=style.OKABE_ITO[0]).encode(
        x=alt.X("alpha:Q", title="α", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(values=[0, 0.5, 1])),
        y=alt.Y("error_barrier:Q", title="error barrier", scale=alt.Scale(domain=domain), axis=alt.Axis(format="%")),
        tooltip=[
            alt.Tooltip("alpha:Q", title="α"),
            alt.Tooltip("error_barrier:Q", title="error barrier", format=".1%"),
        ],
    )
    text = (
        base.transform_filter("datum.alpha == 0")
        .transform_calculate(kind=KindRule.script("datum.height", "datum.width"))
        .mark_text(align="right", fontWeight="bold", fontSize=12)
        .encode(x=alt.value(150), y=alt.value(-7), text="kind:N")
    )
    chart = (
        alt.layer(area, text)
        .properties(width=150, height=90)
        .facet(
            facet=alt.Facet(
                "panel:N",
                sort=[f"fork {label}" for label in labels],
                title=None,
                header=alt.Header(labelAnchor="start", labelOrient="top"),
            ),
            columns=3,
        )
        .add_params(*sliders)
    )
    # counted in the page, as the thresholds move
    rules = [KindRule.script(f"{height:.6g}", f"{width:.6g}") for height, width in shapes.values()]
    counts = [
        f"({' + '.join(f'(({rule}) == {kind!r} ? 1 : 0)' for rule in rules)}) + ' {kind}'" for kind in KINDS[::-1]
    ]
    counted = " + ', ' + ".join(counts)
    title = f"['Of {len(labels)} forks, by the rule:', {counted}]"
    found = ", ".join(f"{list(names.values()).count(kind)} {kind}" for kind in KINDS[::-1])
    words = (
        f"Final training-error barrier curves, one panel a fork. By the rule as it stands at first: {found}. "
        + "; ".join(f"{k} is {v}" for k, v in names.items())
        + "."
    )
    return chart.properties(title=alt.TitleParams(text=alt.expr(title)), description=words)


def geometry(table: pd.DataFrame) -> alt.Chart:
    """Angles, planes and distances over the children's epochs, a line a fork; hover lights a fork up everywhere."""
    table, labels = _labelled(table)
    last = table[table.epoch == table.epoch.max()].groupby("fork_epoch")[["origin_angle", "distance"]].mean()
    hover = alt.selection_point(name="lit", fields=["fork"], on="pointerover", nearest=False, empty=True)
    panels = {
        "origin_angle": "angle at the origin, °",
        "fork_angle": "angle at the fork, °",
        "plane_cosine": "cosine with the final difference",
        "distance": "distance between siblings",
    }
    means = table.groupby(["fork", "child_epoch"])[list(panels)].mean().rename(columns=panels).reset_index()
    long = means.melt(["fork", "child_epoch"], var_name="panel").round(4)
    chart = (
        alt.Chart(long)
        .mark_line(point=alt.OverlayMarkDef(size=18))
        .encode(
            x=alt.X("child_epoch:Q", title="child epoch", scale=alt.Scale(type="symlog")),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            color=style.fork_colour(labels),
            opacity=alt.condition(hover, alt.value(1), alt.value(0.15)),
            tooltip=[
                alt.Tooltip("fork:N", title="fork epoch"),
                alt.Tooltip("child_epoch:Q", title="child epoch", format=".2f"),
                alt.Tooltip("value:Q", format=".3f"),
            ],
        )
        .properties(width=220, height=150)
        .add_params(hover)
        .facet(alt.Facet("panel:N", title=None, sort=list(panels.values())), columns=2)
        .resolve_scale(y="independent")
    )
    start, end = last.iloc[0], last.iloc[-1]
    title = (
        f"From the first fork to the last, the angle falls from {start.origin_angle:.0f}° to {end.origin_angle:.0f}°"
    )
    words = (
        f"Four panels over child epochs, a line a fork, means over seeds. At the end the angle at the origin is "
        f"{start.origin_angle:.1f} degrees for fork {labels[0]} and {end.origin_angle:.1f} for fork {labels[-1]}; the distance "
        f"is {start.distance:.2f} and {end.distance:.2f}."
    )
    return style.described(chart, title, words)
