"""Figures of the forking experiment under several recipes."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from lmclib.charts import scales, style
from lmclib.charts.forking import fork_label, heights
from lmclib.claims.recipes import Forked

MEASURES = {
    "error barrier": "error_barrier",
    "loss barrier": "loss_barrier",
    "angle from the origin": "origin_angle",
    "angle from the fork": "fork_angle",
    "distance": "distance",
}


def by_fork(cases: Mapping[str, Forked]) -> pd.DataFrame:
    """What siblings come to at the end of training: a row a case, seed and fork, a column a measure; statistics interpolated."""
    parts = []
    for case, found in cases.items():
        plain = found.final[(found.final.norm_stats == "interpolate") & (found.final.split == "train")]
        keys = ["seed", "fork_epoch"]
        barriers = [heights(plain, of).set_index(keys).barrier.rename(f"{of}_barrier") for of in ("error", "loss")]
        ends = found.geometry.sort_values("epoch").groupby(keys)[["origin_angle", "fork_angle", "distance"]].last()
        parts.append(pd.concat([*barriers, ends], axis=1).reset_index().assign(case=case))
    return pd.concat(parts, ignore_index=True)


def against_fork(cases: Mapping[str, Forked]) -> alt.Chart:
    """The chosen measure against the fork epoch for every recipe: every seed a point, their mean a line.

    Args:
        cases: what was measured with each recipe.
    """
    table = by_fork(cases)
    labels = [fork_label(fork) for fork in sorted(table.fork_epoch.unique())]
    table = table.assign(fork=table.fork_epoch.map(fork_label))
    names = list(cases)
    shown = scales.Measures("measure", table, MEASURES)
    control = style.switch("measure", list(MEASURES), "measure ")
    base = alt.Chart(table[["case", "seed", "fork", *MEASURES.values()]].round(5)).transform_calculate(
        value=shown.value
    )
    legend = {"title": "recipe", "scale": alt.Scale(domain=names, range=list(style.OKABE_ITO[: len(names)]))}
    x = alt.X("fork:O", title="fork epoch", axis=alt.Axis(labelAngle=0), scale=alt.Scale(domain=labels))
    points = base.mark_point(opacity=0.7).encode(
        x=x,
        y=shown.position(title="at the end of training"),
        color=alt.Color("case:N", **legend),
        shape=alt.Shape("case:N", title="recipe", scale=alt.Scale(domain=names)),
        tooltip=[
            "case:N",
            "seed:N",
            alt.Tooltip("fork:N", title="fork epoch"),
            *(alt.Tooltip(f"{column}:Q", title=name, format=".3~f") for name, column in MEASURES.items()),
        ],
    )
    lines = base.mark_line().encode(
        x=x,
        y=shown.position(field="mean(value):Q", title="at the end of training"),
        color=alt.Color("case:N", **legend),
    )
    answers = {(name,): _answer(name, table, column) for name, column in MEASURES.items()}
    words = "The chosen measure at the end of training against the fork epoch, a colour a recipe, a point a seed, lines are means."
    chart = (points + lines).properties(width=420, height=260).add_params(control)
    return style.answered(chart, ["measure"], answers, (next(iter(MEASURES)),), words)


def _answer(name: str, table: pd.DataFrame, column: str) -> str:
    first = table[table.fork_epoch == table.fork_epoch.min()].groupby("case", sort=False)[column].mean()
    said = {
        "error_barrier": lambda v: f"{v:.0%}",
        "loss_barrier": lambda v: f"{v:.2f} nats",
        "distance": lambda v: f"{v:.1f}",
    }.get(column, lambda v: f"{v:.0f}°")
    return f"{name.capitalize()} of siblings that part at the start: " + ", ".join(
        f"{said(value)} ({case})" for case, value in first.items()
    )


def against_rate(table: pd.DataFrame) -> alt.Chart:
    """The barrier between siblings that part at the start against the learning rate, beside the training error that it leaves.

    Args:
        table: a row a rate, weight decay and seed: `rate`, `weight_decay`, `seed`, `barrier` (error) and `end` (training error).
    """
    table = table.assign(decay=table.weight_decay.map(lambda value: f"{value:g}"))
    decays = list(dict.fromkeys(table.decay))
    base = alt.Chart(table[["rate", "decay", "seed", "barrier", "end"]].round(5))
    legend = {"title": "weight decay", "scale": alt.Scale(domain=decays, range=list(style.OKABE_ITO[: len(decays)]))}
    x = alt.X(
        "rate:Q",
        title="learning rate",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(values=sorted(set(table.rate)), format="~g"),
    )
    most = max(0.05, float(table[["barrier", "end"]].max().max()))

    def panel(column: str, title: str) -> alt.LayerChart:
        y = alt.Y(
            f"{column}:Q",
            title=title,
            scale=alt.Scale(domain=[min(0, float(table.barrier.min())), most]),
            axis=alt.Axis(format="%"),
        )
        points = base.mark_point(opacity=0.7).encode(
            x=x,
            y=y,
            color=alt.Color("decay:N", **legend),
            shape=alt.Shape("decay:N", title="weight decay", scale=alt.Scale(domain=decays)),
            tooltip=["rate:Q", "decay:N", "seed:N", alt.Tooltip(f"{column}:Q", format=".1%")],
        )
        lines = base.mark_line().encode(x=x, y=alt.Y(f"mean({column}):Q"), color=alt.Color("decay:N", **legend))
        return (points + lines).properties(width=230, height=220)

    chart = alt.hconcat(
        panel("barrier", "error barrier"), panel("end", "training error of the worse sibling"), spacing=28
    )
    means = table[table.decay == decays[0]].groupby("rate").barrier.mean()  # of one recipe, not over both
    title = (
        f"Between siblings that part at the start, with weight decay {decays[0]}: an error barrier of {means.iloc[-1]:.0%} at the rate "
        f"{means.index[-1]:g}, {means.iloc[0]:.0%} at {means.index[0]:g}"
    )
    words = f"{title}. Left the error barrier against the learning rate, right the training error of the worse sibling, a point a seed."
    return style.described(chart, title, words)
