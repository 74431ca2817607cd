"""Figures of layer barriers in networks of many kinds."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from lmclib.charts import style
from lmclib.measures.layerwise import NETWORK

KEYS = ["network", "seed"]
LINEAR = 0.1  # equal shares below which the symmetric logarithm is nearly linear


def shares_of(final: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Every layer's barrier, both directions averaged, in equal shares of the full one: a row a network, seed and layer.

    Args:
        final: `layer_table` at the end of training against `models`, a pair a seed, by network.

    Returns:
        `network`, `seed`, `layer`, `depth` (0 is the first layer that the forward pass reaches, 1 the last), `nats`, `full`, `shares`.
    """
    parts = []
    for network, table in final.items():
        both = table[(table.layer == NETWORK) & (table["into"] == "both")]
        # in one direction alone what the two models' losses differ by would count as every layer's
        own = table[(table.layer != NETWORK) & (table["into"] == "both")]
        layers = list(own.layer.unique())
        own = own[["seed", "layer", "loss_barrier"]].rename(columns={"loss_barrier": "nats"})
        full = own.seed.map(both.set_index("seed").loss_barrier)
        depth = own.layer.map({layer: i / max(1, len(layers) - 1) for i, layer in enumerate(layers)})
        parts.append(
            own.assign(network=network, depth=depth, full=full, shares=len(layers) * own.nats / full, n=len(layers))
        )
    return pd.concat(parts, ignore_index=True)


def depth(final: Mapping[str, pd.DataFrame]) -> alt.Chart:
    """Shares of the barrier against depth for the chosen network, and for all of them the median layer and the worst one, a point a seed.

    The line is an equal share: what every layer would have if all had as much of the full barrier. One scale for all networks.

    Args:
        final: as `shares_of` takes it.
    """
    table = shares_of(final)
    names = list(final)
    wide = alt.Scale(
        type="symlog", constant=LINEAR, domain=[float(min(0, table.shares.min())), float(max(1, table.shares.max()))]
    )
    ticks = [-10, -1, 0, 1, 10, 100]
    shares = alt.Axis(values=ticks, labelExpr="datum.value")
    control = alt.param("network", value=names[0], bind=alt.binding_select(options=names, name="network "))
    base = alt.Chart(table[["network", "seed", "layer", "depth", "nats", "shares"]].round(4)).transform_filter(
        "datum.network == network"
    )
    tooltip = [
        "layer:N",
        "seed:N",
        alt.Tooltip("nats:Q", title="barrier, nats", format=".4f"),
        alt.Tooltip("shares:Q", title="equal shares", format=".2f"),
    ]
    y = alt.Y("shares:Q", title="equal shares of the full barrier", scale=wide, axis=shares)
    points = base.mark_point(opacity=0.6, color=style.OKABE_ITO[0]).encode(
        x=alt.X("depth:Q", title="depth, from input to output", scale=alt.Scale(domain=[0, 1])),
        y=y,
        tooltip=tooltip,
    )
    line = base.mark_line(color=style.OKABE_ITO[1]).encode(x="depth:Q", y=alt.Y("median(shares):Q", scale=wide))
    equal = alt.Chart(pd.DataFrame({"shares": [1]})).mark_rule(strokeDash=[3, 3], color=style.INK).encode(y=y)
    by_seed = table.groupby(KEYS, sort=False).shares.agg(["median", "max"]).reset_index()
    looks = {"median": "median layer", "max": "worst layer"}
    long = by_seed.melt(KEYS, list(looks), "look", "shares").replace({"look": looks})
    all_of_them = (
        alt.Chart(long.round(4))
        .mark_point(opacity=0.8)
        .encode(
            x=alt.X("shares:Q", title="equal shares, a point a seed", scale=wide, axis=shares),
            # what comes behind the name on a line of its own: on a phone two rows would be cut to the same words
            y=alt.Y(
                "network:N",
                title=None,
                scale=alt.Scale(domain=names),
                axis=alt.Axis(labelExpr="split(datum.label, ', ')", labelFontSize=11),
            ),
            color=alt.Color(
                "look:N", title=None, scale=alt.Scale(domain=list(looks.values()), range=list(style.OKABE_ITO[:2]))
            ),
            shape=alt.Shape("look:N", title=None, scale=alt.Scale(domain=list(looks.values()))),
            opacity=alt.condition("datum.network == network", alt.value(1), alt.value(0.5)),
            tooltip=["network:N", "look:N", "seed:N", alt.Tooltip("shares:Q", format=".2f")],
        )
    )
    across = alt.Chart(pd.DataFrame({"shares": [1]})).mark_rule(strokeDash=[3, 3], color=style.INK).encode(x="shares:Q")
    chart = alt.vconcat(
        (points + line + equal).properties(height=220, width=420),
        (all_of_them + across).properties(height=34 * len(names), width=420),
        spacing=16,
    ).add_params(control)
    words = (
        "Above, every layer of the chosen network against its depth, a point a seed and a line through the medians; below, the median "
        "and the worst layer of every network. The dashed line is an equal share."
    )
    return style.answered(chart, ["network"], _answers(table), (names[0],), words)


def _answers(table: pd.DataFrame) -> dict[tuple, str]:
    """For every network: what its median and its worst layer carry, mean over seeds."""
    answers = {}
    for network, own in table.groupby("network", sort=False):
        by_seed = own.groupby("seed").shares
        answers[(network,)] = (
            f"{network}, {own.n.iloc[0]} layers: the median layer carries {by_seed.median().mean():.2f} equal shares of the full barrier of "
            f"{own.groupby('seed').full.first().mean():.2f} nats, the worst {by_seed.max().mean():.1f}"
        )
    return answers
