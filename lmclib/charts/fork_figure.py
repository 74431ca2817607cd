"""The heart of the book: drag the fork along the parent's training curve, and see what then lies between two siblings."""

from itertools import product

import altair as alt
import numpy as np
import pandas as pd

from lmclib.charts import scales, style
from lmclib.charts.forking import TREATMENTS, fork_label

# what the figure can show, by what its switch calls it; and what is shown of single networks then
EVOLUTION = {"error": "error", "error barrier": "error_barrier", "loss": "loss", "loss barrier": "loss_barrier"}
ALONE = {name: name.split()[0] for name in EVOLUTION}
CHILDREN = ("child 1", "child 2")
ADDED = "added"  # what a double click in a live notebook selects
ADDING = ", double-click to add one"
PIECES = 120  # of the parent's axis, each of which a click can be told by
OWN, OTHERS = style.OKABE_ITO[1], style.INK
WIDTH, ROW, CURVE, WALK = 240, 20, 150, 140  # pixels: of a map and its rows, heights of the curves below


def fork_figure(curves: pd.DataFrame, parents: pd.DataFrame | None = None, adding: bool = False) -> alt.VConcatChart:
    """Choose a fork on the parent's training curve: what lies between siblings over training as maps, and at one epoch as a curve.

    Both treatments of batch-norm statistics stand side by side, as far as the table has them. The maps and the thick curves are
    the first seed's, the thin ones other seeds'. No control rescales anything.

    Args:
        curves: barrier curves of one or more seeds, of one split.
        parents: `parent_values` of the same seeds, by one treatment of statistics, which then is the children's as well. Where they
            were not measured the handles lie on the axis, and the children's curves begin where those were first measured.
        adding: whether a double click on the parent's axis is a selection `ADDED`, with which a live notebook can fork there.
    """
    table = curves.assign(fork=curves.fork_epoch.map(fork_label), treatment=curves.norm_stats.map(TREATMENTS))
    own = table[table.seed == table.seed.min()]
    labels = [fork_label(epoch) for epoch in sorted(own.fork_epoch.unique())]
    epochs = [int(epoch) for epoch in sorted(own.epoch.unique())]
    shown = scales.Measures("measure", table, EVOLUTION)
    on_fork, fork = style.handle("fork", "fork", labels, "fork epoch ")
    on_epoch, epoch = style.handle("epoch", "epoch", epochs, "children at epoch ", last=True)
    measure = style.switch("measure", list(EVOLUTION), "show ")
    treatments = [name for name in TREATMENTS.values() if name in set(table.treatment)]
    maps = alt.hconcat(*(_over_training(table, shown, treatment) for treatment in treatments), spacing=18)
    forks = own.drop_duplicates("fork").set_index("fork").fork_epoch.sort_values()
    walk = _walk(_walks(own, parents), forks, epochs[-1], ADDING if adding else "")
    walk = walk.add_params(on_epoch, on_fork, *([_added()] if adding else []))
    chart = style.with_values(alt.vconcat(maps, walk, spacing=12), fork, epoch, measure)
    words = (
        "Top: for each treatment of batch-norm statistics a map over alpha and child epoch, and the curve at the chosen epoch. Below: the "
        "parent's training curve with a handle for every fork, and from the chosen one the curves of two children."
    )
    start = labels[0], epochs[-1], next(iter(EVOLUTION))
    answers = _answers(own, shown, labels, epochs)
    chart = style.answered(chart, ["fork", "epoch", "measure"], answers, start, words)
    chart.usermeta = {"play": "fork_at_fork"}  # the page's button steps through these
    return chart


