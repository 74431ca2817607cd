"""Figures of the toy landscapes."""

from itertools import product

import altair as alt
import numpy as np
import pandas as pd
import sympy

from lmclib.charts import style
from lmclib.charts.lanes import Lane, lanes
from lmclib.theory import landscapes

REACH = 0.5  # how far a slider moves its minimum from where it starts
SAMPLES = 60  # on the segment, for the barrier in the title
# without `resize` a title longer than the first one would be cut off
GROWING = alt.AutoSizeParams(type="pad", resize=True)


def landscape(minima: list[float]) -> alt.Chart:
    """A product of quadratics whose minima are sliders; loss, barrier and prediction are computed in the page.

    The axes hold every barrier and every prediction that the sliders can make; only the walls outside go on upwards.
    """
    ordered, top = sorted(minima), landscapes.hierarchy(minima).iloc[-1]
    low, high = ordered[0] - REACH - 0.2, ordered[-1] + REACH + 0.2
    sliders = [
        Lane(f"m{i + 1}", f"minimum {i + 1}", m, round(m - REACH, 6), round(m + REACH, 6))
        for i, m in enumerate(ordered)
    ]
    names = [slider.name for slider in sliders]
    left, right = (
        alt.param(name, expr=f"{function}({', '.join(names)})")
        for name, function in (("left", "min"), ("right", "max"))
    )

    def loss(at: str) -> str:
        return " * ".join(f"pow({at} - {name}, 2)" for name in names)

    def curvature(end: str) -> str:
        # at a minimum only the factor that vanishes has curvature: L'' = 2 times the product of the others
        others = " * ".join(["2", *(f"({end} == {name} ? 1 : pow({end} - {name}, 2))" for name in names)])
        here = " + ".join(f"({end} == {name} ? 1 : 0)" for name in names)
        return f"({here} > 1 ? 0 : {others})"  # two minima in one place leave none

    def predicted(a: str) -> str:
        return f"{a} * (1 - {a}) / 2 * pow(right - left, 2) * ({a} * {curvature('left')} + (1 - {a}) * {curvature('right')})"

    base = (
        alt.Chart(alt.sequence(low, high, (high - low) / 300, as_="t"))
        .transform_calculate(loss=loss("datum.t"), a="(datum.t - left) / (right - left)")
        .transform_calculate(between="datum.a >= 0 && datum.a <= 1", predicted=predicted("datum.a"))
    )
    roof = _highest(ordered)
    across = alt.Scale(domain=[low, high], nice=False)
    x = alt.X("t:Q", title=None, scale=across)
    y = alt.Y(
        "value:Q",
        title="loss and barrier",
        # a symmetric logarithm: a minimum that moves by a half makes a barrier ten times as high
        scale=alt.Scale(type="symlog", constant=0.5, domain=[0, roof], nice=False),
        axis=alt.Axis(
            values=[v for v in (0, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000) if v <= roof],
            labelExpr="format(datum.value, ',')",
        ),
    )
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
        .mark_area(opacity=0.18)
        .encode(x=x, y=y, color=alt.value(style.OKABE_ITO[0]))
    )
    dragged, params = lanes(sliders, across, "θ: drag the minima")
    above = (barriers + curves).properties(width=480, height=260)
    chart = alt.vconcat(above, dragged.properties(width=480), spacing=6).add_params(*params, left, right)
    points = (f"(left + (right - left) * {k / SAMPLES:.6g})" for k in range(1, SAMPLES))
    said = {
        "left": "format(left, '~g')",
        "right": "format(right, '~g')",
        "barrier": f"format(max({', '.join(loss(point) for point in points)}), '.3~g')",
        "predicted": f"format({predicted('0.5')}, '.3~g')",
    }
    title = (
        f"['Between ' + {said['left']} + ' and ' + {said['right']}, 'stands a barrier of ' + {said['barrier']} + ';',"
        f" 'Proposition 1 says ' + {said['predicted']} + ' in the middle']"
    )
    words = (
        f"Loss over theta with minima at {', '.join(f'{v:g}' for v in ordered)}, as the sliders stand at first, and Proposition 1's "
        f"prediction between the outer two: a barrier of {top.barrier:.3g}, predicted {top.predicted:.3g}."
    )
    heading = alt.TitleParams(text=alt.expr(title), subtitle="barrier: highest point on the segment")
    return chart.properties(title=heading, description=words, autosize=GROWING)


