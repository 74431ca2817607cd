"""A Dask cluster whose workers are jobs of SLURM, as many as there is work for. From the repository's root, where sbatch is known:

    python clusters/jobqueue.py --most 64 &
    lmclib sweep rates.yaml --scheduler-file scheduler.json

What a job asks for is in clusters/jobqueue.yaml. The cluster ends with this process (Ctrl-C), and its jobs with it.
"""

import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated

import dask.config
import typer
from dask_jobqueue import SLURMCluster


def main(
    most: Annotated[int, typer.Option(min=1, help="At most so many workers at once.")] = 32,
    scheduler_file: Annotated[Path, typer.Option(help="Where sweeps find this cluster.")] = Path("scheduler.json"),
) -> None:
    """Have workers in the queue of SLURM whenever a sweep has work for them, until this process is ended."""
    if shutil.which("sbatch") is None:  # else a sweep would wait for workers without end
        raise SystemExit("clusters/jobqueue.py: sbatch is not known here; start this where the commands of SLURM are")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    dask.config.refresh(paths=[*dask.config.paths, str(Path(__file__).parent)])
    options = {"scheduler_file": str(scheduler_file.absolute()), "dashboard_address": ":0"}
    try:
        with SLURMCluster(scheduler_options=options) as cluster:
            cluster.adapt(maximum=most)
            print(f"workers come and go; dashboard: {cluster.dashboard_link}", flush=True)
            signal.pause()
    finally:
        scheduler_file.unlink(missing_ok=True)


if __name__ == "__main__":
    typer.run(main)
