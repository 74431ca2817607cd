"""Figures of the toy landscapes."""

import altair as alt
import numpy as np
import pandas as pd
import sympy

from lmclib.charts import style
from lmclib.theory import landscapes


def landscape(minima: list[float]) -> alt.Chart:
    """A product of quadratics whose minima are sliders; loss, barrier and prediction are computed in the page."""
    ordered, top = sorted(minima), landscapes.hierarchy(minima).iloc[-1]
    low, high = ordered[0] - 0.7, ordered[-1] + 0.7
    sliders = [
        alt.param(f"m{i + 1}", value=m, bind=alt.binding_range(min=low, max=high, step=0.05, name=f"minimum {i + 1} "))
        for i, m in enumerate(ordered)
    ]
    names = ", ".join(slider.name for slider in sliders)
    ends = f"min({names})", f"max({names})"

    def loss(at: str) -> str:
        return " * ".join(f"pow({at} - {slider.name}, 2)" for slider in sliders)

    def curvature(end: str) -> str:
        # at a minimum only the factor that vanishes has curvature: L'' = 2 times the product of the others
        return " * ".join(["2", *(f"({end} == {s.name} ? 1 : pow({end} - {s.name}, 2))" for s in sliders)])

    base = (
        alt.Chart(alt.sequence(low - 0.2, high + 0.2, (high - low) / 300, as_="t"))
        .transform_calculate(loss=loss("datum.t"), a=f"(datum.t - {ends[0]}) / ({ends[1]} - {ends[0]})")
        .transform_calculate(
            between="datum.a >= 0 && datum.a <= 1",
            predicted=f"datum.a * (1 - datum.a) / 2 * pow({ends[1]} - {ends[0]}, 2) * "
            f"(datum.a * {curvature(ends[0])} + (1 - datum.a) * {curvature(ends[1])})",
        )
    )
    roof = 1.25 * max(top.barrier, min(top.predicted, 3 * top.barrier))
    x = alt.X("t:Q", title="θ", scale=alt.Scale(domain=[low - 0.2, high + 0.2], nice=False))
    y = alt.Y("value:Q", title="loss, and barrier between the outer minima", scale=alt.Scale(domain=[0, roof]))
    tip = [alt.Tooltip("t:Q", title="θ", format=".2f"), alt.Tooltip("value:Q", format=".3f")]
    order = ["loss (= true barrier)", "Proposition 1"]
    curves = (
        base.transform_fold(["loss", "predicted"], as_=["curve", "value"])
        .transform_filter("datum.curve == 'loss' || datum.between")
        .transform_calculate(curve="datum.curve == 'loss' ? 'loss (= true barrier)' : 'Proposition 1'")
        .mark_line(clip=True)
        .encode(
            x=x,
            y=y,
            color=alt.Color("curve:N", title="curve", scale=alt.Scale(domain=order)),
            strokeDash=alt.StrokeDash("curve:N", title="curve", scale=alt.Scale(domain=order)),
            tooltip=tip,
        )
    )
    barriers = (
        base.transform_filter("datum.between")
        .transform_calculate(value="datum.loss")
        .mark_area(opacity=0.18, clip=True)
        .encode(x=x, y=y, color=alt.value(style.OKABE_ITO[0]))
    )
    said = (
        base.transform_filter("datum.between")
        .transform_aggregate(highest="max(loss)", middle="max(predicted)")
        .transform_calculate(
            text="'barrier ' + format(datum.highest, '.3~g') + ', Proposition 1 at most ' + format(datum.middle, '.3~g')"
        )
        .mark_text(align="left", fontWeight="bold")
        .encode(x=alt.value(8), y=alt.value(10), text="text:N")
    )
    chart = (barriers + curves + said).add_params(*sliders).properties(width=480, height=260)
    title = f"Between {top['from']:g} and {top['to']:g} stands a barrier of {top.barrier:.3g}; Proposition 1 says {top.predicted:.3g}"
    words = f"Loss over theta with minima at {', '.join(f'{v:g}' for v in ordered)} and Proposition 1's prediction between the outer two."
    return style.described(
        chart, title, words, "barrier: highest point on the segment; prediction: in its middle; move the minima"
    )


