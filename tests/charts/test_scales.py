"""Scales that stay: what they hold, how they are written."""

import pandas as pd

from lmclib.charts import scales


def test_signed_measures_are_symmetric_about_zero_and_others_are_not():
    table = pd.DataFrame({"error": [0.0, 0.5], "loss_barrier": [-1.0, 3.0]})
    signed, plain = scales.measure(table, "loss_barrier"), scales.measure(table, "error")
    assert signed.colours == [-3, 3]
    assert signed.domain == [-1, 3]
    assert plain.colours == plain.domain == [0, 0.5]
    assert (signed.scheme, plain.scheme) == (scales.SIGNED, scales.ORDERED)


def test_a_table_of_zeros_still_has_a_scale():
    measure = scales.measure(pd.DataFrame({"loss_barrier": [0.0]}), "loss_barrier")
    assert measure.domain[0] < measure.domain[1]
    assert 0 in measure.ticks()


def test_missing_values_do_not_make_a_scale_undefined():
    assert scales.measure(pd.DataFrame({"loss": [1.0, float("nan")]}), "loss").domain == [0, 1]


def test_ticks_are_round_and_within_the_domain():
    measure = scales.measure(pd.DataFrame({"loss_barrier": [-0.2, 6.0]}), "loss_barrier")
    low, high = measure.domain
    assert all(low <= tick <= high for tick in measure.ticks())
    assert {0, 1, 3} <= set(measure.ticks())


def test_a_domain_depends_on_the_switch_only_where_there_is_a_choice():
    table = pd.DataFrame({"error": [0.5], "loss": [2.0]})
    both = scales.Measures("shown", table, {"error": "error", "loss": "loss"})
    one = scales.Measures("shown", table, {"loss": "loss"})
    assert "shown" in both.position().to_dict()["scale"]["domain"]["expr"]
    assert "shown" not in str(one.position().to_dict())


def test_numbers_in_titles_have_no_negative_zero():
    assert scales.percent(-0.0001) == "0.0\u00a0%"
    assert scales.percent(-0.25) == "−25.0\u00a0%"
    assert scales.nats(-0.0) == "0\u00a0nats"
    assert scales.nats(0.01234) == "0.012\u00a0nats"


def test_a_legend_of_shares_has_more_than_a_zero():
    for top in (0.013, 0.045, 0.09, 0.23, 0.3, 0.48, 0.9):
        measure = scales.measure(pd.DataFrame({"error_barrier": [-top / 2, top]}), "error_barrier")
        assert len(measure.ticks(few=True)) > 1