def dragged(i: int) -> str:
    """The selection that holds the place of the landscape's minimum `i`, counted from 0 in their order at first."""
    return f"m{i + 1}_at"


def _highest(minima: list[float]) -> float:
    """The highest barrier and prediction between the outer minima that the sliders can make, with some air."""
    # both grow with every distance from the outer minima, so the corners of what the sliders can do hold the highest
    grid, highest = np.linspace(0, 1, SAMPLES + 1), 0.0
    for steps in product(
        *(((-REACH, 0.0, REACH),) * len(minima) if len(minima) < 7 else ((-REACH, REACH),) * len(minima))
    ):
        places = np.array(minima) + steps
        left, right = places.min(), places.max()
        segment = left + (right - left) * grid
        barrier = ((segment[:, None] - places) ** 2).prod(1).max()
        ends = [2 * np.delete((end - places) ** 2, np.abs(end - places).argmin()).prod() for end in (left, right)]
        curve = grid * (1 - grid) / 2 * (right - left) ** 2 * (grid * ends[0] + (1 - grid) * ends[1])
        highest = max(highest, barrier, curve.max())
    return 1.1 * float(highest)


def hierarchies(sets: dict[str, list[float]]) -> alt.Chart:
    """The barrier against the distance for every pair of minima, for several sets of minima."""
    parts = [landscapes.hierarchy(minima).assign(landscape=name) for name, minima in sets.items()]
    table = pd.concat(parts, ignore_index=True)
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
    title = f"The highest barrier, {top.barrier:.3g}, stands between minima at a distance of {' and '.join(f'{d:g}' for d in apart)}"
    return style.described(
        chart, title, f"Barrier against distance for every pair of minima; the highest is {top.barrier:.3g}."
    )


def segment(loss: sympy.Expr, t1: float, t2: float, reach: float = 1.5) -> alt.Chart:
    """The barrier curve between two points that can be dragged, and both forms of Proposition 1, all computed in the page.

    The axes hold what every place of both ends can make.

    Args:
        loss: in θ.
        t1, t2: where the ends start.
        reach: how far from 0 they can be dragged.
    """
    low, high = -reach - 0.1, reach + 0.1
    ends = [Lane("t1", "end 1", t1, -reach, reach), Lane("t2", "end 2", t2, -reach, reach)]
    across = alt.Scale(domain=[low, high], nice=False)
    floor, roof = _extremes(loss, reach)
    top = float(sympy.lambdify(landscapes.T, loss)(np.linspace(low, high, 200)).max())
    above = (
        alt.Chart(alt.sequence(low, high, (high - low) / 200, as_="t"))
        .transform_calculate(loss=_in_page(loss, "datum.t"), a="(datum.t - t1) / (t2 - t1)")
        .mark_line(color=style.INK)
        .encode(
            x=alt.X("t:Q", title=None, scale=across),
            y=alt.Y("loss:Q", title="loss", scale=alt.Scale(domain=[0, top], nice=False)),
        )
    )
    shaded = above.transform_filter("datum.a >= 0 && datum.a <= 1").mark_area(opacity=0.25, color=style.OKABE_ITO[0])
    dragged, params = lanes(ends, across, "θ: drag the ends")
    names = list(_formulas(loss, "datum.a"))
    curves = (
        alt.Chart(alt.sequence(0, 1.0001, 0.02, as_="a"))
        .transform_calculate(**_formulas(loss, "datum.a"))
        .transform_fold(names, as_=["curve", "barrier"])
        .mark_line()
        .encode(
            x=alt.X("a:Q", title="α, from end 1 to end 2", scale=alt.Scale(domain=[0, 1])),
            # ends may be anywhere, so values differ by decades
            y=alt.Y(
                "barrier:Q",
                title="barrier",
                scale=alt.Scale(type="symlog", constant=0.5, domain=[floor, roof], nice=False),
                axis=alt.Axis(values=[v for v in (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100) if floor <= v <= roof]),
            ),
            color=alt.Color("curve:N", title="barrier", scale=alt.Scale(domain=names)),
            strokeDash=alt.StrokeDash("curve:N", title="barrier", scale=alt.Scale(domain=names)),
            tooltip=["curve:N", alt.Tooltip("a:Q", title="α"), alt.Tooltip("barrier:Q", format=".3f")],
        )
    )
    width = {"width": 480}
    chart = alt.vconcat(
        (shaded + above).properties(height=110, **width),
        dragged.properties(**width),
        curves.properties(height=180, **width),
        spacing=8,
    ).add_params(*params)
    told = [f"'{name} ' + format({said}, '.3~g')" for name, said in _formulas(loss, "0.5").items()]
    # lines that are short enough for a phone
    title = f"['Between ' + format(t1, '~g') + ' and ' + format(t2, '~g') + ': ' + {told[0]}, {told[1]}, {told[2]}]"
    half = {
        name: float(curve.subs(landscapes.ALPHA, sympy.Rational(1, 2)))
        for name, curve in _barriers(loss, t1, t2).items()
    }
    words = (
        f"A loss of one weight with two ends that can be dragged, and below it the barrier between them with both forms of Proposition 1. "
        f"Between {t1:g} and {t2:g}, where they stand at first, at one half: "
        f"{', '.join(f'{name} {value:.3g}' for name, value in half.items())}."
    )
    heading = alt.TitleParams(text=alt.expr(title), subtitle="barriers in the middle, α = ½")
    return chart.properties(title=heading, description=words, autosize=GROWING)


