"""The explorer of forks: what a run shows, how it is stopped and goes on, and that no figure shows what it does not say."""

import shlex
from types import SimpleNamespace

import pandas as pd
import pytest

import lmclib as lmc
from lmclib.widgets import background
from lmclib.widgets.choice import numbers

COLUMNS = ["norm_stats", "seed", "fork_epoch", "epoch", "alpha"]


def in_order(table):
    return table.sort_values(COLUMNS, ignore_index=True)


def once(widget, name, when, what):
    """Do something the first time that a widget's value meets a condition."""
    done = []

    def look(change):
        if not done and when(change["new"]):
            done.append(change["new"])
            what()

    widget.observe(look, name)
    return done


def test_it_measures_what_is_chosen_with_both_treatments_of_statistics(explorers):
    explorer = explorers.make()
    explorer.controls.seed.value, explorer.controls.epochs.value = 3, 1
    explorers.run(explorer)
    table = explorer.table
    assert explorer.said.value.startswith("done")
    assert set(table.seed) == {3}
    assert set(table.epoch) == {1}
    assert set(table.norm_stats) == {"interpolate", "recompute"}
    assert explorer.bar.value == explorer.bar.max
    assert not explorer.shown.is_stale
    said = explorer.shown.caption.value
    for part in (
        "mlp-8 on digits",
        "forks 0, 0.5",
        "1 epochs",
        "lr 0.1",
        "weight decay 0.0001",
        "seed 3",
        "train split",
    ):
        assert part in said
    assert "interpolated and recomputed" in said
    assert "earlier" not in said


@pytest.mark.parametrize("typed", ["0 0.5 1", "0, 0.5, 1", "[0, 0.5, 1]", "(0; 0.5;1)", "1 0.5 0 0.5"])
def test_forks_are_accepted_however_they_are_listed(typed, explorers):
    controls = explorers.make().controls
    controls.fork_epochs.value = [typed]
    assert sorted(controls.fork_epochs.value) == ["0", "0.5", "1"]
    assert controls.choice().fork_epochs == (0, 0.5, 1)


@pytest.mark.parametrize("typed", ["1", " 1, 0.5", "[1]"])
def test_forks_can_be_added_to_those_that_are_there(typed, explorers):
    controls = explorers.make().controls
    controls.more.value = typed
    assert controls.fork_epochs.value == ["0", "0.5", "1"]
    assert controls.more.value == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fork_epochs": []}, "type at least one"),
        ({"fork_epochs": ["[]"]}, "type at least one"),
        ({"fork_epochs": ["soon"]}, "'soon' is no number"),
        ({"fork_epochs": ["0", "9"]}, "must be below the parent's length"),
        ({"fork_epochs": ["0", "-1"]}, "must be greater than or equal to 0"),
        ({"fork_epochs": ["nan"]}, "must be"),
        ({"fork_epochs": ["0", "0.001"]}, "both are step 0"),
        ({"lr": 0.0}, "must be greater than 0"),
        ({"weight_decay": -1.0}, "must be greater than or equal to 0"),
        ({"seed": -1}, "must be greater than or equal to 0"),
        ({"model": "resnet9"}, "must be one of"),
        ({"data": "didgits"}, "must be"),
    ],
)
def test_bad_choices_are_said_in_a_line_and_nothing_runs(change, said, explorers):
    explorer = explorers.make()
    for name, value in change.items():
        explorer.controls.fields[name].value = value
    explorers.run(explorer)
    assert said in explorer.said.value
    assert "<br" not in explorer.said.value
    assert "\n" not in explorer.said.value
    assert not explorer.run.disabled
    assert explorer.stop.disabled
    assert explorer.table is None


def test_what_cannot_be_added_stays_and_is_said(explorers):
    explorer = explorers.make()
    explorer.controls.more.value = "<b>1</b>"
    assert explorer.controls.more.value == "<b>1</b>"
    assert "&lt;b&gt;1&lt;/b&gt;" in explorer.said.value
    explorer.controls.more.value = ""
    assert not explorer.said.value


def test_what_is_allowed_is_said_before_one_errs(explorers):
    explorer = explorers.make()
    hint = explorer.controls.children[-1].value
    assert "above 0" in hint
    assert "below the number of epochs" in hint
    explorer.controls.lr.value = 0
    assert "greater than 0" in explorer.said.value  # before Run is pressed
    explorer.controls.lr.value = 0.1
    assert not explorer.said.value


