"""Verdicts: what the seeds say of one part of a claim, beside its threshold and beside what the plainest rival gives on the same pairs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from lmclib.errors import LmcError

LEVEL = 0.9  # of every interval
VERDICTS = ("holds", "explained", "mixed", "undecided", "fails", "not run")
Interval = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One part of a claim: a number a replicate, the side of a threshold on which it is claimed to lie, and a rival's number.

    Attributes:
        name: what this part is about.
        values: one a seed; a single one where the result is exact.
        unit: what the values are.
        threshold: the number that decides.
        side: on which side of it the claim says the values lie.
        rival: the plainest other explanation, in words; empty where there is none.
        control: what that gives in place of `values`, one a seed.
        exact: whether the values have no spread, as they are proved or solved.
    """

    name: str
    values: tuple[float, ...]
    unit: str
    threshold: float
    side: Literal["above", "below"] = "above"
    rival: str = ""
    control: tuple[float, ...] = ()
    exact: bool = False

    def __post_init__(self):
        for name in ("values", "control"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if not self.values or not np.isfinite(self.values).all():
            raise LmcError(f"part={self.name!r}: values={list(self.values)}: must hold at least one number, all finite")
        if self.control and len(self.control) != len(self.values):
            raise LmcError(f"part={self.name!r}: has {len(self.control)} controls for {len(self.values)} values")

    @property
    def interval(self) -> Interval:
        """The interval of the mean over seeds."""
        return (self.values[0],) * 2 if self.exact else mean_interval(self.values)

    @property
    def control_interval(self) -> Interval | None:
        """The control's interval; None where there is no control."""
        return mean_interval(self.control) if self.control else None

    @property
    def beats_control(self) -> bool:
        """Whether, seed by seed, the values lie farther on the claim's side than the control's; true where there is none."""
        return not self.control or self._side(mean_interval(np.subtract(self.values, self.control)), 0) > 0

    @property
    def verdict(self) -> str:
        """`holds`, `explained`, `undecided` or `fails`.

        Example:
            >>> five = (0.4, 0.5, 0.6, 0.5, 0.5)
            >>> [Part("a", five, "nats", threshold).verdict for threshold in (0.1, 0.5, 0.9)]
            ['holds', 'undecided', 'fails']
            >>> Part("a", five, "nats", 0.1, rival="a coin", control=(0.5, 0.4, 0.6, 0.5, 0.6)).verdict
            'explained'
        """
        where = self._side(self.interval, self.threshold)
        if where > 0:
            return "holds" if self.beats_control else "explained"
        return "fails" if where < 0 else "undecided"

    @property
    def thresholds(self) -> Interval:
        """All thresholds that would give the same verdict, from and to."""
        low, high = self.interval
        where = self._side(self.interval, self.threshold)
        if where == 0:
            return low, high
        return (-np.inf, low) if (where > 0) == (self.side == "above") else (high, np.inf)

    def _side(self, interval: Interval, threshold: float) -> int:
        """1 where an interval lies on the claim's side of a threshold, -1 where on the other, 0 where it holds the threshold."""
        low, high = interval
        above = 1 if low > threshold else -1 if high < threshold else 0
        return above if self.side == "above" else -above

    def as_row(self) -> dict[str, object]:
        """The part in plain values, from which `Part(**row)` makes it again."""
        return asdict(self)


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    r"""Student's interval of a mean, $\bar x \pm t_{n-1}\, s / \sqrt n$; everything where there is only one value.

    Example:
        >>> [round(end, 3) for end in mean_interval([1.0, 2.0, 3.0])]
        [0.314, 3.686]
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return -np.inf, np.inf
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    if error == 0:
        return float(mean), float(mean)
    reach = stdtrit(len(values) - 1, (1 + level) / 2) * error
    return float(mean - reach), float(mean + reach)


def verdict(parts: Iterable[Part]) -> str:
    """The verdict on a claim: that of its parts where they agree, else `mixed`.

    Example:
        >>> high, low = Part("a", (1.0, 1.1), "", 0), Part("b", (-1.0, -1.1), "", 0)
        >>> verdict([high, high]), verdict([high, low])
        ('holds', 'mixed')
    """
    found = {part.verdict for part in parts}
    return found.pop() if len(found) == 1 else "mixed"


def parts_of(*wanted: Mapping[str, object]) -> list[Part]:
    """The parts that can be judged, of values and controls by seed; a seed that has no finite number, or no control, is left out.

    Args:
        *wanted: the arguments of `Part`, with series or mappings by seed as `values` and `control`.
    """
    parts = []
    for one in wanted:
        values, control = dict(one["values"]), dict(one.get("control", {}))
        needed = [values, control] if control else [values]
        seeds = [seed for seed in sorted(values) if all(np.isfinite(given.get(seed, np.nan)) for given in needed)]
        if seeds:
            kept = {"values": [values[seed] for seed in seeds], "control": [control[s] for s in seeds if control]}
            parts.append(Part(**{**one, **kept}))
    return parts
