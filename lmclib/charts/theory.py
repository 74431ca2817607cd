"""Figures of deep linear networks: the parabolas of single layers, and where convexity ends."""

import altair as alt
import numpy as np
import pandas as pd
from torch import Tensor

from lmclib.charts import style
from lmclib.theory.linear_networks import cut_barriers, mirrored_pair


def parabolas(cuts: pd.DataFrame) -> alt.Chart:
    """The loss along every layer's cut: lines from the explicit quadratic, points from forward passes; depth is picked.

    Args:
        cuts: `depth`, `layer`, `alpha`, `loss` (the formula) and `passes`, NaN where no pass was made.
    """
    depths = sorted(int(depth) for depth in cuts.depth.unique())
    depth = style.switch("depth", depths, "layers in the network ", last=True)
    lit = alt.selection_point(name="lit", fields=["layer"], on="pointerover", nearest=False, empty=True)
    base = alt.Chart(cuts.round(6)).transform_filter("datum.depth == depth")
    every = sorted(int(layer) for layer in cuts.layer.unique())
    layers = {(int(n),): [int(layer) for layer in rows.layer.unique()] for n, rows in cuts.groupby("depth")}
    colour = alt.Color(
        "layer:O",
        title="layer that moves, from the input",
        scale=alt.Scale(scheme=style.ORDERED, domain=every),
        legend=style.legend_of_drawn(["depth"], layers),
    )
    # linear, as on any other scale a parabola is none; and one for all depths
    heights = alt.Scale(domain=[0, 1.05 * float(cuts.loss.max())], nice=False)
    x = alt.X("alpha:Q", title="α", scale=alt.Scale(domain=[0, 1]))
    lines = (
        base.mark_line()
        .encode(
            x=x,
            y=alt.Y("loss:Q", title="squared loss", scale=heights),
            color=colour,
            opacity=alt.condition(lit, alt.value(1), alt.value(0.15)),
        )
        .add_params(lit)
    )
    tip = [
        alt.Tooltip("layer:O"),
        alt.Tooltip("alpha:Q", title="α"),
        alt.Tooltip("passes:Q", title="loss", format=".4f"),
    ]
    points = (
        base.transform_filter("isValid(datum.passes)")
        .mark_point()
        .encode(x=x, y=alt.Y("passes:Q", title="squared loss", scale=heights), color=colour, tooltip=tip)
    )
    chart = (lines + points).add_params(depth).properties(width=500, height=260)
    answers = {
        (
            n,
        ): f"{n} layers: every single-layer cut is a parabola that opens upwards; passes differ from the formula by at most "
        f"{(rows.loss - rows.passes).abs().max():.0e}"
        for n, rows in cuts.groupby("depth")
    }
    words = f"Squared loss over alpha for the cut of each layer of trained deep linear networks with {depths} layers; every curve is an upward parabola."
    return style.answered(chart, ["depth"], {(int(n),): said for (n,), said in answers.items()}, (depths[-1],), words)


def histogram(curvatures: pd.DataFrame, bins: int = 40) -> alt.Chart:
    """How many networks have which smallest curvature, by kind (headings count them); zero is marked.

    Args:
        curvatures: `kind` and `curvature`, a row a network.
    """
    lowest = float(curvatures.curvature.min())
    low, high = min(lowest, 0), float(curvatures.curvature.quantile(0.99))
    edges = np.linspace(low, high, bins + 1)
    rows = []
    for kind, group in curvatures.groupby("kind", sort=False):
        counts, _ = np.histogram(group.curvature.clip(low, high), edges)
        label = f"{kind} ({len(group):,})"
        rows += [
            {"kind": label, "from": a, "to": b, "networks": int(n)}
            for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
        ]
    # counts differ by decades, and logarithms cannot be stacked: a row for each kind
    table, kinds = pd.DataFrame(rows).round(4), list(dict.fromkeys(row["kind"] for row in rows))
    most = int(table.networks.max())
    counts = alt.Scale(type="symlog", constant=1, domain=[0, 1.1 * most], nice=False)
    across = alt.Scale(domain=[float(edges[0]), float(edges[-1])])
    bars = (
        alt.Chart(table)
        .mark_bar(binSpacing=0)
        .encode(
            x=alt.X(
                "from:Q",
                bin="binned",
                scale=across,
                title=["smallest second derivative of any", "single-layer cut, over the largest loss"],
            ),
            x2="to:Q",
            y=alt.Y(
                "networks:Q",
                title="networks",
                scale=counts,
                axis=alt.Axis(
                    values=[v for v in (0, 1, 10, 100, 1000, 10_000, 100_000) if v <= most],
                    labelExpr="format(datum.value, ',')",
                ),
            ),
            color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=kinds), legend=None),
            tooltip=["kind:N", "from:Q", "to:Q", "networks:Q"],
        )
    )
    zero = alt.Chart(table).mark_rule(strokeDash=[3, 3], color=style.INK).encode(x=alt.datum(0))
    row = alt.Row(
        "kind:N",
        title=None,
        sort=kinds,
        header=alt.Header(labelAngle=0, labelAlign="left", labelOrient="top", labelAnchor="start"),
    )
    chart = (bars + zero).properties(width=500, height=60).facet(row=row, spacing=6)
    title = f"{len(curvatures):,} networks; the smallest curvature is {lowest:.1e}"
    words = (
        f"Histograms of the smallest curvature of {len(curvatures)} networks, a row for each kind, counts on a logarithmic scale, with "
        f"zero marked; the smallest is {lowest:.1e}."
    )
    return style.described(chart, title, words)


