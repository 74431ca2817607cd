"""Figures of the forking experiment: barriers against the fork, kinds, geometry; the fork figure has a file of its own."""

from dataclasses import asdict

import altair as alt
import pandas as pd

from lmclib.charts import scales, style
from lmclib.claims.forking import stable_from
from lmclib.measures.barriers import barrier_height
from lmclib.measures.kinds import KINDS, STABLE, KindRule, barrier_kind, barrier_shape

TREATMENTS = {"interpolate": "interpolated", "recompute": "recomputed"}


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
    # one title and one domain for both channels of the points, so that their legends are one
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
    lines = style.dashed(base, "treatment", legend["scale"].domain).encode(
        x=x,
        y=shown.position(field="mean(value):Q", title="barrier at the end of training"),
        color=alt.Color("treatment:N", **legend),
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
    title = f"From the first fork to the last, the angle at the origin falls from {start.origin_angle:.0f}° to {end.origin_angle:.0f}°"
    words = (
        f"Four panels over child epochs, a line a fork, means over seeds. At the end the angle at the origin is "
        f"{start.origin_angle:.1f} degrees for fork {labels[0]} and {end.origin_angle:.1f} for fork {labels[-1]}; the distance "
        f"is {start.distance:.2f} and {end.distance:.2f}."
    )
    return style.described(chart, title, words)