def hierarchies(sets: dict[str, list[float]]) -> alt.Chart:
    """The barrier against the distance for every pair of minima, for several sets of minima."""
    table = pd.concat(landscapes.hierarchy(minima).assign(landscape=name) for name, minima in sets.items())
    top = table.loc[table.barrier.idxmax()]
    chart = (
        alt.Chart(table.round(6))
        .mark_point(size=110)
        .encode(
            x=alt.X("distance:Q", title="distance between the minima"),
            y=alt.Y("barrier:Q", title="barrier"),
            color=alt.Color("landscape:N", title=None),
            shape=alt.Shape("landscape:N", title=None),
            tooltip=[
                "landscape:N",
                "from:Q",
                "to:Q",
                "distance:Q",
                "barrier:Q",
                alt.Tooltip("predicted:Q", title="Proposition 1"),
            ],
        )
        .properties(width=480, height=220)
    )
    apart = sorted(table[np.isclose(table.barrier, top.barrier)].distance.unique())
    title = (
        f"The highest barrier, {top.barrier:.3g}, stands between minima {' and '.join(f'{d:g}' for d in apart)} apart"
    )
    return style.described(
        chart, title, f"Barrier against distance for every pair of minima; the highest is {top.barrier:.3g}."
    )


def non_stationary(loss: sympy.Expr, t1: float, t2: float) -> alt.Chart:
    """The true barrier curve between two points, Proposition 1 as published, and with the gradient terms kept."""
    alphas = np.linspace(0, 1, 51)
    curves = {
        "true": landscapes.barrier(loss, t1, t2),
        "as published": landscapes.predicted_barrier(loss, t1, t2),
        "with gradients": landscapes.predicted_barrier(loss, t1, t2, "gradient"),
    }
    table = pd.concat(
        pd.DataFrame({"curve": name, "alpha": alphas, "barrier": landscapes.evaluate(curve, alphas)})
        for name, curve in curves.items()
    )
    half = {name: float(curve.subs(landscapes.ALPHA, sympy.Rational(1, 2))) for name, curve in curves.items()}
    chart = (
        alt.Chart(table.round(6))
        .mark_line()
        .encode(
            x=alt.X("alpha:Q", title="α"),
            y=alt.Y("barrier:Q", title="barrier"),
            color=alt.Color("curve:N", title=None, sort=list(curves)),
            strokeDash=alt.StrokeDash("curve:N", title=None, sort=list(curves)),
            tooltip=["curve:N", alt.Tooltip("alpha:Q", title="α"), alt.Tooltip("barrier:Q", format=".3f")],
        )
        .properties(width=480, height=200)
    )
    said = ", ".join(f"{name} {value:.3g}" for name, value in half.items())
    return style.described(
        chart,
        f"Between {t1:g} and {t2:g} at α = ½: {said}",
        f"Barrier curves between {t1:g} and {t2:g}; at one half: {said}.",
    )