def _answers(own: pd.DataFrame, shown: scales.Measures, labels: list[str], epochs: list[int]) -> dict[tuple, str]:
    """What the figure says at every choice: the highest value on the segment, for both treatments, and whether that is at an end."""
    keys = ["fork", "epoch", "treatment"]
    highest = own.groupby(keys)[list(EVOLUTION.values())].max().to_dict("index")
    within = own[~own.alpha.isin([0, 1])].groupby(keys)[list(EVOLUTION.values())].max().to_dict("index")
    treatments = [name for name in TREATMENTS.values() if name in set(own.treatment)]

    def ends_lie_higher(one: tuple, column: str) -> bool:
        # where only the ends were measured there is nothing within to compare them with
        return not column.endswith("barrier") and one in within and highest[one][column] > within[one][column]

    answers = {}
    for fork, epoch, name in product(labels, epochs, EVOLUTION):
        column, at = EVOLUTION[name], [(fork, epoch, treatment) for treatment in treatments]
        said = [
            f"{shown[name].said(highest[one][column])}{' (at an end)' if ends_lie_higher(one, column) else ''} with {one[2]} statistics"
            for one in at
            if one in highest
        ]
        what = name if name.endswith("barrier") else f"highest {name} on the segment"
        answers[fork, epoch, name] = (
            f"Forked at epoch {fork}, seen at epoch {epoch}: {what} {', '.join(said)}"
            if said
            else f"Forked at epoch {fork}: at epoch {epoch} not measured, or no siblings yet"
        )
    return answers


def _walks(own: pd.DataFrame, parents: pd.DataFrame) -> pd.DataFrame:
    """How good single networks are on their way: the parents, and of the first seed two children of every fork, from the fork on.

    Returns:
        `line` (`parent` or one of `CHILDREN`), `seed`, `split`, `fork` (of children), `epoch`, `error`, `loss`.
    """
    if parents is None:
        parents = pd.DataFrame(columns=["seed", "epoch", "split", "norm_stats", "error", "loss"])
    seed, split = own.seed.min(), own.split.iloc[0]
    parents = parents.assign(line="parent", fork="")
    start = parents[(parents.seed == seed) & (parents.split == split)].assign(fork=lambda t: t.epoch.map(fork_label))
    ends = own[own.norm_stats == (own.norm_stats if parents.empty else parents.norm_stats).iloc[-1]]
    children = [
        part.assign(line=child, seed=seed, split=split)
        for child, end in zip(CHILDREN, (0, 1), strict=True)
        for part in (start, ends[ends.alpha == end])
    ]
    known = [part for part in (parents, *children) if len(part)]
    return pd.concat(known)[["line", "seed", "split", "fork", "epoch", "error", "loss"]]


def _walk(walks: pd.DataFrame, forks: pd.Series, end: int, hint: str) -> alt.LayerChart:
    """The parent's training curve with every fork as a handle; from the chosen one two children go on to the end.

    Args:
        walks: single networks on their way.
        forks: the epochs of those forks that have children, by label.
        end: where the children end.
        hint: what else can be done than to drag the fork.
    """
    shown = scales.Measures("measure", walks, ALONE)
    seed, split = (walks[column][walks.line == CHILDREN[0]].iloc[0] for column in ("seed", "split"))
    own = walks[(walks.line == "parent") & (walks.seed == seed) & (walks.split == split)]
    at = own.set_index(own.epoch.map(fork_label))[["error", "loss"]].reindex(forks.index).fillna(0.0)
    handles = at.assign(epoch=forks).rename_axis("fork").reset_index()
    forks = forks.tolist()
    near = min((fork for fork in forks if fork > 0), default=1.0)
    low, high = -0.25 * near, float(max(end, forks[-1]))
    x = alt.X(
        "epoch:Q",
        title=f"epoch of the parent: drag the fork{hint}",
        scale=alt.Scale(type="symlog", constant=near, domain=[low, high], nice=False),
        axis=alt.Axis(values=sorted({*forks, end}), format=".2~f", grid=False, labelOverlap="greedy"),
    )
    y = shown.position(title=None)
    base = alt.Chart(walks.round({"epoch": 4, "error": 4, "loss": 4})).transform_calculate(value=shown.value)
    parent = base.transform_filter("datum.line == 'parent'").encode(x=x, y=y, detail="seed:N", tooltip=_said_alone())
    first = f"datum.seed == {int(seed)} && datum.split == '{split}'"
    children = base.transform_filter("datum.line != 'parent' && datum.fork == fork").encode(
        x=x, y=y, detail="line:N", tooltip=_said_alone()
    )
    who = "parent and children" if len(own) else "children"
    heading = alt.expr(f"{shown.chosen(ALONE)} + ' of {who}'")
    return alt.layer(
        _touch(forks, near, low, high, x),
        parent.transform_filter(f"!({first}) && datum.split == '{split}'").mark_line(
            opacity=0.25, strokeWidth=1, color=OTHERS
        ),
        parent.transform_filter(first).mark_line(color=style.INK),
        children.mark_line(color=OWN),
        children.transform_filter("datum.epoch == epoch").mark_point(color=OWN, size=60),
        _handles(handles, shown, x, y),
        width=2 * WIDTH + 60,
        height=WALK,
        title=alt.TitleParams(text=heading, fontSize=13, fontWeight="normal"),
    )