def test_a_figure_that_no_longer_shows_what_is_chosen_is_greyed_and_says_so(explorers):
    explorer = explorers.run(explorers.make())
    explorer.controls.seed.value = 5
    assert explorer.shown.is_stale
    assert "Shows an earlier choice" in explorer.shown.caption.value
    assert "seed 0" in explorer.shown.caption.value
    explorer.controls.seed.value = 0
    assert not explorer.shown.is_stale
    explorer.controls.lr.value = -1  # not allowed
    assert explorer.shown.is_stale
    explorers.run(explorer)
    assert explorer.shown.is_stale
    assert "seed 0" in explorer.shown.caption.value


def test_after_an_error_the_old_figure_is_greyed(explorers):
    explorer = explorers.run(explorers.make())
    explorer.controls.model.value = "no.such:network"
    explorers.run(explorer)
    assert "cannot import it" in explorer.said.value
    assert explorer.shown.is_stale
    assert "mlp-8" in explorer.shown.caption.value
    assert not explorer.run.disabled


def test_an_error_in_the_middle_is_said_and_greys_the_old_figure(explorers, monkeypatch):
    explorer = explorers.run(explorers.make())
    monkeypatch.setattr("lmclib.runs.joint.train", lambda *_, **__: 1 / 0)
    explorer.controls.seed.value = 1
    explorers.run(explorer)
    assert "division by zero" in explorer.said.value
    assert explorer.shown.is_stale
    assert explorer.bar.value == 0
    assert not explorer.run.disabled


def test_networks_that_diverge_are_said(explorers, recwarn):
    explorer = explorers.make(lr=1e12)
    explorers.run(explorer)
    assert "is no longer finite" in explorer.said.value
    assert "try a lower lr" in explorer.said.value
    assert not explorer.run.disabled


def test_a_run_takes_a_snapshot_of_the_controls(explorers):
    explorer = explorers.make()

    def meddle():
        explorer.controls.seed.value = 7

    changed = once(explorer.said, "value", lambda said: said.startswith("training"), meddle)
    explorers.run(explorer)
    assert changed
    assert set(explorer.table.seed) == {0}
    assert "seed 0" in explorer.shown.caption.value
    assert explorer.shown.is_stale  # as seed 7 is chosen now
    assert "seed 7" not in explorer.shown.caption.value


def test_while_a_run_goes_on_the_old_figure_is_greyed(explorers):
    explorer = explorers.run(explorers.make())
    seen = []
    explorer.controls.seed.value = 1
    explorer.bar.observe(lambda _: seen.append((explorer.shown.is_stale, explorer.shown.caption.value)), "value")
    explorers.run(explorer)
    assert any(stale and "earlier choice" in said and "seed 0" in said for stale, said in seen)
    assert not explorer.shown.is_stale
    assert "seed 1" in explorer.shown.caption.value


@pytest.mark.parametrize("phase", ["training", "measuring"])
def test_a_run_that_was_stopped_goes_on_when_it_is_run_again(phase, explorers):
    explorer = explorers.make(fork_epochs="[0, 0.5, 1]", epochs=3)
    stopped = once(explorer.said, "value", lambda said: said.startswith(phase), explorer.stop.click)
    explorers.run(explorer)
    assert stopped
    assert explorer.said.value.startswith("<b>Stopped.</b>")
    assert "kept" in explorer.said.value
    assert "Run goes on from there" in explorer.said.value
    assert explorer.bar.value == 0
    assert explorer.stop.disabled
    seen = explorer._experiment.losses
    explorers.run(explorer)
    assert explorer.said.value.startswith("done")
    assert explorer._experiment.losses[: len(seen)] == seen  # the curves go on
    whole = explorers.run(explorers.make("whole", fork_epochs="[0, 0.5, 1]", epochs=3))
    pd.testing.assert_frame_equal(explorer.table, whole.table)


def test_the_toolbars_interrupt_is_stop_while_the_kernel_is_idle(explorers, monkeypatch):
    kernel = SimpleNamespace(saved_sigint_handler=None)
    monkeypatch.setattr(background, "get_ipython", lambda: SimpleNamespace(kernel=kernel), raising=False)
    explorer = explorers.make(epochs=3)
    once(explorer.said, "value", lambda said: said.startswith("training"), lambda: kernel.saved_sigint_handler(2, None))
    explorers.run(explorer)
    assert explorer.said.value.startswith("<b>Stopped.</b>")
    kernel.saved_sigint_handler(2, None)  # with nothing to stop
    assert explorer.said.value.startswith("<b>Stopped.</b>")