def _barriers(loss: sympy.Expr, t1: float, t2: float) -> dict[str, sympy.Expr]:
    return {
        "true": landscapes.barrier(loss, t1, t2),
        "as published": landscapes.predicted_barrier(loss, t1, t2),
        "with gradients": landscapes.predicted_barrier(loss, t1, t2, "gradient"),
    }


def _formulas(loss: sympy.Expr, a: str) -> dict[str, str]:
    """The same in expressions of the page, between `t1` and `t2` at the place α that is called `a`."""
    slope, bend = (sympy.diff(loss, landscapes.T, k) for k in (1, 2))
    chord = f"(1 - {a}) * {_in_page(loss, 't1')} + {a} * {_in_page(loss, 't2')}"
    first = f"({_in_page(slope, 't1')} - {_in_page(slope, 't2')}) * (t2 - t1)"
    second = f"pow(t2 - t1, 2) * ({a} * {_in_page(bend, 't1')} + (1 - {a}) * {_in_page(bend, 't2')}) / 2"
    return {
        "true": f"{_in_page(loss, f't1 + {a} * (t2 - t1)')} - ({chord})",
        "as published": f"{a} * (1 - {a}) * {second}",
        "with gradients": f"{a} * (1 - {a}) * ({first} + {second})",
    }


def _in_page(function: sympy.Expr, at: str) -> str:
    """A polynomial in θ at some place, as an expression of the page."""
    return f"({sympy.jscode(sympy.horner(sympy.expand(function))).replace('theta', f'({at})').replace('Math.', '')})"


def _extremes(loss: sympy.Expr, reach: float) -> tuple[float, float]:
    """The lowest and highest barrier or prediction between any two places of both ends."""
    value, slope, bend = (sympy.lambdify(landscapes.T, sympy.diff(loss, landscapes.T, k)) for k in range(3))
    places = np.linspace(-reach, reach, 61)
    t1, t2, a = np.meshgrid(places, places, np.linspace(0, 1, 21), indexing="ij")
    true = value(t1 + a * (t2 - t1)) - (1 - a) * value(t1) - a * value(t2)
    published = a * (1 - a) / 2 * (t2 - t1) ** 2 * (a * bend(t1) + (1 - a) * bend(t2))
    kept = published + a * (1 - a) * (slope(t1) - slope(t2)) * (t2 - t1)
    every = np.stack([true, published, kept])
    return 1.1 * float(every.min()), 1.1 * float(every.max())