def diagonal_network(w1: tuple[float, float], w2: tuple[float, float]) -> alt.Chart:
    """The loss map of the 1-D diagonal network with the joint path and the cuts; α moves a point on each, here and below."""
    grid = np.round(np.arange(-2.4, 2.41, 0.1), 2)
    u, v = np.meshgrid(grid, grid)
    surface = pd.DataFrame(
        {"first": u.ravel(), "second": v.ravel(), "loss": ((u * v - 1) ** 2 / 2).ravel().clip(max=8)}
    )
    surface["end_first"], surface["end_second"] = surface["first"] + 0.1, surface["second"] + 0.1
    paths = landscapes.diagonal_network_paths(w1, w2, np.linspace(0, 1, 41)).round(5)
    alpha = alt.param("alpha", value=0.5, bind=alt.binding_range(min=0, max=1, step=0.025, name="α "))
    x = alt.X("first:Q", title="first weight", scale=alt.Scale(domain=[-2.4, 2.4], nice=False))
    y = alt.Y("second:Q", title="second weight", scale=alt.Scale(domain=[-2.4, 2.4], nice=False))
    background = (
        alt.Chart(surface.round(3))
        .mark_rect()
        .encode(
            x=x,
            y=y,
            x2="end_first",
            y2="end_second",
            color=alt.Color("loss:Q", title="loss", scale=alt.Scale(scheme="greys", domain=[0, 8])),
        )
    )
    order = list(paths.path.unique())
    colour = alt.Color(
        "path:N",
        title=None,
        sort=order,
        scale=alt.Scale(domain=order, range=list(style.OKABE_ITO[:5])),
        legend=alt.Legend(columns=1),
    )
    dash = alt.StrokeDash("path:N", title=None, scale=alt.Scale(domain=order))
    lines = alt.Chart(paths).mark_line(strokeWidth=2.5).encode(x=x, y=y, color=colour, strokeDash=dash, order="alpha:Q")
    at = (
        alt.Chart(paths)
        .transform_filter("abs(datum.alpha - alpha) < 0.0126")
        .mark_point(size=90, stroke="black", strokeWidth=1)
    )
    tip = ["path:N", alt.Tooltip("alpha:Q", title="α"), alt.Tooltip("loss:Q", format=".3f")]
    points = at.encode(x=x, y=y, color=colour, tooltip=tip)
    inset_x, inset_y = alt.X("alpha:Q", title="α"), alt.Y("loss:Q", title="loss along the path")
    below = alt.Chart(paths).mark_line().encode(x=inset_x, y=inset_y, color=colour, strokeDash=dash, tooltip=tip)
    below_points = at.encode(x=inset_x, y=inset_y, color=colour, tooltip=tip)
    chart = alt.vconcat(
        (background + lines + points).properties(width=380, height=380),
        (below + below_points).properties(width=380, height=170),
    ).add_params(alpha)
    middle = paths[paths.alpha == 0.5].set_index("path").loss
    lowest = middle.drop("joint").idxmin()
    title = f"In the middle: joint path {middle['joint']:.3g}, {lowest} {middle[lowest]:.3g}"
    words = (
        "Loss map of two weights with a joint path and four single-layer cuts between two models; losses in the middle: "
        + ", ".join(f"{name} {value:.3g}" for name, value in middle.items())
    )
    return style.described(chart, title, words + ".")


def bent_but_low() -> alt.Chart:
    """A curve that lies under its chord and is not convex; where it bends the wrong way is marked."""
    loss = landscapes.bent_but_low()
    t = np.linspace(0, 1, 101)
    values, bends = (sympy.lambdify(landscapes.T, f)(t) for f in (loss, sympy.diff(loss, landscapes.T, 2)))
    table = pd.DataFrame(
        {"alpha": t, "loss": values, "shape": np.where(bends < 0, "not convex here", "convex here")}
    ).round(5)
    chart = (
        alt.Chart(table)
        .mark_point(size=22)
        .encode(
            x=alt.X("alpha:Q", title="α"),
            y=alt.Y("loss:Q", title="loss (the chord is at 0)"),
            color=alt.Color("shape:N", title=None),
            shape=alt.Shape("shape:N", title=None),
        )
        .properties(width=480, height=200)
    )
    share = float((bends < 0).mean())
    title = f"Nowhere above its chord (highest {values[1:-1].max():.3f}), not convex on {share:.0%} of the segment"
    return style.described(
        chart,
        title,
        f"A curve below its chord at zero; on {share:.0%} of the segment its second derivative is negative.",
    )
