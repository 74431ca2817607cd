"""Figures of steps in weight space: loss against their length by direction, and averaging against random steps as long."""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from lmclib.charts import scales, style
from lmclib.measures.layerwise import NETWORK
from lmclib.measures.perturbation import AVERAGING, DIRECTIONS, RANDOM

MEASURES = {"loss": "loss", "error": "error"}
DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 6]]
LOOKS = dict(
    zip(DIRECTIONS, zip(style.OKABE_ITO, DASHES, strict=False), strict=True)
)  # of a direction, the same in every figure
SEEN = 0.1  # nats below which losses are drawn linearly
DECADES = [0, *(digit * 10.0**k for k in range(-1, 6) for digit in (1, 3))]
TENTHS = [0, 0.2, 0.4, 0.6, 0.8, 1]


def steps(table: pd.DataFrame, choice: str = "measured on ") -> alt.Chart:
    """Loss or error against the length of a step, a line a direction: means over draws and seeds, with the range of seeds.

    Args:
        table: `perturbation_table` of some seeds, with `setting`, what was measured how in words (split, protocol).
        choice: what a setting is, before its buttons.
    """
    return _curves(table, {"setting": ("setting", choice)})


def noise(table: pd.DataFrame) -> alt.Chart:
    """Test loss or error against the length of a step for each version of the experiment.

    Args:
        table: `noise_table`.
    """
    return _curves(table, {"version": ("version", "experiment ")})


def equal_norm(table: pd.DataFrame) -> alt.Chart:
    """How much more loss a step towards the other model makes than a random one as long: a point a layer and seed.

    Args:
        table: as for `steps`; draws of random steps are averaged.
    """
    keys = ["setting", "sigma", "layer", "seed"]
    means = table[table.sigma > 0].groupby([*keys, "direction"], sort=False).loss.mean().unstack("direction")
    apart = (means[AVERAGING] - means[RANDOM]).rename("difference").reset_index()
    layers, settings = list(table.layer.unique()), list(table.setting.unique())
    lengths = [int(s) if s == int(s) else float(s) for s in sorted(apart.sigma.unique())]
    start = min(lengths, key=lambda s: abs(s - 0.5))
    ordered = [start, *(s for s in lengths if s != start)]
    shown = scales.Measures("", apart, {"difference": "difference"})
    controls = (
        style.switch("sigma", ordered, "length of the step σ "),
        style.switch("setting", settings, "measured on "),
    )
    base = alt.Chart(apart.round(4)).transform_filter("datum.sigma == sigma && datum.setting == setting")
    points = (
        base.transform_calculate(value=shown.value)
        .mark_point(opacity=0.8)
        .encode(
            x=shown.position(alt.X, title="nats more than after a random step"),
            y=alt.Y("layer:N", title=None, scale=alt.Scale(domain=layers[::-1]), axis=alt.Axis(**style.SHORT)),
            color=alt.condition("datum.difference < 0", alt.value(style.OKABE_ITO[2]), alt.value(style.OKABE_ITO[1])),
            shape=alt.condition("datum.difference < 0", alt.value("circle"), alt.value("triangle-up")),
            tooltip=[
                "layer:N",
                "seed:N",
                "sigma:Q",
                alt.Tooltip("difference:Q", title="nats more than at random", format=".3f"),
            ],
        )
    )
    rule = alt.Chart().mark_rule(strokeDash=[3, 3], color=style.INK).encode(x=alt.datum(0))
    chart = (points + rule).properties(width=430, height=max(200, 20 * len(layers))).add_params(*controls)
    words = (
        "Loss after a step towards the other model less that after a random step as long, a point a layer and seed, the whole network on "
        "top; circles left of the dashed line are layers that are hurt less by averaging than by chance."
    )
    answers = {}
    for (setting, s), rows in apart[apart.layer != NETWORK].groupby(["setting", "sigma"], sort=False):
        milder, harsher, n = in_every_seed(rows)
        median = rows.groupby("layer").difference.mean().median()
        answers[s, setting] = (
            f"Step of σ = {s:g}, {setting}: towards the other model is milder in every seed in {milder} of {n} layers, harsher in {harsher}; "
            f"the median layer's loss is {scales.nats(abs(median))} {'lower' if median < 0 else 'higher'} there than after a random step"
        )
    return style.answered(chart, ["sigma", "setting"], answers, (start, settings[0]), words)


def in_every_seed(apart: pd.DataFrame) -> tuple[int, int, int]:
    """In how many layers a difference is below zero in every seed, in how many above it, and how many layers there are.

    Args:
        apart: `layer`, `seed`, `difference`.

    Example:
        >>> rows = pd.DataFrame({"layer": ["a", "a", "b", "b"], "seed": [0, 1, 0, 1], "difference": [-1, -2, 1, -1]})
        >>> in_every_seed(rows)
        (1, 0, 2)
    """
    by_layer = apart.groupby("layer").difference
    return int((by_layer.max() < 0).sum()), int((by_layer.min() > 0).sum()), by_layer.ngroups


