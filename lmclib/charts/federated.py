"""Figures of federated learning: what each averaged set of layers does to the clients and sends, and what each client has."""

import altair as alt
import numpy as np
import pandas as pd

from lmclib.charts import style
from lmclib.charts.scales import percent
from lmclib.claims.federated import FULL, NOTHING, commonest_class
from lmclib.claims.verdicts import mean_interval

# what the switches offer, and the column of each choice
WHEN = {"right after averaging": "local_accuracy", "after one more local epoch": "tuned_accuracy"}
WHOM = {"mean client": "", "worst client": "worst_"}
SENT = "kilobytes"


def partial_averaging(rounds: pd.DataFrame) -> alt.Chart:
    """Local test accuracy of each averaged set of layers at the chosen round, every seed a point, and what a round sends.

    Accuracy goes from 0 to 1 whatever is chosen, and bytes have one scale for all splits.

    Args:
        rounds: `federated_accuracy` of several averaged sets, splits and seeds.
    """
    cases, sets = list(rounds["case"].unique()), _sets(rounds)
    numbers = [int(n) for n in sorted(rounds["round"].unique())]
    table = _long(rounds)
    last = numbers[-1]
    controls = (
        style.switch("which", cases, "split ", last=True),
        style.switch("when", list(WHEN), "accuracy "),
        style.switch("whom", list(WHOM), "of the "),
        alt.param("number", value=last, bind=alt.binding_range(min=numbers[0], max=last, step=1, name="round ")),
    )
    chosen = "datum.case == which && datum.when == when && datum.whom == whom && datum.round == number"
    y = alt.Y("averaged:N", title="averaged layers", scale=alt.Scale(domain=sets))
    x = alt.X("accuracy:Q", title="local test accuracy", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    keys = ["case", "when", "whom", "round", "averaged"]
    points = (
        alt.Chart(table[[*keys, "seed", "accuracy"]].round(4))
        .transform_filter(chosen)
        .mark_point(opacity=0.55, color=style.OKABE_ITO[0])
        .encode(x=x, y=y, tooltip=["averaged:N", "seed:N", alt.Tooltip("accuracy:Q", format=".1%")])
    )
    means = alt.Chart(_intervals(table, keys).round(4)).transform_filter(chosen)
    told = ["averaged:N", alt.Tooltip("mean:Q", format=".1%", title="mean over seeds")]
    told += [alt.Tooltip(f"{end}:Q", format=".1%", title=f"90 % interval, {end}") for end in ("low", "high")]
    bars = means.mark_rule(strokeWidth=3, color=style.OKABE_ITO[1]).encode(
        x=alt.X("low:Q", scale=alt.Scale(domain=[0, 1])), x2="high:Q", y=y
    )
    ticks = means.mark_tick(thickness=3, size=18, color=style.OKABE_ITO[1]).encode(
        x=alt.X("mean:Q", scale=alt.Scale(domain=[0, 1])), y=y, tooltip=told
    )
    height = 34 * len(sets)
    left = (points + bars + ticks).properties(width=330, height=height)
    sent = rounds.groupby("averaged", sort=False).bytes.first().div(1000).rename(SENT).reset_index()
    right = (
        alt.Chart(sent.round(4))
        .mark_bar(color=style.OKABE_ITO[2])
        .encode(
            x=alt.X(
                f"{SENT}:Q",
                title="kilobytes a round",
                scale=alt.Scale(domain=[0, float(sent[SENT].max()) or 1]),
                axis=alt.Axis(tickCount=3),
            ),
            y=alt.Y("averaged:N", title=None, scale=alt.Scale(domain=sets), axis=alt.Axis(labels=False, ticks=False)),
            tooltip=[
                "averaged:N",
                alt.Tooltip(f"{SENT}:Q", format=",.1f", title="kilobytes a round, all clients, both ways"),
            ],
        )
        .properties(width=150, height=height)
    )
    # right is the same for all: on a phone, where it stands alone, it has its labels
    chart = alt.hconcat(left, right, spacing=14).add_params(*controls)
    words = (
        "Local test accuracy of the clients for each averaged set of layers, a point a seed, with mean and 90 % interval; beside it bars "
        "of the kilobytes that a round sends."
    )
    start = (cases[-1], next(iter(WHEN)), next(iter(WHOM)), last)
    return style.answered(chart, ["which", "when", "whom", "number"], _answers(table, sets), start, words)


def over_rounds(rounds: pd.DataFrame) -> alt.Chart:
    """Mean local test accuracy right after averaging over rounds, a line an averaged set, the band its 90 % interval.

    Args:
        rounds: as in `partial_averaging`.
    """
    cases, sets = list(rounds["case"].unique()), _sets(rounds)
    numbers = [int(n) for n in sorted(rounds["round"].unique())]
    table = _long(rounds)
    table = table[table.whom == "mean client"]
    keys = ["case", "when", "averaged", "round"]
    which, when = style.switch("which", cases, "split ", last=True), style.switch("when", list(WHEN), "accuracy ")
    base = (
        alt.Chart(_intervals(table, keys).round(4))
        .transform_filter("datum.case == which && datum.when == when")
        .encode(x=alt.X("round:Q", title="round", scale=alt.Scale(domain=[numbers[0], max(numbers[-1], numbers[0] + 1)], nice=False),
                        axis=alt.Axis(format="d", values=numbers)))
    )  # fmt: skip
    colour = alt.Color(
        "averaged:N",
        title="averaged",
        scale=alt.Scale(domain=sets),
        legend=alt.Legend(**style.AS_LINES),
    )
    scale = alt.Scale(domain=[0, 1])
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q", color=colour)
    lines = base.mark_line(point=True).encode(
        y=alt.Y("mean:Q", title="mean local test accuracy", scale=scale, axis=alt.Axis(format="%")),
        color=colour,
        strokeDash=alt.StrokeDash("averaged:N", title="averaged", scale=alt.Scale(domain=sets)),
        tooltip=["averaged:N", "round:Q", alt.Tooltip("mean:Q", title="mean over seeds", format=".1%")],
    )
    answers = {}
    for (case, moment), own in table.groupby(["case", "when"], sort=False):
        mean = own.groupby(["round", "averaged"]).accuracy.mean().unstack()
        ahead = int((mean[FULL] > mean[NOTHING]).sum())
        answers[case, moment] = (
            f"{_upper(case)}, {moment}: averaging all layers is ahead of averaging none in {ahead} of {len(mean)} rounds, "
            f"and ends at {percent(mean[FULL].iloc[-1])} against {percent(mean[NOTHING].iloc[-1])}"
        )
    chart = (band + lines).properties(height=280).add_params(which, when)
    words = "Mean local test accuracy over rounds, a line for each averaged set of layers, with bands of the 90 % interval over seeds."
    return style.answered(chart, ["which", "when"], answers, (cases[-1], next(iter(WHEN))), words)


def splits(table: pd.DataFrame) -> alt.Chart:
    """Which classes each client has: the share of its training examples, client × class, for the chosen split.

    Args:
        table: `split_table` of one seed.
    """
    cases, classes = list(table["case"].unique()), list(table["class"].unique())
    clients = [int(k) for k in sorted(table.client.unique())]
    which = style.switch("which", cases, "split ", last=True)
    heat = (
        alt.Chart(table[["case", "client", "class", "share", "examples", "test_examples"]].round(4))
        .transform_filter("datum.case == which")
        .mark_rect()
        .encode(
            x=alt.X(
                "client:O",
                title="client",
                scale=alt.Scale(domain=clients),
                axis=alt.Axis(labelAngle=0, labelOverlap=True),
            ),
            y=alt.Y("class:N", title="class", scale=alt.Scale(domain=classes[::-1])),
            color=alt.Color(
                "share:Q",
                title="of the client's examples",
                scale=alt.Scale(scheme=style.ORDERED, domain=[0, 1]),
                legend=alt.Legend(format="%", gradientLength=200),
            ),
            tooltip=[
                "client:O",
                "class:N",
                alt.Tooltip("share:Q", format=".1%", title="of its training examples"),
                alt.Tooltip("examples:Q", title="training examples, all classes"),
                alt.Tooltip("test_examples:Q", title="local test images"),
            ],
        )
        .properties(height=20 * len(classes))
    )
    answers = {}
    for case, own in table.groupby("case", sort=False):
        sizes = own.groupby("client").examples.first()
        answers[(case,)] = (
            f"{_upper(case)}: the median client has {percent(commonest_class(own))} of its examples in one class, and clients have from "
            f"{sizes.min()} to {sizes.max()} examples"
        )
    words = "Heatmap of the share of each class among each client's training examples."
    return style.answered(heat.add_params(which), ["which"], answers, (cases[-1],), words)


def _sets(rounds: pd.DataFrame) -> list[str]:
    """The averaged sets, all layers first and none last."""
    found = list(rounds.averaged.unique())
    ends = [name for name in (FULL, NOTHING) if name in found]
    return [*ends[:1], *(name for name in found if name not in ends), *ends[1:]]


def _long(rounds: pd.DataFrame) -> pd.DataFrame:
    """A row a run, round, moment and kind of client."""
    parts = [
        rounds[["case", "averaged", "seed", "round"]].assign(when=when, whom=whom, accuracy=rounds[prefix + column])
        for when, column in WHEN.items()
        for whom, prefix in WHOM.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _intervals(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Mean over seeds and its 90 % interval, within what an accuracy can be; of one seed the mean alone."""
    grouped = table.groupby(keys, sort=False).accuracy
    found = grouped.mean().rename("mean").reset_index()
    ends = [mean_interval(own) if len(own) > 1 else (own.mean(),) * 2 for _, own in grouped]
    found["low"], found["high"] = np.clip(np.array(ends).T, 0, 1)
    return found


def _answers(table: pd.DataFrame, sets: list[str]) -> dict[tuple, str]:
    """For every choice: what all layers, no layers and the best of all others give, means over seeds."""
    answers = {}
    others = [name for name in sets if name not in (FULL, NOTHING)]
    for (case, when, whom, number), own in table.groupby(["case", "when", "whom", "round"], sort=False):
        mean = own.groupby("averaged").accuracy.mean()
        best = f", the best partial set ({mean[others].idxmax()}) {percent(mean[others].max())}" if others else ""
        answers[case, when, whom, int(number)] = (
            f"{_upper(case)}, round {int(number)}: averaging all layers gives the {whom} {percent(mean[FULL])}, none {percent(mean[NOTHING])}{best}"
        )
    return answers


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