def test_curves_and_barriers_fill_in_while_it_runs(explorers, monkeypatch):
    monkeypatch.setattr("lmclib.widgets.forking.PAUSE", 0)
    monkeypatch.setattr("lmclib.widgets.forking.SPARE", 0)
    explorer, seen = explorers.make(epochs=3, fork_epochs="[0, 1, 2]"), []
    draw = explorer.shown.draw

    def watched(experiment, new):
        draw(experiment, new)
        table = experiment.table
        seen.append((len(experiment.losses), 0 if table is None else table.fork_epoch.nunique()))

    monkeypatch.setattr(explorer.shown, "draw", watched)
    explorers.run(explorer)
    losses, forks = zip(*seen, strict=True)
    assert losses[0] == 1  # before the first step
    assert len(set(losses)) > 5
    assert {0, 1, 2, 3} <= set(forks)
    assert explorer.shown.training.chart is not None


def test_what_is_remembered_trains_nothing_and_still_has_curves(explorers, monkeypatch):
    before = explorers.run(explorers.make())
    monkeypatch.setattr("lmclib.runs.joint.train", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("lmclib.runs.pairs.cube_between", lambda *_, **__: 1 / 0)
    explorer = explorers.run(explorers.make())
    pd.testing.assert_frame_equal(explorer.table, before.table)
    assert "sibling 1" in str(explorer.shown.training.chart.title.subtitle)


def test_tables_are_those_of_the_chapter(explorers):
    explorer = explorers.run(explorers.make())
    families = lmc.fork_all(explorer.controls.choice().specs, explorer.settings.store)
    tables = [
        lmc.barrier_evolution(
            families,
            lmc.ALPHAS[explorer.settings.profile],
            pairs=[(0, 1)],
            norm_stats=treatment,
            examples=explorer.settings.examples,
        )
        for treatment in ("interpolate", "recompute")
    ]
    expected = in_order(pd.concat(tables))
    pd.testing.assert_frame_equal(explorer.table[expected.columns], expected)


def test_it_can_be_said_again_as_a_line_of_papermill(explorers):
    explorer = explorers.make()
    explorer.controls.fork_epochs.value, explorer.controls.lr.value = ["0", "1.5"], 0.05
    words = shlex.split(explorer.papermill.value)
    assert words[:3] == ["papermill", "book/resnet_forking.ipynb", "out.ipynb"]
    given = dict(zip(words[4::3], words[5::3], strict=True))
    settings = lmc.parameters(given, lmc.FORKING)
    assert settings.seeds == 1
    assert lmc.fork_specs(settings) == explorer.controls.choice().specs


def test_it_can_be_said_again_in_python(explorers):
    explorer = explorers.run(explorers.make())
    namespace = {}
    exec(explorer.python.value, namespace)
    table = in_order(namespace["table"])
    pd.testing.assert_frame_equal(explorer.table[table.columns], table)


def test_of_several_seeds_the_first_is_seen_first_and_the_others_faint(explorers, monkeypatch):
    monkeypatch.setattr("lmclib.widgets.forking.PAUSE", 0)
    monkeypatch.setattr("lmclib.widgets.forking.SPARE", 0)
    explorer, seen = explorers.make(epochs=1, fork_epochs="[0.5]"), []
    explorer.controls.seed.value, explorer.controls.seeds.value = 2, 2
    explorer.shown.barrier.observe(lambda _: seen.append(None), "children")
    once(explorer.said, "value", lambda said: said.startswith("training seed 3"), lambda: seen.append(explorer.table))
    explorers.run(explorer)
    (_, first) = seen
    assert set(first.seed) == {2}
    assert set(explorer.table.seed) == {2, 3}
    assert set(explorer.shown.choice.specs[1].fork_epochs) == {0.5}
    assert "seeds 2 to 3" in explorer.shown.caption.value
    assert "seeds-2-to-3" in explorer.shown.choice.file_name
    for chart in (explorer.shown.barrier.chart, explorer.shown.training.chart):
        rows = [row for rows in chart.to_dict()["datasets"].values() for row in rows if "seed" in row]
        assert {(row["seed"], row["first"]) for row in rows} == {(2, True), (3, False)}
    assert "means of 2 seeds" in " ".join(explorer.shown.barrier.chart.title.text)
    namespace = {}
    exec(explorer.python.value, namespace)
    table = in_order(namespace["table"])
    pd.testing.assert_frame_equal(in_order(explorer.table[table.columns]), table)
    remembered = explorers.make(epochs=1, fork_epochs="[0.5]")
    remembered.controls.show(explorer.shown.choice)
    monkeypatch.setattr("lmclib.runs.joint.train", lambda *_, **__: 1 / 0)
    pd.testing.assert_frame_equal(explorers.run(remembered).table, explorer.table)


def test_finished_runs_are_listed_shown_again_and_laid_over_others(explorers):
    explorer = explorers.run(explorers.make())
    assert not explorer.history.disabled
    explorer.pin.value = True
    explorer.controls.seed.value = 4
    explorers.run(explorer)
    assert len(explorer.history.options) == 2
    assert {row["run"] for row in rows_of(explorer.shown.barrier.chart)} == {"this run: seed 4", "pinned: seed 0"}
    explorer.history.value = explorer.history.options[1][1]
    assert explorer.controls.seed.value == 0
    assert set(explorer.table.seed) == {0}
    assert not explorer.shown.is_stale
    assert {row["run"] for row in rows_of(explorer.shown.barrier.chart)} == {"this run"}
    explorer.pin.value = False
    explorer.controls.seed.value = 4
    explorers.run(explorer)
    assert {row["run"] for row in rows_of(explorer.shown.barrier.chart)} == {"this run"}


def rows_of(chart):
    return [row for rows in chart.to_dict()["datasets"].values() for row in rows if "run" in row]


def test_the_table_is_saved_under_a_name_that_says_what_it_is(explorers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    explorer = explorers.run(explorers.make())
    explorer.save.click()
    (path,) = tmp_path.glob("*.csv")
    assert path.stem == "forking_mlp-8_digits_forks-0-0.5_epochs-2_lr-0.1_wd-0.0001_seed-0_train_siblings-1-and-2"
    assert str(path) in explorer.said.value
    pd.testing.assert_frame_equal(pd.read_csv(path), explorer.table, check_dtype=False)


def test_the_switch_of_loss_and_error_redraws_and_positions_stay(drawn):
    explorer = drawn.run(drawn.make())
    explorer.shown.measure.value = "loss"
    assert "nats" in " ".join(explorer.shown.barrier.chart.title.text)
    shown = explorer.shown.ridge.children[0]
    shown.params.measure = "loss barrier"
    explorer.controls.seed.value = 1
    drawn.run(explorer)
    assert explorer.shown.ridge.children[0].params.measure == "loss barrier"


def test_a_double_click_on_the_parents_axis_adds_a_fork(drawn):
    explorer = drawn.run(drawn.make())
    for at in (0.317, 1.04):
        point = {"value": {"vlPoint": {"or": [{"at": at}]}}, "store": []}
        explorer.shown.ridge.children[0]._vl_selections = {"added": point}  # as the page tells it
    assert explorer.controls.fork_epochs.value == ["0", "0.5", "0.32", "1"]
    assert explorer.shown.is_stale  # it shows fewer forks than are chosen


def test_siblings_are_a_choice_and_so_is_which_pair_of_them_is_measured(explorers):
    explorer = explorers.make(epochs=1, fork_epochs="[0]")
    controls = explorer.controls
    assert [said for said, _ in controls.pair.options] == ["1 and 2"]
    controls.siblings.value = 3
    assert [said for said, _ in controls.pair.options] == ["1 and 2", "1 and 3", "2 and 3"]
    controls.pair.value = (1, 2)
    explorers.run(explorer)
    assert set(explorer.table.pair) == {"2–3"}
    assert "siblings 2 and 3" in explorer.shown.caption.value
    assert "siblings-2-and-3" in explorer.shown.choice.file_name
    assert "-p siblings 3" in explorer.papermill.value
    family = lmc.fork_all(explorer.shown.choice.specs, explorer.shown.choice.store, progress=False)[0]
    expected = lmc.barrier_evolution(
        [family], 11, pairs=[(1, 2)], examples=explorer.shown.choice.examples, progress=False
    )
    mine = explorer.table[explorer.table.norm_stats == "interpolate"][expected.columns]
    pd.testing.assert_frame_equal(in_order(mine), in_order(expected))
    namespace = {}
    exec(explorer.python.value, namespace)
    pd.testing.assert_frame_equal(explorer.table, in_order(namespace["table"])[explorer.table.columns])
    controls.siblings.value = 2  # of which there is one pair only
    assert controls.pair.value == (0, 1)
    assert explorer.shown.is_stale
    explorers.run(explorer)
    explorer.history.index = 1
    assert (controls.siblings.value, controls.pair.value) == (3, (1, 2))


def test_the_split_is_a_choice(explorers):
    explorer = explorers.make()
    explorer.controls.split.value = "test"
    explorers.run(explorer)
    assert set(explorer.table.split) == {"test"}
    assert "test split" in explorer.shown.caption.value


def test_numbers_are_told_from_other_things():
    with pytest.raises(lmc.LmcError, match="'x' is no number"):
        numbers(["1, x"])