def not_convex(shares: pd.DataFrame) -> alt.Chart:
    """The share of cuts that are not convex against how many layers move at once, by kind of network and loss.

    Args:
        shares: `network`, `size`, `share`.
    """
    order = list(shares.network.unique())
    tip = ["network:N", alt.Tooltip("size:Q", title="layers at once"), alt.Tooltip("share:Q", format=".1%")]
    chart = (
        alt.Chart(shares.round(4))
        .mark_line(point=alt.OverlayMarkDef(size=60))
        .encode(
            x=alt.X("size:O", title="layers that move at once", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("share:Q", title="cuts that are not convex", axis=alt.Axis(format="%")),
            color=alt.Color(
                "network:N",
                title="network and loss",
                scale=alt.Scale(domain=order),
                legend=alt.Legend(**style.AS_LINES),
            ),
            strokeDash=alt.StrokeDash("network:N", title="network and loss", scale=alt.Scale(domain=order)),
            tooltip=tip,
        )
        .properties(width=500, height=240)
    )
    at = shares[shares.network == order[0]].set_index("size").share
    title = f"{order[0]}: of single layers {at[1]:.0%} of the cuts are not convex, of two at once {at[2]:.0%}"
    single = shares[shares["size"] == 1].set_index("network").share
    words = (
        "Share of cuts that are not convex against the number of layers that move at once. Single layers: "
        + ", ".join(f"{name} {value:.0%}" for name, value in single.items())
    )
    return style.described(chart, title, words + ".")


def baselines(x: Tensor, y: Tensor) -> alt.Chart:
    """Two mirrored perfect models of two weights: one convex cut, two baselines, opposite signs."""
    grid = np.round(np.linspace(0.3, 2, 35), 4)
    rows = [
        {"s": s, "baseline": name, "barrier": value.item()}
        for s in grid
        for name, value in cut_barriers(*mirrored_pair(s), x, y, layer=1).items()
    ]
    table = pd.DataFrame(rows)
    names = {"models": "the two models", "cut": "the cut's own ends"}
    table["baseline"] = table.baseline.map(names)
    lines = (
        alt.Chart(table.round(5))
        .mark_line()
        .encode(
            x=alt.X("s:Q", title="s: model 1 is (s, 1/s), model 2 is (−1/s, −s)"),
            y=alt.Y("barrier:Q", title="second layer's barrier, α = ½"),
            color=alt.Color("baseline:N", title="baseline", scale=alt.Scale(domain=list(names.values()))),
            strokeDash=alt.StrokeDash("baseline:N", title="baseline", scale=alt.Scale(domain=list(names.values()))),
            tooltip=["baseline:N", "s:Q", alt.Tooltip("barrier:Q", format=".3f")],
        )
    )
    zero = alt.Chart(pd.DataFrame({"y": [0]})).mark_rule(color=style.INK).encode(y="y:Q")
    at = table[table.s == grid[np.abs(grid - 0.5).argmin()]].set_index("baseline").barrier
    title = f"At s = ½ the same cut has a barrier of {at.iloc[0]:.2g} against the models, {at.iloc[1]:.2g} against its own ends"
    words = f"Two mirror-image curves of the barrier over s; at one half {at.iloc[0]:.3g} against the models and {at.iloc[1]:.3g} against the ends of the cut."
    return style.described((zero + lines).properties(width=500, height=220), title, words)
