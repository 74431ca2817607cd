"""Training in processes side by side: who ends with whom, and what is heard of what went wrong there."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from distributed import Client, Future, LocalCluster
from distributed.comm import CommClosedError
from tagged import alive, commands, tagged_environment, until

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.root import ROOT
from lmclib.runs import workers
from lmclib.runs.family import Family
from lmclib.runs.plan import Plan
from lmclib.runs.task_graph import TaskGraph
from lmclib.runs.workers import current_workers, side_by_side
from lmclib.store.store import Store

SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0,), recipe=lmc.Recipe(epochs=1, batch_size=128, milestones=()))
ENDLESS = """
import sys
import lmclib as lmc
from lmclib.training.recipe import Recipe

lmc.fork(lmc.ForkSpec(model="mlp-8", fork_epochs=(0,), recipe=Recipe(epochs=100_000)), sys.argv[1], progress=False, workers=2)
"""


def test_whoever_is_killed_leaves_no_worker_working(tmp_path):
    environment = tagged_environment(OMP_NUM_THREADS="1", TMPDIR=str(tmp_path))
    run = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path / "store")], env=environment)

    def there():
        lines = commands(environment)
        return (
            sum("dask.__main__" in line and "processes.py" not in line for line in lines) == 2
            and sum("multiprocessing.forkserver" in line for line in lines) == 3  # what is forked, and two forks
        )

    until(there, 120, "Dask's scheduler, its nannies and two workers are there")
    run.send_signal(signal.SIGKILL)
    until(lambda: not alive(environment), 5, "all are gone")
    assert run.wait() == -signal.SIGKILL


def test_side_by_side_processes_train_the_same_bits(tmp_path):
    """Networks in processes of one thread, against the same in this one, where the library takes one by itself."""
    here = lmc.fork(SPEC, tmp_path / "here", progress=False)
    there = lmc.fork(SPEC, tmp_path / "there", progress=False, workers=2)
    for k in range(2):
        one, two = here.child(0, k), there.child(0, k)
        assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.fixture
def cluster(tmp_path):
    """A cluster that somebody else started: its scheduler file, and what starts more workers of so many threads."""
    from lmclib.processes import ChildProcesses

    found, dask = tmp_path / "scheduler.json", [sys.executable, "-m", "dask"]
    meeting = ["--scheduler-file", str(found), "--host", "127.0.0.1", "--no-dashboard"]
    with ChildProcesses() as processes:
        environment = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "critical", "PYTHONPATH": str(ROOT)}
        processes.start([*dask, "scheduler", *meeting, "--port", "0"], env=environment)
        until(found.exists, 60, "the scheduler is there")

        def more(threads):
            size = ["--nworkers", "1", "--nthreads", str(threads), "--local-directory", str(tmp_path / "dask")]
            processes.start([*dask, "worker", *meeting, *size], env=environment)
            with Client(scheduler_file=str(found)) as client:
                client.wait_for_workers(1, timeout=60)

        yield found, more


def test_workers_of_another_cluster_train_the_same_bits_and_are_left_as_they_are(cluster, tmp_path):
    found, more = cluster
    more(1)
    here = lmc.fork(SPEC, tmp_path / "here", progress=False)
    address = json.loads(found.read_text())["address"]
    for scheduler in (found, address):
        with side_by_side(1, scheduler):
            assert current_workers().n == 1
            there = lmc.fork(SPEC, tmp_path / f"there{scheduler == found}", progress=False)
        for k in range(2):
            one, two = here.child(0, k), there.child(0, k)
            assert all(torch.equal(one[key], two[key]) for key in one)
    with Client(address) as client:
        assert len(client.nthreads()) == 1


def test_what_nobody_waits_for_stops_where_it_stands(tmp_path):
    """As after Ctrl-C on somebody else's cluster: Dask forgets the job, but would let its thread go on for ever."""
    endless = SPEC.model_copy(update={"checkpoint_epochs": (1,), "recipe": lmc.Recipe(epochs=100_000)})
    family = Family(endless, Store(tmp_path / "store"))
    children = [tmp_path / "store" / family.child_address(0, k) for k in range(2)]  # whichever Dask begins with
    size = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "local_directory": tmp_path / "dask"}
    with LocalCluster(dashboard_address=":0", **size) as cluster, side_by_side(1, cluster.scheduler_address):
        graph = TaskGraph(current_workers())
        graph.train([Plan(family)])

        def stored():
            for job in graph.jobs:
                if job.status == "error":
                    job.result()  # raises what went wrong in it
            return [file for child in children for file in child.glob("*.safetensors")]

        until(stored, 60, "the first epoch of a child is stored")
        for job in graph.jobs:
            job.cancel()
        until(lambda: not list((tmp_path / "store").rglob("*.lock")), 60, "nobody works on it")
        assert list(tmp_path.rglob("resume.*.safetensors")), "where it stands is stored"


def test_workers_that_are_paused_are_not_given_up():
    """A campaign is paused while something is timed; Dask would take workers that say nothing for five minutes for dead."""
    with workers.Workers(1) as started:
        assert started.client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.worker_ttl) is None


def test_a_job_whose_report_was_lost_with_its_worker_is_done_all_the_same(monkeypatch):
    """It had ended, so it comes in a batch of those, but is waited for once more when it is looked at."""
    with side_by_side(2):
        there = current_workers()
        jobs = {there.submit("nothing", print): "it"}
        monkeypatch.setattr(Future, "status", property(lambda job: "pending"))
        assert list(there.outcomes(jobs)) == [("it", None)]
        assert there.timings().kind.tolist() == ["nothing"]


def test_who_is_not_needed_ends_without_a_word(capfd):
    """Workers that are asked to end while they begin; a measurement that is remembered needs none."""
    with workers.Workers(2):
        pass
    assert capfd.readouterr().err == ""


def test_two_at_once_have_nothing_to_say_of_each_other(capfd):
    """Dask warns of a port that another one has."""
    with workers.Workers(1) as one, workers.Workers(1) as two:
        for each in (one, two):
            each.client.wait_for_workers(1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [CommClosedError("Connection reset by peer"), OSError("Timed out trying to connect")])
def test_a_scheduler_that_dies_while_it_answers_is_gone(error, tmp_path, monkeypatch):
    """Counted by `make faults`: a job is done, and its scheduler is killed before what came of it is here, or before that is asked for."""

    def gather(*_):
        raise error

    monkeypatch.setattr(Client, "gather", gather)
    size = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "local_directory": tmp_path}
    with LocalCluster(dashboard_address=":0", **size) as cluster, side_by_side(1, cluster.scheduler_address):
        job = current_workers().submit("measure", float, 1)
        with pytest.raises(LmcError, match="is gone; what was stored is kept"):
            list(current_workers().finished({job: None}))


def test_workers_of_several_threads_are_refused(cluster):
    found, more = cluster
    more(2)
    with pytest.raises(LmcError, match=r"has several threads; must have one \(--nthreads 1\)"), side_by_side(1, found):
        pass


def test_a_scheduler_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "REACHED", 1)
    with (
        pytest.raises(LmcError, match="is not there; must be one that `dask scheduler` wrote"),
        side_by_side(1, tmp_path / "none"),
    ):
        pass
    for address in ("tcp://127.0.0.1:1", "nowhere"):
        with (
            pytest.raises(LmcError, match=r"cannot be reached \(.*\); must be one such as tcp:") as said,
            side_by_side(1, address),
        ):
            pass
        assert "\n" not in str(said.value)