def _said_alone() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("line:N", title="network"),
        alt.Tooltip("seed:N"),
        alt.Tooltip("epoch:Q", format=".2~f"),
        alt.Tooltip("error:Q", title="error", format=".1%"),
        alt.Tooltip("loss:Q", title="loss, nats", format=".3f"),
    ]


def _touch(forks: list[float], near: float, low: float, high: float, x: alt.X) -> alt.Chart:
    """What takes clicks and drags: pieces of the axis, each with the fork that is nearest on it."""
    edges = np.linspace(np.log1p(low / near), np.log1p(high / near), PIECES + 1)  # as the axis has them
    middles = (edges[1:] + edges[:-1]) / 2
    nearest = np.abs(middles[:, None] - np.log1p(np.array(forks) / near)).argmin(1)
    low, high, at = (near * np.expm1(places) for places in (edges[:-1], edges[1:], middles))
    table = pd.DataFrame({"low": low, "high": high, "at": at.clip(0), "handle": "fork"}).round(5)
    left = x.copy()
    left.shorthand = "low:Q"
    marks = alt.Chart(table.assign(fork=[fork_label(forks[i]) for i in nearest]))
    return marks.mark_rect(opacity=0, cursor="ew-resize").encode(x=left, x2="high:Q")


def _added() -> alt.Parameter:
    on = "dblclick[event.item && event.item.datum && event.item.datum.at >= 0]"
    return alt.selection_point(name=ADDED, fields=["at"], on=on, toggle=False, clear=False, empty=False)


def _handles(table: pd.DataFrame, shown: scales.Measures, x: alt.X, y: alt.Y) -> alt.Chart:
    """A point a fork on the parent's curve, the chosen one large."""
    chosen = "datum.fork == fork"
    return (
        alt.Chart(table.assign(handle="fork").round(4))
        .transform_calculate(value=shown.value)
        .mark_point(cursor="ew-resize", fillOpacity=1)
        .encode(
            x=x,
            y=y,
            size=alt.condition(chosen, alt.value(220), alt.value(70)),
            color=alt.condition(chosen, alt.value(OWN), alt.value(style.INK)),
            tooltip=[alt.Tooltip("fork:N", title="fork at epoch"), *_said_alone()[3:]],
        )
    )


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
        .transform_calculate(left=f"datum.alpha - {half}", right=f"datum.alpha + {1.2 * half}")  # no seams
        .mark_rect(cursor="ns-resize", clip=True)
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
    frames = [row.mark_rect(filled=False, stroke=c, strokeWidth=w) for c, w in (("white", 4), (OWN, 2))]
    curves = base.transform_filter("datum.epoch == epoch").encode(
        x=alt.X("alpha:Q", title="α, from sibling 1 to sibling 2", scale=scale, axis=alt.Axis(**axis)),
        y=shown.position(),
        detail="seed:N",
        tooltip=tooltip,
    )
    others = curves.transform_filter(f"!({first})").mark_line(opacity=0.4, strokeWidth=1, color=OTHERS)
    curve = curves.transform_filter(first).mark_line(point=alt.OverlayMarkDef(color=OWN, size=30), color=OWN)
    heading = alt.TitleParams(text=alt.expr(f"measure + ', {treatment} statistics'"), fontSize=13, fontWeight="normal")
    return alt.vconcat(
        alt.layer(heat, *frames, height=ROW * len(measured), title=heading, width=WIDTH),
        alt.layer(others, curve, height=CURVE, width=WIDTH),
        spacing=6,
    )
