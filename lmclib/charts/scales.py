"""Scales that stay while controls move: one domain for everything a figure can show of a measure."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

SIGNED = "purpleorange"  # diverging scheme of signed barriers; its middle is zero
ORDERED = "viridis"
LINEAR = 1e3  # far above a share, at which a symmetric logarithm is a straight line
TINY = 1e-6
NO_BREAK = "\u00a0"


@dataclass(frozen=True)
class Measure:
    """What one switch position shows: a column, its range over the whole of a table, and how its numbers are written.

    Shares (errors and their barriers) have a linear scale; nats, which differ by decades, a symmetric logarithm.

    Attributes:
        column: of the table.
        low, high: of the whole table, zero among them.
    """

    column: str
    low: float
    high: float

    @property
    def signed(self) -> bool:
        return not self.column.startswith(("error", "loss")) or self.column.endswith("barrier")

    @property
    def share(self) -> bool:
        return self.column.startswith("error")

    @property
    def top(self) -> float:
        return max(self.high, -self.low, TINY)

    @property
    def constant(self) -> float:
        """Below it the symmetric logarithm is nearly linear."""
        return LINEAR if self.share else float(f"{self.top / 50:.0e}")

    @property
    def domain(self) -> list[float]:
        """Of an axis."""
        return [_rounded(self.low), _rounded(max(self.high, self.low + TINY))]

    @property
    def colours(self) -> list[float]:
        """The domain of colours, symmetric where there is a sign."""
        return [-_rounded(self.top), _rounded(self.top)] if self.signed else self.domain

    @property
    def scheme(self) -> str:
        return SIGNED if self.signed else ORDERED

    def ticks(self, few: bool = False) -> list[float]:
        """Round numbers for an axis, zero among them; a few for a legend."""
        low, high = self.colours if few else self.domain
        if self.share:
            steps = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
            within = [step for step in steps if step <= self.top]  # else a legend would have its zero alone
            step = max(within, default=TINY) if few else next((s for s in steps if s >= self.top / 5), 0.5)
            ticks = np.arange(-10, 11) * step
        else:
            start = math.floor(math.log10(self.constant)) + few
            decades = [10.0**k * digit for k in range(start, start + 4) for digit in ((1,) if few else (1, 3))]
            decades = [d for d in decades if d >= 1.5 * self.constant]  # those nearer to zero would touch it
            ticks = np.array([*(-d for d in decades), 0, *decades])
        return [float(f"{tick:.6g}") for tick in sorted(ticks) if low - 1e-12 <= tick <= high + 1e-12]

    def said(self, value: float) -> str:
        """A number as titles write it."""
        return percent(value) if self.share else nats(value)


def measure(table: pd.DataFrame, column: str) -> Measure:
    """A column as a measure, with the range that it has over all of a table."""
    values = table[column].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    return Measure(column, min(0.0, *values.tolist(), 0.0), max(0.0, *values.tolist(), 0.0))


class Measures:
    """The measures among which a switch chooses; every scale depends on the switch and on no other control.

    Args:
        switch: the name of the switch; of no meaning where there is one measure only.
        table: everything that the figure can show.
        columns: of the table, by what the switch calls them.
    """

    def __init__(self, switch: str, table: pd.DataFrame, columns: Mapping[str, str]):
        self.switch = switch
        self.all = {name: measure(table, column) for name, column in columns.items()}

    def __getitem__(self, name: str) -> Measure:
        return self.all[name]

    def chosen(self, values: Mapping[str, object]) -> str:
        """An expression: what belongs to the chosen measure; where there is one only, it is no matter of choice."""
        if len(self.all) == 1:
            return json.dumps(next(iter(values.values())))
        return f"({json.dumps(dict(values), ensure_ascii=False)})[{self.switch}]"

    @property
    def value(self) -> str:
        """An expression: the value of a row."""
        return f"datum[{self.chosen({name: m.column for name, m in self.all.items()})}]"

    @property
    def label(self) -> str:
        """An expression: the label of a tick."""
        form = self.chosen({name: "~%" if m.share else "~g" for name, m in self.all.items()})
        return f"format(datum.value, {form})"

    def _scale(self, domains: Mapping[str, list[float]], **more: object) -> alt.Scale:
        constants = self.chosen({name: m.constant for name, m in self.all.items()})
        domain = alt.expr(self.chosen(domains))
        return alt.Scale(type="symlog", constant=alt.expr(constants), domain=domain, nice=False, **more)

    def colour(self, **legend: object) -> alt.Color:
        """Colour by value: diverging about zero where there is a sign, else sequential."""
        domains = {name: m.colours for name, m in self.all.items()}
        ticks = self.chosen({name: m.ticks(few=True) for name, m in self.all.items()})
        scheme = alt.expr(self.chosen({name: m.scheme for name, m in self.all.items()}))
        own = {
            "gradientLength": 240,
            "values": alt.expr(ticks),
            "labelExpr": self.label,
            "labelOverlap": "greedy",
            **legend,
        }
        return alt.Color("value:Q", title=None, scale=self._scale(domains, scheme=scheme), legend=alt.Legend(**own))

    def position(self, channel: type = alt.Y, field: str = "value:Q", title: str | None = None) -> alt.Y:
        """Height by value."""
        domains = {name: m.domain for name, m in self.all.items()}
        ticks = alt.expr(self.chosen({name: m.ticks() for name, m in self.all.items()}))
        axis = alt.Axis(values=ticks, labelExpr=self.label, labelOverlap="greedy")
        return channel(field, title=title, scale=self._scale(domains), axis=axis)


def percent(value: float) -> str:
    """A share as titles write it: no negative zero, and no line break before the sign."""
    return f"{round(value, 3) + 0.0:.1%}".replace("-", "−").replace("%", f"{NO_BREAK}%")


def nats(value: float) -> str:
    """Nats as titles write them."""
    return f"{float(f'{value:.2g}') + 0.0:g}".replace("-", "−") + f"{NO_BREAK}nats"


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
