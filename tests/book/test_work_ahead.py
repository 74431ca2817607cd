"""Working ahead: after it, all that cells measure of pairs of networks is there, by the very questions that they ask."""

import pytest

import lmclib as lmc
from lmclib.book.estimates import on_stand_ins
from lmclib.book.measuring import measure, measured_so_far
from lmclib.book.work_ahead import work_ahead
from lmclib.errors import LmcError
from lmclib.runs.group import task_graph
from lmclib.runs.measuring import measurements
from lmclib.runs.task_graph import TaskGraph
from lmclib.runs.workers import current_workers, side_by_side

CHAPTER = "resnet_forking"
GIVEN = {"profile": "smoke", "model": "mlp-4", "fork_epochs": [0, 1], "seeds": 2}
RECIPE = lmc.Recipe(epochs=2, batch_size=128, milestones=(1,))


def planned(given, chapter=CHAPTER):
    return on_stand_ins(lambda: measured_so_far(chapter, given), "plan")


def test_cells_find_all_that_they_measure_of_pairs(tmp_path, monkeypatch):
    given = {**GIVEN, "store": str(tmp_path)}
    before = planned(given)
    assert before.estimate.networks > 0
    assert not any(job.is_remembered for job in before.measurements)
    with side_by_side(2):
        work_ahead(CHAPTER, [given], tmp_path, current_workers(), progress=False)
        kinds = current_workers().timings().kind.value_counts()
    after = planned(given)
    assert after.estimate.networks == 0
    assert len(after.measurements) == len(before.measurements)
    assert all(job.is_remembered for job in after.measurements)
    assert kinds["measure"] == len({job.question.address for job in before.measurements}), "each once"
    # in this process only what is not of pairs is left
    monkeypatch.setattr("lmclib.runs.measuring.Measurement._measured", None)
    measure(CHAPTER, given)


@pytest.mark.parametrize(("model", "both"), [("vgg11-w4", True), ("vgg11-w4-none", False)])
def test_tables_of_recomputed_statistics_are_found_where_a_network_keeps_some(model, both, tmp_path):
    given = {"profile": "smoke", "model": model, "epochs": 1, "store": str(tmp_path)}
    found = {job.norm_stats for job in planned(given, "architectures").measurements}
    assert found == ({"interpolate", "recompute"} if both else {"interpolate"})


def test_what_goes_wrong_ahead_is_told_by_who_asks_for_it(tmp_path):
    """Options that follow from results are others on stand-ins: what is measured with them may make no sense."""
    families = lmc.fork_all([lmc.ForkSpec(model="mlp-4", fork_epochs=(0,), recipe=RECIPE)], tmp_path, progress=False)
    wrong = measurements(lmc.sibling_pairs(families, epochs=(-1,)), lmc.barrier_curve, given=[{"alphas": [0.5, 7.0]}])
    families[0].train_missing()
    with side_by_side(2):
        with task_graph([], current_workers()) as graph:
            wrong[0].hand_to(graph, ahead=True)
        graph = TaskGraph(current_workers())
        wrong[0].hand_to(graph)
        with pytest.raises(LmcError, match=r"alphas=\[0.5, 7.0\]: must be at least one number in \[0, 1\]"):
            graph.run(print)
