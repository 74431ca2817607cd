"""Figures that grow while an experiment runs, for the explorer in a live notebook."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from lmclib.charts import style
from lmclib.charts.forking import TREATMENTS, fork_label, heights
from lmclib.measures.kinds import STABLE

PARENT = "parent"  # what the legend calls it
MEASURES = {"error": "barrier in error, a fraction", "loss": "barrier in loss, nats"}
WIDTH, HEIGHT = 400, 250
# full for the first seed, little for others
OPACITY = alt.when(alt.datum.first).then(alt.value(1.0)).otherwise(alt.value(0.3))


def training(losses: pd.DataFrame, epochs: int, fork_epochs: Sequence[float], on: str) -> alt.Chart:
    """The loss of the parent and of one child a fork over training, as far as they are; of other seeds than the first faint.

    Args:
        losses: `seed`, `fork_epoch` (missing for the parent), `epoch`, `loss`.
        epochs: where training ends, so that the axis stays as it is while the curves grow.
        fork_epochs: all forks, for the colours.
        on: what the losses were taken on.
    """
    labels = [fork_label(epoch) for epoch in sorted(fork_epochs)]
    names = losses.fork_epoch.map(lambda fork: PARENT if pd.isna(fork) else fork_label(fork))
    table = losses.assign(fork=names, first=losses.seed == losses.seed.min())
    table = table[["seed", "first", "fork", "epoch", "loss"]].round(4)
    x = alt.X("epoch:Q", title="epoch", scale=alt.Scale(domain=[0, epochs], nice=False))
    y = alt.Y("loss:Q", title="training loss, nats", scale=alt.Scale(type="log"))
    tooltip = [
        alt.Tooltip("fork:N", title="forked at epoch"),
        alt.Tooltip("seed:N"),
        alt.Tooltip("epoch:Q", format=".2f"),
        alt.Tooltip("loss:Q", title="training loss, nats", format=".3f"),
    ]
    base = alt.Chart(table).encode(x=x, y=y, tooltip=tooltip, detail="seed:N", opacity=OPACITY)
    children = (
        base.transform_filter(alt.datum.fork != PARENT)
        .mark_line(point=alt.OverlayMarkDef(size=14))
        .encode(color=style.fork_colour(labels))
    )
    parent = (
        base.transform_filter(alt.datum.fork == PARENT)
        .mark_line(color=style.INK, point=alt.OverlayMarkDef(size=20, color=style.INK))
        .encode(order="epoch:Q")
    )
    at = losses.epoch.max()
    title = f"Training loss until epoch {at:.3g} of {epochs}"
    words = f"Training loss over epochs, the parent in the colour of the text and one child a fork; as far as epoch {at:.3g} of {epochs}."
    return style.described((children + parent).properties(width=WIDTH, height=HEIGHT), title, words, subtitle=on)


def against_fork(
    runs: dict[str, pd.DataFrame], of: str = "error", fork_epochs: Sequence[float] = ()
) -> alt.TopLevelMixin:
    """The barrier at the end of training against the fork epoch, of a run and of one pinned beside it; other seeds than the first faint.

    Args:
        runs: barrier curves at the last epoch by the run's name, the one in question first.
        of: `error` or `loss`.
        fork_epochs: forks that are still to be measured, so that the axis stays as it is while they are.
    """
    parts = [heights(table, of).assign(run=name) for name, table in runs.items()]
    table = pd.concat(parts, ignore_index=True)
    labels = [fork_label(epoch) for epoch in sorted({*table.fork_epoch, *fork_epochs})]
    table = table.assign(fork=table.fork_epoch.map(fork_label), treatment=table.norm_stats.map(TREATMENTS))
    treatment = {"title": "batch-norm statistics", "scale": alt.Scale(domain=list(TREATMENTS.values()))}
    run = {"title": "run", "sort": list(runs)} | ({"legend": alt.Legend(orient="top") if len(runs) > 1 else None})
    top = {"domain": [0, 1]} if of == "error" else {}
    x = alt.X("fork:O", sort=labels, title="fork epoch", axis=alt.Axis(labelAngle=0), scale=alt.Scale(domain=labels))
    y = alt.Y("barrier:Q", title=MEASURES[of], scale=alt.Scale(type="symlog", constant=0.01, **top))
    table = table.assign(first=table.seed == table.groupby("run").seed.transform("min"))
    base = alt.Chart(table[["fork", "run", "treatment", "seed", "first", "barrier"]].round(6)).encode(
        x=x,
        y=y,
        color=alt.Color("treatment:N", **treatment),
        detail="seed:N",
        opacity=OPACITY,
        tooltip=[
            alt.Tooltip("run:N"),
            alt.Tooltip("fork:N", title="fork epoch"),
            alt.Tooltip("seed:N"),
            alt.Tooltip("treatment:N", title="statistics"),
            alt.Tooltip("barrier:Q", title=MEASURES[of], format=".3f"),
        ],
    )
    dashes = alt.Scale(domain=list(runs), range=[[1, 0], [5, 4]][: len(runs)])
    marks = alt.Scale(domain=list(runs), range=["circle", "diamond"][: len(runs)])
    lines = base.mark_line().encode(strokeDash=alt.StrokeDash("run:N", scale=dashes, **run))
    points = base.mark_point().encode(shape=alt.Shape("run:N", scale=marks, **run))
    chart = lines + points
    if of == "error":
        stable = alt.Chart(pd.DataFrame({"y": [STABLE]}))
        chart += stable.mark_rule(strokeDash=[2, 3], color=style.INK, opacity=0.7).encode(y="y:Q")
    first = table[(table.run == next(iter(runs))) & (table.norm_stats == "interpolate")]
    title, words = _said(first, of)
    return style.described(chart.properties(width=WIDTH, height=HEIGHT), title, words)


def _said(rows: pd.DataFrame, of: str) -> tuple[str, str]:
    """The answer so far as a title, and the alt text: the mean over seeds, where there are several."""
    n = rows.seed.nunique()
    rows = rows.groupby("fork_epoch", as_index=False).barrier.mean()
    form = (lambda value: f"{value:.1%}") if of == "error" else (lambda value: f"{value:.3f} nats")
    each = [f"{fork_label(fork)}: {form(value)}" for fork, value in zip(rows.fork_epoch, rows.barrier, strict=True)]
    words = f"Barrier in {of} at the end of training against fork epoch, interpolated statistics: {', '.join(each)}."
    if rows.empty:
        return f"Barrier in {of} against the fork", words
    first, last = rows.iloc[0], rows.iloc[-1]
    title = f"Forked at {fork_label(first.fork_epoch)}: a barrier of {form(first.barrier)}"
    if len(rows) > 1:
        title += f"; at {fork_label(last.fork_epoch)}: {form(last.barrier)}"
    if n > 1:
        title, words = f"{title} (means of {n} seeds)", f"{words} Means of {n} seeds."
    return title, words
