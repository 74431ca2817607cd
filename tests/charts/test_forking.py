"""Figures of the forking experiment keep their scales, and say what they show."""

import pandas as pd
import pytest
from charted import FORKS, assert_scales_stay, assert_title_follows, controls, curves, dataset

from lmclib.charts import forking

KEYS = ["seed", "fork", "epoch", "treatment", "alpha"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return curves()


@pytest.fixture(scope="module")
def fork_figure(table) -> dict:
    return forking.evolution(table).to_dict()


def test_the_fork_figure_never_rescales(fork_figure):
    assert_scales_stay(fork_figure, switches=("measure",))
    assert set(controls(fork_figure)) == {"fork", "epoch", "measure"}


def test_the_fork_figures_controls_carry_epochs(fork_figure, table):
    options = controls(fork_figure)
    assert list(map(float, options["fork"])) == list(map(float, FORKS))
    assert options["epoch"] == sorted(table.epoch.unique())


def test_the_fork_figures_domains_hold_everything(table):
    shown = forking.scales.Measures("measure", table, forking.EVOLUTION)
    for name, column in forking.EVOLUTION.items():
        low, high = shown[name].domain
        assert low <= table[column].min() + 1e-5
        assert high >= table[column].max() - 1e-5
        if "barrier" in name:
            assert shown[name].colours[0] == -shown[name].colours[1]
            assert shown[name].colours[1] >= table[column].abs().max() - 1e-5


def test_the_fork_figures_title_is_computed_for_what_it_shows(fork_figure, table):
    answers = assert_title_follows(fork_figure, "fork", "epoch", "measure")
    own = table[(table.seed == 0) & (table.fork_epoch == 0.5) & (table.epoch == 6)]
    for stats, treatment in forking.TREATMENTS.items():
        highest = own[own.norm_stats == stats].error_barrier.max()
        assert f"{highest:.1%}".replace("%", "\u00a0%") + f" with {treatment}" in answers["0.5", 6, "error barrier"]
    assert "no siblings yet" in answers["4", 1, "error"]


def test_the_fork_figures_data_are_the_table(fork_figure, table):
    shown = dataset(fork_figure, "alpha", "loss_barrier")
    expected = table.round({"alpha": 4}).assign(
        fork=table.fork_epoch.map(forking.fork_label), treatment=table.norm_stats.map(forking.TREATMENTS)
    )
    both = shown.merge(expected, on=KEYS, suffixes=("", "_expected"))
    assert len(both) == len(shown) == len(table)
    for column in forking.EVOLUTION.values():
        assert both[column].to_numpy() == pytest.approx(both[f"{column}_expected"].to_numpy(), abs=1e-4)


def test_the_fork_figure_has_one_column_where_statistics_were_not_recomputed(table):
    spec = forking.evolution(table[table.norm_stats == "interpolate"]).to_dict()
    assert len(spec["vconcat"][1]["hconcat"]) == 1
