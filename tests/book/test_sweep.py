"""Sweeps: what they say before they start, one tidy table, and nothing done twice."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

import lmclib as lmc
from lmclib.book.sweep import Swept, check_output, write_table
from lmclib.book.sweep_spec import read_sweep, sweep_of
from lmclib.errors import LmcError
from lmclib.root import ROOT
from lmclib.runs import joint
from lmclib.runs.workers import current_workers, side_by_side
from lmclib.training.recipe import Recipe

EXAMPLE = ROOT / "tests" / "book" / "rates.yaml"
FORK = yaml.safe_load(EXAMPLE.read_text())["fork"]
MEASURE = {"name": "barrier_curve", "options": {"alphas": 3}}


def swept(said, store):
    return Swept(sweep_of(said) if isinstance(said, dict) else read_sweep(said), store, Path.cwd())


def test_the_example_from_its_outlook_to_its_table(tmp_path, monkeypatch):
    one = swept(EXAMPLE, tmp_path)
    before = one.outlook(progress=False)
    assert not list(tmp_path.iterdir()), "an outlook stores nothing"
    # four parents, each with two siblings at both of two forks
    assert (before.points, before.remembered_points, before.runs, before.remembered_runs) == (4, 0, 20, 0)
    assert before.estimate.networks == 20
    assert "20 runs, 0 of them remembered" in str(before)
    table = one.run(progress=False)
    assert table.columns[:2].tolist() == ["lr", "seed"]
    assert len(table) == 4 * 2 * 3
    expected = [
        lmc.over_pairs(
            lmc.sibling_pairs(lmc.fork_all([spec], tmp_path / "other", progress=False), epochs=(-1,)),
            lmc.barrier_curve,
            progress=False,
            alphas=3,
        ).assign(lr=lr)
        for lr in (0.1, 0.05)
        for seed in (0, 1)
        for spec in [
            lmc.ForkSpec(
                model="mlp-8",
                fork_epochs=(0, 1),
                seed=seed,
                recipe=Recipe(epochs=2, batch_size=128, milestones=(1,), lr=lr),
            )
        ]
    ]
    pd.testing.assert_frame_equal(table, pd.concat(expected, ignore_index=True)[table.columns.tolist()])

    monkeypatch.setattr(joint, "train", lambda *_, **__: pytest.fail("trained again"))
    again = swept(EXAMPLE, tmp_path)
    assert str(again.outlook(progress=False)) == "4 points, 4 of them measured already; 20 runs, 20 of them remembered"
    pd.testing.assert_frame_equal(again.run(progress=False), table)
    for name in ("t.csv", "t.parquet"):
        write_table(table, check_output(tmp_path / name))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), table, check_dtype=False)


def test_what_points_share_is_one_run(tmp_path):
    one = swept(
        {"fork": {**FORK, "fork_epochs": [0]}, "list": [{"siblings": 2}, {"siblings": 3}], "measure": MEASURE}, tmp_path
    )
    assert one.outlook(progress=False).runs == 1 + 3
    table = one.run(progress=False)
    assert table.groupby("siblings").pair.nunique().to_dict() == {2: 1, 3: 3}
    shared = table[table.pair == "1–2"].drop(columns="siblings")
    pd.testing.assert_frame_equal(*(part.reset_index(drop=True) for part in (shared[:3], shared[3:])))


def test_lists_are_text_in_the_table(tmp_path):
    fork = {name: value for name, value in FORK.items() if name != "fork_epochs"}
    one = swept({"fork": fork, "grid": {"fork_epochs": [[0], [0, 1]]}, "measure": MEASURE}, tmp_path)
    table = one.run(progress=False)
    assert table.groupby("fork_epochs").fork_epoch.unique().map(list).to_dict() == {"[0.0]": [0], "[0.0, 1.0]": [0, 1]}


def test_a_point_that_fails_is_named_and_the_others_are_stored(tmp_path):
    said = {"fork": FORK, "grid": {"lr": [0.1, 1e30]}, "measure": MEASURE}
    with pytest.raises(LmcError) as error, pytest.warns(UserWarning, match="is no longer finite"):
        swept(said, tmp_path).run(progress=False)
    *failed, last = str(error.value).splitlines()
    assert [line.split(":")[0] for line in failed] == ["lr=1e+30"]
    assert last == "1 of 2 points failed; the others are stored"
    after = swept(said, tmp_path).outlook(progress=False)
    assert after.remembered_points == 1


def test_an_option_that_a_measure_does_not_take_is_said_before_anything_is_trained(tmp_path):
    said = {"fork": FORK, "grid": {"lr": [0.1]}, "measure": {"name": "barrier_curve", "options": {"alphas": [0, 2]}}}
    with pytest.raises(LmcError, match=r"^measure\.options\.alphas: must be at least one number in \[0, 1\]"):
        swept(said, tmp_path).outlook(progress=False)
    assert not list(tmp_path.iterdir())


CHAPTER = {"chapter": "deep_linear", "profile": "smoke", "parameters": {"seed": 3}}


def test_a_chapter_has_a_table_of_verdicts(tmp_path):
    one = swept({**CHAPTER, "grid": {"networks": [20, 30]}}, tmp_path)
    assert "no networks to train on images" in str(one.outlook(progress=False))
    table = one.run(progress=False)
    assert table.networks.tolist() == [20] * 3 + [30] * 3
    assert set(table.claim) == {"A4"}
    assert one.outlook(progress=False).remembered_points == 2
    random = swept({**CHAPTER, "grid": {"networks": [20, 30]}, "table": "random"}, tmp_path).run(progress=False)
    assert set(random.networks) == {20, 30}
    assert "curvature" in random
    with pytest.raises(LmcError, match=r"table='nothing': must be one of checked, groups, random, symbolic, trained"):
        swept({**CHAPTER, "grid": {"networks": [20]}, "table": "nothing"}, tmp_path).run(progress=False)


FORKING = {
    "chapter": "resnet_forking",
    "profile": "smoke",
    "parameters": {"model": "mlp-4", "fork_epochs": [0], "seeds": 1},
    "table": "final",
}


def test_points_of_a_chapter_go_side_by_side(tmp_path):
    """What they train is one graph, each is measured by a worker, and the tables are those of one process."""
    said = {**FORKING, "grid": {"seed": [0, 7], "lr": [0.1, 0.05]}}
    one = swept(said, tmp_path / "one").run(progress=False)
    with side_by_side(2):
        workers = current_workers()
        workers.client.wait_for_workers(2)  # else the first to start might do everything
        table = swept(said, tmp_path / "two").run(progress=False)
    kinds = workers.timings().kind.value_counts()
    assert kinds["parent"] == 2, "seeds train together, rates do not"
    assert kinds["point"] == 4
    assert workers.timings().worker.nunique() == 2
    pd.testing.assert_frame_equal(table, one)


def test_a_point_of_a_chapter_that_fails_in_a_worker_is_named(tmp_path):
    with side_by_side(2), pytest.raises(LmcError) as error, pytest.warns(UserWarning, match="is no longer finite"):
        swept({**FORKING, "grid": {"lr": [0.1, 1e30]}}, tmp_path).run(progress=False)
    *failed, last = str(error.value).splitlines()
    assert [line.split(":")[0] for line in failed] == ["lr=1e+30"]
    assert last == "1 of 2 points failed; the others are stored"


def test_a_column_of_the_table_is_never_taken_for_a_parameter(tmp_path):
    """A chapter's `seed` is its first, a table's that of each row."""
    parameters = {"model": "mlp-4", "fork_epochs": [0], "seeds": 2}
    said = {"chapter": "resnet_forking", "profile": "smoke", "parameters": parameters, "grid": {"seed": [0, 7]}}
    table = swept({**said, "table": "final"}, tmp_path).run(progress=False)
    assert table.groupby("swept_seed").seed.unique().map(list).to_dict() == {0: [0, 1], 7: [7, 8]}


def test_notebooks_are_executed_once_a_point(tmp_path):
    one = swept({**CHAPTER, "grid": {"networks": [20]}}, tmp_path / "store")
    (path,) = one.notebooks(tmp_path / "notebooks", progress=False)
    assert "networks = 20" in path.read_text()
    assert '"output_type": "error"' not in path.read_text()
    before = path.stat().st_mtime_ns
    assert one.notebooks(tmp_path / "notebooks", progress=False) == [path]
    assert path.stat().st_mtime_ns == before
    with pytest.raises(LmcError, match="notebooks: are for sweeps of a chapter"):
        swept(EXAMPLE, tmp_path).notebooks(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "said"), [("t.xlsx", "must end with .csv or .parquet"), ("no/t.csv", "there is no folder")]
)
def test_where_no_table_can_be_written_is_said_first(name, said, tmp_path):
    with pytest.raises(LmcError, match=said):
        check_output(tmp_path / name)
