"""Figures of two checkpoints: the path between them, their layers, predictions, and the candidates of a merge."""

from pathlib import Path

import altair as alt
import pandas as pd

from lmclib.charts import style
from lmclib.errors import LmcError

SUFFIXES = (".html", ".svg", ".png")
INTO = {"1": "into model 1", "2": "into model 2"}
PAPER = {"background": "white"}  # of a file of its own, which no page shows through


def path(table: pd.DataFrame) -> alt.Chart:
    """Loss along the straight line, with the chord between both ends.

    Args:
        table: `barrier_curve`.
    """
    chord = table.assign(loss=table.loss - table.loss_barrier, line="chord of the ends")
    rows = pd.concat([table.assign(line="average"), chord])[["alpha", "loss", "line"]]
    lines = alt.Scale(domain=["average", "chord of the ends"], range=[[1, 0], [5, 4]])
    top = table.loc[table.loss_barrier.idxmax()]
    said = f"The barrier is {top.loss_barrier:.3f} nats, at α = {top.alpha:.2f}"
    chart = (
        alt.Chart(rows)
        .mark_line()
        .encode(
            x=alt.X("alpha:Q", title="share of model 2, α"),
            y=alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False)),
            color=alt.Color("line:N", title=None, scale=alt.Scale(domain=lines.domain, range=style.OKABE_ITO[:2])),
            strokeDash=alt.StrokeDash("line:N", title=None, scale=lines),
        )
    )
    return style.described(chart, said, f"{said}. Loss of the average of both models against the share of model 2.")


def layers(table: pd.DataFrame) -> alt.Chart:
    """The barrier of every single layer, averaged into either model.

    Args:
        table: `layer_barriers` at one point.
    """
    order = list(table.layer.unique())
    rows = table[table["into"] != "both"].assign(direction=lambda rows: rows["into"].map(INTO))
    worst = table[table["into"] == "both"].sort_values("loss_barrier").iloc[-1]
    said = f"The worst single layer is {worst.layer}, with a barrier of {worst.loss_barrier:.3f} nats"
    chart = (
        alt.Chart(rows[["layer", "direction", "loss_barrier"]])
        .mark_bar()
        .encode(
            y=alt.Y("layer:N", sort=order, title=None),
            yOffset=alt.YOffset("direction:N", sort=list(INTO.values())),
            x=alt.X("loss_barrier:Q", title="loss barrier at α = ½"),
            color=_colour("direction", list(INTO.values())),
        )
        .properties(height=alt.Step(9))
    )
    return style.described(
        chart, said, f"{said}. Bars of every layer's barrier, averaged into model 1 and into model 2."
    )


def predictions(table: pd.DataFrame) -> alt.Chart:
    """Predicted barriers of every layer beside the measured ones.

    Args:
        table: `layer`, `method`, `predicted` and `actual`.
    """
    order = list(table.layer.unique())
    measured = table.drop_duplicates("layer").assign(which="measured", barrier=lambda rows: rows.actual)
    rows = pd.concat([measured, table.assign(which=table.method, barrier=table.predicted)])
    kinds = ["measured", *table.method.unique()]
    rank = table.groupby("method").apply(
        lambda rows: rows.predicted.corr(rows.actual, "spearman"), include_groups=False
    )
    said = "; ".join(f"{method} ranks layers with a correlation of {value:.2f}" for method, value in rank.items())
    chart = (
        alt.Chart(rows[["layer", "which", "barrier"]])
        .mark_point()
        .encode(
            y=alt.Y("layer:N", sort=order, title=None),
            x=alt.X("barrier:Q", title="loss barrier at α = ½"),
            color=_colour("which", kinds),
            shape=alt.Shape("which:N", title=None, scale=alt.Scale(domain=kinds)),
        )
        .properties(height=alt.Step(14))
    )
    return style.described(chart, said, f"{said}. Points of every layer's barrier, measured and predicted.")


def candidates(table: pd.DataFrame, said: str) -> alt.Chart:
    """The held-out loss of every candidate of a merge.

    Args:
        table: `candidate`, `norm_stats` and `loss`, the best first.
        said: the plan in a sentence.
    """
    kinds = {"interpolate": "interpolated statistics", "recompute": "recomputed statistics"}
    rows = table.assign(statistics=table.norm_stats.map(kinds))[["candidate", "statistics", "loss"]]
    chart = (
        alt.Chart(rows)
        .mark_point()
        .encode(
            y=alt.Y("candidate:N", sort=list(table.candidate.unique()), title=None),
            x=alt.X("loss:Q", title="held-out loss", scale=alt.Scale(zero=False)),
            color=_colour("statistics", list(kinds.values())),
            shape=alt.Shape("statistics:N", title=None, scale=alt.Scale(domain=list(kinds.values()))),
        )
        .properties(height=alt.Step(26))
    )
    return style.described(chart, said, f"{said}. Points of the held-out loss of every candidate.")


def ratios(table: pd.DataFrame) -> alt.Chart:
    """The share of the second model in every layer, a panel a pair.

    Args:
        table: `pair`, `layer` and `share`, which is 0 where a layer is the first model's and 1 where it is the second's.
    """
    pairs, order = list(table.pair.unique()), list(table.layer.unique())
    most = table.groupby("pair", sort=False).share.agg(lambda shares: shares.max() - shares.min())
    said = f"The ratio differs most between layers in the pair “{most.idxmax()}”, by {most.max():.2f}"
    chart = (
        alt.Chart(table[["pair", "layer", "share"]].round(4))
        .mark_rect()
        .encode(
            x=alt.X("pair:N", sort=pairs, title=None, axis=alt.Axis(labelAngle=-35, labelLimit=0)),
            y=alt.Y("layer:N", sort=order, title=None, axis=alt.Axis(**style.SHORT)),
            color=alt.Color(
                "share:Q", title="share of model 2", scale=alt.Scale(scheme="blueorange", domain=[0, 1], domainMid=0.5)
            ),
            tooltip=["pair:N", "layer:N", alt.Tooltip("share:Q", title="share of model 2", format=".2f")],
        )
        .properties(width=40 * len(pairs), height=alt.Step(16))
    )
    return style.described(
        chart, said, f"{said}. A grid of layers and pairs, coloured by the share of the second model."
    )


def check_path(path: Path) -> None:
    """Check that a chart can be written to a file.

    Raises:
        LmcError: another ending.
    """
    if path.suffix not in SUFFIXES:
        raise LmcError(f"chart={str(path)!r}: must end in one of {', '.join(SUFFIXES)}")


def save(chart: alt.TopLevelMixin, path: Path) -> None:
    """Write a chart to a file that needs nothing else: a page with its scripts in it, or a picture.

    Raises:
        LmcError: another ending, or it cannot be written.
    """
    check_path(path)
    own = chart.properties(**PAPER).configure_text(color="black")
    spec = alt.Chart.from_dict(_in_black(own.to_dict()), validate=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        spec.save(str(path), inline=True) if path.suffix == ".html" else spec.save(str(path))
    except OSError as error:
        raise LmcError(f"chart={str(path)!r}: cannot be written ({error.strerror or error})") from None


def _in_black(part: object) -> object:
    """A specification whose ink is black, as there is no page to take a colour from."""
    if isinstance(part, dict):
        return {key: _in_black(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_in_black(value) for value in part]
    return "black" if part == style.INK else part


def _colour(field: str, domain: list[str]) -> alt.Color:
    colours = alt.Scale(domain=domain, range=style.OKABE_ITO[: len(domain)])
    return alt.Color(f"{field}:N", title=None, scale=colours)
