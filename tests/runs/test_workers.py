"""Training in processes side by side: who ends with whom, and what is heard of what went wrong there."""

import signal
import subprocess
import sys

from tagged import alive, commands, tagged_environment, until

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
