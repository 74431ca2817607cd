"""The fork figure: its handles move it and no scale, its titles say what it shows, its data are the tables."""

import json

import pandas as pd
import pytest
from charted import FORKS, assert_scales_stay, assert_title_follows, controls, curves, dataset, parents

from lmclib.charts import fork_figure as figure
from lmclib.charts.forking import TREATMENTS, fork_label

KEYS = ["seed", "fork", "epoch", "treatment", "alpha"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return curves()


@pytest.fixture(scope="module")
def fork_figure(table) -> dict:
    return figure.fork_figure(table, parents()).to_dict()


def test_the_fork_figure_never_rescales(fork_figure):
    assert_scales_stay(fork_figure, switches=("measure",))
    assert set(controls(fork_figure)) == {"fork", "epoch", "measure"}


def test_the_fork_figures_controls_carry_epochs(fork_figure, table):
    options = controls(fork_figure)
    assert list(map(float, options["fork"])) == list(map(float, FORKS))
    assert options["epoch"] == sorted(table.epoch.unique())


def test_the_fork_figures_domains_hold_everything(table):
    shown = figure.scales.Measures("measure", table, figure.EVOLUTION)
    for name, column in figure.EVOLUTION.items():
        low, high = shown[name].domain
        assert low <= table[column].min() + 1e-5
        assert high >= table[column].max() - 1e-5
        if "barrier" in name:
            assert shown[name].colours[0] == -shown[name].colours[1]
            assert shown[name].colours[1] >= table[column].abs().max() - 1e-5


def test_the_fork_figures_title_is_computed_for_what_it_shows(fork_figure, table):
    answers = assert_title_follows(fork_figure, "fork", "epoch", "measure")
    own = table[(table.seed == 0) & (table.fork_epoch == 0.5) & (table.epoch == 6)]
    for stats, treatment in TREATMENTS.items():
        highest = own[own.norm_stats == stats].error_barrier.max()
        assert f"{highest:.1%}".replace("%", "\u00a0%") + f" with {treatment}" in answers["0.5", 6, "error barrier"]
    assert "no siblings yet" in answers["4", 1, "error"]


def test_the_fork_figures_data_are_the_table(fork_figure, table):
    shown = dataset(fork_figure, "alpha", "loss_barrier")
    expected = table.round({"alpha": 4}).assign(
        fork=table.fork_epoch.map(fork_label), treatment=table.norm_stats.map(TREATMENTS)
    )
    both = shown.merge(expected, on=KEYS, suffixes=("", "_expected"))
    assert len(both) == len(shown) == len(table)
    for column in figure.EVOLUTION.values():
        assert both[column].to_numpy() == pytest.approx(both[f"{column}_expected"].to_numpy(), abs=1e-4)


def test_it_holds_as_many_seeds_as_an_explorer_measures(table):
    """Altair takes more than 5,000 rows for a mistake."""
    seeds = pd.concat(table.assign(seed=seed) for seed in range(5_000 // len(table) + 2))
    assert len(seeds) > 5_000
    assert max(map(len, figure.fork_figure(seeds).to_dict()["datasets"].values())) == len(seeds)


def test_the_fork_figure_has_one_column_where_statistics_were_not_recomputed(table):
    spec = figure.fork_figure(table[table.norm_stats == "interpolate"], parents()).to_dict()
    assert len(spec["vconcat"][0]["hconcat"]) == 1


def test_the_parents_curve_is_its_table_and_children_go_on_from_it(fork_figure, table):
    shown = dataset(fork_figure, "line", "split")
    own = parents()
    drawn = shown[shown.line == "parent"]
    assert drawn[["seed", "epoch", "error", "loss"]].to_numpy() == pytest.approx(
        own[["seed", "epoch", "error", "loss"]].to_numpy(), abs=1e-4
    )
    for child, alpha in (("child 1", 0), ("child 2", 1)):
        line = shown[(shown.line == child) & (shown.fork == "0.5")].sort_values("epoch")
        at_fork = own[(own.seed == 0) & (own.epoch == 0.5)]
        ends = table[(table.seed == 0) & (table.fork_epoch == 0.5) & (table.alpha == alpha)]
        ends = ends[ends.norm_stats == "interpolate"].sort_values("epoch")
        assert line.loss.tolist() == pytest.approx([*at_fork.loss, *ends.loss], abs=1e-4)
        assert line.epoch.tolist() == [0.5, *ends.epoch]


def test_there_is_a_handle_for_every_fork_and_no_gap_on_the_axis(fork_figure):
    handles, pieces = dataset(fork_figure, "handle", "loss"), dataset(fork_figure, "low", "high")
    assert list(map(float, handles.fork)) == list(map(float, FORKS))
    assert pieces.high.iloc[:-1].tolist() == pytest.approx(pieces.low.iloc[1:].tolist())
    assert list(map(float, dict.fromkeys(pieces.fork))) == list(map(float, FORKS))  # in order, each in one stretch
    for fork in FORKS:
        (at,) = pieces[(pieces.low <= fork) & (fork < pieces.high)].fork
        assert float(at) == fork


def test_only_in_a_live_notebook_a_double_click_adds_a_fork(fork_figure, table):
    live = figure.fork_figure(table, parents(), adding=True).to_dict()
    assert "dblclick" in json.dumps(live["params"])
    assert "dblclick" not in json.dumps(fork_figure["params"])


def test_the_play_button_has_a_control_to_step_through(fork_figure):
    name = fork_figure["usermeta"]["play"]
    assert name in {f"{control}_at_{control}" for control in controls(fork_figure)}  # as the page's buttons are called


def test_where_the_parent_was_not_measured_children_are_drawn_and_handles_lie_on_the_axis(table):
    spec = figure.fork_figure(table).to_dict()
    assert_scales_stay(spec, switches=("measure",))
    assert set(dataset(spec, "line", "split").line) == {"child 1", "child 2"}
    handles = dataset(spec, "handle", "loss")
    assert list(map(float, handles.fork)) == list(map(float, FORKS))
    assert not handles[["loss", "error"]].any(axis=None)


def test_a_maximum_at_an_end_is_said_to_be_one(table):
    dip = table.assign(error=table.error.where(table.alpha.isin([0, 1]), table.error - 1))
    said = assert_title_follows(figure.fork_figure(dip, parents()).to_dict(), "fork", "epoch", "measure")
    assert "highest error on the segment" in said["0.5", 6, "error"]
    assert said["0.5", 6, "error"].count("(at an end)") == 2
    ridge = table.assign(error=table.error.where(table.alpha.isin([0, 1]), table.error + 1))
    said = assert_title_follows(figure.fork_figure(ridge, parents()).to_dict(), "fork", "epoch", "measure")
    assert "(at an end)" not in said["0.5", 6, "error"]
