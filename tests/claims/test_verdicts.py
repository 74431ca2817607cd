"""Verdicts: intervals, thresholds and controls, against what can be computed by hand."""

import numpy as np
import pytest
from scipy import stats

from lmclib.claims.verdicts import Part, mean_interval, parts_of, verdict
from lmclib.errors import LmcError

SPREAD = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])


def part(mean, threshold=0.0, side="above", control=None, **more):
    control = () if control is None else tuple(control + SPREAD[::-1])
    return Part("p", tuple(mean + SPREAD), "nats", threshold, side, control=control, **more)


@pytest.mark.parametrize(
    ("mean", "side", "said"),
    [
        (1, "above", "holds"),
        (1, "below", "fails"),
        (0.01, "above", "undecided"),
        (-1, "above", "fails"),
        (-1, "below", "holds"),
    ],
)
def test_the_interval_decides(mean, side, said):
    assert part(mean, side=side).verdict == said


@pytest.mark.parametrize(
    ("control", "said"), [(0.2, "holds"), (1.0, "explained"), (1.05, "explained"), (2.0, "explained")]
)
def test_a_claim_must_beat_its_control(control, said):
    assert part(1, control=control).verdict == said


def test_a_control_does_not_save_a_claim_that_fails():
    assert part(-1, control=-5).verdict == "fails"


def test_the_control_is_compared_seed_by_seed():
    """Two groups that overlap as groups, and differ in every single pair."""
    values = np.arange(5.0)
    assert Part("p", values + 10.1, "", 0, control=values + 10).verdict == "holds"
    assert Part("p", values + 10.1, "", 0, control=(values + 10)[::-1]).verdict == "explained"


def test_one_seed_decides_nothing_unless_it_is_exact():
    assert Part("p", (5.0,), "", 0).verdict == "undecided"
    assert Part("p", (5.0,), "", 0, exact=True).verdict == "holds"


def test_the_interval_covers_the_mean_as_often_as_it_says():
    drawn = np.random.default_rng(0).normal(3, 2, size=(4000, 5))
    covered = np.mean([low <= 3 <= high for low, high in map(mean_interval, drawn)])
    assert abs(covered - 0.9) < 4 * np.sqrt(0.9 * 0.1 / 4000)


def test_every_threshold_of_the_range_gives_the_same_verdict_and_others_do_not():
    one = part(1, threshold=0.3)
    low, high = one.thresholds
    assert (low, one.interval[0]) == (-np.inf, high)
    assert part(1, threshold=high - 1e-9).verdict == "holds"
    assert part(1, threshold=high + 1e-9).verdict != "holds"
    undecided = part(1, threshold=1)
    assert undecided.thresholds == undecided.interval
    assert part(1, threshold=3).thresholds == (one.interval[1], np.inf)


def test_intervals_are_students():
    values = [1.0, 2.0, 4.0]
    assert mean_interval(values) == pytest.approx(
        stats.t.interval(0.9, 2, np.mean(values), np.std(values, ddof=1) / 3**0.5)
    )


def test_parts_that_differ_are_mixed():
    assert verdict([part(1), part(2)]) == "holds"
    assert verdict([part(1), part(-1)]) == "mixed"


def test_seeds_without_a_number_are_left_out():
    one = {"name": "p", "unit": "", "threshold": 0}
    (found,) = parts_of({**one, "values": {0: 1.0, 1: np.nan, 2: 3.0}, "control": {0: 0.0, 1: 1.0, 2: np.inf}})
    assert (found.values, found.control) == ((1.0,), (0.0,))
    assert parts_of({**one, "values": {0: np.nan}}) == []


@pytest.mark.parametrize(("values", "control"), [((), ()), ((np.nan,), ()), ((np.inf,), ()), ((1, 2), (1,))])
def test_parts_that_cannot_be_judged_are_refused(values, control):
    with pytest.raises(LmcError, match="part='p'"):
        Part("p", values, "", 0, control=control)