def _curves(table: pd.DataFrame, choice: Mapping[str, tuple[str, str]]) -> alt.Chart:
    """A line a direction for the chosen layer and for what else is chosen by name, column and label."""
    ((name, (column, label)),) = choice.items()
    summary = _summary(table, column)
    layers, options = list(table.layer.unique()), list(table[column].unique())
    layers = [NETWORK, *(layer for layer in layers if layer != NETWORK)] if NETWORK in layers else layers
    found = [direction for direction in DIRECTIONS if (table.direction == direction).any()]
    lengths = [float(s) for s in sorted(table.sigma.unique())]
    ends = [summary.rename(columns={f"{m}_{end}": m for m in MEASURES})[[*MEASURES]] for end in ("low", "high")]
    shown = scales.Measures(
        "measure", pd.concat([part.loc[:, ~part.columns.duplicated(keep="last")] for part in ends]), MEASURES
    )
    controls = (
        style.switch(name, options, label),
        style.switch("layer", layers, "layer "),
        style.switch("measure", list(MEASURES), "show "),
    )
    base = (
        alt.Chart(summary.round(4))
        .transform_filter(f"datum['{column}'] == {name} && datum.layer == layer")
        .transform_calculate(value=shown.value, low="datum[measure + '_low']", high="datum[measure + '_high']")
    )
    x = alt.X(
        "sigma:Q",
        title="step σ, in norms of the difference",
        scale=alt.Scale(domain=[0, max(lengths)], nice=False),
    )
    drawn = {
        key: [one for one in found if (rows.direction == one).any()]
        for key, rows in summary.groupby([column, "layer"], sort=False)
    }
    legend = style.legend_of_drawn([name, "layer"], drawn, **style.AS_LINES)
    colour, dash = (
        channel(
            "direction:N",
            title="direction",
            scale=alt.Scale(domain=found, range=[LOOKS[one][i] for one in found]),
            legend=legend,
        )
        for i, channel in enumerate((alt.Color, alt.StrokeDash))
    )
    tooltip = [
        "direction:N", "layer:N", alt.Tooltip("sigma:Q", title="σ"),
        alt.Tooltip("loss:Q", title="loss, nats", format=".3f"), alt.Tooltip("error:Q", format=".1%"),
    ]  # fmt: skip
    band = base.mark_area(opacity=0.12).encode(x=x, y=_height(shown, "low:Q"), y2="high:Q", color=colour)
    y = _height(shown, "value:Q")
    lines = base.mark_line(point=True).encode(x=x, y=y, color=colour, strokeDash=dash, tooltip=tooltip)
    chart = (band + lines).properties(width=480, height=280).add_params(*controls)
    words = f"Loss or error against the length of a step, a line for each direction: {', '.join(found)}; shaded from the lowest to the highest seed."
    start = (options[0], layers[0], "loss")
    return style.answered(chart, [name, "layer", "measure"], _answers(summary, column, lengths, shown), start, words)


def _summary(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means over draws and seeds, with the lowest and highest seed's; of no direction that some seed lacks, as a null space can be: the
    mean would be over other networks.
    """
    keys = [column, "layer", "direction", "sigma"]
    seeds = table.groupby(keys[:3], sort=False).seed.transform("nunique")
    table = table[seeds == table.groupby(column, sort=False).seed.transform("nunique")]
    by_seed = table.groupby([*keys, "seed"], sort=False)[list(MEASURES)].mean().groupby(keys, sort=False)
    low, high = by_seed.min().add_suffix("_low"), by_seed.max().add_suffix("_high")
    return pd.concat([by_seed.mean(), low, high], axis=1).reset_index()


def _answers(summary: pd.DataFrame, column: str, lengths: Sequence[float], shown: scales.Measures) -> dict[tuple, str]:
    """At the step nearest to halfway: what each direction makes of the loss, from the mildest to the worst."""
    at = min(lengths, key=lambda s: abs(s - 0.5))
    answers = {}
    for (option, layer), rows in summary[summary.sigma == at].groupby([column, "layer"], sort=False):
        for measure in MEASURES:
            ranked = rows.sort_values(measure)
            said = ", ".join(
                f"{one.direction} {shown[measure].said(getattr(one, measure))}" for one in ranked.itertuples()
            )
            what = f"{measure.capitalize()} after σ = {at:g} ({layer}, {option})"
            answers[option, layer, measure] = f"{what}, from the mildest: {said}"
    return answers


def _height(shown: scales.Measures, field: str) -> alt.Y:
    """Height by value: losses, which differ by decades, so that a tenth of a nat is still seen; errors linearly."""
    domain, ticks = alt.expr(shown.chosen({name: m.domain for name, m in shown.all.items()})), {"error": TENTHS}
    ticks["loss"] = [tick for tick in DECADES if tick <= shown["loss"].high]
    scale = alt.Scale(
        type="symlog",
        constant=alt.expr(shown.chosen({"loss": SEEN, "error": scales.LINEAR})),
        domain=domain,
        nice=False,
    )
    axis = alt.Axis(values=alt.expr(shown.chosen(ticks)), labelExpr=shown.label, labelOverlap="greedy")
    return alt.Y(field, title="mean over draws and seeds", scale=scale, axis=axis)
