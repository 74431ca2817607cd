"""The files in `clusters/`: their words are Dask's, and what they start here, without SLURM or a GPU, does the work."""

import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager

import dask.config
import dask_jobqueue  # noqa: F401  its words are among those of Dask
import pytest
import yaml
from distributed import Client
from tagged import alive, bounded, tagged_environment, until

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.root import ROOT
from lmclib.runs.workers import current_workers, side_by_side

CLUSTERS = ROOT / "clusters"
SPEC = lmc.ForkSpec(model="mlp-4", fork_epochs=(0,), recipe=lmc.Recipe(epochs=1, batch_size=128, milestones=()))
# what SLURM's own does: the command once a task, each with its number, and with a GPU of its own where it has some
SRUN = """#!/bin/bash
for task in $(seq 0 $((SLURM_NTASKS - 1))); do SLURM_PROCID=$task CUDA_VISIBLE_DEVICES=${GPUS:+$task} "$@" & done
wait
"""


# what SLURM's own do: a script is started beside, under a number, by which it is ended
SBATCH = """#!/bin/bash
sent=$(mktemp {folder}/sent.XXXXXX)
cp "$1" "$sent"
setsid bash "$sent" >"$sent.log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/bash
for job in "$@"; do kill -- -$job; done
"""


def leaves(tree, path=()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


@pytest.mark.parametrize("name", ["dask", "jobqueue"])
def test_every_word_of_the_configuration_is_one_of_dask(name):
    said = yaml.safe_load((CLUSTERS / f"{name}.yaml").read_text())
    for path, value in leaves(said):
        default = dask.config.get(".".join(path), default=KeyError)
        assert default is not KeyError, path
        assert default is None or type(value) in (type(default), str), path


@contextmanager
def started(command, tmp_path, **environment):
    """A script of `clusters/` as somebody starts it, and its scheduler file."""
    found = tmp_path / "scheduler.json"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "FOUND": str(found), **environment}
    with bounded(subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)) as process:
        until(found.exists, 100, "the scheduler is there")
        try:
            yield found
        finally:
            process.terminate()
    assert process.returncode == 143
    assert not found.exists()


def test_one_worker_a_gpu(tmp_path):
    """Whatever asks for GPUs is done by workers that have one, and each of them sees its own."""
    with started([str(CLUSTERS / "gpus.sh"), "2", "5"], tmp_path) as found:
        with Client(scheduler_file=str(found)) as client:
            client.wait_for_workers(2, timeout=100)
            seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
            assert sorted(seen.values()) == ["2", "5"]
        with pytest.raises(LmcError, match=r"resources=\{'TPU': 1\}: no worker has them; must be among GPU=1 \("):
            side_by_side(1, found, {"TPU": 1}).__enter__()
        with side_by_side(1, found, {"GPU": 1}):
            workers = current_workers()
            there = lmc.fork(SPEC, tmp_path / "there", progress=False)
            assert Counter(workers.timings().kind) == {"parent": 1, "child": 1}
            assert workers.resources == {"GPU": 1}
            assert "no dashboard" in workers.dashboard or "http://" in workers.dashboard
    here = lmc.fork(SPEC, tmp_path / "here", progress=False)
    for k in range(2):
        assert all((there.child(0, k)[name] == value).all() for name, value in here.child(0, k).items())


def test_no_gpu_is_one_line():
    done = subprocess.run([CLUSTERS / "gpus.sh"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "clusters/gpus.sh: which GPUs? for example: clusters/gpus.sh 0 1\n")


def test_a_job_of_slurm_is_a_cluster(tmp_path):
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    script = CLUSTERS / "slurm.sh"
    options = [line.split()[1] for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    assert all(option.startswith("--") and "=" in option for option in options)
    # as sbatch does, a copy of it in the folder from which it was sent
    copy = tmp_path / "slurm_script"
    copy.write_text(script.read_text())
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_NTASKS": "1", "GPUS": "1"}
    with started(["bash", str(copy), str(tmp_path / "scheduler.json")], tmp_path, **own) as found:
        with Client(scheduler_file=str(found)) as client:
            client.wait_for_workers(1, timeout=100)
            (worker,) = client.scheduler_info()["workers"].values()
        assert (worker["nthreads"], worker["resources"]) == (1, {"GPU": 1})
        with side_by_side(1, found):
            family = lmc.fork(SPEC, tmp_path / "store", progress=False)
    assert not family.diverged()


def test_no_slurm_is_one_line():
    command = [sys.executable, CLUSTERS / "jobqueue.py"]
    done = subprocess.run(command, env={**os.environ, "PATH": ""}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "sbatch is not known here" in done.stderr


def test_workers_are_jobs_of_a_queue_as_long_as_there_is_work(tmp_path):
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(script.replace("{folder}", str(tmp_path)))
        (tmp_path / name).chmod(0o755)
    own = tagged_environment(PATH=f"{tmp_path}:{os.environ['PATH']}")
    found = tmp_path / "scheduler.json"
    command = [sys.executable, str(CLUSTERS / "jobqueue.py"), "--most", "2", "--scheduler-file", str(found)]
    with started(command, tmp_path, **own), side_by_side(1, found):
        assert not list(tmp_path.glob("sent.*")), "nothing to do yet"
        there = lmc.fork(SPEC, tmp_path / "there", progress=False)
        workers = current_workers().client.scheduler_info()["workers"]
        assert {worker["nthreads"] for worker in workers.values()} == {1}
    sent = next(tmp_path.glob("sent.??????")).read_text()
    assert "#SBATCH -t 08:00:00" in sent
    assert "--death-timeout 300" in sent
    here = lmc.fork(SPEC, tmp_path / "here", progress=False)
    assert all((there.child(0, 1)[name] == value).all() for name, value in here.child(0, 1).items())
    until(lambda: not alive(own), 60, "all jobs have ended")
