"""Training in processes side by side: who ends with whom, and what is heard of what went wrong there."""

import signal
import subprocess
import sys

import torch
from tagged import alive, commands, tagged_environment, until

import lmclib as lmc

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
            sum("dask" in line and "processes.py" not in line for line in lines) == 2
            and sum("spawn_main" in line for line in lines) >= 2
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