def diagonal_network(w1: tuple[float, float], w2: tuple[float, float]) -> alt.Chart:
    """The loss map of the 1-D diagonal network with its branches, the joint path and the cuts; α moves a point on each, here and below."""
    reach = round(1.2 * max(map(abs, (*w1, *w2))), 1)
    step = reach / 24
    grid = np.round(np.arange(-24, 24) * step, 4)
    u, v = np.meshgrid(grid, grid)
    middles = (u + step / 2) * (v + step / 2)
    surface = pd.DataFrame(
        {"first": u.ravel(), "second": v.ravel(), "loss": ((middles - 1) ** 2 / 2).ravel().clip(max=8)}
    )
    alphas = np.round(np.linspace(0, 1, 41), 4)
    paths = landscapes.diagonal_network_paths(w1, w2, alphas).round(5)
    order = list(paths.path.unique())
    alpha = alt.param("alpha", value=0.5, bind=alt.binding_range(min=0, max=1, step=0.025, name="α "))
    square = alt.Scale(domain=[-reach, reach], nice=False)
    x, y = alt.X("first:Q", title="first weight", scale=square), alt.Y("second:Q", title="second weight", scale=square)
    background = (
        alt.Chart(surface.round(3))
        .transform_calculate(end_first=f"datum.first + {1.03 * step}", end_second=f"datum.second + {1.03 * step}")
        .mark_rect()
        .encode(
            x=x,
            y=y,
            x2="end_first:Q",
            y2="end_second:Q",
            color=alt.Color(
                "loss:Q",
                title="loss",
                scale=alt.Scale(scheme="greys", domain=[0, 8]),
                legend=alt.Legend(values=[0, 2, 4, 6, 8], labelExpr="datum.value == 8 ? '8 or more' : datum.label"),
            ),
        )
    )
    names = [*order, BRANCH]
    colours = alt.Scale(domain=names, range=list(style.OKABE_ITO[:6]))
    dashes = alt.Scale(domain=names, range=[[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [6, 2]])
    legend = alt.Legend(columns=2, labelLimit=0, **style.AS_LINES)
    colour = alt.Color("path:N", title="path", scale=colours, legend=legend)
    dash = alt.StrokeDash("path:N", title="path", scale=dashes, legend=legend)
    # one legend, below both
    same, as_dashed = colour.copy(), dash.copy()
    same.legend = as_dashed.legend = None
    near = np.geomspace(1 / reach, reach, 31)
    perfect = pd.concat(
        pd.DataFrame({"path": BRANCH, "part": name, "first": sign * near, "second": sign / near, "alpha": near})
        for name, sign in (("positive", 1), ("negative", -1))
    )
    drawn = pd.concat([paths.assign(part=""), perfect.round(4)])[["path", "part", "alpha", "first", "second"]]
    lines = (
        alt.Chart(drawn)
        .mark_line(strokeWidth=2.5)
        .encode(x=x, y=y, color=same, strokeDash=as_dashed, detail="part:N", order="alpha:Q")
    )
    ends = alt.Chart(
        pd.DataFrame({"name": ["model 1", "model 2"], "first": [w1[0], w2[0]], "second": [w1[1], w2[1]]})
    ).encode(x=x, y=y)
    models = ends.mark_point(size=110, color="black", shape="diamond", opacity=1)
    called = ends.mark_text(dx=10, dy=-10, align="left", fontWeight="bold", color="black").encode(text="name:N")
    at = (
        alt.Chart(paths)
        .transform_filter("abs(datum.alpha - alpha) < 0.0126")
        .mark_point(size=110, filled=False, strokeWidth=3, opacity=1)  # hollow, as lines are: one legend for both
    )
    tip = ["path:N", alt.Tooltip("alpha:Q", title="α"), alt.Tooltip("loss:Q", format=".3f")]
    points = at.encode(x=x, y=y, color=same, tooltip=tip)
    inset_x = alt.X("alpha:Q", title="α", scale=alt.Scale(domain=[0, 1]))
    inset_y = alt.Y("loss:Q", title="loss along the path", scale=alt.Scale(domain=[0, 1.05 * float(paths.loss.max())]))
    below = alt.Chart(paths).mark_line().encode(x=inset_x, y=inset_y, color=colour, strokeDash=dash, tooltip=tip)
    below_points = at.encode(x=inset_x, y=inset_y, color=colour, tooltip=tip)
    chart = alt.vconcat(
        alt.layer(background, lines, models, called, points).properties(width=380, height=380),
        (below + below_points).properties(width=380, height=170),
    ).add_params(alpha)
    chart = chart.resolve_scale(color="independent", strokeDash="independent")
    answers = {(at,): _diagonal_answer(at, rows.set_index("path").loss) for at, rows in paths.groupby("alpha")}
    middle = paths[paths.alpha == 0.5].set_index("path").loss
    words = (
        "Loss map of two weights with the two branches of perfect networks, a joint path and four single-layer cuts between two "
        "models; losses in the middle: " + ", ".join(f"{name} {value:.3g}" for name, value in middle.items()) + "."
    )
    return style.answered(chart, ["alpha"], answers, (0.5,), words)


BRANCH = "perfect: w₁ w₂ = 1"


def _diagonal_answer(alpha: float, losses: pd.Series) -> str:
    cuts = losses.drop("joint")
    return f"At α = {alpha:g}: joint path {losses['joint']:.3g}; of the cuts, {cuts.idxmin()} is lowest with {cuts.min():.3g}"


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
